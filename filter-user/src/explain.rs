//! Why a request is admitted or refused, step by step, and what the NIC does with its packets. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{bail, ensure};
use serde::Serialize;

use crate::{
    address::canonical,
    config::{Access, Config, Stream},
    offload::Compiled,
    policy::{Answer, Countries, Country, Origin, Policy, PolicyId, STEPS, Stage, Subject, Verdict},
};

/// Whose rules a request is judged by.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The policy of this name.
    Policy(&'a str),
    /// The `on_play` policy of the stream that this path belongs to.
    Stream(&'a str),
}

/// A request to explain.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Whose rules apply.
    pub target: Target<'a>,
    /// The source address.
    pub address: IpAddr,
    /// The token, if any.
    pub token: Option<&'a str>,
    /// The User-Agent, if any.
    pub ua: Option<&'a str>,
    /// What to suppose of the backends: one answer for each, in file order.
    pub backends: Option<&'a [Answer]>,
}

/// A rule, or another line that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleLine {
    /// The rule as written.
    pub text: String,
    /// Its file.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
}

impl RuleLine {
    fn new(text: &str, origin: &Origin) -> Self {
        Self { text: text.to_owned(), file: origin.file.to_string(), line: origin.line }
    }
}

/// What the NIC does with the packets of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KernelVerdict {
    /// They are dropped before a socket buffer exists.
    Drop,
    /// They reach the server.
    Pass,
}

/// One step of the judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepLine {
    /// `drop`, `allow token` … `deny ua`, `backends`, `default`.
    pub step: String,
    /// What came of it.
    pub result: String,
    /// The line that matched.
    pub rule: Option<RuleLine>,
}

/// A verdict, and everything that led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The policy that judged; `None` for a stream without one.
    pub policy: Option<String>,
    /// The verdict; `ask` when the backends would be asked and nothing was supposed of them.
    pub verdict: Verdict,
    /// The step that decided.
    pub stage: Stage,
    /// The line that decided; `None` for the default without `allow default`.
    pub rule: Option<RuleLine>,
    /// The country of the address.
    pub country: Option<Country>,
    /// What the NIC does on every protected port that can lead to the policy.
    pub kernel: BTreeMap<String, KernelVerdict>,
    /// The rule that drops at the NIC, by port.
    pub kernel_rules: BTreeMap<String, RuleLine>,
    /// Whether drops are only counted.
    pub shadow: bool,
    /// The steps that were taken, the deciding one last.
    pub steps: Vec<StepLine>,
}

/// Explains a request.
///
/// # Errors
///
/// When no policy or stream has the name, or the number of supposed answers is not that of the backends.
pub fn explain(
    config: &Config,
    countries: &dyn Countries,
    compiled: &Compiled,
    query: &Query<'_>,
) -> anyhow::Result<Explanation> {
    let policy_id = match query.target {
        Target::Policy(name) => match config.policy_named(name) {
            Some(id) => id,
            None => bail!(
                "there is no `auth_backend {name}`{}",
                known(config.policies.iter().map(|p| &**p.name()))
            ),
        },
        Target::Stream(path) => {
            let Some(stream) = config.stream_for(path.trim_matches('/')) else {
                bail!("there is no stream `{path}`{}", known(config.streams.keys().map(|name| &**name)));
            };
            match stream.on_play {
                Access::Policy(id) => id,
                Access::Open | Access::Closed => return Ok(unguarded(config, countries, query, stream)),
            }
        }
    };
    // The gate reads an empty parameter as none.
    let token = query.token.filter(|token| !token.is_empty());
    let policy = config.policy(policy_id);
    check_supposed(policy, query.backends)?;
    let mut explanation = unjudged(config, countries, compiled, query, policy_id);
    if matches!(query.target, Target::Stream(_)) && config.no_auto_token && token.is_none() {
        // The gate refuses before any rule is looked at.
        explanation.verdict = Verdict::Deny;
        explanation.stage = Stage::Token;
        explanation.steps.push(StepLine {
            step: "no_auto_token".into(),
            result: "deny: the request shows no token".into(),
            rule: None,
        });
        return Ok(explanation);
    }
    let subject =
        Subject { address: canonical(query.address), country: explanation.country, token, ua: query.ua };
    judge(policy, &subject, query.backends, &mut explanation);
    Ok(explanation)
}

/// What is known before the rules are looked at.
fn unjudged(
    config: &Config,
    countries: &dyn Countries,
    compiled: &Compiled,
    query: &Query<'_>,
    policy: PolicyId,
) -> Explanation {
    let address = canonical(query.address);
    let (kernel, kernel_rules) = kernel(config, compiled, policy, address);
    Explanation {
        policy: Some(config.policy(policy).name().to_string()),
        verdict: Verdict::Ask,
        stage: Stage::Backend,
        rule: None,
        country: countries.country(address),
        kernel,
        kernel_rules,
        shadow: config.shadow,
        steps: Vec::new(),
    }
}

