//! What each policy decides by address alone.

use std::collections::{BTreeSet, HashMap};

use crate::{
    address::{Address, Partition},
    country::CountryMap,
    model::{Config, Country, NO_RULE, Policy, PolicyId, RuleId, RuleLabel},
};

/// Some request from the address might be admitted: the packet passes.
pub(super) const PASS: u32 = NO_RULE;
/// The address is denied because no rule admits it and there is no `allow default`.
pub(super) const BY_DEFAULT: u32 = NO_RULE - 1;

/// For every policy behind a service, what denies each address whatever else a request shows: the
/// number of a rule, or `BY_DEFAULT`, or `PASS`.
#[derive(Clone, Debug)]
pub struct Decisions {
    pub(super) v4: HashMap<PolicyId, Partition<u32, u32>>,
    pub(super) v6: HashMap<PolicyId, Partition<u128, u32>>,
}

impl Decisions {
    /// Decides for every policy that stands behind a service.
    ///
    /// `countries` is [`CountryMap::empty`] when there is no database.
    pub fn new(config: &Config, countries: &CountryMap) -> Self {
        let used: BTreeSet<PolicyId> =
            config.services.iter().flat_map(|service| service.policies.iter().copied()).collect();
        Self {
            v4: used.iter().map(|id| (*id, decide(config.policy(*id), &countries.v4))).collect(),
            v6: used.iter().map(|id| (*id, decide(config.policy(*id), &countries.v6))).collect(),
        }
    }
}

/// What the compiler needs of an address family.
pub(super) trait Family: Address {
    /// The address rules of a policy.
    fn rules(policy: &Policy) -> AddressLayers<'_, Self>;
    /// The decisions in this family.
    fn decisions(decisions: &Decisions) -> &HashMap<PolicyId, Partition<Self, u32>>;
}

/// The address rules of a policy in one family.
pub(super) struct AddressLayers<'a, A> {
    drop: &'a Partition<A, RuleLabel>,
    allow: &'a Partition<A, RuleLabel>,
    deny: &'a Partition<A, RuleLabel>,
}

impl Family for u32 {
    fn rules(policy: &Policy) -> AddressLayers<'_, Self> {
        let index = policy.index();
        AddressLayers { drop: &index.drop_ip.v4, allow: &index.allow_ip.v4, deny: &index.deny_ip.v4 }
    }

    fn decisions(decisions: &Decisions) -> &HashMap<PolicyId, Partition<Self, u32>> {
        &decisions.v4
    }
}

impl Family for u128 {
    fn rules(policy: &Policy) -> AddressLayers<'_, Self> {
        let index = policy.index();
        AddressLayers { drop: &index.drop_ip.v6, allow: &index.allow_ip.v6, deny: &index.deny_ip.v6 }
    }

    fn decisions(decisions: &Decisions) -> &HashMap<PolicyId, Partition<Self, u32>> {
        &decisions.v6
    }
}

/// For every address: `PASS`, or what denies every request from it.
fn decide<A: Family>(policy: &Policy, countries: &Partition<A, Option<Country>>) -> Partition<A, u32> {
    let index = policy.index();
    let AddressLayers { drop, allow, deny } = A::rules(policy);

    /// What the country rules say, when nothing before them decided.
    #[derive(Clone, Copy, PartialEq)]
    struct ByCountry {
        drop: RuleLabel,
        otherwise: u32,
    }
    let nothing_admits =
        index.allow_ua.is_empty() && policy.backends().is_empty() && policy.default_allow().is_none();
    let label = |rules: &HashMap<Country, RuleId>, country: Option<Country>| {
        country.and_then(|country| rules.get(&country)).map_or(NO_RULE, |rule| rule.0)
    };
    let by_country = |country: Option<Country>| ByCountry {
        drop: label(&index.drop_country, country),
        otherwise: match label(&index.deny_country, country) {
            _ if label(&index.allow_country, country) != NO_RULE => PASS,
            NO_RULE if nothing_admits => BY_DEFAULT,
            rule_or_pass => rule_or_pass,
        },
    };
    let countries = if policy.uses_countries() {
        countries.map(by_country)
    } else {
        Partition::constant(by_country(None))
    };

    // A token outranks everything that follows, and the NIC cannot see tokens.
    if !index.allow_token.is_empty() {
        return drop.zip(&countries, |drop, country| drop.min(country.drop));
    }
    // What outranks `deny ip`, and what holds behind it.
    let before = drop.zip(&countries, |drop, country| (drop.min(country.drop), country.otherwise)).zip(
        allow,
        |(drop, otherwise), allow| match drop {
            NO_RULE if allow != NO_RULE => (Some(PASS), otherwise),
            NO_RULE => (None, otherwise),
            rule => (Some(rule), otherwise),
        },
    );
    // Last, because it is mostly the largest: what is put together with it is as large.
    before.zip(deny, |(before, otherwise), deny| match before {
        Some(label) => label,
        None if deny != NO_RULE => deny,
        None => otherwise,
    })
}
