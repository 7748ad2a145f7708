//! Random configurations from small pools, so that rules collide.

use std::net::IpAddr;

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::pool;
use crate::oracle::{Action, Authority, Config, Policy, Request, Rule, Service, ServiceKind, Stream, Value};

fn rule(list_path: &str) -> impl Strategy<Value = Rule> + use<> {
    let allow_or_deny = || select(vec![Action::Allow, Action::Deny]);
    let any_action = || select(vec![Action::Allow, Action::Deny, Action::Deny, Action::Drop]);
    let with = |action, value| Rule { action, value };
    let tokens = format!("{list_path}.tokens");
    let prefixes = format!("{list_path}.prefixes");
    prop_oneof![
        2 => (allow_or_deny(), pool::token().prop_map(Value::Token)).prop_map(move |(a, v)| with(a, v)),
        1 => (allow_or_deny(), vec(pool::listed_token(), 0..3))
            .prop_map(move |(a, v)| with(a, Value::TokenFile(tokens.clone(), v))),
        8 => (any_action(), pool::prefix().prop_map(Value::Ip)).prop_map(move |(a, v)| with(a, v)),
        2 => (any_action(), vec(pool::prefix(), 0..4))
            .prop_map(move |(a, v)| with(a, Value::IpFile(prefixes.clone(), v))),
        3 => (any_action(), pool::country().prop_map(Value::Country)).prop_map(move |(a, v)| with(a, v)),
        2 => (allow_or_deny(), pool::ua().prop_map(Value::Ua)).prop_map(move |(a, v)| with(a, v)),
    ]
}

/// A policy. Half of the policies have no `allow` that the NIC cannot see, so that much is decided.
pub fn policy(name: String) -> impl Strategy<Value = Policy> {
    let rules: Vec<_> = (0..9).map(|i| option::weighted(0.6, rule(&format!("/lists/{name}-{i}")))).collect();
    let backends =
        vec(prop_oneof![3 => (0u8..3).prop_map(Authority::Http), 1 => Just(Authority::Iptv)], 0..4);
    let backends = prop_oneof![2 => Just(Vec::new()), 1 => backends];
    // Restrictions come after the rules, whichever lines they are on: at most one of each kind.
    let outside = option::weighted(0.15, vec(pool::country(), 1..4).prop_map(Value::CountryOutside));
    let elsewhere = option::weighted(0.15, vec(pool::host(), 1..3).prop_map(Value::PageElsewhere));
    (rules, backends, any::<bool>(), prop::bool::weighted(0.3), outside, elsewhere).prop_map(
        move |(rules, backends, visible, default_allow, outside, elsewhere)| {
            let seen = |rule: &Rule| {
                !visible
                    || rule.action != Action::Allow
                    || !matches!(rule.value, Value::Token(_) | Value::TokenFile(..) | Value::Ua(_))
            };
            let mut rules: Vec<Rule> = rules.into_iter().flatten().filter(seen).collect();
            // Neighbours in a list of strategies keep their places; a policy reads the same backwards.
            if default_allow {
                rules.reverse();
            }
            rules.extend(outside.map(|value| Rule { action: Action::Drop, value }));
            rules.extend(elsewhere.map(|value| Rule { action: Action::Deny, value }));
            Policy { name: name.clone(), rules, backends, default_allow }
        },
    )
}

/// A request that the rules are likely to match.
pub fn request(addresses: Vec<IpAddr>) -> impl Strategy<Value = Request> {
    let address = prop_oneof![4 => select(addresses), 1 => any::<IpAddr>()];
    let token = prop_oneof![3 => pool::token(), 1 => "[a-z]{0,2}"];
    let ua = prop_oneof![
        pool::ua(),
        (pool::ua(), pool::ua()).prop_map(|(one, other)| format!("{one} {other}")),
        "[A-Za-z]{0,4}",
    ];
    let page = pool::host().prop_map(|host| host.replace('*', "below"));
    (address, option::of(token), option::of(ua), option::of(page))
        .prop_map(|(address, token, ua, page)| Request { address, token, ua, page })
}

/// A whole configuration: up to three policies, streams and ports.
pub fn config() -> impl Strategy<Value = Config> {
    (1usize..4).prop_flat_map(|policies| {
        let all: Vec<_> = (0..policies).map(|i| policy(format!("policy{i}"))).collect();
        // A stream that everyone may play opens its ports, which makes for dull cases.
        let on_play = option::weighted(0.9, 0..policies);
        let kind = prop_oneof![
            2 => Just(ServiceKind::Gate),
            1 => Just(ServiceKind::GuardStreams),
            4 => vec(0..policies, 1..3).prop_map(ServiceKind::GuardPolicies),
        ];
        let publish = option::weighted(0.2, option::weighted(0.8, 0..policies));
        // Who trusts a prefix without bits trusts everybody, which is refused.
        let proxies = option::weighted(0.4, vec(pool::prefix().prop_filter("no bits", |p| p.len > 0), 1..3));
        let service = (select(vec!["tcp", "udp", "sctp"]), select(vec![80u16, 1935, 9998]), kind, proxies);
        (
            all,
            vec((on_play, publish), 0..4),
            vec(service, 0..5),
            option::weighted(0.5, vec(pool::prefix(), 0..3)),
            prop::bool::weighted(0.1),
            pool::country_table(),
        )
            .prop_map(|(policies, streams, services, never_drop, shadow, countries)| {
                let streams = streams.into_iter().enumerate();
                let streams = streams
                    .map(|(i, (on_play, publish))| Stream { name: format!("stream{i}"), on_play, publish })
                    .collect();
                let mut distinct: Vec<Service> = Vec::new();
                for (proto, port, kind, proxies) in services {
                    let gate = kind == ServiceKind::Gate;
                    let proto = if gate { "tcp" } else { proto };
                    if distinct.iter().all(|other| (other.proto, other.port) != (proto, port)) {
                        let proxies = proxies.filter(|_| gate).unwrap_or_default();
                        distinct.push(Service { proto, port, kind, proxies });
                    }
                }
                Config {
                    policies,
                    streams,
                    services: distinct,
                    never_drop: never_drop.unwrap_or_default(),
                    shadow,
                    countries,
                }
            })
    })
}
