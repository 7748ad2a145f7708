//! Connections to media servers: which server gets a request, what is tried again, and what is known of each.
//!
//! Connections are hyper's; which of them is used, and when it is kept, is decided here, because that depends on the
//! request. One that only reads and has no body can be sent again: to the same server when a kept connection has died
//! meanwhile, and to another when a server does not answer. Every other request gets a new connection, which is not kept:
//! what an upstream leaves unread of a body must not become the next request on it. It is sent to another server only
//! when no connection could be made, so that nothing of it was sent.

mod check;
mod connect;
mod group;
mod health;
mod server;

use std::{
    collections::HashMap,
    error::Error,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header, request::Parts};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1::SendRequest,
};
use tokio::time::{Instant, sleep, sleep_until};

pub(super) use self::server::InFlight;
use self::{connect::Connector, group::Group, server::Server};
pub use self::{group::UpstreamStatus, health::ServerState, server::ServerStatus};
use super::{Limits, body::RequestBody};
use crate::{
    limits::out_of_files,
    model::{Config, ServerAddress, ServiceKind, Upstream},
};

/// How often connections that nobody uses are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// To so many servers a request is sent at most.
const MOST_SERVERS: usize = 3;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// The server could not be reached, or broke off: 502.
    BadGateway,
    /// It did not answer in time: 504.
    Timeout,
    /// Its checks say that it is down, and so are all others: 503.
    AllDown,
    /// It could not be reached for want of open files: 503.
    OpenFiles,
}

/// Why the upstream gave no answer.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// For the log.
    pub(super) why: String,
}

/// A request for an upstream.
pub(super) struct Outgoing<'a> {
    /// The path and query.
    pub(super) target: &'a str,
    /// The head, whose headers are ready.
    pub(super) parts: Parts,
    pub(super) body: RequestBody,
    /// Whom it is from, and where that came to.
    pub(super) from_to: (SocketAddr, SocketAddr),
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    /// A connection that was upgraded is under way until this is dropped.
    pub(super) tunnel: Option<InFlight>,
}

/// Every upstream.
#[derive(Debug)]
pub(super) struct Upstreams {
    groups: Arc<ArcSwap<Groups>>,
    /// One reload at a time changes them.
    changing: Mutex<()>,
    sweeping: OnceLock<()>,
    connector: Connector,
    limits: Limits,
}

type Groups = HashMap<Arc<str>, Arc<Group>>;

impl Upstreams {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            groups: Arc::default(),
            changing: Mutex::default(),
            sweeping: OnceLock::new(),
            connector: Connector::new(limits.connect_time),
            limits,
        }
    }

    /// Has the upstreams of this configuration from now on. What is known of servers that stay is kept. Must be called
    /// inside a tokio runtime.
    pub(super) fn set_by(&self, config: &Config) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let former = self.groups.load_full();
        let mut groups = Groups::new();
        for service in &config.services {
            let ServiceKind::Gate(gate) = &service.kind else { continue };
            let name = &gate.upstream.name;
            if groups.contains_key(name) {
                continue;
            }
            let group = match former.get(name) {
                Some(group) if *group.upstream == *gate.upstream => group.clone(),
                former => {
                    let group = Group::new(gate.upstream.clone(), former.map(|group| &**group));
                    Arc::new(group.watched(&self.connector))
                }
            };
            groups.insert(name.clone(), group);
        }
        self.groups.store(Arc::new(groups));
        self.sweeping.get_or_init(|| drop(tokio::spawn(sweep(Arc::downgrade(&self.groups)))));
    }

    /// How the servers stand, in the order of the upstreams' names.
    pub(super) fn status(&self) -> Vec<UpstreamStatus> {
        let groups = self.groups.load();
        let mut status: Vec<_> = groups.values().map(|group| group.status()).collect();
        status.sort_by(|one, other| one.upstream.cmp(&other.upstream));
        status
    }

    /// The upstream at work. One that a reload has just taken away serves the requests that it was chosen for.
    fn group(&self, upstream: &Arc<Upstream>) -> Arc<Group> {
        let groups = self.groups.load();
        match groups.get(&upstream.name) {
            Some(group) if Arc::ptr_eq(&group.upstream, upstream) || group.upstream == *upstream => {
                group.clone()
            }
            former => Arc::new(Group::new(upstream.clone(), former.map(|group| &**group))),
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// Nobody answered, and why the last one did not.
    pub(super) async fn send(
        &self,
        upstream: &Arc<Upstream>,
        mut outgoing: Outgoing<'_>,
    ) -> Result<Answered, Fault> {
        let group = self.group(upstream);
        let uri = outgoing.target.parse::<Uri>().map_err(|error| {
            let why = format!("the target is none for the upstream: {error}");
            Fault { kind: FaultKind::BadGateway, why }
        })?;
        outgoing.parts.uri = uri;
        outgoing.parts.version = http::Version::HTTP_11;
        let only_reads = outgoing.body.is_end_stream() && outgoing.parts.method.is_safe();
        if !only_reads || upstream.proxy_protocol {
            // An upgrade has its own word there; only reading requests can be upgrades.
            outgoing.parts.headers.entry(header::CONNECTION).or_insert(HeaderValue::from_static("close"));
        }
        let mut tried: Vec<Arc<Server>> = Vec::new();
        let mut fault = None;
        let Outgoing { parts, body, from_to, .. } = outgoing;
        let mut request = Some((parts, body));
        while tried.len() < MOST_SERVERS
            && let Some((parts, body)) = request.take()
            && let Some(server) = group.pick(&tried, only_reads)
        {
            let mut attempt = Attempt { upstreams: self, server, only_reads, from_to };
            match attempt.send(parts, body).await {
                Ok(answered) => {
                    server.answered();
                    return Ok(answered);
                }
                Err(failed) => {
                    if failed.of_server {
                        server.failed(&failed.fault.why);
                    }
                    tried.push(server.clone());
                    fault = Some(failed.fault);
                    request = failed.unsent;
                }
            }
        }
        Err(fault.unwrap_or_else(|| {
            let why = format!("every server of the upstream {} is down", upstream.name);
            Fault { kind: FaultKind::AllDown, why }
        }))
    }
}

/// Closes what nobody uses, for as long as there are upstreams.
async fn sweep(groups: Weak<ArcSwap<Groups>>) {
    loop {
        sleep(SWEEP).await;
        let Some(groups) = groups.upgrade() else { return };
        for group in groups.load().values() {
            for server in &group.servers {
                server.sweep();
            }
        }
    }
}

/// A request on its way to one server.
struct Attempt<'a> {
    upstreams: &'a Upstreams,
    server: &'a Arc<Server>,
    only_reads: bool,
    from_to: (SocketAddr, SocketAddr),
}

