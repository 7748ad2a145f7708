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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::Proto,
        offload::{CompiledService, DropRuleId},
    };

    /// Class 0 is dropped, class 1 passes, on one port.
    fn compiled(ranges: Vec<(u8, u8)>, port: u16) -> Compiled {
        let address = |last: u8| Ipv4Addr::new(192, 0, 2, last).to_bits();
        let mut pieces: Vec<(u32, u32, ClassId)> = Vec::new();
        for (one, other) in ranges {
            let (first, last) = (address(one.min(other)), address(one.max(other)));
            if pieces.last().is_none_or(|piece| piece.1 < first) {
                pieces.push((first, last, ClassId(0)));
            }
        }
        Compiled {
            v4: Partition::from_sorted(pieces, ClassId(1)).unwrap(),
            v6: Partition::constant(ClassId(1)),
            services: vec![CompiledService {
                key: ServiceKey { proto: Proto::Tcp, port, address: None },
                column: ColumnId(0),
            }],
            columns: vec![crate::offload::Column { policies: Vec::new(), proxies: Vec::new(), open: None }],
            cells: vec![Some(DropRuleId(0)), Some(DropRuleId(0)), None, None],
            rules: Vec::new(),
            shadow: false,
        }
    }

    proptest! {
        #[test]
        fn each_address_is_where_it_belongs(
            before: Vec<(u8, u8)>,
            now: Vec<(u8, u8)>,
            moved: bool,
        ) {
            let before = compiled(before, 80);
            let now = compiled(now, if moved { 81 } else { 80 });
            let changed = changes(&before, &now);
            for (compiled, other, more) in [(&now, &before, true), (&before, &now, false)] {
                let key = compiled.services[0].key;
                let prefixes = changed.iter().find(|change| change.service == key.to_string());
                let prefixes = prefixes.map(|change| if more { &change.more } else { &change.fewer });
                let prefixes = prefixes.cloned().unwrap_or_default();
                prop_assert_eq!(prefixes.v6, 0);
                prop_assert!(prefixes.first.len() == NAMED.min(prefixes.v4 as usize));
                if prefixes.v4 as usize > NAMED {
                    continue;
                }
                for last in 0..=255 {
                    let address = Ipv4Addr::new(192, 0, 2, last).into();
                    let was = !moved && other.verdict(address, 0).is_some();
                    let expected = compiled.verdict(address, 0).is_some() && !was;
                    let named = prefixes.first.iter().filter(|prefix| prefix.contains(&address)).count();
                    prop_assert_eq!(named, usize::from(expected), "{} {:?}", address, prefixes);
                }
            }
        }
    }
}
