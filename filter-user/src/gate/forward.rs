//! What was judged goes to the upstream, and its answer to the client.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, response::Parts};
use hyper::{body::Incoming, upgrade::OnUpgrade};

use url::{Position, Url};

use super::{
    answer::{answer, last, reject},
    body::{RequestBody, ResponseBody},
    connection::Connection,
    counters::add,
    headers, log,
    manifest::{Broken, Plan},
    pace::Pace,
    player_token::{self, Keep},
    resource,
    tunnel::{self, PendingUpgrade},
    upstream::{Answered, Fault, FaultKind, InFlight, Outgoing},
};
use crate::{
    http::{Client, Reject, Target, read_target},
    judge,
    manifest::Form,
    model::{Config, Gate, Limit, ServiceKey, ServiceKind},
    session::{Cut, Snapshot, Transfer},
};

/// An answer, and what went wrong behind us.
type Outcome = (Response<ResponseBody>, Option<String>);

/// The gate's settings; `None` when a reload has removed it.
pub(super) fn gate_of(config: &Config, key: ServiceKey) -> Option<&Gate> {
    config.services.iter().filter(|service| service.key == key).find_map(|service| match &service.kind {
        ServiceKind::Gate(gate) => Some(gate),
        ServiceKind::Guard => None,
    })
}

/// What is forwarded.
pub(super) struct Judged<'a> {
    pub(super) snapshot: &'a Arc<Snapshot>,
    pub(super) request: &'a judge::Request,
    /// Whom it is from.
    pub(super) client: &'a Client,
    pub(super) target: &'a Target,
    /// The target as the client wrote it.
    pub(super) raw_target: &'a [u8],
    /// What it stands for at the media server, when it is a resource that nicgate named.
    pub(super) resource: Option<&'a str>,
    pub(super) keep: Option<Keep>,
}

impl Judged<'_> {
    /// The target for the upstream. One that writes tokens into its own playlists learns the one that the player got.
    fn forward(&self, plan: Option<&Plan>) -> String {
        let forward = self.target.forward();
        let new = self.keep.as_ref().filter(|keep| keep.new && plan.is_some_and(Plan::asks_for_manifest));
        match new {
            Some(keep) if self.target.token.is_none() => {
                let sign = if self.target.forward_query.is_some() { '&' } else { '?' };
                // Nothing in it has to be encoded.
                format!("{forward}{sign}{}={}", self.snapshot.config.token_name, keep.token)
            }
            _ => forward,
        }
    }

    /// Names the resource of a WHIP or WHEP session below the stream's path, when the media server put it elsewhere.
    fn keep_resource(&self, connection: &Connection, headers: &mut HeaderMap) -> Option<()> {
        let config = &self.snapshot.config;
        let raw = std::str::from_utf8(self.raw_target).ok()?;
        let path = raw.split('?').next()?.trim_end_matches('/');
        let here = Url::parse(&format!("http://host.invalid{}", self.target.forward_path)).ok()?;
        let there = here.join(headers.get(header::LOCATION)?.to_str().ok()?).ok()?;
        if there.origin() != here.origin() {
            return None;
        }
        let stream = &config.stream_for(&self.request.path)?.name;
        let read = read_target(there.path().as_bytes(), &config.token_name);
        let owner =
            read.ok().and_then(|read| config.stream_for(&read.path).map(|stream| stream.name.clone()));
        if owner.as_ref() == Some(stream) {
            return None;
        }
        let target = &there[Position::BeforePath..Position::AfterQuery];
        let hidden = resource::hide(&connection.shared.player_tokens, stream, target)?;
        headers.insert(header::LOCATION, HeaderValue::try_from(format!("{path}/{hidden}")).ok()?);
        Some(())
    }

    /// The token as a parameter of a redirect that the player follows. One of nicgate's own is for this stream alone, and
    /// the player gets it again.
    fn redirect_token(&self) -> Option<(&str, &str)> {
        let in_query = self.target.token.is_some()
            || self.keep.as_ref().is_some_and(|keep| keep.written == Some(Form::Query));
        let token = self.request.token.as_deref().filter(|_| in_query)?;
        Some((&self.snapshot.config.token_name, token))
    }
}