/// What came of it.
struct Failed {
    fault: Fault,
    /// Whether it says something of the server.
    of_server: bool,
    /// What can be sent to another server.
    unsent: Option<(Parts, RequestBody)>,
}

impl Attempt<'_> {
    async fn send(&mut self, mut parts: Parts, body: RequestBody) -> Result<Answered, Failed> {
        if !parts.headers.contains_key(header::HOST)
            && let Ok(host) = HeaderValue::try_from(host_of(self.server.address()))
        {
            parts.headers.insert(header::HOST, host);
        }
        let (mut parts, mut body) = (parts, body);
        if self.only_reads
            && let Some(sender) = self.server.kept()
        {
            match self.send_over(sender, parts, body).await {
                // The server closed it at the same moment, or a while ago: that says nothing of it.
                Err(Failed { unsent: Some(unsent), .. }) => (parts, body) = unsent,
                other => return other,
            }
        }
        match self.server.connect(&self.upstreams.connector, self.from_to).await {
            Ok(sender) => self.send_over(sender, parts, body).await,
            Err(error) => {
                let fault = fault(&*error);
                let of_server = fault.kind != FaultKind::OpenFiles;
                Err(Failed { fault, of_server, unsent: of_server.then_some((parts, body)) })
            }
        }
    }

    async fn send_over(
        &self,
        mut sender: SendRequest<RequestBody>,
        parts: Parts,
        body: RequestBody,
    ) -> Result<Answered, Failed> {
        let again = self.only_reads.then(|| (parts.clone(), body.without_source()));
        let activity = body.activity.clone();
        let in_flight = self.server.begin();
        let mut answer = std::pin::pin!(sender.try_send_request(Request::from_parts(parts, body)));
        let patience = self.upstreams.limits.answer_time;
        let response = loop {
            let deadline = activity.last() + patience;
            tokio::select! {
                answer = &mut answer => break answer,
                () = sleep_until(deadline) => {
                    if activity.last() + patience <= Instant::now() {
                        let why = format!("no answer within {patience:?}");
                        let fault = Fault { kind: FaultKind::Timeout, why };
                        return Err(Failed { fault, of_server: true, unsent: None });
                    }
                }
            }
        };
        match response {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Ok(Answered { response, tunnel: Some(in_flight) })
            }
            Ok(response) => {
                self.server.keep(sender, in_flight, self.only_reads);
                Ok(Answered { response, tunnel: None })
            }
            Err(mut error) => {
                let unsent = error.take_message().map(Request::into_parts);
                let broke = broke_off(error.error());
                // A client that broke its body off is not the server's fault.
                let of_server = !activity.broken_off();
                let unsent = unsent.or(again.filter(|_| broke));
                Err(Failed { fault: fault(error.error()), of_server, unsent })
            }
        }
    }
}

/// What a server is called in a request that names no host.
fn host_of(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Tcp(_) => address.to_string(),
        ServerAddress::Unix(_) => "localhost".to_owned(),
    }
}

/// An error with all that caused it, each said once.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut why = error.to_string();
    for cause in sources(error).skip(1) {
        let cause = cause.to_string();
        if !why.ends_with(&cause) {
            why = format!("{why}: {cause}");
        }
    }
    why
}

/// An error, and what caused it.
fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Whether the connection ended before any answer.
fn broke_off(error: &hyper::Error) -> bool {
    error.is_incomplete_message()
        || error.is_canceled()
        || error.is_closed()
        || sources(error)
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|io| matches!(io.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe))
}

fn fault(error: &(dyn Error + 'static)) -> Fault {
    let causes_io = || sources(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    let kind = if causes_io().any(out_of_files) {
        FaultKind::OpenFiles
    } else if causes_io().any(|io| io.kind() == io::ErrorKind::TimedOut) {
        FaultKind::Timeout
    } else {
        FaultKind::BadGateway
    };
    Fault { kind, why: causes(error) }
}
