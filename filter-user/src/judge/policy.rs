//! How a policy judges: its lists step by step, then what its backends say.

use std::{collections::HashMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{
    address::canonical,
    model::{
        Action, AddressRules, Country, CountryRules, Host, Policy, RuleId, Stage, shown_on, shows_password,
    },
};

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
    /// The URL of the page that shows the stream, when the client named one.
    pub page: Option<&'a str>,
    /// The query, in which publishers show a password.
    pub query: Option<&'a str>,
}

/// The outcome of a judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The request is admitted.
    Allow,
    /// The request is refused.
    Deny,
    /// The backends have to be asked.
    Ask,
}

impl Verdict {
    /// The word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Ask => "ask",
        }
    }
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

/// What a backend said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// 2xx.
    Allow,
    /// 3xx, 4xx.
    Ban,
    /// 5xx, refused, reset, malformed, or nothing in time.
    Down,
}

/// One step of the judgement by lists: what is done with what matches, and what is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What a match means.
    pub action: Action,
    /// What is looked at.
    pub stage: Stage,
}

/// The steps in the order in which they are taken; the first that matches ends the judgement.
pub const STEPS: [Step; 11] = [
    Step { action: Action::Drop, stage: Stage::Drop },
    Step { action: Action::Deny, stage: Stage::Page },
    Step { action: Action::Deny, stage: Stage::Password },
    Step { action: Action::Allow, stage: Stage::Token },
    Step { action: Action::Deny, stage: Stage::Token },
    Step { action: Action::Allow, stage: Stage::Ip },
    Step { action: Action::Deny, stage: Stage::Ip },
    Step { action: Action::Allow, stage: Stage::Country },
    Step { action: Action::Deny, stage: Stage::Country },
    Step { action: Action::Allow, stage: Stage::Ua },
    Step { action: Action::Deny, stage: Stage::Ua },
];

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.action, self.stage) {
            (Action::Drop, _) => f.write_str("drop"),
            (Action::Allow, stage) => write!(f, "allow {stage}"),
            (Action::Deny, stage) => write!(f, "deny {stage}"),
        }
    }
}

impl AddressRules {
    fn first(&self, address: IpAddr) -> Option<RuleId> {
        match address {
            IpAddr::V4(v4) => self.v4.get(v4.to_bits()).rule(),
            IpAddr::V6(v6) => self.v6.get(v6.to_bits()).rule(),
        }
    }
}

impl Policy {
    /// The rule that matches at one step: the first in file order, where several do.
    pub fn matching(&self, step: Step, subject: &Subject<'_>) -> Option<RuleId> {
        let Subject { address, country, token, ua, page, query } = *subject;
        let address = canonical(address);
        let index = self.index();
        let of_country = |rules: &CountryRules| rules.get(&country).copied();
        let of_token = |rules: &HashMap<Box<str>, RuleId>| rules.get(token?).copied();
        let of_ua = |parts: &[(Box<str>, RuleId)]| {
            let ua = ua?;
            parts.iter().find(|(part, _)| ua.contains(&**part)).map(|(_, rule)| *rule)
        };
        let allow = step.action == Action::Allow;
        match step.stage {
            Stage::Drop => {
                let outside = index.drop_outside.iter().find(|(countries, _)| !countries.contains(&country));
                let outside = outside.map(|(_, rule)| *rule);
                let listed = [index.drop_ip.first(address), of_country(&index.drop_country), outside];
                listed.into_iter().flatten().min()
            }
            Stage::Page => {
                let shown = |hosts: &[Host]| page.is_some_and(|page| shown_on(hosts, page));
                index.deny_elsewhere.iter().find(|(hosts, _)| !shown(hosts)).map(|(_, rule)| *rule)
            }
            Stage::Password => {
                let other = |password: &str| !shows_password(query, password);
                index.deny_password.iter().find(|(password, _)| other(password)).map(|(_, rule)| *rule)
            }
            Stage::Token => of_token(if allow { &index.allow_token } else { &index.deny_token }),
            Stage::Ip => if allow { &index.allow_ip } else { &index.deny_ip }.first(address),
            Stage::Country => of_country(if allow { &index.allow_country } else { &index.deny_country }),
            Stage::Ua => of_ua(if allow { &index.allow_ua } else { &index.deny_ua }),
            Stage::Ban | Stage::Backend | Stage::Default => None,
        }
    }

    /// Judges by the lists: `Ask` when they leave the request to the backends.
    pub fn judge(&self, subject: &Subject<'_>) -> Decision {
        for step in STEPS {
            if let Some(rule) = self.matching(step, subject) {
                let verdict = match step.action {
                    Action::Allow => Verdict::Allow,
                    Action::Deny | Action::Drop => Verdict::Deny,
                };
                return Decision { verdict, stage: step.stage, rule: Some(rule) };
            }
        }
        if self.backends().is_empty() {
            self.default_decision()
        } else {
            Decision { verdict: Verdict::Ask, stage: Stage::Backend, rule: None }
        }
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