/// Sends a request that was admitted, and passes the answer on.
pub(super) async fn forward(
    connection: &Connection,
    judged: Judged<'_>,
    mut request: Request<Incoming>,
    transfer: Transfer,
    mut pending: PendingUpgrade<'_>,
) -> Outcome {
    let Some(gate) = gate_of(&judged.snapshot.config, connection.gate.key) else {
        let response = last(connection, StatusCode::SERVICE_UNAVAILABLE, "closing", "closing");
        return (response, Some("a reload removed this gate".to_owned()));
    };
    let upgrade = pending.waits();
    let client = upgrade.then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    let method = parts.method.clone();
    let make = || {
        let asked = (&method, judged.request, judged.raw_target);
        let keep = judged.keep.as_ref().filter(|_| !upgrade)?;
        Plan::new(connection, judged.snapshot, gate, keep, asked)
    };
    let mut plan = if Plan::expected(&judged.request.path) { make() } else { None };
    headers::for_upstream(&mut parts.headers, judged.client, upgrade);
    if let Some(plan) = &mut plan {
        plan.ask(&mut parts.headers);
    }
    // hyper's own upgrade handle must not travel to the upstream's request.
    parts.extensions.clear();
    let body = RequestBody::new(&connection.gate, body, &transfer);
    let activity = body.activity.clone();
    let forwarded = judged.resource.map_or_else(|| judged.forward(plan.as_ref()), str::to_owned);
    let outgoing = Outgoing { target: &forwarded, parts, body, from_to: from_to(connection, judged.client) };
    let sent = tokio::select! {
        sent = connection.shared.upstreams.send(&gate.upstream, outgoing) => sent,
        why = transfer.cut() => return cut(connection, why),
    };
    let Answered { mut response, tunnel } = match sent {
        Ok(answered) => answered,
        Err(fault) => return no_answer(connection, fault, activity.broken_off()),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
        let agreed = response.headers().get(header::UPGRADE).is_some_and(websocket);
        let Some(client) = client.filter(|_| agreed) else {
            return bad_gateway(connection, "upstream switched protocols unasked".to_owned());
        };
        let upstream = hyper::upgrade::on(&mut response);
        pending.accept();
        return (switch(connection, response, (client, upstream), transfer, tunnel), None);
    }
    let (mut parts, body) = response.into_parts();
    if !headers::transfer_is_plain(&parts.headers) {
        return bad_gateway(connection, "upstream sent a transfer coding that nobody asked for".to_owned());
    }
    for_client(connection, &judged, gate, &mut parts);
    if plan.is_none() && Plan::is_due(&parts.headers) {
        plan = make();
    }
    let pace = Pace::of(&parts, &judged.request.path, &transfer);
    let (mut response, fault) = match plan {
        Some(plan) => planned(connection, plan, (parts, body), transfer).await,
        None => (Response::from_parts(parts, ResponseBody::upstream(&connection.gate, body, transfer)), None),
    };
    response.body_mut().pace = pace;
    (response, fault)
}

/// Passes an answer on that may be a manifest, with the player's token in it.
async fn planned(
    connection: &Connection,
    plan: Plan,
    (parts, body): (Parts, Incoming),
    transfer: Transfer,
) -> Outcome {
    match plan.pass(connection, parts, body, transfer).await {
        Ok(response) => (response, None),
        Err(Broken::Cut(why)) => cut(connection, why),
        Err(Broken::Upstream(kind, why)) => no_answer(connection, Fault { kind, why }, false),
    }
}

/// Whom a request is from, with the port where that is known, and where it came to.
fn from_to(connection: &Connection, client: &Client) -> (SocketAddr, SocketAddr) {
    let from = connection.client;
    let port = if from.ip() == client.address { from.port() } else { 0 };
    (SocketAddr::new(client.address, port), connection.local)
}

