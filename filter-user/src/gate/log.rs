//! The access log.

use std::sync::Arc;

use http::{Method, StatusCode};

use super::connection::Connection;
use crate::{
    http::Reject,
    judge::{Ground, Judgement, Limit, Request},
    session::{Admission, Snapshot},
};

/// One event for each request, when its answer begins.
pub(super) fn request(
    connection: &Connection,
    method: &Method,
    snapshot: &Snapshot,
    request: &Request,
    admission: &Admission,
    end: &End,
) {
    let Judgement { stream, ground, ban } = &admission.judgement;
    let stage = match ground {
        Ground::NoStream => "no stream".to_owned(),
        Ground::Open => "no policy".to_owned(),
        Ground::Closed => "no such operation".to_owned(),
        Ground::NoToken => "no_auto_token".to_owned(),
        Ground::Limited(Limit::Sessions) => "session table is full".to_owned(),
        Ground::Limited(Limit::Questions) => "the backends could not be asked".to_owned(),
        Ground::Banned => "ban".to_owned(),
        Ground::Judged(_, decision) => decision.stage.to_string(),
    };
    let config = &snapshot.config;
    let (policy, rule) = match *ground {
        Ground::Judged(id, decision) => {
            let policy = config.policy(id);
            (Some(policy), decision.rule)
        }
        _ => (None, None),
    };
    let origin = policy.map(|policy| rule.map_or(policy.origin(), |id| &policy.rule(id).origin));
    let rule = policy.zip(rule).map(|(policy, id)| &**policy.label(id));
    tracing::info!(
        target: "nicgate::access",
        service = %connection.gate.key,
        client = %connection.client,
        method = %method,
        path = ?request.path,
        operation = request.operation.as_str(),
        proto = request.proto,
        ua = request.ua.as_deref(),
        status = end.status.as_u16(),
        verdict = if ground.admits() { "allow" } else { "deny" },
        stage,
        shadow = config.shadow,
        policy = policy.map(|policy| &**policy.name()),
        rule,
        ban = ban.as_ref().map(|ban| tracing::field::display(ban.net)),
        reason = ban.as_ref().and_then(|ban| ban.reason.as_deref()),
        at = origin.map(tracing::field::display),
        stream = stream.as_deref(),
        session = end.session.as_deref(),
        answers = (!admission.answers.is_empty()).then(|| tracing::field::debug(&admission.answers)),
        fault = end.fault.as_deref(),
        "request"
    );
}

/// A request that was refused before it could be judged.
///
/// `seen` is the beginning of its first line, escaped.
pub(super) fn refused(connection: &Connection, reject: Reject, seen: Option<&str>) {
    tracing::info!(
        target: "nicgate::access",
        service = %connection.gate.key,
        client = %connection.client,
        status = reject.status.as_u16(),
        verdict = "deny",
        stage = "request",
        seen = seen.map(without_query),
        fault = reject.reason,
        "request"
    );
}

/// A query can carry a token.
fn without_query(line: &str) -> String {
    match line.split_once('?') {
        Some((path, _)) => format!("{path}?***"),
        None => line.to_owned(),
    }
}

/// A browser's question what it may send.
pub(super) fn preflight(connection: &Connection) {
    tracing::debug!(
        target: "nicgate::access",
        service = %connection.gate.key,
        client = %connection.client,
        status = 204,
        "preflight"
    );
}

/// A request whose client went away before its answer began; 499 is what others write.
pub(super) fn gone(connection: &Connection, method: &Method, request: &Request) {
    tracing::info!(
        target: "nicgate::access",
        service = %connection.gate.key,
        client = %connection.client,
        method = %method,
        path = ?request.path,
        operation = request.operation.as_str(),
        proto = request.proto,
        ua = request.ua.as_deref(),
        status = 499,
        fault = "the client went away",
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
