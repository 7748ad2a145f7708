//! What a verdict costs, by engine and number of prefixes, beside the kernel's LPM_TRIE, xdp-filter and a bare
//! `return XDP_DROP`, through BPF_PROG_TEST_RUN: a lookup alone, and the whole program.

mod busy;
mod input;
mod parts;
mod report;
mod sets;
mod stand;
mod xdp_filter;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use benchmarks::{progress::Progress, results::Written};
use clap::Parser;
use filter_user::model::Engine;
use kit::{
    machine::{self, Machine},
    rights,
};

use busy::Busy;
use input::Input;
use parts::Parts;
use report::{Report, Row};
use sets::{Set, V4_ADDRESSES, V4_MIXED, V6_ADDRESSES, V6_DENSE, V6_MIXED};
use stand::{Choice, Stand};
use xdp_filter::Edge;

#[derive(Parser)]
#[command(
    name = "bench-verdict",
    about = "Times lookups and whole programs, by engine and number of prefixes"
)]
struct Arguments {
    #[command(flatten)]
    written: Written,
    /// Runs of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Fewer sizes and lists, 3 runs: for a first look, and too few for the plots
    #[arg(long, conflicts_with = "runs")]
    quick: bool,
    /// One engine, and nothing to compare it with
    #[arg(long, value_name = "ENGINE", value_parser = ["flat", "lpm"])]
    only: Option<String>,
    /// Only lists of this name, "v4 mixed" for example
    #[arg(long, value_name = "NAME")]
    list: Option<String>,
    /// Measure beside a thread that copies memory without end, as a busy media server would
    #[arg(long)]
    busy: bool,
    /// A country database, for `allow country RU US`
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
}

impl Arguments {
    fn runs(&self) -> u32 {
        if self.quick { 3 } else { self.runs }
    }

    /// Every list and how long it is.
    fn lists(&self) -> Vec<(Set, u32)> {
        let sizes: [(Set, &[u32]); 5] = if self.quick {
            [
                (V4_MIXED, &[100_000, 1_000_000]),
                (V4_ADDRESSES, &[1_000, 10_000, 100_000, 1_000_000]),
                (V6_MIXED, &[100_000, 500_000]),
                (V6_DENSE, &[]),
                (V6_ADDRESSES, &[10_000]),
            ]
        } else {
            let v4 = &[100, 1_000, 10_000, 100_000, 1_000_000];
            let v6 = &[100, 1_000, 10_000, 100_000, 500_000];
            [
                (V4_MIXED, v4),
                (V4_ADDRESSES, v4),
                (V6_MIXED, v6),
                (V6_DENSE, &[100_000, 500_000]),
                (V6_ADDRESSES, v6),
            ]
        };
        let wanted = sizes.iter().filter(|(set, _)| self.list.as_deref().is_none_or(|name| name == set.name));
        wanted.flat_map(|(set, sizes)| sizes.iter().map(|size| (*set, *size))).collect()
    }

    fn choice(&self) -> Choice {
        match self.only.as_deref() {
            None => Choice { engines: vec![Engine::Flat, Engine::Lpm], trie: true },
            Some("lpm") => Choice { engines: vec![Engine::Lpm], trie: false },
            Some(_) => Choice { engines: vec![Engine::Flat], trie: false },
        }
    }
}

fn main() -> ExitCode {
    machine::finish(run(&Arguments::parse()).map(|()| ExitCode::SUCCESS))
}

fn run(arguments: &Arguments) -> Result<()> {
    if !rights::is_root() {
        bail!("the benchmark needs root, to load XDP programs");
    }
    machine::take_precedence()?;
    let choice = arguments.choice();
    let edge = if choice.trie { Some(Edge::new()?) } else { None };
    let machine = Machine::this().beside(if choice.trie { &["xdp-filter"] } else { &[] });
    let mut report = Report::new(machine, arguments.runs(), arguments.busy);
    println!("{}", report.describes());
    let _busy = arguments.busy.then(Busy::start);
    let lists = arguments.lists();
    let mut progress = Progress::new(lists.len() + 2 * usize::from(arguments.database.is_some()) + 1);
    let mut measure = |input: &Input, report: &mut Report| -> Result<()> {
        progress.step(&format!("{}, {} prefixes", input.set.name, input.prefixes));
        let (figures, taken) = Stand::build(input, &choice, edge.as_ref())
            .and_then(|(mut stand, taken)| Ok((stand.measure(arguments.runs())?, taken)))
            .with_context(|| format!("{}, {} prefixes", input.set.name, input.prefixes))?;
        let row = Row::new(input, figures, taken);
        progress.clear();
        println!("{row}");
        report.add(row);
        Ok(())
    };
    for (set, size) in lists {
        measure(&Input::list(set, size)?, &mut report)?;
    }
    match &arguments.database {
        Some(database) => {
            let database =
                fs::canonicalize(database).with_context(|| format!("no {}", database.display()))?;
            for input in Input::countries(&database)? {
                measure(&input, &mut report)?;
            }
        }
        None if arguments.list.is_some() => {}
        None => println!("without a country database (--database): no table of countries"),
    }
    report.parts = Some(Parts::measure(arguments.runs())?);
    print!("{report}");
    arguments.written.figures(|| report.json())?;
    if let Some(directory) = &arguments.written.plot {
        report.plot(directory)?;
    }
    Ok(())
}
