//! One request: read, judged, forwarded or refused.

use std::{convert::Infallible, future::poll_fn, sync::Arc, time::Duration};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{
    answer::{Wishes, answer, deny, preflight, reject},
    body::{Answer, ResponseBody},
    client::client,
    connection::{Connection, Phase},
    counters::add,
    forward::{Judged, forward, gate_of},
    log,
    log::End,
    operation::{operation, proto},
    player_token::{Keep, unset_cookie},
    resource,
    token::find,
    tunnel::PendingUpgrade,
};
use crate::{
    http::{
        Ambiguous, Client, Fact, Framer, Reject, STRANGE_PROXY, Target, Wire, excerpt, read_target,
        read_target_with_segment,
    },
    judge,
    model::{Config, Cors, Gate, Limit, PlayerToken},
    session::{Presence, Transfer},
};

/// How a connection begins.
#[derive(Debug)]
pub(super) enum Opening {
    /// With these bytes, which were read already.
    Input(BytesMut),
    /// With something that is refused, and what that was.
    Refused(Reject, BytesMut),
}

impl Default for Opening {
    fn default() -> Self {
        Self::Input(BytesMut::new())
    }
}

/// Serves a connection until it ends.
pub(super) async fn run(connection: Connection, stream: TcpStream, opening: Opening) {
    let connection = Arc::new(connection);
    let limits = connection.limits;
    let place = connection.place.clone();
    let framer = Framer::new(stream, connection.wire.clone(), limits.http);
    let framer = match opening {
        Opening::Input(input) => framer.with_input(input),
        Opening::Refused(reject, seen) => framer.refusing(reject, &seen),
    };
    let mut phases = connection.phases.clone();
    let client = connection.client;
    let wire = connection.wire.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let connection = connection.clone();
        async move { Ok::<_, Infallible>(serve(&connection, request).await) }
    });
    let serving = http1::Builder::new()
        // The framer has the deadlines and the limits; hyper only needs room for what it hands on.
        .header_read_timeout(None::<Duration>)
        .max_buf_size(2 * limits.http.head_bytes.max(64 * 1024))
        .max_headers(limits.http.headers)
        .serve_connection(TokioIo::new(framer), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let mut next = Phase::Draining;
    let mut leaving = false;
    let mut last = None;
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%client, %error, "a connection ended early");
                }
                return;
            }
            // A request that comes at the same moment is still answered.
            () = place.leave(), if !leaving => {
                leaving = true;
                serving.as_mut().graceful_shutdown();
            }
            () = phases.reach(next) => match next {
                Phase::Draining => {
                    last = Some(Box::pin(last_request(wire.clone())));
                    next = Phase::Closed;
                }
                Phase::Serving | Phase::Closed => return,
            },
            () = async { last.as_mut().expect("it was looked at").await }, if last.is_some() => {
                last = None;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

/// How long a connection without a request in hand may bring one when it is about to be closed: it may be on its way.
const LAST_REQUEST_TIME: Duration = Duration::from_millis(500);

/// Waits until there is no request in hand, and none is likely to come any more. Meanwhile every answer says that it is
/// the connection's last.
async fn last_request(wire: Wire) {
    loop {
        poll_fn(|cx| wire.poll_idle(cx)).await;
        if timeout(LAST_REQUEST_TIME, poll_fn(|cx| wire.poll_busy(cx))).await.is_err() {
            return;
        }
    }
}

async fn serve(connection: &Connection, request: Request<Incoming>) -> Response<ResponseBody> {
    let finished = Answer::to(&connection.wire);
    add(&connection.gate.requests, 1);
    let mut wishes = Wishes::of(request.headers());
    let mut response = match connection.wire.pop() {
        Some(Fact::Request { target, upgrade }) => judge(connection, request, &target, upgrade).await,
        Some(Fact::Reject(rejected, seen)) => {
            wishes = Wishes::unknown();
            refuse(connection, rejected, Some(&seen))
        }
        // hyper handed on what the guard never let in: an invariant is broken, and nothing may pass.
        None => refuse(connection, Reject::bad("request was not seen on the wire"), None),
    };
    if response.status().is_server_error() {
        add(&connection.gate.server_errors, 1);
    }
    if response.body().is_own() {
        let snapshot = connection.shared.sessions.snapshot();
        let cors = gate_of(&snapshot.config, connection.gate.key).map_or(&Cors::Off, |gate| &gate.cors);
        wishes.meet(connection, cors, &mut response);
    }
    if connection.phases.reached(Phase::Draining) && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // The client makes its next request where somebody will answer it.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.body_mut().answer = Some(finished);
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
fn refuse(connection: &Connection, rejected: Reject, seen: Option<&str>) -> Response<ResponseBody> {
    add(&connection.gate.bad_requests, 1);
    if let Some(limit) = rejected.limit {
        let hits = connection.shared.sessions.hits();
        let limits = &connection.limits.http;
        let value = match limit {
            Limit::HeaderLines => limits.headers,
            Limit::TargetBytes => limits.target_bytes,
            _ => limits.head_bytes,
        };
        hits.hit(limit, value, connection.client.ip(), "the request is refused: `limit` raises it");
    }
    if rejected.reason == STRANGE_PROXY {
        add(&connection.gate.proxies_refused, 1);
    }
    log::refused(connection, rejected, seen);
    reject(connection, rejected)
}

async fn judge(
    connection: &Connection,
    request: Request<Incoming>,
    raw_target: &[u8],
    upgrade: bool,
) -> Response<ResponseBody> {
    let pending = PendingUpgrade::of(connection, upgrade);
    let sessions = &connection.shared.sessions;
    // The token's name and everything that judges are of one configuration; a reload in between begins anew.
    let mut unanswered = Unanswered { connection, method: request.method().clone(), request: None };
    let (snapshot, read, mut admission) = loop {
        let snapshot = sessions.snapshot();
        let gate = gate_of(&snapshot.config, connection.gate.key);
        let cors = gate.map_or(&Cors::Off, |gate| &gate.cors);
        if let Some(response) = preflight(connection, cors, request.method(), request.headers()) {
            return response;
        }
        let read = match read(connection, &snapshot.config, gate, &request, raw_target) {
            Ok(read) => read,
            Err(unreadable) => {
                let seen = excerpt(&[request.method().as_str().as_bytes(), b" ", raw_target].concat());
                return refuse_unread(connection, &snapshot.config, gate, unreadable, &seen);
            }
        };
        unanswered.request = Some(read.request.clone());
        // What a header names came by a proxy's connection.
        let own = read.client.address == connection.client.ip();
        let presence = if own { connection.presence.clone() } else { Presence::unknown() };
        if let Some(admission) = sessions.admit(&snapshot, &read.request, &presence).await {
            break (snapshot, read, admission);
        }
    };
    connection.gate.judged(&snapshot, &admission);
    if read.client.address != connection.peer {
        add(&connection.gate.proxied, 1);
    }
    let transfer = admission.transfer.take();
    let session = transfer.as_ref().map(Transfer::session_id);
    let (response, fault) = match transfer {
        Some(transfer) => {
            let Read { request: judged, client, target, resource, keep } = &read;
            let judged = Judged {
                snapshot: &snapshot,
                request: judged,
                client,
                target,
                raw_target,
                resource: resource.as_deref(),
                keep: keep.clone(),
            };
            forward(connection, judged, request, transfer, pending).await
        }
        None => (deny(connection, &admission), None),
    };
    let end = End { status: response.status().as_u16(), session, fault };
    unanswered.request = None;
    log::request(connection, &unanswered.method, &read.request, Some((&snapshot, &admission)), &end);
    response
}

/// Answers a request that is not judged, whose first line is given for the log.
fn refuse_unread(
    connection: &Connection,
    config: &Config,
    gate: Option<&Gate>,
    Unreadable { rejected, stale_cookie }: Unreadable,
    seen: &str,
) -> Response<ResponseBody> {
    if rejected.status == StatusCode::NOT_FOUND {
        add(&connection.gate.not_found, 1);
        log::refused(connection, rejected, Some(seen));
        return answer(connection, StatusCode::NOT_FOUND, "not_found", "not found");
    }
    let mut response = refuse(connection, rejected, Some(seen));
    if let Some(stream) = stale_cookie {
        let prefix = gate.map_or("", |gate| &*gate.prefix);
        unset_cookie(response.headers_mut(), &config.token_name, (prefix, &stream));
    }
    response
}

/// A request as it is judged.
struct Read {
    request: Arc<judge::Request>,
    client: Client,
    target: Target,
    /// What it stands for at the media server, when it is a resource that nicgate named.
    resource: Option<String>,
    /// How its player is to keep its token.
    keep: Option<Keep>,
}

/// Why a request is not judged.
struct Unreadable {
    rejected: Reject,
    /// The stream whose cookie nicgate gave, if that can be what another token contradicts.
    stale_cookie: Option<Arc<str>>,
}

impl From<Ambiguous> for Unreadable {
    fn from(Ambiguous(reason): Ambiguous) -> Self {
        Self { rejected: Reject::bad(reason), stale_cookie: None }
    }
}

/// Reads a request by one configuration.
///
/// # Errors
///
/// What makes it ambiguous.
fn read(
    connection: &Connection,
    config: &Config,
    gate: Option<&Gate>,
    request: &Request<Incoming>,
    raw_target: &[u8],
) -> Result<Read, Unreadable> {
    let client = client(connection, gate, request.headers()).map_err(|rejected| {
        add(&connection.gate.proxies_refused, 1);
        Unreadable { rejected, stale_cookie: None }
    })?;
    let from = gate.map(Gate::reads).unwrap_or_default();
    let read_target = if from.path { read_target_with_segment } else { read_target };
    let target = read_target(raw_target, &config.token_name)?;
    let Some(target) = target.below(gate.map_or("", |gate| &gate.prefix)) else {
        let reason = "path does not begin as those of this gate do";
        let rejected = Reject::with(StatusCode::NOT_FOUND, reason);
        return Err(Unreadable { rejected, stale_cookie: None });
    };
    let headers = request.headers();
    let found = find(headers, &target, &config.token_name, from).map_err(|error| {
        let gives = gate.is_some_and(|gate| gate.player_token == PlayerToken::Cookie);
        let stream = config.stream_for(&target.path).filter(|_| gives);
        Unreadable { stale_cookie: stream.map(|stream| stream.name.clone()), ..error.into() }
    })?;
    let mut judged = judge::Request {
        operation: operation(request.method(), &target.path),
        path: target.path.clone(),
        proto: proto(&target.path),
        address: client.address,
        port: connection.gate.key.port,
        token: None,
        auto_token: None,
        ua: all_text(headers, header::USER_AGENT),
        referer: text(headers, header::REFERER),
        host: text(headers, header::HOST),
        query: target.forward_query.clone(),
    };
    let tokens = &connection.shared.player_tokens;
    let keep = match gate {
        Some(gate) => tokens.settle(config, gate, &found, &mut judged, (request.method(), headers)),
        None => {
            judged.token = found.token;
            None
        }
    };
    let stream = config.stream_for(&target.path);
    let resource = stream.and_then(|stream| resource::shown(tokens, &stream.name, &target.path));
    Ok(Read { request: Arc::new(judged), client, target, resource, keep })
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
