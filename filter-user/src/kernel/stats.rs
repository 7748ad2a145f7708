//! The counters.

use std::collections::BTreeMap;

use filter_ebpf::layout::{EVENTS_LOST, Outcome, RuleHits, ServiceHits, flags};
use serde::{Deserialize, Serialize};

use super::{
    count::Count,
    error::{Context as _, Result},
    tables::Tables,
};
use crate::table::{service_key, text_of};

/// What a rule dropped; in shadow mode, would have dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStats {
    /// The policy's name.
    pub policy: String,
    /// The rule as written.
    pub text: String,
    /// Its file.
    pub file: String,
    /// Its line.
    pub line: u32,
    /// How much, since the rule first came into force.
    #[serde(flatten)]
    pub count: Count,
}

/// What happened on a protected port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStats {
    /// The port: `80/tcp`, `192.0.2.1:80/tcp`.
    pub service: String,
    /// What went on.
    pub passed: Count,
    /// What was dropped.
    pub dropped: Count,
}

/// One interface's counters, since the filter was first attached. They outlive reloads, upgrades and the
/// controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Packets by what became of them; every packet counts once. The names are stable.
    pub outcomes: BTreeMap<String, u64>,
    /// Drops that were to be reported but found the ring buffer full.
    pub events_lost: u64,
    /// Runtime bans that the kernel knows.
    pub bans: usize,
    /// Nothing is dropped now: what is counted as dropped by a rule would have been.
    #[serde(default)]
    pub shadow: bool,
    /// The live rules, by policy, file and line.
    pub rules: Vec<RuleStats>,
    /// The protected ports, by protocol and port.
    pub services: Vec<ServiceStats>,
}

impl Stats {
    /// All packets that the program saw.
    pub fn packets(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// The packets with one outcome.
    pub fn outcome(&self, name: &str) -> u64 {
        self.outcomes.get(name).copied().unwrap_or(0)
    }
}

pub(super) fn read(tables: &Tables) -> Result<Stats> {
    let counter = |index: u32| -> Result<u64> {
        let values = tables.outcomes.get(&index, 0).context("could not read the counters")?;
        Ok(values.iter().sum())
    };
    let mut outcomes = BTreeMap::new();
    for outcome in Outcome::ALL {
        outcomes.insert(outcome.name().to_owned(), counter(*outcome as u32)?);
    }
    let events_lost = counter(EVENTS_LOST)?;

    let bans = tables.bans.count().context("could not read the bans")?;
    let mut rules = Vec::new();
    for (slot, note) in tables.live_rules().context("could not read the rules")? {
        let mut count = Count::default();
        for RuleHits { packets, bytes } in &**tables.rule_hits.get(&slot, 0)? {
            count += Count { packets: *packets, bytes: *bytes };
        }
        rules.push(RuleStats {
            policy: text_of(&note.policy),
            text: text_of(&note.text),
            file: text_of(&note.file),
            line: note.line,
            count,
        });
    }
    rules.sort_by(|a, b| (&a.policy, &a.file, a.line, &a.text).cmp(&(&b.policy, &b.file, b.line, &b.text)));

    let mut services = Vec::new();
    for (slot, note) in tables.live_services().context("could not read the services")? {
        let (mut passed, mut dropped) = (Count::default(), Count::default());
        for hits in &**tables.service_hits.get(&slot, 0)? {
            let ServiceHits { passed_packets, passed_bytes, dropped_packets, dropped_bytes } = *hits;
            passed += Count { packets: passed_packets, bytes: passed_bytes };
            dropped += Count { packets: dropped_packets, bytes: dropped_bytes };
        }
        services.push((service_key(&note), passed, dropped));
    }
    services.sort_by_key(|(key, ..)| *key);
    let services = services
        .into_iter()
        .map(|(key, passed, dropped)| ServiceStats { service: key.to_string(), passed, dropped })
        .collect();
    let shadow = tables.live().is_some_and(|(_, header)| header.flags & flags::SHADOW != 0);
    Ok(Stats { outcomes, events_lost, bans, shadow, rules, services })
}
