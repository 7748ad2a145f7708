//! The identity of a rule, under which its drops are counted across reloads.

use std::collections::{BTreeMap, HashSet};

use filter_user::offload::{Decisions, compile};
use kit::{oracle, random};
use proptest::prelude::*;

/// The identity of every rule that drops, by policy and wording.
fn identities(
    meaning: &oracle::Config,
    config: &filter_user::model::Config,
) -> BTreeMap<(String, String), u64> {
    let compiled = compile(config, &Decisions::new(config, &random::country_map(&meaning.countries)));
    let distinct: HashSet<u64> = compiled.rules.iter().map(|rule| rule.identity).collect();
    assert_eq!(distinct.len(), compiled.rules.len(), "two rules share an identity");
    let named = |rule: &filter_user::offload::DropRule| (rule.policy_name.to_string(), rule.text.to_string());
    let map: BTreeMap<_, _> = compiled.rules.iter().map(|rule| (named(rule), rule.identity)).collect();
    // What follows compares by wording, which is enough as long as equal rules do not both drop.
    assert_eq!(map.len(), compiled.rules.len());
    map
}

proptest! {
    #![proptest_config(random::cases(1000))]

    #[test]
    fn lines_elsewhere_change_no_identity(meaning in random::config(), style: u64) {
        let mut files = random::write(&meaning, style);
        let before = identities(&meaning, &random::load_files(&files));
        let main = files.0.get_mut(std::path::Path::new(random::MAIN)).expect("it was written");
        *main = format!(
            "# moved\n\nauth_backend unrelated {{ deny ip 10.10/16 ::/0; drop ip 10/8; }}\n\
             guard sctp 7 auth://unrelated;\n{main}\nstream another {{ on_play auth://unrelated; }}\n"
        );
        let mut after = identities(&meaning, &random::load_files(&files));
        after.retain(|(policy, _), _| policy != "unrelated");
        for (rule, identity) in &after {
            prop_assert!(before.get(rule).is_none_or(|known| known == identity), "{:?}", rule);
        }
        // The new stream widens the ports that serve all streams; all else drops as before.
        if meaning.services.iter().all(|service| matches!(service.kind, oracle::ServiceKind::GuardPolicies(_))) {
            prop_assert_eq!(before, after);
        }
    }

    /// Reordered and rewritten by another style, a rule whose wording stays keeps its identity.
    #[test]
    fn order_changes_no_identity(meaning in random::config(), one: u64, other: u64) {
        let before = identities(&meaning, &random::load(&meaning, one));
        let mut turned = meaning;
        for policy in &mut turned.policies {
            // Equal rules are told apart by their order, so that only distinct ones can trade places.
            let distinct = (1..policy.rules.len()).all(|i| !policy.rules[..i].contains(&policy.rules[i]));
            if distinct {
                policy.rules.reverse();
            }
        }
        let after = identities(&turned, &random::load(&turned, other));
        for (rule, identity) in &after {
            if let Some(known) = before.get(rule) {
                prop_assert_eq!(known, identity, "{:?}", rule);
            }
        }
    }
}
