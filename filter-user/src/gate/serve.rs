//! One request: read, judged, forwarded or refused.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use url::Url;

use super::{
    body::{Answer, RequestBody, ResponseBody},
    connection::Connection,
    counters::add,
    head::Reject,
    headers, log,
    log::End,
    operation::{operation, proto},
    target::{self, Target},
    tunnel,
    wire::{Fact, Upgrade},
};
use crate::{
    config::{Config, ServiceKey, ServiceKind},
    policy::Verdict,
    session::{Cut, Ground, Ruling, Transfer, Visit},
};

/// Lets the next request in unless the upgrade was accepted.
struct PendingUpgrade<'a>(Option<&'a Connection>);

impl PendingUpgrade<'_> {
    fn accept(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.wire.decide(Upgrade::Accepted);
        }
    }
}

impl Drop for PendingUpgrade<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.wire.decide(Upgrade::Refused);
        }
    }
}

pub(super) async fn serve(connection: &Connection, request: Request<Incoming>) -> Response<ResponseBody> {
    let answer = Answer::to(&connection.wire);
    add(&connection.gate.requests, 1);
    let mut response = match connection.wire.pop() {
        Some(Fact::Request { target, upgrade }) => judge(connection, request, &target, upgrade).await,
        Some(Fact::Reject(reject)) => refuse(connection, reject),
        // hyper handed on what the guard never let in: an invariant is broken, and nothing may pass.
        None => refuse(connection, Reject::bad("request was not seen on the wire")),
    };
    if response.status().is_server_error() {
        add(&connection.gate.server_errors, 1);
    }
    response.body_mut().answer = Some(answer);
    response
}

/// An answer of ours, as short plain text.
fn answer(connection: &Connection, status: StatusCode, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::own(&connection.gate, text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    }
    response
}

/// Answers a request that cannot be judged, and ends the connection.
fn refuse(connection: &Connection, reject: Reject) -> Response<ResponseBody> {
    add(&connection.gate.bad_requests, 1);
    log::refused(connection, reject.status, reject.reason);
    let mut response = answer(connection, reject.status, format!("{}\n", reject.reason));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn judge(
    connection: &Connection,
    request: Request<Incoming>,
    raw_target: &[u8],
    upgrade: bool,
) -> Response<ResponseBody> {
    let pending = PendingUpgrade(upgrade.then_some(connection));
    let sessions = &connection.shared.sessions;
    let snapshot = sessions.snapshot();
    let target = match target::read(raw_target, &snapshot.config.token_name) {
        Ok(target) => target,
        Err(ambiguous) => return refuse(connection, Reject::bad(ambiguous.0)),
    };
    drop(snapshot);
    let visit = Arc::new(visit(connection, &request, &target));
    let mut ruling = sessions.admit(&visit).await;
    count(connection, &ruling);
    let method = request.method().clone();
    let transfer = ruling.transfer.take();
    let session = transfer.as_ref().map(|transfer| transfer.session_id().clone());
    let (response, fault) = match transfer {
        Some(transfer) => forward(connection, &ruling, request, &target, transfer, pending).await,
        None => (deny(connection, &ruling), None),
    };
    let end = End { status: response.status(), session, fault };
    log::request(connection, &method, &visit, &ruling, &end);
    response
}

fn visit(connection: &Connection, request: &Request<Incoming>, target: &Target) -> Visit {
    let headers = request.headers();
    Visit {
        operation: operation(request.method(), &target.path),
        path: target.path.clone(),
        proto: proto(&target.path),
        address: connection.client,
        port: connection.gate.key.port,
        token: target.token.clone(),
        ua: all_text(headers, header::USER_AGENT),
        referer: text(headers, header::REFERER),
        host: text(headers, header::HOST),
        qs: target.forward_query.clone(),
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<Arc<str>> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into())
}

/// Several User-Agent lines count as one: whichever the upstream reads, a rule has seen it.
fn all_text(headers: &HeaderMap, name: header::HeaderName) -> Option<Arc<str>> {
    let all: Vec<_> =
        headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!all.is_empty()).then(|| all.join(", ").into())
}

fn count(connection: &Connection, ruling: &Ruling) {
    let gate = &connection.gate;
    match ruling.ground {
        Ground::NoStream => add(&gate.not_found, 1),
        Ground::Open => add(&gate.allowed, 1),
        Ground::Closed | Ground::NoToken | Ground::Busy | Ground::Overloaded => {
            add(&gate.denied, 1);
        }
        Ground::Banned => {
            add(&gate.denied, 1);
            add(&gate.banned, 1);
            if let Some(ban) = &ruling.ban {
                add(&ban.refused, 1);
            }
        }
        Ground::Judged(id, decision) => {
            add(if decision.verdict == Verdict::Allow { &gate.allowed } else { &gate.denied }, 1);
            gate.decided(&ruling.snapshot.config, id, decision);
        }
    }
}

