use std::sync::Arc;

use http::{Method, StatusCode};

use super::connection::Connection;
use crate::{
    policy::Verdict,
    session::{Ground, Ruling, Visit},
};

/// One event for each request, when its answer begins.
pub(super) fn request(connection: &Connection, method: &Method, visit: &Visit, ruling: &Ruling, end: &End) {
    let (verdict, stage) = match ruling.ground {
        Ground::NoStream => ("deny", "no stream".to_owned()),
        Ground::Open => ("allow", "no policy".to_owned()),
        Ground::Closed => ("deny", "no such operation".to_owned()),
        Ground::NoToken => ("deny", "no_auto_token".to_owned()),
        Ground::Busy => ("deny", "session table is full".to_owned()),
        Ground::Overloaded => ("deny", "the backends could not be asked".to_owned()),
        Ground::Banned => ("deny", "ban".to_owned()),
        Ground::Judged(_, decision) => {
            (if decision.verdict == Verdict::Allow { "allow" } else { "deny" }, decision.stage.to_string())
        }
    };
    let config = &ruling.snapshot.config;
    let (policy, rule) = match ruling.ground {
        Ground::Judged(id, decision) => {
            let policy = config.policy(id);
            (Some(policy), decision.rule.map(|id| policy.rule(id)))
        }
        _ => (None, None),
    };
    let origin = rule.map(|rule| &rule.origin).or(policy.map(|policy| policy.origin()));
    tracing::info!(
        target: "nicgate::access",
        service = %connection.gate.key,
        client = %connection.client,
        method = %method,
        path = ?visit.path,
        operation = visit.operation.as_str(),
        proto = visit.proto,
        ua = visit.ua.as_deref(),
        status = end.status.as_u16(),
        verdict,
        stage,
        shadow = config.shadow,
        policy = policy.map(|policy| &**policy.name()),
        rule = rule.map(|rule| &*rule.text),
        ban = ruling.ban.as_ref().map(|ban| tracing::field::display(ban.net)),
        reason = ruling.ban.as_ref().and_then(|ban| ban.reason.as_deref()),
        at = origin.map(tracing::field::display),
        stream = ruling.stream.as_deref(),
        session = end.session.as_deref(),
        answers = (!ruling.answers.is_empty()).then(|| tracing::field::debug(&ruling.answers)),
        fault = end.fault.as_deref(),
        "request"
    );
}

/// A request that was refused before it could be judged.
pub(super) fn refused(connection: &Connection, status: StatusCode, reason: &str) {
    tracing::info!(
        target: "nicgate::access",
        service = %connection.gate.key,
        client = %connection.client,
        status = status.as_u16(),
        verdict = "deny",
        stage = "request",
        fault = reason,
        "request"
    );
}

/// How a request ended.
pub(super) struct End {
    pub(super) status: StatusCode,
    /// The session's id, when the request was admitted.
    pub(super) session: Option<Arc<str>>,
    /// What went wrong behind us.
    pub(super) fault: Option<String>,
}
