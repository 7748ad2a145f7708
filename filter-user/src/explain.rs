//! Why a request is admitted or refused, step by step, and what the NIC does with its packets. Pure.

mod line;
mod session;

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{
    address::canonical,
    bans::{BanIndex, Boottime},
    judge::{Answer, Decision, Ground, Judgement, Request, STEPS, Subject, Verdict, is_auto_token, judge},
    model::{Config, Countries, Country, Operation, Policy, PolicyId, ServiceKind, Stage, Stream},
    offload::Compiled,
};

pub use line::{BanLine, RuleLine, StepLine};
pub use session::SessionLine;

/// Whose rules a request is judged by.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The policy of this name.
    Policy(&'a str),
    /// The policy of the stream that this path belongs to.
    Stream(&'a str, Operation),
}

/// A request to explain.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Whose rules apply.
    pub target: Target<'a>,
    /// The source address; behind a proxy, the one that the proxy names.
    pub address: IpAddr,
    /// The proxy that it comes through.
    pub via: Option<IpAddr>,
    /// The token, if any.
    pub token: Option<&'a str>,
    /// The User-Agent, if any.
    pub ua: Option<&'a str>,
    /// The URL of the page that shows the stream, if any.
    pub page: Option<&'a str>,
    /// The password that a publisher shows, if any.
    pub password: Option<&'a str>,
    /// What to suppose of the backends: one answer for each, in file order.
    pub backends: Option<&'a [Answer]>,
    /// The runtime bans; `None` when they are not known.
    pub bans: Option<&'a BanIndex>,
    /// The moment that bans are judged by.
    pub now: Boottime,
}

/// Why a request cannot be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// No policy has the name; then which ones there are.
    #[error("there is no `auth_backend {0}`{1}")]
    NoPolicy(String, String),
    /// No stream has the path; then which ones there are.
    #[error("there is no stream `{0}`{1}")]
    NoStream(String, String),
    /// No gate believes the proxy.
    #[error(
        "no gate trusts {0}: a gate judges the address {0} itself, whatever it names; trust it with \
        `real_ip from {0};` or `proxy_protocol from {0};`"
    )]
    NotTrusted(IpAddr),
    /// As many answers have to be supposed as there are backends.
    #[error("`{policy}` has {asked} backend{}, but {supposed} answer{} supposed: give one word for each, in file order",
        if *asked == 1 { "" } else { "s" }, if *supposed == 1 { " is" } else { "s are" })]
    OtherBackends {
        /// The policy's name.
        policy: String,
        /// How many backends it has.
        asked: usize,
        /// How many answers were given.
        supposed: usize,
    },
}

/// What the NIC does with the packets of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KernelVerdict {
    /// They are dropped before a socket buffer exists.
    Drop,
    /// They reach the server.
    Pass,
}

/// A verdict, and everything that led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The policy that judged; `None` for a stream without one.
    pub policy: Option<String>,
    /// The verdict; `ask` when the backends would be asked and nothing was supposed of them.
    pub verdict: Verdict,
    /// The step that decided.
    pub stage: Stage,
    /// The line that decided; `None` for a ban, and for the default without `allow default`.
    pub rule: Option<RuleLine>,
    /// The runtime ban that decided.
    pub ban: Option<BanLine>,
    /// Whether runtime bans were looked at.
    pub bans_known: bool,
    /// The country of the address.
    pub country: Option<Country>,
    /// What the NIC does on every protected port that can lead to the policy.
    pub kernel: BTreeMap<String, KernelVerdict>,
    /// The rule that drops at the NIC, by port.
    pub kernel_rules: BTreeMap<String, RuleLine>,
    /// The ban that drops at the NIC, by port.
    pub kernel_bans: BTreeMap<String, BanLine>,
    /// The trusted proxy that the sender of the packets is, by port, where it stands: nothing drops it there, and only
    /// userspace judges what it passes on.
    #[serde(default)]
    pub kernel_proxies: BTreeMap<String, RuleLine>,
    /// The proxy that the request comes through.
    #[serde(default)]
    pub via: Option<IpAddr>,
    /// Whether drops are only counted.
    pub shadow: bool,
    /// The steps that were taken, the deciding one last.
    pub steps: Vec<StepLine>,
    /// What holds of the session that the request belongs to.
    pub session: SessionLine,
}

