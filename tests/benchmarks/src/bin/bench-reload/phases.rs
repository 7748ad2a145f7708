//! Where the time of a reload goes, as the controller itself tells.

use std::{fs, path::Path, time::Instant};

use anyhow::Context;
use benchmarks::samples::Spread;
use serde_json::{Map, Value, json};

/// What the controller tells of, in this order, and what that is.
const TOLD: [(&str, &str); 6] = [
    ("read", "files read, values parsed and sorted"),
    ("compile", "from rules to classes of addresses"),
    ("lay_out", "from classes to what the kernel's maps hold"),
    ("write", "into the kernel's maps"),
    ("wait", "for the last packets of the table that is written over"),
    ("rest", "gates, sessions, notes about rules"),
];
/// The rest of what an operator waits for.
const COMMAND: (&str, &str) = ("command", "`ip netns exec` and `nicgate reload` around it");

/// Seconds of one reload by phase: what was told, and the rest.
#[derive(Clone, Debug)]
pub(crate) struct Phases([f64; TOLD.len() + 1]);

impl Phases {
    /// From what `nicgate reload --json` printed, when the command took so long.
    pub(crate) fn read(printed: &str, took: f64) -> anyhow::Result<Self> {
        let reply: Value =
            serde_json::from_str(printed).context("`nicgate reload --json` printed no JSON")?;
        let seconds = &reply["result"]["seconds"];
        let second =
            |name: &str| seconds[name].as_f64().with_context(|| format!("no seconds.{name} in {reply}"));
        let mut phases = [0.0; TOLD.len() + 1];
        for (phase, (name, _)) in phases.iter_mut().zip(TOLD) {
            *phase = second(name)?;
        }
        phases[TOLD.len()] = took - second("total")?;
        Ok(Self(phases))
    }
}

/// The phases of several reloads, and what none of them can do without.
pub(crate) struct Breakdown {
    phases: Vec<(&'static str, &'static str, Spread)>,
    /// Doing no more than reading the file.
    floor: Spread,
}

impl Breakdown {
    /// Of these reloads of a file.
    pub(crate) fn new(reloads: &[Phases], file: &Path) -> anyhow::Result<Self> {
        let phases = TOLD.iter().chain([&COMMAND]).enumerate().map(|(index, (name, what))| {
            let seconds = Spread::of(reloads.iter().map(|phases| phases.0[index])).context("no reloads")?;
            Ok((*name, *what, seconds))
        });
        let phases = phases.collect::<anyhow::Result<_>>()?;
        let floor = reloads.iter().map(|_| read(file)).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { phases, floor: Spread::of(floor).context("no reloads")? })
    }

    pub(crate) fn print(&self) {
        println!("\nwhere nicgate's time goes, ms");
        for (name, what, seconds) in &self.phases {
            println!("{name:<16} {:>24.1}   {what}", seconds.scaled(1000.0));
        }
        println!("{:<16} {:>24.1}   doing no more than reading the file", "floor", self.floor.scaled(1000.0));
    }

    pub(crate) fn for_programs(&self) -> Value {
        let phases: Map<String, Value> =
            self.phases.iter().map(|(name, _, seconds)| ((*name).to_owned(), seconds.json())).collect();
        json!({"seconds": phases, "read_only_seconds": self.floor.json()})
    }
}

fn read(file: &Path) -> anyhow::Result<f64> {
    let started = Instant::now();
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    std::hint::black_box(bytes);
    Ok(started.elapsed().as_secs_f64())
}
