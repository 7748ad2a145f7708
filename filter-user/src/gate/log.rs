//! The access log.

use std::net::IpAddr;

use http::Method;

use super::connection::Connection;
use crate::{
    http::Reject,
    judge::{Ground, Request},
    session::{Admission, SessionId, Snapshot},
};

/// One event for each request, when its answer begins, or its client is gone before that: then nothing was judged.
pub(super) fn request(
    connection: &Connection,
    method: &Method,
    request: &Request,
    judged: Option<(&Snapshot, &Admission)>,
    end: &End,
) {
    let judgement = judged.map(|(_, admission)| &admission.judgement);
    let ground = judgement.map(|judgement| judgement.ground);
    let ban = judgement.and_then(|judgement| judgement.ban.as_ref());
    let answers = judged.map(|(_, admission)| &admission.answers).filter(|answers| !answers.is_empty());
    let (policy, rule) = match (judged, ground) {
        (Some((snapshot, _)), Some(Ground::Judged(id, decision))) => {
            (Some(snapshot.config.policy(id)), decision.rule)
        }
        _ => (None, None),
    };
    let origin = policy.map(|policy| rule.map_or(policy.origin(), |id| &policy.rule(id).origin));
    let rule = policy.zip(rule).map(|(policy, id)| &**policy.label(id));
    tracing::info!(
        target: "nicgate::access",
        service = %connection.gate.key,
        client = %request.address,
        peer = peer(connection, request.address),
        method = %method,
        path = ?request.path,
        operation = request.operation.as_str(),
        proto = request.proto,
        ua = request.ua.as_deref(),
        status = end.status,
        verdict = ground.map(|ground| if ground.admits() { "allow" } else { "deny" }),
        stage = ground.map(stage),
        shadow = judged.map(|(snapshot, _)| snapshot.config.shadow),
        policy = policy.map(|policy| &**policy.name()),
        rule,
        ban = ban.map(|ban| tracing::field::display(ban.net)),
        reason = ban.and_then(|ban| ban.reason.as_deref()),
        at = origin.map(tracing::field::display),
        stream = judgement.and_then(|judgement| judgement.stream.as_deref()),
        session = end.session.map(tracing::field::display),
        answers = answers.map(tracing::field::debug),
        fault = end.fault.as_deref(),
        "request"
    );
}

/// The proxy that a request came through; `None` when it came from the client itself.
fn peer(connection: &Connection, client: IpAddr) -> Option<tracing::field::DisplayValue<IpAddr>> {
    (client != connection.peer).then(|| tracing::field::display(connection.peer))
}

/// What decided, in words.
fn stage(ground: Ground) -> String {
    match ground {
        Ground::NoStream => "no stream".to_owned(),
        Ground::Open => "no policy".to_owned(),
        Ground::Closed => "no such operation".to_owned(),
        Ground::NoToken => "no_auto_token".to_owned(),
        Ground::Limited(limit) => format!("limit {limit}"),
        Ground::Banned => "ban".to_owned(),
        Ground::Refused(why) => why.as_str().to_owned(),
        Ground::Judged(_, decision) => decision.stage.to_string(),
    }
}

/// A request that was refused before it could be judged.
///
/// `seen` is the beginning of its first line, escaped.
pub(super) fn refused(connection: &Connection, reject: Reject, seen: Option<&str>) {
    tracing::info!(
        target: "nicgate::access",
        service = %connection.gate.key,
        client = %connection.client.ip(),
        peer = peer(connection, connection.client.ip()),
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
    let (path, query) = line.split_once('?').map_or((line, ""), |(path, _)| (path, "?***"));
    // … and so can a segment of the path.
    let segments = path
        .split('/')
        .map(|one| one.split_once('=').map_or(one.to_owned(), |(name, _)| format!("{name}=***")));
    format!("{}{query}", segments.collect::<Vec<_>>().join("/"))
}

/// A browser's question what it may send.
pub(super) fn preflight(connection: &Connection) {
    tracing::debug!(
        target: "nicgate::access",
        service = %connection.gate.key,
        client = %connection.client.ip(),
        peer = peer(connection, connection.client.ip()),
        status = 204,
        "preflight"
    );
}

/// What other servers log for a client that went away before its answer began.
pub(super) const GONE: u16 = 499;

/// How a request ended.
pub(super) struct End {
    /// The status; [`GONE`] when there was nobody to answer.
    pub(super) status: u16,
    /// The session's id, when the request was admitted.
    pub(super) session: Option<SessionId>,
    /// What went wrong behind us.
    pub(super) fault: Option<String>,
}