/// Explains a request: what it says is what the gate does.
///
/// # Errors
///
/// When no policy or stream has the name, the proxy is not trusted, or the number of supposed answers is not that of the
/// backends.
#[expect(clippy::too_many_lines, reason = "one case for each way in which a request can be decided")]
pub fn explain(
    config: &Config,
    countries: &dyn Countries,
    compiled: &Compiled,
    query: &Query<'_>,
) -> Result<Explanation, ExplainError> {
    let address = canonical(query.address);
    let via = query.via.map(canonical);
    if let Some(via) = via
        && !config.services.iter().any(|service| service.proxy(via).is_some())
    {
        return Err(ExplainError::NotTrusted(via));
    }
    // The gate reads an empty parameter, and a token that it gave itself, as none.
    let token = query.token.filter(|token| !token.is_empty() && !is_auto_token(token));
    let shown = query.password.map(|password| {
        url::form_urlencoded::Serializer::new(String::new()).append_pair("password", password).finish()
    });
    let subject = Subject {
        address,
        country: countries.country(address),
        token,
        ua: query.ua,
        page: query.page,
        query: shown.as_deref(),
    };
    let none = BanIndex::default();
    let bans = query.bans.unwrap_or(&none);
    let (judgement, policy, stream) = match query.target {
        Target::Policy(name) => {
            let id = config.policy_named(name).ok_or_else(|| {
                ExplainError::NoPolicy(
                    name.to_owned(),
                    known(config.policies.iter().map(|policy| &**policy.name())),
                )
            })?;
            let ground = Ground::Judged(id, config.policy(id).judge(&subject));
            (Judgement { stream: None, ground, ban: None }, Some(id), None)
        }
        Target::Stream(path, operation) => {
            let path = path.trim_matches('/');
            let stream = config.stream_for(path).ok_or_else(|| {
                ExplainError::NoStream(path.to_owned(), known(config.streams.keys().map(|name| &**name)))
            })?;
            let request = Request {
                operation,
                path: path.into(),
                proto: "",
                address,
                port: only_gate(config).unwrap_or(0),
                token: token.map(Into::into),
                auto_token: None,
                ua: query.ua.map(Into::into),
                referer: query.page.map(Into::into),
                origin: None,
                host: None,
                query: shown.as_deref().map(Into::into),
            };
            let judgement = judge(config, countries, bans, query.now, &request);
            (judgement, stream.access(operation).policy(), Some(stream))
        }
    };
    if let Some(id) = policy {
        check_supposed(config.policy(id), query.backends)?;
    }
    let operation = match query.target {
        Target::Stream(_, operation) => Some(operation),
        Target::Policy(_) => None,
    };
    let mut explanation = Explanation {
        policy: policy.map(|id| config.policy(id).name().to_string()),
        verdict: Verdict::Ask,
        stage: Stage::Backend,
        rule: None,
        ban: None,
        bans_known: query.bans.is_some(),
        country: subject.country,
        kernel: BTreeMap::new(),
        kernel_rules: BTreeMap::new(),
        kernel_bans: BTreeMap::new(),
        kernel_proxies: BTreeMap::new(),
        via,
        shadow: config.shadow,
        steps: Vec::new(),
        session: SessionLine::of(config, policy, stream.zip(operation)),
    };
    if let Some(policy) = policy {
        // The NIC sees who sends the packets.
        let sender = via.unwrap_or(address);
        kernel(config, compiled, policy, (sender, bans, query.now), &mut explanation);
    }
    match judgement.ground {
        Ground::Banned => {
            let ban = judgement.ban.as_deref().map(BanLine::from);
            let result = ban.as_ref().map_or_else(String::new, banned);
            explanation.decide(Verdict::Deny, Stage::Ban, StepLine::new("ban", result, None));
            explanation.ban = ban;
        }
        // The gate refuses before any rule is looked at.
        Ground::NoToken => explanation.decide(
            Verdict::Deny,
            Stage::Token,
            StepLine::new("no_auto_token", "deny: the request shows no token", None),
        ),
        Ground::Judged(id, decision) => {
            steps(config.policy(id), &subject, decision, query.backends, &mut explanation);
        }
        Ground::Open | Ground::Closed | Ground::NoStream | Ground::Limited(_) | Ground::Refused(_) => {
            let open = judgement.ground == Ground::Open;
            let verdict = if open { Verdict::Allow } else { Verdict::Deny };
            let result = stream.map_or_else(String::new, |stream| unguarded(stream, query, open));
            explanation.decide(verdict, Stage::Default, StepLine::new("default", result, None));
        }
    }
    Ok(explanation)
}

impl Explanation {
    fn decide(&mut self, verdict: Verdict, stage: Stage, step: StepLine) {
        (self.verdict, self.stage) = (verdict, stage);
        self.rule = step.rule.clone();
        self.steps.push(step);
    }
}

/// The port of the gate, when there is one only.
fn only_gate(config: &Config) -> Option<u16> {
    let mut gates = config.services.iter().filter(|service| matches!(service.kind, ServiceKind::Gate(_)));
    gates.next().filter(|_| gates.next().is_none()).map(|service| service.key.port)
}

