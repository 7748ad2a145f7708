//! The rules that drop, numbered, with an identity that outlives a reload.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use sha1::{Digest as _, Sha1};

use super::{DropRule, DropRuleId};
use crate::model::{Config, Policy, PolicyId, RuleId};

/// A rule of a policy, or its default.
pub(super) type DropSource = (PolicyId, Option<RuleId>);

/// The number of a [`DropSource`], in the order in which the compiler meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SourceId(pub(super) u32);

/// Numbers the rules that drop something in the order of the file. `sources` are rules by their [`SourceId`], of
/// which those in `dropping` count.
pub(super) fn number_rules(
    config: &Config,
    sources: &[DropSource],
    dropping: &BTreeSet<SourceId>,
) -> (Vec<DropRule>, HashMap<SourceId, DropRuleId>) {
    let numbered = sources.iter().copied().zip((0..).map(SourceId));
    let mut order: Vec<(DropSource, SourceId)> = numbered.filter(|(_, id)| dropping.contains(id)).collect();
    // A policy's default comes after its rules.
    order.sort_by_key(|((policy, rule), _)| (*policy, rule.map_or(u32::MAX, |rule| rule.0)));
    let mut rules = Vec::with_capacity(order.len());
    let mut renumber = HashMap::with_capacity(order.len());
    let mut earlier = HashMap::new();
    for ((policy_id, rule), source) in order {
        let policy = config.policy(policy_id);
        let (text, origin) = match rule {
            Some(id) => (policy.rule(id).text.clone(), policy.rule(id).origin.clone()),
            None => (Arc::from("default deny"), policy.origin().clone()),
        };
        let earlier = rule
            .map_or(0, |id| earlier.entry(policy_id).or_insert_with(|| equal_earlier(policy))[id.0 as usize]);
        let identity = identity(policy.name(), &text, rule.is_none(), earlier);
        renumber.insert(source, DropRuleId(rules.len() as u32));
        rules.push(DropRule {
            policy: policy_id,
            policy_name: policy.name().clone(),
            rule,
            text,
            origin,
            identity,
        });
    }
    (rules, renumber)
}

/// For each rule of a policy, how many earlier ones have the same text. Those that drop nothing count
/// too, so that an identity does not depend on what the others happen to drop.
fn equal_earlier(policy: &Policy) -> Vec<usize> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let count = |rule| {
        let count = seen.entry(rule).or_default();
        *count += 1;
        *count - 1
    };
    policy.rules().iter().map(|rule| &*rule.text).map(count).collect()
}

/// A hash that any later version computes alike: it is kept beside counters that outlive this process.
fn identity(policy: &str, text: &str, default: bool, earlier: usize) -> u64 {
    let mut hash = Sha1::new();
    for part in [policy.as_bytes(), text.as_bytes(), &[u8::from(default)], &(earlier as u64).to_le_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    u64::from_le_bytes(std::array::from_fn(|i| digest[i]))
}
