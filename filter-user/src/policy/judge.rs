use std::net::IpAddr;

use serde::Serialize;

use super::{
    Country, Policy, RuleId, Stage,
    model::{AddressRules, NO_RULE},
};
use crate::address::canonical;

/// What a request shows of itself to the lists.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The source address; IPv4-mapped IPv6 addresses count as IPv4.
    pub address: IpAddr,
    /// The country of the address, when the database knows it.
    pub country: Option<Country>,
    /// The token, when the client gave one.
    pub token: Option<&'a str>,
    /// The User-Agent, when the client gave one.
    pub ua: Option<&'a str>,
}

/// The outcome of a judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The request is admitted.
    Allow,
    /// The request is refused.
    Deny,
    /// The backends have to be asked.
    Ask,
}

/// A verdict and what decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// The step that decided.
    pub stage: Stage,
    /// The rule that decided; `None` for the backends and the default.
    pub rule: Option<RuleId>,
}

impl Decision {
    fn by_rule(verdict: Verdict, stage: Stage, rule: RuleId) -> Self {
        Self { verdict, stage, rule: Some(rule) }
    }
}

/// What a backend said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// 2xx.
    Allow,
    /// 3xx, 4xx.
    Ban,
    /// 5xx, refused, reset, malformed, or nothing in time.
    Down,
}

impl AddressRules {
    fn first(&self, address: IpAddr) -> Option<RuleId> {
        let label = match address {
            IpAddr::V4(v4) => self.v4.get(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.get(v6.to_bits()),
        };
        (label != NO_RULE).then_some(RuleId(label))
    }
}

impl Policy {
    /// Judges by the lists: `Ask` when they leave the request to the backends.
    pub fn judge(&self, subject: &Subject<'_>) -> Decision {
        let Subject { address, country, token, ua } = *subject;
        let address = canonical(address);
        let index = self.index();
        let of_country = |map: &std::collections::HashMap<Country, RuleId>| {
            country.and_then(|country| map.get(&country).copied())
        };
        let of_token = |map: &std::collections::HashMap<Box<str>, RuleId>| {
            token.and_then(|token| map.get(token).copied())
        };
        let of_ua = |parts: &[(Box<str>, RuleId)]| {
            ua.and_then(|ua| parts.iter().find(|(part, _)| ua.contains(&**part)).map(|(_, id)| *id))
        };

        // Both kinds of `drop` are one step: the first in file order is named.
        let dropped =
            [index.drop_ip.first(address), of_country(&index.drop_country)].into_iter().flatten().min();
        let (verdict, stage, rule) = if let Some(rule) = dropped {
            (Verdict::Deny, Stage::Drop, rule)
        } else if let Some(rule) = of_token(&index.allow_token) {
            (Verdict::Allow, Stage::Token, rule)
        } else if let Some(rule) = of_token(&index.deny_token) {
            (Verdict::Deny, Stage::Token, rule)
        } else if let Some(rule) = index.allow_ip.first(address) {
            (Verdict::Allow, Stage::Ip, rule)
        } else if let Some(rule) = index.deny_ip.first(address) {
            (Verdict::Deny, Stage::Ip, rule)
        } else if let Some(rule) = of_country(&index.allow_country) {
            (Verdict::Allow, Stage::Country, rule)
        } else if let Some(rule) = of_country(&index.deny_country) {
            (Verdict::Deny, Stage::Country, rule)
        } else if let Some(rule) = of_ua(&index.allow_ua) {
            (Verdict::Allow, Stage::Ua, rule)
        } else if let Some(rule) = of_ua(&index.deny_ua) {
            (Verdict::Deny, Stage::Ua, rule)
        } else if self.backends().is_empty() {
            return self.default_decision();
        } else {
            return Decision { verdict: Verdict::Ask, stage: Stage::Backend, rule: None };
        };
        Decision::by_rule(verdict, stage, rule)
    }

    /// Concludes what `judge` left to the backends, from one answer for each backend.
    pub fn conclude(&self, answers: &[Answer]) -> Decision {
        let by_backend = |verdict| Decision { verdict, stage: Stage::Backend, rule: None };
        if answers.contains(&Answer::Allow) {
            by_backend(Verdict::Allow)
        } else if answers.contains(&Answer::Ban) {
            by_backend(Verdict::Deny)
        } else {
            self.default_decision()
        }
    }

    /// What the default says.
    pub fn default_decision(&self) -> Decision {
        let verdict = if self.default_allow().is_some() { Verdict::Allow } else { Verdict::Deny };
        Decision { verdict, stage: Stage::Default, rule: None }
    }
}
