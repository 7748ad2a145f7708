//! The table, the plots, and the figures for programs.

use std::{fmt, path::Path};

use benchmarks::{goal::Goal, plot, samples::Spread};
use kit::machine::Machine;
use serde_json::{Value, json};

use crate::{flood::SOURCES, peers::Peer, viewer::Watched};

/// One run of one case; rates are a second.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Frames made, with nothing else going on.
    pub(crate) sent: f64,
    /// Frames of these that the edge's interface received.
    pub(crate) received: f64,
    /// Frames of these that the peer says it dropped.
    pub(crate) dropped: Option<f64>,
    /// Frames made while the viewer watched.
    pub(crate) paced: f64,
    /// The viewer, without a flood.
    pub(crate) idle: Watched,
    /// The viewer, during the flood.
    pub(crate) watched: Watched,
}

/// All runs of one peer.
pub(crate) struct Case {
    pub(crate) peer: Peer,
    pub(crate) runs: Vec<Run>,
}

impl Case {
    fn spread(&self, figure: impl Fn(&Run) -> f64) -> Spread {
        Spread::of(self.runs.iter().map(figure)).expect("at least one run, by the arguments' range")
    }

    /// Frames that went no further, a second; nothing for what drops nothing.
    fn dropped(&self) -> Option<Spread> {
        match self.peer {
            Peer::None => None,
            // It has no counter; what it received of the flood it dropped.
            Peer::BareDrop => Some(self.spread(|run| run.received)),
            _ => Spread::of(self.runs.iter().filter_map(|run| run.dropped)),
        }
    }

    /// What the viewer got, in hundredths of what it gets without a flood.
    fn share(&self) -> Spread {
        self.spread(|run| 100.0 * run.watched.rate / run.idle.rate.max(1.0))
    }

    /// A percentile of the viewer's requests in ms; `None` when in one of the runs no request was finished.
    fn percentile(&self, percent: usize, of: impl Fn(&Run) -> &Watched) -> Option<Spread> {
        let times = self.runs.iter().map(|run| of(run).percentile(percent));
        let times: Option<Vec<f64>> = times.map(|time| Some(time?.as_secs_f64() * 1e3)).collect();
        Spread::of(times?)
    }

    fn failed(&self) -> u64 {
        self.runs.iter().map(|run| run.watched.failed).sum()
    }
}

/// All cases.
pub(crate) struct Report {
    machine: Machine,
    rate: u64,
    runs: u32,
    seconds: u64,
    cases: Vec<Case>,
}

impl Report {
    /// Nothing was measured yet.
    pub(crate) fn new(rate: u64, runs: u32, seconds: u64) -> Self {
        let machine = Machine::this().beside(&["iptables", "ipset", "nft", "xdp-filter"]);
        Self { machine, rate, runs, seconds, cases: Vec::new() }
    }

    /// What is measured, and how.
    pub(crate) fn describes(&self) -> String {
        format!(
            "{}\nTCP SYN to the gate's port from {n} IPv4 and {n} IPv6 addresses, all of them denied, made by one \
             core and received on it; {} runs of {} s; while the viewer watches, {} frames a second",
            self.machine,
            self.runs,
            self.seconds,
            self.rate,
            n = SOURCES.count
        )
    }

    /// Adds a case.
    pub(crate) fn add(&mut self, case: Case) {
        self.cases.push(case);
    }

    fn case(&self, peer: Peer) -> Option<&Case> {
        self.cases.iter().find(|case| case.peer == peer)
    }

    /// nicgate's rate over another's.
    fn ratio(&self, other: Peer) -> Option<f64> {
        let median = |peer| Some(self.case(peer)?.dropped()?.median());
        Some(median(Peer::Nicgate)? / median(other)?)
    }

    /// What the viewer gets with nicgate, of what it gets with the same flood and a bare drop.
    fn kept(&self) -> Option<f64> {
        let rate = |peer| Some(self.case(peer)?.spread(|run| run.watched.rate).median());
        Some(100.0 * rate(Peer::Nicgate)? / rate(Peer::BareDrop)?)
    }

