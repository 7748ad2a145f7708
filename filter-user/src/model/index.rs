//! The rules of a policy by what they look at.

use std::{collections::HashMap, sync::Arc};

use ipnet::IpNet;

use super::{
    country::Country,
    page::Host,
    rule::{Action, Matcher, Rule, RuleId},
};
use crate::address::{Partition, net_range_v4, net_range_v6};

/// A label in an address list: the first rule, in file order, that covers an address. Half as large as an
/// `Option<RuleId>`, because lists have labels by the million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RuleLabel(u32);

impl RuleLabel {
    /// No rule covers the address. It sorts last.
    pub(crate) const NONE: Self = Self(u32::MAX);

    /// The rule.
    pub(crate) fn rule(self) -> Option<RuleId> {
        (self != Self::NONE).then_some(RuleId(self.0))
    }
}

impl From<RuleId> for RuleLabel {
    fn from(rule: RuleId) -> Self {
        Self(rule.0)
    }
}

/// The rules that cover each address, for both families.
#[derive(Clone, Debug)]
pub(crate) struct AddressRules {
    pub(crate) v4: Partition<u32, RuleLabel>,
    pub(crate) v6: Partition<u128, RuleLabel>,
}

/// The first rule for each country, and for addresses without one.
pub(crate) type CountryRules = HashMap<Option<Country>, RuleId>;

/// The rules of a policy by what they look at; each entry is the first such rule in file order.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) drop_ip: AddressRules,
    pub(crate) allow_ip: AddressRules,
    pub(crate) deny_ip: AddressRules,
    pub(crate) drop_country: CountryRules,
    pub(crate) allow_country: CountryRules,
    pub(crate) deny_country: CountryRules,
    pub(crate) allow_token: HashMap<Box<str>, RuleId>,
    pub(crate) deny_token: HashMap<Box<str>, RuleId>,
    pub(crate) allow_ua: Vec<(Box<str>, RuleId)>,
    pub(crate) deny_ua: Vec<(Box<str>, RuleId)>,
    /// Drops what is in none of the countries.
    pub(crate) drop_outside: Vec<(Arc<[Option<Country>]>, RuleId)>,
    /// Denies what no page on these hosts shows.
    pub(crate) deny_elsewhere: Vec<(Arc<[Host]>, RuleId)>,
    /// Denies who does not show the password.
    pub(crate) deny_password: Vec<(Box<str>, RuleId)>,
}

impl AddressRules {
    fn new(rules: &[Rule], action: Action) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        let mut add = |net: IpNet, label: RuleLabel| match net {
            IpNet::V4(net) => {
                let (first, last) = net_range_v4(net);
                v4.push((first, last, label));
            }
            IpNet::V6(net) => {
                let (first, last) = net_range_v6(net);
                v6.push((first, last, label));
            }
        };
        for (label, rule) in (0..).map(RuleLabel).zip(rules).filter(|(_, rule)| rule.action == action) {
            match &rule.matcher {
                Matcher::Ip(net) => add(*net, label),
                Matcher::IpFile(list) => list.entries.iter().for_each(|(net, _)| add(*net, label)),
                _ => {}
            }
        }
        Self {
            v4: Partition::from_nested(v4, RuleLabel::NONE),
            v6: Partition::from_nested(v6, RuleLabel::NONE),
        }
    }
}

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let numbered = || (0..).map(RuleId).zip(rules);
        let countries = |action: Action| {
            let mut map = HashMap::new();
            for (id, rule) in numbered().filter(|(_, rule)| rule.action == action) {
                if let Matcher::Country(country) = rule.matcher {
                    map.entry(country).or_insert(id);
                }
            }
            map
        };
        let tokens = |action: Action| {
            let mut map: HashMap<Box<str>, RuleId> = HashMap::new();
            for (id, rule) in numbered().filter(|(_, rule)| rule.action == action) {
                match &rule.matcher {
                    Matcher::Token(token) => {
                        map.entry(token.clone()).or_insert(id);
                    }
                    Matcher::TokenFile(list) => {
                        for (token, _) in list.entries.iter() {
                            map.entry(token.clone()).or_insert(id);
                        }
                    }
                    _ => {}
                }
            }
            map
        };
        let agents = |action: Action| {
            numbered()
                .filter(|(_, rule)| rule.action == action)
                .filter_map(|(id, rule)| match &rule.matcher {
                    Matcher::Ua(part) => Some((part.clone(), id)),
                    _ => None,
                })
                .collect()
        };
        Self {
            drop_ip: AddressRules::new(rules, Action::Drop),
            allow_ip: AddressRules::new(rules, Action::Allow),
            deny_ip: AddressRules::new(rules, Action::Deny),
            drop_country: countries(Action::Drop),
            allow_country: countries(Action::Allow),
            deny_country: countries(Action::Deny),
            allow_token: tokens(Action::Allow),
            deny_token: tokens(Action::Deny),
            allow_ua: agents(Action::Allow),
            deny_ua: agents(Action::Deny),
            drop_outside: restrictions(rules, |matcher| match matcher {
                Matcher::CountryOutside(countries) => Some(countries.clone()),
                _ => None,
            }),
            deny_elsewhere: restrictions(rules, |matcher| match matcher {
                Matcher::PageElsewhere(hosts) => Some(hosts.clone()),
                _ => None,
            }),
            deny_password: restrictions(rules, |matcher| match matcher {
                Matcher::OtherPassword(password) => Some(password.clone()),
                _ => None,
            }),
        }
    }
}

/// What the rules of one kind restrict, in file order. There are few of them.
fn restrictions<T>(rules: &[Rule], of: fn(&Matcher) -> Option<T>) -> Vec<(T, RuleId)> {
    let numbered = (0..).map(RuleId).zip(rules);
    numbered.filter_map(|(id, rule)| Some((of(&rule.matcher)?, id))).collect()
}