/// Takes the steps one by one and writes each down.
fn judge(policy: &Policy, subject: &Subject<'_>, backends: Option<&[Answer]>, explanation: &mut Explanation) {
    for step in STEPS {
        let any = policy.rules().iter().any(|rule| rule.action == step.action && rule.stage() == step.stage);
        let matched = policy.matching(step, subject).map(|id| policy.rule(id));
        let rule = matched.map(|rule| RuleLine::new(&rule.text, &rule.origin));
        let result = match (&rule, any) {
            (Some(_), _) => "matches",
            (None, true) => "no match",
            (None, false) => "no rule",
        };
        explanation.steps.push(StepLine {
            step: step.to_string(),
            result: result.into(),
            rule: rule.clone(),
        });
        if rule.is_some() {
            let decision = policy.judge(subject);
            explanation.verdict = decision.verdict;
            explanation.stage = decision.stage;
            explanation.rule = rule;
            return;
        }
    }
    let mut result = "none".to_owned();
    if !policy.backends().is_empty() {
        let Some(answers) = backends else {
            explanation.steps.push(StepLine {
                step: "backends".into(),
                result: format!("{} to be asked", policy.backends().len()),
                rule: None,
            });
            return;
        };
        let decision = policy.conclude(answers);
        let decisive = match decision.verdict {
            _ if decision.stage != Stage::Backend => None,
            Verdict::Allow => Some(Answer::Allow),
            Verdict::Deny | Verdict::Ask => Some(Answer::Ban),
        };
        let line = answers
            .iter()
            .zip(policy.backends())
            .find(|(answer, _)| Some(**answer) == decisive)
            .map(|(_, backend)| RuleLine::new(&backend.text, &backend.origin));
        if decision.stage == Stage::Backend {
            let result = if decision.verdict == Verdict::Allow { "allow" } else { "ban" };
            explanation.steps.push(StepLine {
                step: "backends".into(),
                result: result.into(),
                rule: line.clone(),
            });
            explanation.verdict = decision.verdict;
            explanation.rule = line;
            return;
        }
        result = "none responds".into();
    }
    explanation.steps.push(StepLine { step: "backends".into(), result, rule: None });
    let default = policy.default_decision();
    let rule = policy.default_allow().map(|origin| RuleLine::new("allow default", origin));
    let result = if rule.is_some() { "allow" } else { "deny: there is no `allow default`" };
    explanation.steps.push(StepLine { step: "default".into(), result: result.into(), rule: rule.clone() });
    explanation.verdict = default.verdict;
    explanation.stage = Stage::Default;
    explanation.rule = rule;
}

fn check_supposed(policy: &Policy, backends: Option<&[Answer]>) -> anyhow::Result<()> {
    let (asked, supposed) = (policy.backends().len(), backends.map_or(0, <[Answer]>::len));
    ensure!(
        backends.is_none() || asked == supposed,
        "`{}` has {asked} backend{}, but {supposed} answer{} supposed: give one word for each, in file order",
        policy.name(),
        if asked == 1 { "" } else { "s" },
        if supposed == 1 { " is" } else { "s are" },
    );
    Ok(())
}

/// What the NIC does on every port that can lead to the policy.
fn kernel(
    config: &Config,
    compiled: &Compiled,
    policy: PolicyId,
    address: IpAddr,
) -> (BTreeMap<String, KernelVerdict>, BTreeMap<String, RuleLine>) {
    let mut verdicts = BTreeMap::new();
    let mut rules = BTreeMap::new();
    for (index, service) in config.services.iter().enumerate() {
        if !service.policies.contains(&policy) {
            continue;
        }
        let cell = compiled.verdict(address, index);
        if let Some(id) = cell {
            let rule = compiled.rule(id);
            rules.insert(service.key.to_string(), RuleLine::new(&rule.text, &rule.origin));
        }
        let verdict =
            if cell.is_some() && !config.shadow { KernelVerdict::Drop } else { KernelVerdict::Pass };
        verdicts.insert(service.key.to_string(), verdict);
    }
    (verdicts, rules)
}

/// A stream without a policy.
fn unguarded(config: &Config, countries: &dyn Countries, query: &Query<'_>, stream: &Stream) -> Explanation {
    let open = stream.on_play == Access::Open;
    Explanation {
        policy: None,
        verdict: if open { Verdict::Allow } else { Verdict::Deny },
        stage: Stage::Default,
        rule: None,
        country: countries.country(canonical(query.address)),
        kernel: BTreeMap::new(),
        kernel_rules: BTreeMap::new(),
        shadow: config.shadow,
        steps: vec![StepLine {
            step: "default".into(),
            result: match open {
                true => format!("stream `{}` ({}) has no `on_play`", stream.name, stream.origin),
                false => format!("stream `{}` ({}) is disabled", stream.name, stream.origin),
            },
            rule: None,
        }],
    }
}

/// Names what exists, so that a misspelling can be seen.
fn known<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.as_slice() {
        [] => String::new(),
        names if names.len() <= 12 => format!("; there are {}", names.join(", ")),
        names => format!("; there are {} and {} more", names[..12].join(", "), names.len() - 12),
    }
}