/// Says which step refused, not by which rule: that is for the log.
fn deny(connection: &Connection, ruling: &Ruling) -> Response<ResponseBody> {
    if let Some(redirect) = &ruling.redirect {
        let mut response = answer(connection, redirect.status, String::new());
        response.headers_mut().insert(header::LOCATION, redirect.location.clone());
        return response;
    }
    let (status, text) = match ruling.ground {
        Ground::NoStream => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
        Ground::Busy | Ground::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "busy\n".to_owned()),
        Ground::Closed => (StatusCode::FORBIDDEN, "denied: operation\n".to_owned()),
        Ground::NoToken => (StatusCode::FORBIDDEN, "denied: token\n".to_owned()),
        Ground::Banned => (StatusCode::FORBIDDEN, "denied: ban\n".to_owned()),
        // Without a transfer there is no admission; `Open` cannot come here.
        Ground::Open => (StatusCode::SERVICE_UNAVAILABLE, "busy\n".to_owned()),
        Ground::Judged(_, decision) => (StatusCode::FORBIDDEN, format!("denied: {}\n", decision.stage)),
    };
    answer(connection, status, text)
}

fn upstream_of(config: &Config, key: ServiceKey) -> Option<&Url> {
    config.services.iter().filter(|service| service.key == key).find_map(|service| match &service.kind {
        ServiceKind::Gate(gate) => Some(&gate.upstream),
        ServiceKind::Guard => None,
    })
}

async fn forward(
    connection: &Connection,
    ruling: &Ruling,
    mut request: Request<Incoming>,
    target: &Target,
    transfer: Transfer,
    mut pending: PendingUpgrade<'_>,
) -> (Response<ResponseBody>, Option<String>) {
    let gate = &connection.gate;
    let Some(upstream) = upstream_of(&ruling.snapshot.config, gate.key) else {
        let mut response = answer(connection, StatusCode::SERVICE_UNAVAILABLE, "closing\n".to_owned());
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return (response, Some("a reload removed this gate".to_owned()));
    };
    let upgrade = pending.0.is_some();
    let client = upgrade.then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    headers::for_upstream(&mut parts.headers, connection.client, upgrade);
    // hyper's own upgrade handle must not travel to the upstream's request.
    parts.extensions.clear();
    let body = RequestBody::new(gate, body, &transfer);
    let forwarded = target.forward();
    let sent = tokio::select! {
        sent = connection.shared.upstreams.send(upstream, &forwarded, parts, body) => sent,
        why = transfer.cut() => return cut(connection, why),
    };
    let mut response = match sent {
        Ok(response) => response,
        Err(fault) => {
            if let Some(reason) = connection.wire.body_fault() {
                return (refuse(connection, Reject::bad(reason)), Some(fault.why));
            }
            add(&gate.upstream_faults, 1);
            let text = if fault.status == StatusCode::GATEWAY_TIMEOUT { "timeout" } else { "bad gateway" };
            return (answer(connection, fault.status, format!("upstream: {text}\n")), Some(fault.why));
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
        let agreed = response.headers().get(header::UPGRADE).is_some_and(websocket);
        let Some(client) = client.filter(|_| agreed) else {
            add(&gate.upstream_faults, 1);
            let response = answer(connection, StatusCode::BAD_GATEWAY, "upstream: bad gateway\n".to_owned());
            return (response, Some("upstream switched protocols unasked".to_owned()));
        };
        let upstream = hyper::upgrade::on(&mut response);
        pending.accept();
        return (switch(connection, response, client, upstream, transfer), None);
    }
    let (mut parts, body) = response.into_parts();
    headers::for_client(&mut parts.headers, false);
    (Response::from_parts(parts, ResponseBody::upstream(gate, body, transfer)), None)
}

/// A transfer that was cut before its answer began.
fn cut(connection: &Connection, why: Cut) -> (Response<ResponseBody>, Option<String>) {
    add(&connection.gate.cut, 1);
    let mut response = answer(connection, StatusCode::FORBIDDEN, "denied: session\n".to_owned());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    (response, Some(format!("cut: {why:?}")))
}

/// Answers 101 and carries the connection on.
fn switch(
    connection: &Connection,
    response: Response<Incoming>,
    client: OnUpgrade,
    upstream: OnUpgrade,
    transfer: Transfer,
) -> Response<ResponseBody> {
    let (mut parts, _) = response.into_parts();
    headers::for_client(&mut parts.headers, true);
    parts.extensions.clear();
    tokio::spawn(tunnel::carry(
        client,
        upstream,
        transfer,
        connection.gate.clone(),
        connection.phases.clone(),
        connection.seat.clone(),
    ));
    Response::from_parts(parts, ResponseBody::own(&connection.gate, ""))
}
