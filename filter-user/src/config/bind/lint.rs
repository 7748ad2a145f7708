//! What is allowed, but probably not meant.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ipnet::IpNet;

use super::{Binder, policy::PolicyDraft};
use crate::{
    address::{net_range_v4, net_range_v6},
    config::{
        country,
        prefix::is_large_network,
        source::{Sources, Span},
    },
    model::{Action, Matcher, Origin, Purpose, Rule, Service, ServiceKey, Trust},
};

impl Binder<'_> {
    /// Looks at the whole for what contradicts itself.
    pub(super) fn lint(&mut self, services: &[Service]) {
        let Self { sources, policies, never_drop, geoip, list_guard, .. } = self;
        let guarded = list_guard.is_none_or(|(on, _)| on);
        // What is restricted once more says the same again, but for the restrictions.
        let written = || policies.iter().filter(|policy| policy.purpose == Purpose::Judges);
        let rules = || written().flat_map(|policy| policy.rules.iter().zip(&policy.places));
        if geoip.is_none() {
            without_database(sources, rules());
        }
        for (rule, at) in rules().filter(|(rule, _)| rule.action != Action::Allow) {
            never_dropped(sources, rule, *at, never_drop);
            absurd_list(sources, rule, *at, guarded);
        }
        let mut proxies: Vec<Proxy<'_>> = services
            .iter()
            .flat_map(|service| {
                let prefixes = service.trust().into_iter().flat_map(Trust::prefixes);
                prefixes.map(|(net, origin)| (service.key, net, origin))
            })
            .collect();
        // What holds for all gates is of interest once.
        proxies.sort_by_key(|(_, net, _)| **net);
        proxies.dedup_by_key(|(_, net, _)| **net);
        for (rule, at) in rules() {
            meets_proxy(sources, rule, *at, &proxies);
        }
        for policy in policies.iter().filter(|policy| policy.purpose == Purpose::Judges) {
            outranked_addresses(sources, policy);
            outranked_others(sources, policy);
        }
    }
}

/// Looks at the rules about countries where no database is named.
fn without_database<'a>(sources: &mut Sources, rules: impl Iterator<Item = (&'a Rule, &'a Span)>) {
    let mut first = None;
    for (rule, at) in rules {
        let Matcher::Country(country) = rule.matcher else { continue };
        match country {
            // Without a database it would hold for everybody, and an `allow` would open everything.
            None => {
                let message = format!("`{}` needs a country database", rule.text);
                sources
                    .error(*at, "no-geoip", message)
                    .help("name one: `geoip PATH;`; without it the country of every address is unknown");
            }
            Some(country) => {
                country::warn_unless_assigned(sources, *at, country);
                first = first.or(Some((rule, at)));
            }
        }
    }
    if let Some((rule, at)) = first {
        let message =
            format!("no country rule will ever match, `{}` among them: there is no `geoip`", rule.text);
        sources.warning(*at, "no-geoip", message).help("name a country database: `geoip PATH;`");
    }
}

/// Looks at a list of addresses to be denied: a downloaded one can be valid and wrong.
fn absurd_list(sources: &mut Sources, rule: &Rule, at: Span, guarded: bool) {
    let Matcher::IpFile(list) = &rule.matcher else { return };
    // A list whose lines cannot be read has been complained of.
    if list.entries.is_empty() && !sources.has_errors() {
        let message = format!("the list {:?} has no entry: nobody is denied by it", list.path);
        sources.warning(at, "list-empty", message);
    }
    if let Some((net, line)) = list.entries.iter().find(|(net, _)| net.prefix_len() == 0) {
        let family = if net.addr().is_ipv4() { "IPv4" } else { "IPv6" };
        let message = format!(
            "the list {:?} denies everybody: line {line} is {net}, every {family} address",
            list.path
        );
        // With the guard such a list has been refused already.
        if !guarded {
            sources.warning(at, "list-everybody", message);
        }
        return;
    }
    let mut short = list.entries.iter().filter(|(net, _)| is_large_network(net));
    if let Some((net, line)) = short.next() {
        let more = match short.count() {
            0 => String::new(),
            more => format!(", and {more} more of its prefixes are as short"),
        };
        let message =
            format!("the list {:?} has {net} on line {line}, a very large network{more}", list.path);
        sources.warning(at, "list-large-network", message).help("look whether the line is meant");
    }
}

