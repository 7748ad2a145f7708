//! Rules that deny addresses of the host that they protect.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{Severity, Texts};
use crate::model::{Action, Config, Matcher, Purpose, Rule, RuleId};

/// Warns of rules that deny or drop addresses of this host, each once: a list that names its own host names too much.
pub fn covers_own(config: &Config, own: &[IpAddr], texts: &mut Texts) {
    for policy in config.policies.iter().filter(|policy| policy.purpose() == Purpose::Judges) {
        let mut covered: BTreeMap<RuleId, Vec<IpAddr>> = BTreeMap::new();
        for address in own {
            for action in [Action::Drop, Action::Deny] {
                if let Some(rule) = policy.address_rule(action, *address) {
                    covered.entry(rule).or_default().push(*address);
                }
            }
        }
        for (id, addresses) in covered {
            let rule = policy.rule(id);
            let first = addresses[0];
            let more = match addresses.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let by = entry(rule, first)
                .map_or_else(String::new, |(net, line)| format!(" with {net} (line {line} of the list)"));
            let message = format!("`{}`{by} covers {first}{more}, an address of this host", rule.text);
            texts
                .say(Severity::Warning, &rule.origin, "covers-own-address", message)
                .help("look whether that is meant: a list that names this host names too much");
        }
    }
}

/// The first entry of a list that covers an address, with its line.
fn entry(rule: &Rule, address: IpAddr) -> Option<(IpNet, u32)> {
    let Matcher::IpFile(list) = &rule.matcher else { return None };
    list.entries.iter().find(|(net, _)| net.contains(&address)).copied()
}