fn banned(ban: &BanLine) -> String {
    let service = ban.service.as_deref().unwrap_or("every service");
    let reason = ban.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("deny: {} is banned on {service}{reason}", ban.prefix)
}

/// Takes the steps one by one and writes each down.
fn steps(
    policy: &Policy,
    subject: &Subject<'_>,
    decision: Decision,
    backends: Option<&[Answer]>,
    explanation: &mut Explanation,
) {
    for step in STEPS {
        let any = policy.rules().iter().any(|rule| rule.action == step.action && rule.stage() == step.stage);
        // Few policies restrict pages or publishers.
        if !any && matches!(step.stage, Stage::Page | Stage::Password) {
            continue;
        }
        let matched = policy.matching(step, subject);
        let rule = matched.map(|id| RuleLine::new(policy.label(id), &policy.rule(id).origin));
        let result = match (&rule, any) {
            (Some(_), _) => "matches",
            (None, true) => "no match",
            (None, false) => "no rule",
        };
        let matches = rule.is_some();
        let line = StepLine::new(&step.to_string(), result, rule);
        if matches {
            return explanation.decide(decision.verdict, decision.stage, line);
        }
        explanation.steps.push(line);
    }
    let mut result = "none".to_owned();
    if !policy.backends().is_empty() {
        let Some(answers) = backends else {
            let result = format!("{} to be asked", policy.backends().len());
            explanation.steps.push(StepLine::new("backends", result, None));
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
            .zip(policy.backends().iter().zip(policy.backend_labels()))
            .find(|(answer, _)| Some(**answer) == decisive)
            .map(|(_, (backend, label))| RuleLine::new(label, &backend.origin));
        if decision.stage == Stage::Backend {
            let result = if decision.verdict == Verdict::Allow { "allow" } else { "ban" };
            let step = StepLine::new("backends", result, line);
            return explanation.decide(decision.verdict, Stage::Backend, step);
        }
        result = "none responds".into();
    }
    explanation.steps.push(StepLine::new("backends", result, None));
    let default = policy.default_decision();
    let rule = policy.default_allow().map(|origin| RuleLine::new("allow default", origin));
    let result = if rule.is_some() { "allow" } else { "deny: there is no `allow default`" };
    explanation.decide(default.verdict, Stage::Default, StepLine::new("default", result, rule));
}

fn check_supposed(policy: &Policy, backends: Option<&[Answer]>) -> Result<(), ExplainError> {
    let (asked, supposed) = (policy.backends().len(), backends.map_or(0, <[Answer]>::len));
    if backends.is_none() || asked == supposed {
        return Ok(());
    }
    Err(ExplainError::OtherBackends { policy: policy.name().to_string(), asked, supposed })
}

/// What the NIC does on every port that can lead to the policy.
fn kernel(
    config: &Config,
    compiled: &Compiled,
    policy: PolicyId,
    (address, bans, now): (IpAddr, &BanIndex, Boottime),
    explanation: &mut Explanation,
) {
    let exempt = config.never_drop.iter().any(|(net, _)| net.contains(&address));
    for (index, service) in config.services.iter().enumerate() {
        if !service.policies.contains(&policy) {
            continue;
        }
        let port = service.key.to_string();
        let proxy = service.proxy(address);
        if let Some((net, origin)) = proxy {
            explanation.kernel_proxies.insert(port.clone(), RuleLine::new(&net.to_string(), origin));
        }
        let exempt = exempt || proxy.is_some();
        let rule = compiled.verdict(address, index).map(|id| compiled.rule(id));
        let ban = bans.find(address, service.key.proto, service.key.port, now).filter(|_| !exempt);
        let drop = (rule.is_some() || ban.is_some()) && !config.shadow;
        if let Some(rule) = rule {
            explanation.kernel_rules.insert(port.clone(), RuleLine::new(&rule.text, &rule.origin));
        } else if let Some(ban) = ban {
            explanation.kernel_bans.insert(port.clone(), BanLine::from(&**ban));
        }
        explanation.kernel.insert(port, if drop { KernelVerdict::Drop } else { KernelVerdict::Pass });
    }
}

/// Why a stream is open or closed without a policy.
fn unguarded(stream: &Stream, query: &Query<'_>, open: bool) -> String {
    let Stream { name, origin, .. } = stream;
    match (query.target, open) {
        (Target::Stream(_, Operation::Publish), true) => {
            format!("stream `{name}` ({origin}) has no `on_publish`")
        }
        (Target::Stream(_, Operation::Publish), false) => {
            format!("stream `{name}` ({origin}) takes no published input")
        }
        (_, true) => format!("stream `{name}` ({origin}) has no `on_play`"),
        (_, false) => format!("stream `{name}` ({origin}) is disabled"),
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
