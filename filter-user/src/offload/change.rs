//! What two compilations drop differently.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{ClassId, ColumnId, Compiled};
use crate::{
    address::{Address, Partition},
    model::ServiceKey,
};

/// How many of the prefixes a [`Prefixes`] names.
const NAMED: usize = 20;

/// What one service drops after a change and did not before, and the reverse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceChange {
    /// The port.
    pub service: String,
    /// Dropped only after the change.
    pub more: Prefixes,
    /// Dropped only before it.
    pub fewer: Prefixes,
}

/// Some prefixes: minimal, aggregated and sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefixes {
    /// How many of IPv4.
    pub v4: u64,
    /// How many of IPv6.
    pub v6: u64,
    /// The first of them, IPv4 before IPv6.
    pub first: Vec<IpNet>,
}

impl Prefixes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.v4 + self.v6 == 0
    }

    fn add(&mut self, prefixes: impl Iterator<Item = IpNet>) {
        for prefix in prefixes {
            *(if prefix.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 }) += 1;
            if self.first.len() < NAMED {
                self.first.push(prefix);
            }
        }
    }
}

/// The services at which `now` drops other addresses than `before`. Shadow mode is not looked at: what is counted there
/// counts as dropped.
pub fn changes(before: &Compiled, now: &Compiled) -> Vec<ServiceChange> {
    let keys = now.services.iter().chain(&before.services).map(|service| service.key);
    let mut services: Vec<ServiceKey> = Vec::new();
    for key in keys {
        if !services.contains(&key) {
            services.push(key);
        }
    }
    let change = |key: ServiceKey| {
        let (before, now) = (Side::new(before, key), Side::new(now, key));
        let (mut more, mut fewer) = (Prefixes::default(), Prefixes::default());
        compare(&before.dropped(|c| &c.v4), &now.dropped(|c| &c.v4), &mut more, &mut fewer);
        compare(&before.dropped(|c| &c.v6), &now.dropped(|c| &c.v6), &mut more, &mut fewer);
        let change = ServiceChange { service: key.to_string(), more, fewer };
        (!change.more.is_empty() || !change.fewer.is_empty()).then_some(change)
    };
    services.into_iter().filter_map(change).collect()
}

fn compare<A: Address>(
    before: &Partition<A, bool>,
    now: &Partition<A, bool>,
    more: &mut Prefixes,
    fewer: &mut Prefixes,
) {
    more.add(before.zip(now, |before, now| now && !before).prefixes(|more| more));
    fewer.add(before.zip(now, |before, now| before && !now).prefixes(|fewer| fewer));
}

/// One service of a compilation that may not have it.
struct Side<'a> {
    compiled: &'a Compiled,
    column: Option<ColumnId>,
}

impl<'a> Side<'a> {
    fn new(compiled: &'a Compiled, key: ServiceKey) -> Self {
        let service = compiled.services.iter().find(|service| service.key == key);
        Self { compiled, column: service.map(|service| service.column) }
    }

    fn dropped<A: Address>(
        &self,
        classes: impl Fn(&'a Compiled) -> &'a Partition<A, ClassId>,
    ) -> Partition<A, bool> {
        match self.column {
            Some(column) => classes(self.compiled).map(|class| self.compiled.cell(class, column).is_some()),
            None => Partition::constant(false),
        }
    }
}
