//! Where the program's time goes, and what a small policy takes.

use anyhow::{Result, ensure};
use benchmarks::{
    samples::Spread,
    test_run::{Timed, XDP_DROP},
};
use filter_ebpf::measure::Lookups;
use filter_user::{kernel::Unattached, model::Engine};
use kit::{frames::ethernet, measuring::Measuring, objects};

use crate::{
    input::{Input, hundred_rules},
    sets::V4_ADDRESSES,
};

/// Prefixes of the table that the parts are measured with.
pub(crate) const PREFIXES: u32 = 1_000_000;
/// Prefixes of a table that the first cache holds.
const FEW: u32 = 100;
/// Rounds of lookups, for one figure.
const ROUNDS: u32 = 20_000;
/// Runs on one frame, for one figure.
const SAME: u32 = 400_000;
const ARP: u16 = 0x0806;

/// Figures of the `flat` engine.
pub(crate) struct Parts {
    /// What is measured, and ns; each does all that the one before does, and more.
    pub(crate) steps: Vec<(&'static str, Spread)>,
    /// The same of a lookup alone, sources from anywhere.
    pub(crate) lookup: Vec<(&'static str, Spread)>,
    /// Bytes of all maps with a policy of 100 rules.
    pub(crate) hundred_rules: u64,
}

impl Parts {
    /// Measures them in turn.
    pub(crate) fn measure(runs: u32) -> Result<Self> {
        let input = Input::list(V4_ADDRESSES, PREFIXES)?;
        let mut bench = Unattached::new(Engine::Flat)?;
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
        let lookup = lookup(&mut bench, runs)?;
        drop(bench);
        let mut bench = Unattached::new(Engine::Flat)?;
        bench.publish(&hundred_rules()?)?;
        Ok(Self { steps, lookup, hundred_rules: objects::memory(&bench.maps()?)? })
    }
}

/// What of a lookup is not looking up, what is computing, and what is waiting for memory.
fn lookup(many: &mut Unattached, runs: u32) -> Result<Vec<(&'static str, Spread)>> {
    let mut few = Unattached::new(Engine::Flat)?;
    few.publish(&Input::list(V4_ADDRESSES, FEW)?.compiled)?;
    let (mut many, mut few) = (Measuring::new(many)?, Measuring::new(&mut few)?);
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    let mut anywhere = Lookups { seed: 5, sum: 0, random: u64::MAX, set: 0, chained: 0, v6: 0 };
    for round in 0..=runs {
        let took = [
            many.draw(&mut anywhere, ROUNDS)?,
            few.look_up(&mut anywhere, ROUNDS)?,
            many.look_up(&mut anywhere, ROUNDS)?,
        ];
        if round > 0 {
            times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
        }
    }
    let names = [
        "draw an address, nothing else",
        "look it up among 100: all in the first cache",
        "look it up among 1,000,000: memory, too",
    ];
    Ok(names.into_iter().zip(times).filter_map(|(name, times)| Some((name, Spread::of(times)?))).collect())
}
