//! From the decisions of all policies to classes of addresses and a verdict table.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use super::{
    Column, ColumnId, Compiled, CompiledService, Decisions, DropRule, DropRuleId,
    decide::{BY_DEFAULT, Family, PASS},
    memo::Memo,
    rules::{DropSource, number_rules},
};
use crate::{
    address::{Partition, net_range_v4, net_range_v6},
    model::{Config, RuleId},
};

/// Compiles a configuration into what the NIC may drop.
pub fn compile(config: &Config, decisions: &Decisions) -> Compiled {
    let (columns, services) = columns(config);
    let mut rules = Interner::default();
    let mut rows = Interner::<Vec<u32>>::default();

    let v4 = family::<u32>(decisions, &columns, &never_v4(config), &mut rules, &mut rows);
    let v6 = family::<u128>(decisions, &columns, &never_v6(config), &mut rules, &mut rows);

    // A rule whose addresses all pass on account of others drops nothing, and needs no counter.
    let dropping: BTreeSet<u32> = rows.values.iter().flatten().copied().collect();
    let (rules, renumber) = number_rules(config, &rules.values, &dropping);
    let mut cells = Vec::with_capacity(rows.values.len() * (columns.len() + 1));
    for row in &rows.values {
        let start = cells.len();
        cells.extend(row.iter().map(|label| renumber.get(label).copied()));
        // A packet without a visible port may be meant for any service: it is dropped when all of them
        // drop it, and counted against the first.
        let everywhere = cells[start..].iter().all(Option::is_some);
        cells.push(cells.get(start).copied().flatten().filter(|_| everywhere));
    }
    Compiled { v4, v6, services, columns, cells, rules, shadow: config.shadow }
}

/// The distinct policy sets, and the one behind each service.
fn columns(config: &Config) -> (Vec<Column>, Vec<CompiledService>) {
    let mut columns: Vec<Column> = Vec::new();
    let services = config
        .services
        .iter()
        .map(|service| {
            let open = service.open.is_some();
            let found = columns.iter().position(|column| {
                // Services that drop nothing share a column whatever the reason.
                if open {
                    column.open.is_some()
                } else {
                    column.open.is_none() && column.policies == service.policies
                }
            });
            let column = found.unwrap_or_else(|| {
                columns.push(Column { policies: service.policies.clone(), open: service.open.clone() });
                columns.len() - 1
            });
            CompiledService { key: service.key, column: column as ColumnId }
        })
        .collect();
    (columns, services)
}

/// Numbers distinct values in the order in which they first appear.
struct Interner<T> {
    values: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Interner<T> {
    fn number(&mut self, value: T) -> u32 {
        *self.numbers.entry(value).or_insert_with_key(|value| {
            self.values.push(value.clone());
            self.values.len() as u32 - 1
        })
    }
}

/// The classes of one family: every address gets the number of its row of labels, one for each column.
fn family<A: Family>(
    decisions: &Decisions,
    columns: &[Column],
    never: &Partition<A, bool>,
    rules: &mut Interner<DropSource>,
    rows: &mut Interner<Vec<u32>>,
) -> Partition<A, u32> {
    let decisions = A::decisions(decisions);
    let mut partial = Interner::<Vec<u32>>::default();
    let mut classes = Partition::constant(partial.number(Vec::new()));
    for column in columns {
        let mut longer = Interner::<Vec<u32>>::default();
        let mut extended = |class: u32, label| {
            let row = &partial.values[class as usize];
            longer.number(row.iter().copied().chain([label]).collect())
        };
        classes = match &column.policies[..] {
            [first, others @ ..] if column.open.is_none() => {
                // Every policy has to drop; the first names the rule.
                let mut drop = Cow::Borrowed(&decisions[first]);
                for other in others {
                    let and = |first, other| if other == PASS { PASS } else { first };
                    drop = Cow::Owned(drop.zip(&decisions[other], and));
                }
                let mut class_of = Memo::new(|class, label| match label {
                    PASS => extended(class, PASS),
                    BY_DEFAULT => extended(class, rules.number((*first, None))),
                    rule => extended(class, rules.number((*first, Some(RuleId(rule))))),
                });
                classes
                    .zip(never, |class, never| (class, never))
                    .zip(&drop, |(class, never), label| class_of.get(class, if never { PASS } else { label }))
            }
            _ => classes.map(|class| extended(class, PASS)),
        };
        partial = longer;
    }
    let numbers: Vec<u32> = partial.values.into_iter().map(|row| rows.number(row)).collect();
    if numbers.iter().copied().eq(0..numbers.len() as u32) {
        return classes;
    }
    classes.map(|class| numbers[class as usize])
}

fn never_v4(config: &Config) -> Partition<u32, bool> {
    let ranges = config.never_drop.iter().filter_map(|(net, _)| match net {
        ipnet::IpNet::V4(net) => Some(net_range_v4(*net)),
        ipnet::IpNet::V6(_) => None,
    });
    Partition::from_nested(ranges.map(|(first, last)| (first, last, true)).collect(), false)
}

fn never_v6(config: &Config) -> Partition<u128, bool> {
    let ranges = config.never_drop.iter().filter_map(|(net, _)| match net {
        ipnet::IpNet::V6(net) => Some(net_range_v6(*net)),
        ipnet::IpNet::V4(_) => None,
    });
    Partition::from_nested(ranges.map(|(first, last)| (first, last, true)).collect(), false)
}

impl Compiled {
    /// The prefixes that are dropped on a service, by family: minimal, aggregated and sorted.
    pub fn drop_prefixes(&self, service: usize) -> DropPrefixes<'_> {
        DropPrefixes { compiled: self, column: self.services[service].column }
    }

    /// The rules that drop something on a column, in file order.
    pub fn column_rules(&self, column: ColumnId) -> impl Iterator<Item = &DropRule> {
        let used: BTreeSet<DropRuleId> =
            (0..self.classes() as u32).filter_map(|class| self.cell(class, column)).collect();
        used.into_iter().map(|id| self.rule(id))
    }
}

/// The prefixes that one service drops.
#[derive(Clone, Copy, Debug)]
pub struct DropPrefixes<'a> {
    compiled: &'a Compiled,
    column: ColumnId,
}

impl<'a> DropPrefixes<'a> {
    fn dropped(self) -> impl Fn(u32) -> bool + 'a {
        let Self { compiled, column } = self;
        move |class| compiled.cell(class, column).is_some()
    }

    /// IPv4.
    pub fn v4(self) -> impl Iterator<Item = ipnet::IpNet> + 'a {
        self.compiled.v4.prefixes(self.dropped())
    }

    /// IPv6.
    pub fn v6(self) -> impl Iterator<Item = ipnet::IpNet> + 'a {
        self.compiled.v6.prefixes(self.dropped())
    }
}
