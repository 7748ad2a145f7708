//! Judging one request by one policy, step by step, as the documentation has it.

use super::{Action, Kind, Policy, Request};

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Admitted.
    Allow,
    /// Refused.
    Deny,
    /// The backends decide.
    Ask,
}

/// The outcome, the step that decided, and the place of the rule in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The outcome.
    pub verdict: Verdict,
    /// The step, as `nicgate explain --json` calls it.
    pub stage: &'static str,
    /// The rule, when a rule decided: the first in file order that matches at that step.
    pub rule: Option<usize>,
}

/// What a backend said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 2xx.
    Allow,
    /// 3xx, 4xx.
    Ban,
    /// Not responding.
    Down,
}

/// The steps 1 to 8, in their order, and what comes before them.
const STEPS: [(Action, Kind, &str, Verdict); 9] = [
    (Action::Deny, Kind::Page, "page", Verdict::Deny),
    (Action::Allow, Kind::Token, "token", Verdict::Allow),
    (Action::Deny, Kind::Token, "token", Verdict::Deny),
    (Action::Allow, Kind::Ip, "ip", Verdict::Allow),
    (Action::Deny, Kind::Ip, "ip", Verdict::Deny),
    (Action::Allow, Kind::Country, "country", Verdict::Allow),
    (Action::Deny, Kind::Country, "country", Verdict::Deny),
    (Action::Allow, Kind::Ua, "ua", Verdict::Allow),
    (Action::Deny, Kind::Ua, "ua", Verdict::Deny),
];

/// Judges a request from an address in `country`, up to the backends.
pub fn judge(policy: &Policy, request: &Request, country: Option<&str>) -> Judgement {
    // `drop` comes before step 1.
    let dropped =
        policy.rules.iter().position(|rule| rule.action == Action::Drop && rule.matches(request, country));
    if dropped.is_some() {
        return Judgement { verdict: Verdict::Deny, stage: "drop", rule: dropped };
    }
    for (action, kind, stage, verdict) in STEPS {
        let first = policy
            .rules
            .iter()
            .position(|rule| rule.action == action && rule.kind() == kind && rule.matches(request, country));
        if first.is_some() {
            return Judgement { verdict, stage, rule: first };
        }
    }
    if !policy.backends.is_empty() {
        return Judgement { verdict: Verdict::Ask, stage: "backend", rule: None };
    }
    default(policy)
}

/// Concludes from the answers of all backends.
pub fn conclude(policy: &Policy, answers: &[Answer]) -> Judgement {
    if answers.contains(&Answer::Allow) {
        return Judgement { verdict: Verdict::Allow, stage: "backend", rule: None };
    }
    if answers.contains(&Answer::Ban) {
        return Judgement { verdict: Verdict::Deny, stage: "backend", rule: None };
    }
    default(policy)
}

fn default(policy: &Policy) -> Judgement {
    let verdict = if policy.default_allow { Verdict::Allow } else { Verdict::Deny };
    Judgement { verdict, stage: "default", rule: None }
}