/// The prefixes of a rule, each with its line in the list file, if it comes from one.
fn prefixes(rule: &Rule) -> impl Iterator<Item = (IpNet, Option<u32>)> {
    let (one, list) = match &rule.matcher {
        Matcher::Ip(net) => (Some((*net, None)), None),
        Matcher::IpFile(list) => (None, Some(list.entries.iter().map(|(net, line)| (*net, Some(*line))))),
        _ => (None, None),
    };
    one.into_iter().chain(list.into_iter().flatten())
}

/// Warns of a rule that denies what `never_drop` keeps open at the NIC.
fn never_dropped(sources: &mut Sources, rule: &Rule, at: Span, never_drop: &[(IpNet, Origin)]) {
    if never_drop.is_empty() {
        return;
    }
    let hit = prefixes(rule).find_map(|(net, line)| {
        let overlaps = |kept: &IpNet| net.contains(kept) || kept.contains(&net);
        never_drop.iter().find(|(kept, _)| overlaps(kept)).map(|kept| (net, line, kept))
    });
    if let Some((net, line, (kept, origin))) = hit {
        let what = line.map_or_else(String::new, |line| format!(" with {net} (line {line} of the list)"));
        let message = format!("`{}`{what} covers addresses of `never_drop {kept}` ({origin})", rule.text);
        sources
            .warning(at, "covers-never-drop", message)
            .help("those addresses are never dropped at the NIC; in userspace the rule holds");
    }
}

/// A trusted proxy of a port, and where it stands.
type Proxy<'a> = (ServiceKey, &'a IpNet, &'a Origin);