/// Makes the upstream's head one for the client.
fn for_client(connection: &Connection, judged: &Judged<'_>, gate: &Gate, parts: &mut Parts) {
    headers::for_client(&mut parts.headers, false);
    let host = judged.request.host.as_deref();
    let mut place = headers::Place { upstream: &gate.upstream, host, prefix: &gate.prefix };
    if parts.status == StatusCode::CREATED && judged.request.proto == "webrtc" {
        headers::map_back(&mut parts.headers, &headers::Place { prefix: "", ..place }, None);
        if judged.keep_resource(connection, &mut parts.headers).is_some() {
            // It is below the path that the client asked for.
            place.prefix = "";
        }
    }
    headers::map_back(&mut parts.headers, &place, judged.redirect_token());
    let config = &judged.snapshot.config;
    if let Some(keep) = judged.keep.as_ref().filter(|keep| keep.cookie && parts.status.as_u16() < 400)
        && let Some(stream) = config.stream_for(&judged.request.path)
    {
        let (cookie, below) = ((&*config.token_name, &*keep.token), (&*gate.prefix, &*stream.name));
        player_token::set_cookie(&mut parts.headers, cookie, below, judged.client.https);
        super::validators::for_one(&mut parts.headers);
    }
    // An intermediary speaks its own version (RFC 9110, 2.5), and keeps the client's connection.
    parts.version = http::Version::HTTP_11;
}

/// What a client hears when the upstream gave no answer.
fn no_answer(connection: &Connection, fault: Fault, broken_off: bool) -> Outcome {
    let gate = &connection.gate;
    if let Some(reason) = connection.wire.body_fault() {
        let rejected = Reject::bad(reason);
        add(&gate.bad_requests, 1);
        log::refused(connection, rejected, None);
        return (reject(connection, rejected), Some(fault.why));
    }
    if broken_off {
        // Nobody reads the answer; it is for the log.
        add(&gate.client_gone, 1);
        let response = answer(connection, StatusCode::BAD_REQUEST, "body_broke_off", "body broke off");
        return (response, Some("the client broke its body off".to_owned()));
    }
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    let response = match fault.kind {
        FaultKind::BadGateway => return bad_gateway(connection, fault.why),
        FaultKind::OpenFiles => {
            add(&gate.limited, 1);
            let remedy = "answered 503, the media server could not be connected to: raise the hard limit of open files";
            let hits = connection.shared.sessions.hits();
            hits.hit(Limit::OpenFiles, connection.limits.open_files, &fault.why, remedy);
            answer(connection, unavailable, "busy", "busy")
        }
        FaultKind::AllDown => {
            add(&gate.upstream_faults, 1);
            answer(connection, unavailable, "upstream_down", "upstream: down")
        }
        FaultKind::Timeout => {
            add(&gate.upstream_faults, 1);
            answer(connection, StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", "upstream: timeout")
        }
    };
    (response, Some(fault.why))
}

fn bad_gateway(connection: &Connection, why: String) -> Outcome {
    add(&connection.gate.upstream_faults, 1);
    let response =
        answer(connection, StatusCode::BAD_GATEWAY, "upstream_bad_gateway", "upstream: bad gateway");
    (response, Some(why))
}

/// A transfer that was cut before its answer began.
fn cut(connection: &Connection, why: Cut) -> Outcome {
    add(&connection.gate.cut, 1);
    let response = last(connection, StatusCode::FORBIDDEN, "denied_session", "denied: session");
    (response, Some(format!("cut: {why:?}")))
}

/// Answers 101 and carries the connection on.
fn switch(
    connection: &Connection,
    response: Response<Incoming>,
    (client, upstream): (OnUpgrade, OnUpgrade),
    transfer: Transfer,
    in_flight: Option<InFlight>,
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
        in_flight,
    ));
    Response::from_parts(parts, ResponseBody::own(&connection.gate, ""))
}
