//! One request: read, judged, forwarded or refused.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

use super::{
    body::{Answer, RequestBody, ResponseBody},
    connection::{Connection, Phase},
    counters::add,
    headers, log,
    log::End,
    operation::{operation, proto},
    tunnel,
};
use crate::{
    http::{Ambiguous, Fact, Framer, Reject, Target, Upgrade, excerpt, read_target},
    judge::{self, Ground, Verdict},
    model::{Config, ServiceKey, ServiceKind},
    session::{Admission, Cut, Snapshot, Transfer},
};

/// Serves a connection until it ends.
pub(super) async fn run(connection: Connection, stream: TcpStream) {
    let connection = Arc::new(connection);
    let limits = connection.shared.limits;
    let framer = Framer::new(stream, connection.wire.clone(), limits.http);
    let mut phases = connection.phases.clone();
    let client = connection.client;
    let service = service_fn(move |request: Request<Incoming>| {
        let connection = connection.clone();
        async move { Ok::<_, Infallible>(serve(&connection, request).await) }
    });
    let serving = http1::Builder::new()
        // The framer has the deadlines and the limits; hyper only needs room for what it hands on.
        .header_read_timeout(None::<Duration>)
        .max_buf_size(2 * limits.http.head_bytes.max(64 * 1024))
        .serve_connection(TokioIo::new(framer), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let mut next = Phase::Draining;
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%client, %error, "a connection ended early");
                }
                return;
            }
            () = phases.reach(next) => match next {
                Phase::Draining => {
                    serving.as_mut().graceful_shutdown();
                    next = Phase::Closed;
                }
                Phase::Serving | Phase::Closed => return,
            },
        }
    }
}

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