/// Warns of a rule about the address of a proxy: it does not hold for what the proxy passes on.
fn meets_proxy(sources: &mut Sources, rule: &Rule, at: Span, proxies: &[Proxy<'_>]) {
    let hit = proxies.iter().find_map(|proxy| {
        let overlaps = |net: &IpNet| net.contains(proxy.1) || proxy.1.contains(net);
        prefixes(rule).find(|(net, _)| overlaps(net)).map(|(net, line)| (net, line, *proxy))
    });
    let Some((net, line, (key, proxy, origin))) = hit else { return };
    // Who lists everybody does not mean a proxy.
    if net.prefix_len() == 0 {
        return;
    }
    let what = line.map_or_else(String::new, |line| format!(" with {net} (line {line} of the list)"));
    let message = format!("`{}`{what} meets {proxy} ({origin}), a trusted proxy of {key}", rule.text);
    let help = match rule.action {
        Action::Allow => {
            "it holds for requests in which the proxy names no client: let it set the header in every request"
        }
        Action::Deny | Action::Drop => {
            "the proxy is not dropped at the NIC on that port: its packets carry the requests of others. The gate \
             refuses requests of its own"
        }
    };
    sources.warning(at, "meets-proxy", message).help(help);
}

/// A prefix as a range: the family, the first and the last address.
fn range(net: IpNet) -> (bool, u128, u128) {
    match net {
        IpNet::V4(net) => {
            let (first, last) = net_range_v4(net);
            (false, first.into(), last.into())
        }
        IpNet::V6(net) => {
            let (first, last) = net_range_v6(net);
            (true, first, last)
        }
    }
}

/// Warns of `deny ip` prefixes that lie inside `allow ip` prefixes: they never match.
fn outranked_addresses(sources: &mut Sources, policy: &PolicyDraft) {
    let of = |action: Action| {
        policy.rules.iter().zip(&policy.places).filter(move |(rule, _)| rule.action == action)
    };
    let mut allowed: Vec<_> =
        of(Action::Allow).flat_map(|(rule, _)| prefixes(rule)).map(|(net, _)| range(net)).collect();
    if allowed.is_empty() {
        return;
    }
    // Prefixes are nested or apart: behind sorting, those inside an earlier one can go.
    allowed.sort_unstable_by_key(|(family, first, last)| (*family, *first, u128::MAX - last));
    allowed.dedup_by(|next, kept| next.0 == kept.0 && next.2 <= kept.2);
    let outranked = |net: IpNet| {
        let (family, first, last) = range(net);
        let behind = allowed.partition_point(|(f, start, _)| (*f, *start) <= (family, first));
        behind > 0 && allowed[behind - 1].0 == family && last <= allowed[behind - 1].2
    };
    for (rule, at) in of(Action::Deny) {
        let mut dead = prefixes(rule).filter(|(net, _)| outranked(*net));
        let Some((net, line)) = dead.next() else { continue };
        let winner = of(Action::Allow)
            .find(|(allow, _)| prefixes(allow).any(|(wide, _)| wide.contains(&net)))
            .map_or_else(String::new, |(allow, _)| format!(" by `{}` ({})", allow.text, allow.origin));
        let message = match line {
            None => format!("`{}` never matches: its addresses are allowed{winner}", rule.text),
            Some(line) => {
                let count = 1 + dead.count();
                let (s, are) = if count == 1 { ("", "is") } else { ("s", "are") };
                format!(
                    "{count} prefix{e} of this list never match{es}: {net} (line {line}) is allowed{winner}",
                    e = if s.is_empty() { "" } else { "es" },
                    es = if are == "is" { "es" } else { "" },
                )
            }
        };
        sources
            .warning(*at, "allow-wins", message)
            .help("`allow ip` comes before `deny ip`, whatever their order");
    }
}

/// Warns of denied tokens, countries and User-Agents that are allowed before.
fn outranked_others(sources: &mut Sources, policy: &PolicyDraft) {
    let mut countries = HashMap::new();
    let mut tokens: HashMap<&str, (&Arc<str>, &Origin)> = HashMap::new();
    let mut agents = Vec::new();
    for rule in policy.rules.iter().filter(|rule| rule.action == Action::Allow) {
        let by = (&rule.text, &rule.origin);
        match &rule.matcher {
            Matcher::Country(country) => {
                countries.entry(*country).or_insert(by);
            }
            Matcher::Token(token) => {
                tokens.entry(token).or_insert(by);
            }
            Matcher::TokenFile(list) => {
                for (token, _) in list.entries.iter() {
                    tokens.entry(token).or_insert(by);
                }
            }
            Matcher::Ua(part) => agents.push((part, by)),
            _ => {}
        }
    }
    let mut said = HashSet::new();
    for (rule, at) in policy.rules.iter().zip(&policy.places).filter(|(rule, _)| rule.action == Action::Deny)
    {
        let winner = match &rule.matcher {
            Matcher::Country(country) => countries.get(country).copied(),
            Matcher::Token(token) => tokens.get(&**token).copied(),
            Matcher::TokenFile(list) => {
                list.entries.iter().find_map(|(token, _)| tokens.get(&**token).copied())
            }
            // Whoever shows the longer part shows the shorter one too. The bound keeps long lists quick.
            Matcher::Ua(part) => {
                agents.iter().take(1000).find(|(wide, _)| part.contains(&***wide)).map(|(_, by)| *by)
            }
            _ => None,
        };
        let Some((text, origin)) = winner else { continue };
        if !said.insert(&rule.text) {
            continue;
        }
        let message = match rule.matcher {
            Matcher::TokenFile(_) => format!("a token of this list is allowed by `{text}` ({origin})"),
            _ => format!("`{}` never matches: it is allowed by `{text}` ({origin})", rule.text),
        };
        sources.warning(*at, "allow-wins", message).help("`allow` comes before `deny`, whatever their order");
    }
}
