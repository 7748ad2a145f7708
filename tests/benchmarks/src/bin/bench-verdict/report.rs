//! The tables, the goals, and the figures for programs.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    path::Path,
};

use benchmarks::{goal::Goal, samples::Spread};
use kit::machine::Machine;
use serde_json::{Value, json};

use crate::{
    input::Input,
    parts::Parts,
    sets::Set,
    stand::{Figures, Peer, Taken, What},
};

mod goals;
mod plots;

/// All figures of one table.
pub(crate) struct Row {
    set: Set,
    prefixes: u32,
    /// The share of sources from anywhere that it drops.
    dropped: f64,
    figures: Figures,
    taken: Vec<Taken>,
}

impl Row {
    pub(crate) fn new(input: &Input, figures: Figures, taken: Vec<Taken>) -> Self {
        let Input { set, prefixes, dropped, .. } = input;
        Self { set: *set, prefixes: *prefixes, dropped: *dropped, figures, taken }
    }

    fn figure(&self, peer: Peer, what: What) -> Option<&Spread> {
        self.figures.get(&(peer, what))
    }

    /// The ratio of two medians.
    fn ratio(&self, upper: Peer, lower: Peer, what: What) -> Option<f64> {
        Some(self.figure(upper, what)?.median() / self.figure(lower, what)?.median())
    }

    /// The peers, each once.
    fn peers(&self) -> Vec<Peer> {
        let mut peers: Vec<Peer> = self.figures.keys().map(|(peer, _)| *peer).collect();
        peers.dedup();
        peers
    }

    fn json(&self) -> Value {
        let mut figures: BTreeMap<String, BTreeMap<&str, Value>> = BTreeMap::new();
        for ((peer, what), spread) in &self.figures {
            figures.entry(peer.to_string()).or_default().insert(what.key(), spread.json());
        }
        let taken: BTreeMap<String, Value> = self
            .taken
            .iter()
            .map(|Taken { peer, memory, publish_seconds }| {
                (peer.to_string(), json!({"memory": memory, "publish_seconds": publish_seconds}))
            })
            .collect();
        json!({
            "set": self.set.name,
            "prefixes": self.prefixes,
            "dropped_anywhere": self.dropped,
            "nanoseconds": figures,
            "engines": taken,
        })
    }
}

/// One line for each peer, of the whole program's and the lookup's figures.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let optional = |peer, what, digits: usize| {
            self.figure(peer, what).map_or_else(String::new, |spread| format!("{spread:.digits$}"))
        };
        let lines: Vec<String> = self
            .peers()
            .into_iter()
            .map(|peer| {
                let mut line = format!("{:<13}{:>9}  {peer:<16}", self.set.name, self.prefixes);
                for (what, digits, width) in COLUMNS {
                    let _ = write!(line, "{:>width$}", optional(peer, what, digits));
                }
                line
            })
            .collect();
        f.write_str(&lines.join("\n"))
    }
}

const COLUMNS: [(What, usize, usize); 7] = [
    (What::LookupAnywhere, 1, 22),
    (What::LookupChained, 1, 22),
    (What::LookupListed, 1, 22),
    (What::Drop, 0, 16),
    (What::Pass, 0, 16),
    (What::ProgramAnywhere, 0, 18),
    (What::ProgramListed, 0, 18),
];

/// All tables.
pub(crate) struct Report {
    machine: Machine,
    runs: u32,
    /// Whether another thread fills the caches meanwhile.
    busy: bool,
    rows: Vec<Row>,
    pub(crate) parts: Option<Parts>,
}

impl Report {
    /// Nothing was measured yet.
    pub(crate) fn new(machine: Machine, runs: u32, busy: bool) -> Self {
        Self { machine, runs, busy, rows: Vec::new(), parts: None }
    }

    /// What is measured, and the head of the table.
    pub(crate) fn describes(&self) -> String {
        let mut text = format!(
            "{}\n{} runs of each; ns: the median, the lowest and the highest run{}\n\n{:38}{:>66}{:>68}\n{:<13}{:>9}  {:<16}",
            self.machine,
            self.runs,
            if self.busy { "; beside a thread that copies memory without end" } else { "" },
            "",
            "a lookup alone ",
            "the whole program",
            "prefixes",
            "",
            ""
        );
        for (name, (_, _, width)) in
            ["anywhere", "chained", "listed", "drop", "pass", "anywhere", "listed"].iter().zip(COLUMNS)
        {
            let _ = write!(text, "{name:>width$}");
        }
        text
    }

    /// Adds a table.
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    fn row(&self, set: &Set, prefixes: u32) -> Option<&Row> {
        self.rows.iter().find(|row| row.set.name == set.name && row.prefixes == prefixes)
    }

