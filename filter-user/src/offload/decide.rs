//! What each policy decides by address alone.

use std::collections::{BTreeSet, HashMap};

use ipnet::IpNet;

use crate::{
    address::{Address, Partition, net_range_v4, net_range_v6},
    country::CountryMap,
    model::{Config, Country, CountryRules, Policy, PolicyId, RuleId, RuleLabel},
};

/// What denies every request from an address, whatever else it shows: a rule, by its number, the default, or nothing.
/// As small as a [`RuleLabel`], because there are as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Denial(u32);

impl Denial {
    /// Some request from the address might be admitted: the packet passes.
    pub(super) const PASS: Self = Self(u32::MAX);
    /// The address is denied because no rule admits it and there is no `allow default`.
    pub(super) const BY_DEFAULT: Self = Self(u32::MAX - 1);

    /// A number that no other has.
    pub(super) fn number(self) -> u32 {
        self.0
    }

    /// The rule; `None` for the default and for what passes.
    pub(super) fn rule(self) -> Option<RuleId> {
        (self.0 < Self::BY_DEFAULT.0).then_some(RuleId(self.0))
    }
}

impl From<RuleId> for Denial {
    fn from(rule: RuleId) -> Self {
        Self(rule.0)
    }
}

impl From<RuleLabel> for Denial {
    fn from(label: RuleLabel) -> Self {
        label.rule().map_or(Self::PASS, Self::from)
    }
}

/// For every policy behind a service, what denies each address.
#[derive(Clone, Debug)]
pub struct Decisions {
    pub(super) v4: HashMap<PolicyId, Partition<u32, Denial>>,
    pub(super) v6: HashMap<PolicyId, Partition<u128, Denial>>,
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
    fn decisions(decisions: &Decisions) -> &HashMap<PolicyId, Partition<Self, Denial>>;
    /// The first and last address of a prefix of this family.
    fn range(net: &IpNet) -> Option<(Self, Self)>;
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

    fn decisions(decisions: &Decisions) -> &HashMap<PolicyId, Partition<Self, Denial>> {
        &decisions.v4
    }

    fn range(net: &IpNet) -> Option<(Self, Self)> {
        match net {
            IpNet::V4(net) => Some(net_range_v4(*net)),
            IpNet::V6(_) => None,
        }
    }
}

impl Family for u128 {
    fn rules(policy: &Policy) -> AddressLayers<'_, Self> {
        let index = policy.index();
        AddressLayers { drop: &index.drop_ip.v6, allow: &index.allow_ip.v6, deny: &index.deny_ip.v6 }
    }

    fn decisions(decisions: &Decisions) -> &HashMap<PolicyId, Partition<Self, Denial>> {
        &decisions.v6
    }

    fn range(net: &IpNet) -> Option<(Self, Self)> {
        match net {
            IpNet::V6(net) => Some(net_range_v6(*net)),
            IpNet::V4(_) => None,
        }
    }
}

/// What denies each address.
fn decide<A: Family>(policy: &Policy, countries: &Partition<A, Option<Country>>) -> Partition<A, Denial> {
    let index = policy.index();
    let AddressLayers { drop, allow, deny } = A::rules(policy);

    /// What the country rules say, when nothing before them decided.
    #[derive(Clone, Copy, PartialEq)]
    struct ByCountry {
        drop: RuleLabel,
        otherwise: Denial,
    }
    let nothing_admits =
        index.allow_ua.is_empty() && policy.backends().is_empty() && policy.default_allow().is_none();
    let label = |rules: &CountryRules, country: Option<Country>| {
        rules.get(&country).map_or(RuleLabel::NONE, |rule| (*rule).into())
    };
    let outside = |country: Option<Country>| {
        let rule = index.drop_outside.iter().find(|(countries, _)| !countries.contains(&country));
        rule.map_or(RuleLabel::NONE, |(_, rule)| (*rule).into())
    };
    let by_country = |country: Option<Country>| ByCountry {
        drop: label(&index.drop_country, country).min(outside(country)),
        otherwise: match label(&index.deny_country, country) {
            _ if label(&index.allow_country, country) != RuleLabel::NONE => Denial::PASS,
            RuleLabel::NONE if nothing_admits => Denial::BY_DEFAULT,
            denied => denied.into(),
        },
    };
    let countries = if policy.uses_countries() {
        countries.map(by_country)
    } else {
        Partition::constant(by_country(None))
    };

    // A token outranks everything that follows, and the NIC cannot see tokens.
    if !index.allow_token.is_empty() {
        return drop.zip(&countries, |drop, country| drop.min(country.drop).into());
    }
    // What outranks `deny ip`, and what holds behind it.
    let before = drop.zip(&countries, |drop, country| (drop.min(country.drop), country.otherwise)).zip(
        allow,
        |(drop, otherwise), allow| match drop {
            RuleLabel::NONE if allow != RuleLabel::NONE => (Some(Denial::PASS), otherwise),
            RuleLabel::NONE => (None, otherwise),
            dropped => (Some(dropped.into()), otherwise),
        },
    );
    // Last, because it is mostly the largest: what is put together with it is as large.
    before.zip(deny, |(before, otherwise), deny| match before {
        Some(decided) => decided,
        None if deny != RuleLabel::NONE => deny.into(),
        None => otherwise,
    })
}
