//! From the decisions of all policies to classes of addresses and a verdict table.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use ipnet::IpNet;

use super::{
    ClassId, Column, ColumnId, Compiled, CompiledService, Decisions, DropRule, DropRuleId,
    decide::{Denial, Family},
    memo::Memo,
    rules::{DropSource, SourceId, number_rules},
};
use crate::{address::Partition, model::Config};

/// For each column so far, what drops a class there, if anything does.
type Row = Vec<Option<SourceId>>;

/// Compiles a configuration into what the NIC may drop.
pub fn compile(config: &Config, decisions: &Decisions) -> Compiled {
    let (columns, services) = columns(config);
    let mut rules = Interner::new(SourceId);
    let mut rows = Interner::new(ClassId);

    let never: Vec<IpNet> = config.never_drop.iter().map(|(net, _)| *net).collect();
    let v4 = family::<u32>(decisions, &columns, &never, &mut rules, &mut rows);
    let v6 = family::<u128>(decisions, &columns, &never, &mut rules, &mut rows);

    // A rule whose addresses all pass on account of others drops nothing, and needs no counter.
    let dropping: BTreeSet<SourceId> = rows.values.iter().flatten().flatten().copied().collect();
    let (rules, renumber) = number_rules(config, &rules.values, &dropping);
    let mut cells = Vec::with_capacity(rows.values.len() * (columns.len() + 1));
    for row in &rows.values {
        let start = cells.len();
        cells.extend(row.iter().map(|source| source.and_then(|source| renumber.get(&source).copied())));
        // A packet without a visible port may be meant for any service: it is dropped when all of them
        // drop it, and counted against the first.
        let everywhere = cells[start..].iter().all(Option::is_some);
        cells.push(cells.get(start).copied().flatten().filter(|_| everywhere));
    }
    Compiled { v4, v6, services, columns, cells, rules, shadow: config.shadow }
}

/// The distinct sets of policies and proxies, and the one that each service has.
fn columns(config: &Config) -> (Vec<Column>, Vec<CompiledService>) {
    let mut columns: Vec<Column> = Vec::new();
    let services = config
        .services
        .iter()
        .map(|service| {
            let open = service.open.is_some();
            let mut proxies: Vec<IpNet> = service
                .trust()
                .filter(|_| !open)
                .map_or_else(Vec::new, |trust| trust.prefixes().map(|(net, _)| net.trunc()).collect());
            proxies.sort_unstable();
            proxies.dedup();
            let found = columns.iter().position(|column| {
                // Services that drop nothing share a column whatever the reason.
                if open {
                    column.open.is_some()
                } else {
                    column.open.is_none() && column.policies == service.policies && column.proxies == proxies
                }
            });
            let column = found.unwrap_or_else(|| {
                let (policies, open) = (service.policies.clone(), service.open.clone());
                columns.push(Column { policies, proxies, open });
                columns.len() - 1
            });
            CompiledService { key: service.key, column: ColumnId(column as u32) }
        })
        .collect();
    (columns, services)
}

/// Numbers distinct values in the order in which they first appear.
struct Interner<T, N> {
    values: Vec<T>,
    numbers: HashMap<T, N>,
    /// Makes a number what it is a number of.
    of: fn(u32) -> N,
}

impl<T: Clone + Eq + std::hash::Hash, N: Copy> Interner<T, N> {
    fn new(of: fn(u32) -> N) -> Self {
        Self { values: Vec::new(), numbers: HashMap::new(), of }
    }

    fn number(&mut self, value: T) -> N {
        *self.numbers.entry(value).or_insert_with_key(|value| {
            self.values.push(value.clone());
            (self.of)(self.values.len() as u32 - 1)
        })
    }
}

/// The classes of one family: every address gets the number of its row.
fn family<A: Family>(
    decisions: &Decisions,
    columns: &[Column],
    never: &[IpNet],
    rules: &mut Interner<DropSource, SourceId>,
    rows: &mut Interner<Row, ClassId>,
) -> Partition<A, ClassId> {
    let decisions = A::decisions(decisions);
    // While columns are added, a class is the number of a shorter row, in this family alone.
    let mut partial = Interner::new(ClassId);
    let mut classes = Partition::constant(partial.number(Row::new()));
    let without_proxies = covered::<A>(never.iter());
    for column in columns {
        let never = match &column.proxies[..] {
            [] => Cow::Borrowed(&without_proxies),
            proxies => Cow::Owned(covered::<A>(never.iter().chain(proxies))),
        };
        let mut longer = Interner::new(ClassId);
        let mut extended = |class: ClassId, source: Option<SourceId>| {
            let row = &partial.values[class.index()];
            longer.number(row.iter().copied().chain([source]).collect::<Row>())
        };
        classes = match &column.policies[..] {
            [first, others @ ..] if column.open.is_none() => {
                // Every policy has to drop; the first names the rule.
                let mut drop = Cow::Borrowed(&decisions[first]);
                for other in others {
                    let and = |first, other| if other == Denial::PASS { Denial::PASS } else { first };
                    drop = Cow::Owned(drop.zip(&decisions[other], and));
                }
                let mut class_of = Memo::new(|class, denial: Denial| {
                    let denied = denial != Denial::PASS;
                    extended(class, denied.then(|| rules.number((*first, denial.rule()))))
                });
                classes.zip(&*never, |class, never| (class, never)).zip(&drop, |(class, never), denial| {
                    class_of.get(class, if never { Denial::PASS } else { denial })
                })
            }
            _ => classes.map(|class| extended(class, None)),
        };
        partial = longer;
    }
    let numbers: Vec<ClassId> = partial.values.into_iter().map(|row| rows.number(row)).collect();
    if numbers.iter().copied().eq((0..numbers.len() as u32).map(ClassId)) {
        return classes;
    }
    classes.map(|class| numbers[class.index()])
}

/// The addresses of one family that are in any of these prefixes.
fn covered<'a, A: Family>(nets: impl Iterator<Item = &'a IpNet>) -> Partition<A, bool> {
    let ranges = nets.filter_map(|net| A::range(net)).map(|(first, last)| (first, last, true));
    Partition::from_nested(ranges.collect(), false)
}

impl Compiled {
    /// The prefixes that are dropped on a service, by family: minimal, aggregated and sorted.
    pub fn drop_prefixes(&self, service: usize) -> DropPrefixes<'_> {
        DropPrefixes { compiled: self, column: self.services[service].column }
    }

    /// The rules that drop something on a column, in file order.
    pub fn column_rules(&self, column: ColumnId) -> impl Iterator<Item = &DropRule> {
        let used: BTreeSet<DropRuleId> =
            (0..self.classes() as u32).filter_map(|class| self.cell(ClassId(class), column)).collect();
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
    fn dropped(self) -> impl Fn(ClassId) -> bool + 'a {
        let Self { compiled, column } = self;
        move |class| compiled.cell(class, column).is_some()
    }

    /// IPv4.
    pub fn v4(self) -> impl Iterator<Item = IpNet> + 'a {
        self.compiled.v4.prefixes(self.dropped())
    }

    /// IPv6.
    pub fn v6(self) -> impl Iterator<Item = IpNet> + 'a {
        self.compiled.v6.prefixes(self.dropped())
    }
}
