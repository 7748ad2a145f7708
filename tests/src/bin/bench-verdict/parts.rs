//! Where the program's time goes, and what a small policy takes.

use anyhow::{Result, ensure};
use filter_user::{config::Engine, kernel::Bench};
use tests::{
    frames::ethernet,
    spread::Spread,
    timed::{Timed, XDP_DROP},
};

use crate::{
    input::{Input, hundred_rules},
    sets::V4_ADDRESSES,
};

/// Prefixes of the table that the parts are measured with.
pub(crate) const PREFIXES: u32 = 1_000_000;
/// Runs on one frame, for one figure.
const SAME: u32 = 400_000;
const ARP: u16 = 0x0806;

/// Figures of the `flat` engine.
pub(crate) struct Parts {
    /// What is measured, and ns; each does all that the one before does, and more.
    pub(crate) steps: Vec<(&'static str, Spread)>,
    /// Bytes of all maps with a policy of 100 rules.
    pub(crate) hundred_rules: u64,
}

impl Parts {
    /// Measures them in turn.
    pub(crate) fn measure(runs: u32) -> Result<Self> {
        let input = Input::list(V4_ADDRESSES, PREFIXES)?;
        let mut bench = Bench::new(Engine::Flat)?;
        bench.publish(&input.compiled)?;
        ensure!(bench.run(&input.frame(input.denied), 1)?.dropped, "{} is not dropped", input.denied);
        let bare = Timed::bare()?;
        let program =
            Timed::of_this_process("nicgate").or_else(|_| Timed::of_this_process("nicgate_linear"))?;
        let steps = [
            ("bare XDP_DROP", &bare, input.frame(input.denied)),
            ("not IP (ARP): begin, count the outcome, end", &program, ethernet(&[], ARP, &[0; 46])),
            ("unprotected port: parse, read the port's table", &program, input.elsewhere()),
            ("allowed source: look it up, count for the port", &program, input.frame(input.allowed)),
            ("denied source: count for the rule, too", &program, input.frame(input.denied)),
        ];
        let mut times = vec![Vec::new(); steps.len()];
        for round in 0..=runs {
            for ((_, program, frame), times) in steps.iter().zip(&mut times) {
                let ran = program.run(frame, SAME)?;
                if round > 0 {
                    times.push(ran.nanoseconds);
                }
            }
        }
        ensure!(program.run(&steps[4].2, 1)?.action == XDP_DROP, "{} is not dropped", input.denied);
        let steps = steps.iter().zip(times);
        let steps = steps.filter_map(|((name, ..), times)| Some((*name, Spread::of(times)?))).collect();
        drop(bench);
        let mut bench = Bench::new(Engine::Flat)?;
        bench.publish(&hundred_rules()?)?;
        Ok(Self { steps, hundred_rules: bench.memory()? })
    }
}
