//! Lists that have lost much since they were last loaded: a download that broke off is valid, and wrong.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::model::{Action, Config, Matcher, Policy, Purpose};

/// A list file with fewer entries than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shrunk {
    path: Arc<str>,
    policy: Arc<str>,
    before: usize,
    now: usize,
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, policy, before, now } = self;
        write!(f, "the list {path:?} of {policy} has {now} entries; it had {before} when it was last loaded")
    }
}

impl Shrunk {
    /// Whether nothing is left of it.
    fn is_emptied(&self) -> bool {
        self.now == 0
    }
}

/// The first list of those that has lost everything, where `list_guard` keeps it. The configuration keeps such a list's
/// former contents itself, unless they are not to be had.
pub(super) fn emptied(shrunk: &[Shrunk], now: &Config) -> Option<String> {
    shrunk.iter().find(|list| now.list_guard && list.is_emptied()).map(ToString::to_string)
}

/// The lists of addresses that deny or drop and have lost more than half of their entries, by policy and path.
pub(super) fn shrunk(before: &Config, now: &Config) -> Vec<Shrunk> {
    let (before, now) = (sizes(before), sizes(now));
    let both = now.into_iter().filter_map(|(key, now)| Some((before.get(&key).copied()?, key, now)));
    both.filter(|(before, _, now)| now * 2 < *before)
        .map(|(before, (policy, path), now)| Shrunk { path, policy, before, now })
        .collect()
}

fn sizes(config: &Config) -> BTreeMap<(Arc<str>, Arc<str>), usize> {
    let mut sizes = BTreeMap::new();
    // What restricts streams once more has the same lists.
    let written = |policy: &&Policy| policy.purpose() == Purpose::Judges;
    for policy in config.policies.iter().filter(written) {
        for rule in policy.rules().iter().filter(|rule| rule.action != Action::Allow) {
            if let Matcher::IpFile(list) = &rule.matcher {
                sizes.insert((policy.name().clone(), list.path.clone()), list.entries.len());
            }
        }
    }
    sizes
}