async fn serve(connection: &Connection, request: Request<Incoming>) -> Response<ResponseBody> {
    let answer = Answer::to(&connection.wire);
    add(&connection.gate.requests, 1);
    let mut response = match connection.wire.pop() {
        Some(Fact::Request { target, upgrade }) => judge(connection, request, &target, upgrade).await,
        Some(Fact::Reject(reject, seen)) => refuse(connection, reject, Some(&seen)),
        // hyper handed on what the guard never let in: an invariant is broken, and nothing may pass.
        None => refuse(connection, Reject::bad("request was not seen on the wire"), None),
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

/// Lets a page of this origin read an answer of ours: players tell a refusal from an outage by its status.
fn readable_by(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// Answers a browser that asks what it may send. It sends no token yet, so that there is nobody to judge, and opens no
/// session; the request itself is judged like any other.
fn preflight(
    connection: &Connection,
    origin: &HeaderValue,
    method: &HeaderValue,
    wanted: Option<&HeaderValue>,
) -> Response<ResponseBody> {
    let mut response = answer(connection, StatusCode::NO_CONTENT, String::new());
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    // Without cookies: what a page may do in its visitor's name is the upstream's to say.
    readable_by(headers, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    if let Some(wanted) = wanted {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    log::preflight(connection);
    response
}

/// A request whose client has not got an answer. Dropped before it has, the client is gone.
struct Unanswered<'a> {
    connection: &'a Connection,
    method: Method,
    request: Option<Arc<judge::Request>>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(request) = &self.request {
            add(&self.connection.gate.client_gone, 1);
            let fault = Some("the client went away".to_owned());
            let end = End { status: log::GONE, session: None, fault };
            log::request(self.connection, &self.method, request, None, &end);
        }
    }
}

/// Answers a request that cannot be judged, and ends the connection.
fn refuse(connection: &Connection, reject: Reject, seen: Option<&str>) -> Response<ResponseBody> {
    add(&connection.gate.bad_requests, 1);
    log::refused(connection, reject, seen);
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
    let origin = request.headers().get(header::ORIGIN).cloned();
    if let (Some(origin), &Method::OPTIONS) = (&origin, request.method())
        && let Some(method) = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        return preflight(connection, origin, method, wanted);
    }
    let sessions = &connection.shared.sessions;
    // The token's name and everything that judges are of one configuration; a reload in between begins anew.
    let mut unanswered = Unanswered { connection, method: request.method().clone(), request: None };
    let (snapshot, target, judged, mut admission) = loop {
        let snapshot = sessions.snapshot();
        let target = match read_target(raw_target, &snapshot.config.token_name) {
            Ok(target) => target,
            Err(Ambiguous(reason)) => {
                let seen = excerpt(&[request.method().as_str().as_bytes(), b" ", raw_target].concat());
                return refuse(connection, Reject::bad(reason), Some(&seen));
            }
        };
        let judged = Arc::new(request_of(connection, &request, &target));
        unanswered.request = Some(judged.clone());
        if let Some(admission) = sessions.admit(&snapshot, &judged).await {
            break (snapshot, target, judged, admission);
        }
    };
    count(connection, &snapshot, &admission);
    let transfer = admission.transfer.take();
    let session = transfer.as_ref().map(|transfer| transfer.session_id().clone());
    let (mut response, fault) = match transfer {
        Some(transfer) => forward(connection, &snapshot, request, &target, transfer, pending).await,
        None => (deny(connection, &admission), None),
    };
    if let Some(origin) = origin.filter(|_| response.body().is_own()) {
        let headers = response.headers_mut();
        readable_by(headers, &origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    let end = End { status: response.status().as_u16(), session, fault };
    unanswered.request = None;
    log::request(connection, &unanswered.method, &judged, Some((&snapshot, &admission)), &end);
    response
}

fn request_of(connection: &Connection, request: &Request<Incoming>, target: &Target) -> judge::Request {
    let headers = request.headers();
    judge::Request {
        operation: operation(request.method(), &target.path),
        path: target.path.clone(),
        proto: proto(&target.path),
        address: connection.client,
        port: connection.gate.key.port,
        token: target.token.clone(),
        ua: all_text(headers, header::USER_AGENT),
        referer: text(headers, header::REFERER),
        host: text(headers, header::HOST),
        query: target.forward_query.clone(),
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

fn count(connection: &Connection, snapshot: &Snapshot, admission: &Admission) {
    let gate = &connection.gate;
    match admission.judgement.ground {
        Ground::NoStream => add(&gate.not_found, 1),
        Ground::Open => add(&gate.allowed, 1),
        Ground::Closed | Ground::NoToken | Ground::Limited(_) => add(&gate.denied, 1),
        Ground::Banned => {
            add(&gate.denied, 1);
            add(&gate.banned, 1);
            if let Some(ban) = &admission.judgement.ban {
                add(&ban.refused, 1);
            }
        }
        Ground::Judged(id, decision) => {
            add(if decision.verdict == Verdict::Allow { &gate.allowed } else { &gate.denied }, 1);
            gate.decided(&snapshot.config, id, decision);
        }
    }
}

/// Says which step refused, not by which rule: that is for the log.
fn deny(connection: &Connection, admission: &Admission) -> Response<ResponseBody> {
    if let Some(redirect) = &admission.redirect {
        let mut response = answer(connection, redirect.status, String::new());
        response.headers_mut().insert(header::LOCATION, redirect.location.clone());
        return response;
    }
    let ground = admission.judgement.ground;
    let (status, text) = match (ground, ground.stage()) {
        (Ground::NoStream, _) => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
        (Ground::Closed, _) => (StatusCode::FORBIDDEN, "denied: operation\n".to_owned()),
        (_, Some(stage)) => (StatusCode::FORBIDDEN, format!("denied: {stage}\n")),
        // Without a transfer there is no admission; `Open` cannot come here.
        (_, None) => (StatusCode::SERVICE_UNAVAILABLE, "busy\n".to_owned()),
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
    snapshot: &Snapshot,
    mut request: Request<Incoming>,
    target: &Target,
    transfer: Transfer,
    mut pending: PendingUpgrade<'_>,
) -> (Response<ResponseBody>, Option<String>) {
    let gate = &connection.gate;
    let Some(upstream) = upstream_of(&snapshot.config, gate.key) else {
        let mut response = answer(connection, StatusCode::SERVICE_UNAVAILABLE, "closing\n".to_owned());
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return (response, Some("a reload removed this gate".to_owned()));
    };
    let upgrade = pending.0.is_some();
    let client = upgrade.then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    let host = text(&parts.headers, header::HOST);
    headers::for_upstream(&mut parts.headers, connection.client, upgrade);
    // hyper's own upgrade handle must not travel to the upstream's request.
    parts.extensions.clear();
    let body = RequestBody::new(gate, body, &transfer);
    let activity = body.activity.clone();
    let forwarded = target.forward();
    let sent = tokio::select! {
        sent = connection.shared.upstreams.send(upstream, &forwarded, parts, body) => sent,
        why = transfer.cut() => return cut(connection, why),
    };
    let mut response = match sent {
        Ok(response) => response,
        Err(fault) => {
            if let Some(reason) = connection.wire.body_fault() {
                return (refuse(connection, Reject::bad(reason), None), Some(fault.why));
            }
            if activity.broken_off() {
                // Nobody reads the answer; it is for the log.
                add(&gate.client_gone, 1);
                let response = answer(connection, StatusCode::BAD_REQUEST, "body broke off\n".to_owned());
                return (response, Some("the client broke its body off".to_owned()));
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
    if !headers::transfer_is_plain(&parts.headers) {
        add(&gate.upstream_faults, 1);
        let response = answer(connection, StatusCode::BAD_GATEWAY, "upstream: bad gateway\n".to_owned());
        return (response, Some("upstream sent a transfer coding that nobody asked for".to_owned()));
    }
    headers::for_client(&mut parts.headers, false);
    let token = target.token.as_deref().map(|token| (&*snapshot.config.token_name, token));
    headers::map_back(&mut parts.headers, upstream, host.as_deref(), token);
    // An intermediary speaks its own version (RFC 9110, 2.5), and keeps the client's connection.
    parts.version = http::Version::HTTP_11;
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
        connection.place.clone(),
    ));
    Response::from_parts(parts, ResponseBody::own(&connection.gate, ""))
}