    /// For programs. Rates are a second, times milliseconds, shares hundredths.
    pub(crate) fn json(&self) -> Value {
        let optional = |spread: Option<Spread>| spread.map(|spread| spread.json());
        let cases: Vec<Value> = self
            .cases
            .iter()
            .map(|case| {
                json!({
                    "peer": case.peer.name(),
                    "sent": case.spread(|run| run.sent).json(),
                    "received": case.spread(|run| run.received).json(),
                    "dropped": optional(case.dropped()),
                    "paced": case.spread(|run| run.paced).json(),
                    "viewer": {
                        "idle_bytes": case.spread(|run| run.idle.rate).json(),
                        "bytes": case.spread(|run| run.watched.rate).json(),
                        "share": case.share().json(),
                        "idle_p50": optional(case.percentile(50, |run| &run.idle)),
                        "p50": optional(case.percentile(50, |run| &run.watched)),
                        "idle_p99": optional(case.percentile(99, |run| &run.idle)),
                        "p99": optional(case.percentile(99, |run| &run.watched)),
                        "failed": case.failed(),
                    },
                })
            })
            .collect();
        json!({
            "machine": self.machine.json(),
            "sources": 2 * SOURCES.count,
            "runs": self.runs,
            "seconds": self.seconds,
            "rate": self.rate,
            "cases": cases,
            "nicgate_over_xdp_filter": self.ratio(Peer::XdpFilter),
            "nicgate_over_nftables": self.ratio(Peer::Nftables),
            "viewer_share_of_bare_drop": self.kept(),
            "goals": self.goals().iter().map(Goal::json).collect::<Vec<_>>(),
        })
    }

    /// Writes the plots.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub(crate) fn plot(&self, directory: &Path) -> anyhow::Result<()> {
        let dropped: Vec<(&str, Spread)> = self
            .cases
            .iter()
            .filter_map(|case| Some((case.peer.name(), case.dropped()?.scaled(1e-6))))
            .collect();
        let bars = |figure: &dyn Fn(&Case) -> Option<Spread>| -> Vec<(&str, Spread)> {
            self.cases.iter().filter_map(|case| Some((case.peer.name(), figure(case)?))).collect()
        };
        let viewed = bars(&|case| Some(case.spread(|run| run.watched.rate / 1e6)));
        let shares = bars(&|case| Some(case.share()));
        let slowest = bars(&|case| case.percentile(99, |run| &run.watched));
        let rate = self.rate;
        for (name, title, unit, bars) in [
            (
                "flood-dropped.svg",
                "A flood dropped, one core for making and dropping it".to_owned(),
                "Mpps",
                dropped,
            ),
            (
                "flood-viewer.svg",
                format!("What an allowed viewer gets during a flood of {rate} frames a second"),
                "MB/s",
                viewed,
            ),
            (
                "flood-viewer-share.svg",
                format!("What an allowed viewer gets during a flood of {rate} frames a second"),
                "% of what it gets without",
                shares,
            ),
            (
                "flood-viewer-p99.svg",
                format!("An allowed viewer's slowest requests during a flood of {rate} frames a second"),
                "99 of 100 take at most, ms",
                slowest,
            ),
        ] {
            if !bars.is_empty() {
                plot::write(directory, name, &plot::bars(&title, unit, &bars))?;
            }
        }
        Ok(())
    }

    /// What is to be reached, and whether it is.
    pub(crate) fn goals(&self) -> Vec<Goal> {
        let of = |what: &str, seen: Option<f64>, limit: f64, digits: usize, unit: &str| match seen {
            Some(seen) => Goal::at_least(what, seen, limit, digits, unit),
            None => Goal::not_measured(what, &format!("at least {limit}{unit}"), "a peer was not measured"),
        };
        vec![
            of("flood dropped, nicgate ÷ xdp-filter", self.ratio(Peer::XdpFilter), 1.0, 2, ""),
            of("flood dropped, nicgate ÷ nftables", self.ratio(Peer::Nftables), 4.0, 2, ""),
            of("viewer during a flood, nicgate ÷ bare XDP_DROP", self.kept(), 90.0, 0, " %"),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<22} {:>18} {:>20} {:>20} {:>20} {:>20}  {:>6}",
            "", "dropped, Mpps", "viewer, MB/s", "% of idle", "p50, ms", "p99, ms", "failed"
        )?;
        let optional =
            |spread: Option<Spread>| spread.map_or_else(|| "–".to_owned(), |spread| format!("{spread:.1}"));
        for case in &self.cases {
            let dropped = case
                .dropped()
                .map_or_else(|| "–".to_owned(), |dropped| format!("{:.2}", dropped.scaled(1e-6)));
            writeln!(
                f,
                "{:<22} {dropped:>18} {:>20.0} {:>20.0} {:>20} {:>20}  {:>6}",
                case.peer.name(),
                case.spread(|run| run.watched.rate / 1e6),
                case.share(),
                optional(case.percentile(50, |run| &run.watched)),
                optional(case.percentile(99, |run| &run.watched)),
                case.failed()
            )?;
        }
        for goal in self.goals() {
            writeln!(f, "{goal}")?;
        }
        Ok(())
    }
}