    /// For programs. Times are ns unless a name says otherwise.
    pub(crate) fn json(&self) -> Value {
        let parts = self.parts.as_ref().map(|parts| {
            let steps: Vec<Value> = parts
                .steps
                .iter()
                .map(|(name, spread)| json!({"step": name, "nanoseconds": spread.json()}))
                .collect();
            json!({"steps": steps, "memory_of_100_rules": parts.hundred_rules})
        });
        json!({
            "machine": self.machine.json(),
            "runs": self.runs,
            "busy": self.busy,
            "tables": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "parts": parts,
            "goals": self.goals().iter().map(Goal::json).collect::<Vec<_>>(),
        })
    }

    /// Writes the plots.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub(crate) fn plot(&self, directory: &Path) -> anyhow::Result<()> {
        plots::write(&self.rows, &self.machine, directory)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ratios(f, &self.rows)?;
        taken(f, &self.rows)?;
        if let Some(parts) = &self.parts {
            writeln!(
                f,
                "\nwhere the time of `flat` goes, 1,000,000 IPv4 addresses, the same packet again, ns"
            )?;
            steps(f, &parts.steps, 0)?;
            writeln!(
                f,
                "\nwhere the time of a lookup alone goes, IPv4 addresses, sources from anywhere, ns"
            )?;
            steps(f, &parts.lookup, 1)?;
        }
        writeln!(f)?;
        for goal in self.goals() {
            writeln!(f, "{goal}")?;
        }
        Ok(())
    }
}

/// Figures of which each contains the one before, and what it adds.
fn steps(f: &mut fmt::Formatter<'_>, steps: &[(&str, Spread)], digits: usize) -> fmt::Result {
    let mut before = None;
    for (name, spread) in steps {
        let more =
            before.map_or_else(String::new, |before| format!("{:+.digits$}", spread.median() - before));
        writeln!(f, "{name:<52}{spread:>18.digits$}{more:>7}")?;
        before = Some(spread.median());
    }
    Ok(())
}

/// How many times as long a lookup, and a packet, takes with LPM_TRIE.
fn ratios(f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
    writeln!(
        f,
        "\n{:22}{:>30}{:>36}{:>28}",
        "", "LPM_TRIE ÷ flat, a lookup", "lpm ÷ flat, a lookup", "lpm ÷ flat, a packet"
    )?;
    write!(f, "{:<22}", "prefixes")?;
    let columns = [
        (Peer::Trie, What::LookupAnywhere, "anywhere", 20),
        (Peer::Trie, What::LookupListed, "listed", 10),
        (Peer::Lpm, What::LookupAnywhere, "anywhere", 16),
        (Peer::Lpm, What::LookupChained, "chained", 10),
        (Peer::Lpm, What::LookupListed, "listed", 10),
        (Peer::Lpm, What::Drop, "drop", 8),
        (Peer::Lpm, What::ProgramAnywhere, "anywhere", 10),
        (Peer::Lpm, What::ProgramListed, "listed", 10),
    ];
    for (_, _, name, width) in columns {
        write!(f, "{name:>width$}")?;
    }
    writeln!(f)?;
    for row in rows {
        write!(f, "{:<13}{:>9}", row.set.name, row.prefixes)?;
        for (peer, what, _, width) in columns {
            let ratio = row.ratio(peer, Peer::Flat, what);
            write!(f, "{:>width$}", ratio.map_or_else(String::new, |ratio| format!("{ratio:.1}")))?;
        }
        writeln!(f)?;
    }
    Ok(())
}

/// What else the tables take.
fn taken(f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
    writeln!(
        f,
        "\n{:<22}{:>12}{:>16}{:>16}{:>14}{:>14}",
        "prefixes", "dropped", "flat, KiB", "lpm, KiB", "flat, ms", "lpm, ms"
    )?;
    for row in rows {
        write!(f, "{:<13}{:>9}{:>10.1} %", row.set.name, row.prefixes, 100.0 * row.dropped)?;
        let of = |peer| row.taken.iter().find(|taken| taken.peer == peer);
        for (peer, width) in [(Peer::Flat, 16), (Peer::Lpm, 16)] {
            let text = of(peer).map_or_else(String::new, |taken| (taken.memory / 1024).to_string());
            write!(f, "{text:>width$}")?;
        }
        for (peer, width) in [(Peer::Flat, 14), (Peer::Lpm, 14)] {
            let text =
                of(peer).map_or_else(String::new, |taken| format!("{:.0}", 1e3 * taken.publish_seconds));
            write!(f, "{text:>width$}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}
