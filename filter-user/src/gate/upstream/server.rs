//! One media server: its connections, and how it stands.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::client::conn::http1::SendRequest;
use serde::{Deserialize, Serialize};

use super::{
    super::body::RequestBody,
    connect::{ConnectError, Connector},
    health::{Health, ServerState},
};
use crate::{
    http::proxy_protocol,
    limits::Throttle,
    model::{ServerAddress, UpstreamServer},
};

/// How long an unused connection is kept.
const KEPT: Duration = Duration::from_secs(15);

/// A media server and what has been counted of it.
#[derive(Debug)]
pub(super) struct Server {
    /// The upstream's name, for the log.
    upstream: Arc<str>,
    pub(super) settings: UpstreamServer,
    /// Whether connections are announced. Each is for one client then, and none is kept.
    announced: bool,
    pub(super) health: Health,
    /// Requests whose answer has not come whole.
    active: AtomicUsize,
    requests: AtomicU64,
    failures: AtomicU64,
    /// Connections that wait for a request, the latest used last.
    idle: Mutex<VecDeque<(SendRequest<RequestBody>, Instant)>>,
    said: [Throttle; 2],
}

/// How a media server stands, and what was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Where it is.
    pub server: String,
    /// How it stands.
    pub state: ServerState,
    /// For how long, in seconds.
    pub state_seconds: u64,
    /// Its weight.
    pub weight: u32,
    /// Requests whose answer has not come whole.
    pub active: usize,
    /// Connections that wait for a request.
    pub idle: usize,
    /// Requests that were sent to it.
    pub requests: u64,
    /// Those of them that it did not answer, and connections that could not be made.
    pub failures: u64,
    /// Why a request or a check failed the last time.
    pub last_failure: Option<String>,
}

/// A request that is under way to a server.
#[derive(Debug)]
pub(in super::super) struct InFlight(Arc<Server>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    pub(super) fn new(upstream: Arc<str>, settings: UpstreamServer, announced: bool) -> Self {
        Self {
            upstream,
            health: Health::new(settings.max_fails, settings.fail_timeout),
            settings,
            announced,
            active: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            idle: Mutex::default(),
            said: Default::default(),
        }
    }

    pub(super) fn address(&self) -> &ServerAddress {
        &self.settings.address
    }

    pub(super) fn announced(&self) -> bool {
        self.announced
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(SendRequest<RequestBody>, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests under way.
    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Counts a request that is under way until the result is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// A connection that was kept, as far as can be known one that is still good.
    pub(super) fn kept(&self) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.idle();
        while let Some((sender, since)) = idle.pop_back() {
            if since.elapsed() >= KEPT {
                // All others were used even longer ago.
                idle.clear();
                return None;
            }
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    /// A new connection, for a client that came from here to there.
    pub(super) async fn connect(
        &self,
        connector: &Connector,
        (from, to): (SocketAddr, SocketAddr),
    ) -> Result<SendRequest<RequestBody>, ConnectError> {
        let beginning = self.announced.then(|| proxy_protocol::write(from, to));
        connector.connect(self.address(), beginning).await
    }

    /// Keeps a connection for another request as soon as the answer in hand has come whole; the request is under way until
    /// then.
    pub(super) fn keep(
        self: &Arc<Self>,
        mut sender: SendRequest<RequestBody>,
        in_flight: InFlight,
        again: bool,
    ) {
        let again = again && !self.announced;
        if again && sender.is_ready() {
            self.idle().push_back((sender, Instant::now()));
            return;
        }
        let server = self.clone();
        tokio::spawn(async move {
            // An error means that the connection has ended.
            let ready = sender.ready().await.is_ok();
            drop(in_flight);
            if ready && again {
                server.idle().push_back((sender, Instant::now()));
            }
        });
    }

    /// Closes connections that nobody has used for a while.
    pub(super) fn sweep(&self) {
        self.idle().retain(|(sender, since)| since.elapsed() < KEPT && !sender.is_closed());
    }

    pub(super) fn answered(&self) {
        self.tell(self.health.answered());
    }

    pub(super) fn failed(&self, why: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.tell(self.health.failed(why));
    }

    pub(super) fn checked(&self, result: Result<(), String>) {
        self.tell(self.health.checked(result));
    }

    /// Says that the state has changed. A server that comes and goes says so once a minute.
    fn tell(&self, changed: Option<ServerState>) {
        let Some(state) = changed else { return };
        let throttle = &self.said[usize::from(state == ServerState::Up)];
        let Some(since_last_said) = throttle.say() else { return };
        let (upstream, server) = (&self.upstream, self.address());
        match state {
            ServerState::Up => {
                tracing::info!(%upstream, %server, since_last_said, "a media server works again");
            }
            ServerState::Failing | ServerState::Down => {
                let why = self.health.report().2.unwrap_or_default();
                tracing::warn!(%upstream, %server, why, since_last_said, "a media server does not work");
            }
        }
    }

    pub(super) fn status(&self) -> ServerStatus {
        let (state, since, last_failure) = self.health.report();
        ServerStatus {
            server: self.address().to_string(),
            state,
            state_seconds: since.as_secs(),
            weight: self.settings.weight,
            active: self.active(),
            idle: self.idle().len(),
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            last_failure,
        }
    }
}
