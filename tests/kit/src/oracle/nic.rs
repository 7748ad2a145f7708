//! What the network card may drop: the addresses from which every possible request is denied, found by trying them.

use std::net::IpAddr;

use super::{Answer, Policy, Prefix, Request, Value, Verdict, conclude, judge};

/// Whether the NIC may drop an address on a port: whether every possible request from it is denied.
///
/// `policies` are those that a request to the port can meet; `open` when it can also meet none.
pub fn nic_may_drop(
    policies: &[&Policy],
    open: bool,
    never_drop: &[Prefix],
    address: IpAddr,
    country: Option<&str>,
) -> bool {
    if open || policies.is_empty() || never_drop.iter().any(|prefix| prefix.contains(address)) {
        return false;
    }
    policies.iter().all(|policy| every_request_is_denied(policy, address, country))
}

/// Tries every request from an address that the policy can tell from the others.
///
/// A backend is assumed able to give any answer, `iptv` too: nicgate cannot ask it, but on a guarded
/// port it is the media server that judges, and that can.
pub fn every_request_is_denied(policy: &Policy, address: IpAddr, country: Option<&str>) -> bool {
    let answers = every_answer(policy.backends.len());
    every_token(policy).into_iter().all(|token| {
        every_ua(policy).into_iter().all(|ua| {
            every_page(policy).into_iter().all(|page| {
                let request = Request { address, token: token.clone(), ua: ua.clone(), page };
                match judge(policy, &request, country).verdict {
                    Verdict::Allow => false,
                    Verdict::Deny => true,
                    Verdict::Ask => {
                        answers.iter().all(|answers| conclude(policy, answers).verdict == Verdict::Deny)
                    }
                }
            })
        })
    })
}

/// No token, one that no rule knows, and every one that a rule knows.
fn every_token(policy: &Policy) -> Vec<Option<String>> {
    let mut listed = Vec::new();
    for rule in &policy.rules {
        match &rule.value {
            Value::Token(token) => listed.push(token.clone()),
            Value::TokenFile(_, tokens) => listed.extend(tokens.iter().cloned()),
            _ => {}
        }
    }
    let mut fresh = "fresh".to_owned();
    while listed.contains(&fresh) {
        fresh.push('!');
    }
    listed.push(fresh);
    listed.into_iter().map(Some).chain([None]).collect()
}

/// No page, one on each listed host or below it, and one elsewhere.
fn every_page(policy: &Policy) -> Vec<Option<String>> {
    let mut pages = vec![None, Some("elsewhere.example".to_owned())];
    for rule in &policy.rules {
        if let Value::PageElsewhere(hosts) = &rule.value {
            pages.extend(hosts.iter().map(|host| Some(host.replace('*', "below"))));
        }
    }
    pages
}

/// No User-Agent, one that holds no listed part, one with each part alone, and one with each two.
fn every_ua(policy: &Policy) -> Vec<Option<String>> {
    let parts: Vec<&String> = policy
        .rules
        .iter()
        .filter_map(|rule| match &rule.value {
            Value::Ua(part) => Some(part),
            _ => None,
        })
        .collect();
    let fresh = ('a'..='z')
        .find(|letter| !parts.iter().any(|part| part.contains(*letter)))
        .expect("the parts do not use the whole alphabet");
    // Joined by a letter that no part has, so that joining makes no new match.
    let pairs = parts.iter().flat_map(|one| parts.iter().map(move |other| format!("{one}{fresh}{other}")));
    let alone = parts.iter().map(|part| (*part).clone());
    alone.chain(pairs).chain([fresh.to_string()]).map(Some).chain([None]).collect()
}

/// Every combination of answers of so many backends.
fn every_answer(backends: usize) -> Vec<Vec<Answer>> {
    let mut all = vec![Vec::new()];
    for _ in 0..backends {
        all = all
            .into_iter()
            .flat_map(|answers| {
                [Answer::Allow, Answer::Ban, Answer::Down].map(|one| {
                    let mut longer = answers.clone();
                    longer.push(one);
                    longer
                })
            })
            .collect();
    }
    all
}
