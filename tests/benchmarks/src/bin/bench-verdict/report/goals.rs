//! What a verdict is to cost.

use benchmarks::goal::Goal;

use super::{Report, Row};
use crate::{
    sets::{Set, V4_ADDRESSES, V4_MIXED, V6_ADDRESSES, V6_MIXED},
    stand::{Peer, What},
};

const MEGABYTE: f64 = 1e6;

impl Report {
    /// Every goal, met or not. Those of lookups are judged with single addresses and networks (`mixed`) and with
    /// random sources from anywhere, as they are worded: that is what a flood with forged sources is.
    pub(crate) fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for (set, prefixes, limit) in [
            (V4_MIXED, 100_000, 30.0),
            (V4_MIXED, 1_000_000, 20.0),
            (V6_MIXED, 100_000, 15.0),
            (V6_MIXED, 500_000, 15.0),
        ] {
            let what = format!("lookup, LPM_TRIE ÷ flat, {prefixes} prefixes, {}, random sources", set.name);
            let ratio = |row: &Row| row.ratio(Peer::Trie, Peer::Flat, What::LookupAnywhere);
            goals.push(self.of(&set, prefixes, &what, limit, At::Least, 1, "", ratio));
        }
        for set in [V4_MIXED, V4_ADDRESSES] {
            let what = format!("packet over a bare XDP_DROP, 1000000 prefixes, {}, same source", set.name);
            goals.push(self.of(&set, 1_000_000, &what, 15.0, At::Most, 0, " ns", |row| {
                let median = |peer| Some(row.figure(peer, What::Drop)?.median());
                Some(median(Peer::Flat)? - median(Peer::Bare)?)
            }));
        }
        for set in [V4_ADDRESSES, V6_ADDRESSES] {
            for (what, name) in [(What::Drop, "dropped"), (What::Pass, "passed")] {
                let text = format!("packet {name}, nicgate ÷ xdp-filter, 10000 addresses, {}", set.name);
                let ratio = |row: &Row| row.ratio(Peer::Flat, Peer::XdpFilter, what);
                goals.push(self.of(&set, 10_000, &text, 1.0, At::Most, 2, "", ratio));
            }
        }
        let small = self.row(&V4_ADDRESSES, 1_000).and_then(|row| row.figure(Peer::Flat, What::Drop));
        goals.push(self.of(
            &V4_ADDRESSES,
            1_000_000,
            "packet, 1000000 ÷ 1000 prefixes, v4 addresses, same source",
            1.3,
            At::Most,
            2,
            "",
            |row| Some(row.figure(Peer::Flat, What::Drop)?.median() / small?.median()),
        ));
        for set in [V4_MIXED, V4_ADDRESSES] {
            let what = format!("kernel memory, 1000000 prefixes, both generations, {}", set.name);
            goals.push(self.of(&set, 1_000_000, &what, 64.0, At::Most, 1, " MB", |row| {
                let taken = row.taken.iter().find(|taken| taken.peer == Peer::Flat)?;
                Some(taken.memory as f64 / MEGABYTE)
            }));
        }
        let what = "kernel memory, a policy of 100 rules";
        goals.push(match &self.parts {
            Some(parts) => Goal::at_most(what, parts.hundred_rules as f64 / MEGABYTE, 2.0, 2, " MB"),
            None => Goal::not_measured(what, "at most 2 MB", "it was not asked for"),
        });
        goals
    }

    #[expect(clippy::too_many_arguments, reason = "one sentence for each goal")]
    fn of(
        &self,
        set: &Set,
        prefixes: u32,
        what: &str,
        limit: f64,
        at: At,
        digits: usize,
        unit: &str,
        figure: impl Fn(&Row) -> Option<f64>,
    ) -> Goal {
        match (self.row(set, prefixes).and_then(figure), at) {
            (Some(seen), At::Least) => Goal::at_least(what, seen, limit, digits, unit),
            (Some(seen), At::Most) => Goal::at_most(what, seen, limit, digits, unit),
            (None, At::Least) => Goal::not_measured(what, &format!("at least {limit}{unit}"), WHY),
            (None, At::Most) => Goal::not_measured(what, &format!("at most {limit}{unit}"), WHY),
        }
    }
}

const WHY: &str = "not in this run (--quick, --only)";

#[derive(Clone, Copy)]
enum At {
    Least,
    Most,
}
