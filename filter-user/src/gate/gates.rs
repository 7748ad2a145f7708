//! Every gate: its listener, and what a reload does to it.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use super::{
    GateCounters, Limits, ListenError,
    announced::{self, Beginning},
    connection::{Connection, Phase, Phases, Shared},
    connection_limits::ConnectionLimits,
    counters::{GateState, add},
    listen::listen,
    player_token::{PlayerTokens, TokenKey},
    serve::{self, Opening},
    sockets::{Inherited, Pool},
    upstream::{UpstreamStatus, Upstreams},
};
use crate::{
    address::canonical,
    http::{Wire, proxy_protocol::Announced},
    limits::{Throttle, out_of_files},
    model::{Config, Limit, Proto, Service, ServiceKey, ServiceKind, Trust},
    session::{Presence, Rejudged, Sessions, Snapshot},
};

/// How long to pause when the system cannot give another connection, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long connections get to notice that they are closed.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// Every HTTP gate of the process.
#[derive(Debug)]
pub struct Gates {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    connections: Arc<ConnectionLimits>,
    state: Mutex<State>,
    /// Connections that the system could not give, for another reason than open files.
    not_accepted: Throttle,
}

#[derive(Debug, Default)]
struct State {
    /// Gates keep counting when a reload takes them away and another brings them back.
    gates: HashMap<ServiceKey, Arc<GateState>>,
    listening: HashMap<ServiceKey, Listening>,
    /// Sockets that were made elsewhere.
    inherited: Pool,
    /// The phases of former listeners whose connections may still be open.
    former: Vec<watch::Sender<Phase>>,
    /// Ports of the configuration that could not be listened on.
    not_bound: Vec<Arc<ListenError>>,
}

#[derive(Debug)]
struct Listening {
    phase: watch::Sender<Phase>,
    address: SocketAddr,
    /// The same socket once more, for whoever listens after this process; `None` for want of descriptors.
    socket: Option<OwnedFd>,
    /// Who accepts connections; nobody while the gates pause.
    accepting: Option<JoinHandle<()>>,
}

/// A configuration's listeners, bound and not yet served: a reload that fails elsewhere drops it, and
/// nothing has changed.
#[derive(Debug)]
pub struct Prepared {
    snapshot: Arc<Snapshot>,
    bound: Vec<Bound>,
    not_bound: Vec<Arc<ListenError>>,
}

type Bound = (ServiceKey, SocketAddr, TcpListener);

impl Prepared {
    /// Ports that cannot be listened on now. They are tried again, and keep nothing else from coming into force.
    pub fn not_bound(&self) -> impl Iterator<Item = &ListenError> {
        self.not_bound.iter().map(|error| &**error)
    }
}

impl Gates {
    /// No listener yet: `apply` brings them.
    pub fn new(sessions: Arc<Sessions>, limits: Limits) -> Self {
        let upstreams = Upstreams::new(limits);
        let shared = Arc::new(Shared { sessions, upstreams, player_tokens: PlayerTokens::new(), limits });
        Self {
            inner: Arc::new(Inner {
                shared,
                connections: ConnectionLimits::new(),
                state: Mutex::default(),
                not_accepted: Throttle::default(),
            }),
        }
    }

    /// Uses these sockets for the gates that would listen there.
    pub fn inherit(&self, sockets: impl IntoIterator<Item = Inherited>) {
        self.inner.state().inherited.add(sockets);
    }

    /// Closes the inherited sockets that no gate uses.
    pub fn close_unused(&self) {
        self.inner.state().inherited.close();
    }

    /// Every listening socket, for whoever listens after this process.
    pub fn sockets(&self) -> Vec<(ServiceKey, OwnedFd)> {
        let state = self.inner.state();
        let copies = state.listening.iter().filter_map(|(key, listening)| {
            let socket = listening.socket.as_ref()?;
            socket
                .try_clone()
                .inspect_err(|error| {
                    tracing::error!(service = %key, %error, "its listening socket cannot be handed over");
                })
                .ok()
                .map(|socket| (*key, socket))
        });
        copies.collect()
    }

    /// Accepts no connection any more, while those who connect wait; requests in hand go on.
    pub async fn pause(&self) {
        let accepting: Vec<JoinHandle<()>> = {
            let mut state = self.inner.state();
            state.listening.values_mut().filter_map(|listening| listening.accepting.take()).collect()
        };
        for accepting in accepting {
            accepting.abort();
            // Whatever it had accepted is served.
            let _ = accepting.await;
        }
    }

    /// Accepts connections again. Call it inside a tokio runtime.
    pub fn resume(&self) {
        let mut state = self.inner.state();
        for (key, listening) in &mut state.listening {
            if listening.accepting.is_some() {
                continue;
            }
            let Some(socket) = &listening.socket else { continue };
            match socket.try_clone().and_then(|socket| TcpListener::from_std(socket.into())) {
                Ok(listener) => {
                    let phases = Phases(listening.phase.subscribe());
                    listening.accepting =
                        Some(tokio::spawn(accept(self.inner.clone(), *key, listener, phases)));
                }
                Err(error) => tracing::error!(service = %key, %error, "the gate cannot accept connections"),
            }
        }
    }

    /// Prepares and commits at once.
    ///
    /// # Errors
    ///
    /// The first port that cannot be listened on; nothing has changed then.
    pub fn apply(&self, snapshot: &Arc<Snapshot>) -> Result<Rejudged, Arc<ListenError>> {
        let prepared = self.prepare(snapshot);
        match prepared.not_bound.first() {
            Some(error) => Err(error.clone()),
            None => Ok(self.commit(prepared)),
        }
    }

    /// Binds the listeners that the snapshot adds. Call it inside a tokio runtime.
    pub fn prepare(&self, snapshot: &Arc<Snapshot>) -> Prepared {
        let mut state = self.inner.state();
        let (mut bound, mut not_bound) = (Vec::new(), Vec::new());
        for key in sockets(&snapshot.config) {
            if state.listening.contains_key(&key) {
                continue;
            }
            match state.bind(key) {
                Ok(listener) => bound.push(listener),
                Err(error) => not_bound.push(Arc::new(error)),
            }
        }
        Prepared { snapshot: snapshot.clone(), bound, not_bound }
    }

    /// Ports of the configuration that could not be listened on the last time that it was tried.
    pub fn not_bound(&self) -> Vec<Arc<ListenError>> {
        self.inner.state().not_bound.clone()
    }

    /// Tries again to listen on them. Call it inside a tokio runtime.
    pub fn bind_again(&self) {
        let mut state = self.inner.state();
        for error in std::mem::take(&mut state.not_bound) {
            match state.bind(error.service) {
                Ok(bound) => self.inner.serve(&mut state, bound),
                Err(error) => state.not_bound.push(Arc::new(error)),
            }
        }
    }

    /// Judges by the new snapshot from now on, live transfers included; serves the new listeners; stops
    /// those that are gone. Connections of a listener that is gone end after the request in hand.
    pub fn commit(&self, prepared: Prepared) -> Rejudged {
        let Prepared { snapshot, bound, not_bound } = prepared;
        self.inner.shared.upstreams.set_by(&snapshot.config);
        let rejudged = self.inner.shared.sessions.rejudge(&snapshot);
        let mut state = self.inner.state();
        let wanted: HashSet<ServiceKey> = sockets(&snapshot.config).into_iter().collect();
        let gone: Vec<ServiceKey> =
            state.listening.keys().filter(|key| !wanted.contains(key)).copied().collect();
        for key in gone {
            if let Some(listening) = state.listening.remove(&key) {
                tracing::info!(service = %key, address = %listening.address, "gate closed");
                listening.phase.send_replace(Phase::Draining);
                state.former.push(listening.phase);
            }
        }
        state.former.retain(|phase| !phase.is_closed());
        for key in gate_keys(&snapshot.config) {
            state.gates.entry(key).or_insert_with(|| Arc::new(GateState::new(key)));
        }
        for gate in state.gates.values() {
            gate.retain(&snapshot.config);
        }
        for bound in bound {
            self.inner.serve(&mut state, bound);
        }
        state.not_bound = not_bound;
        self.inner.shared.limits.set_by(&snapshot.config.limits).warn_of_files();
        rejudged
    }

    /// Stops accepting, lets requests in hand finish until `deadline` has passed, then closes everything.
    /// Returns how many connections had to be closed.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let phases: Vec<watch::Sender<Phase>> = {
            let mut state = self.inner.state();
            // Or a port that becomes free meanwhile would be opened.
            state.not_bound.clear();
            let listening: Vec<_> = state.listening.drain().map(|(_, listening)| listening.phase).collect();
            listening.into_iter().chain(state.former.drain(..)).collect()
        };
        let announce = |phase: Phase| {
            for sender in &phases {
                sender.send_replace(phase);
            }
        };
        announce(Phase::Draining);
        if timeout(deadline, self.inner.connections.empty()).await.is_ok() {
            return 0;
        }
        let left = self.inner.connections.taken();
        announce(Phase::Closed);
        // Whoever is left after this ends with the process.
        let _ = timeout(CLOSE_TIME, self.inner.connections.empty()).await;
        left
    }

    /// The secret by which it knows again the tokens that it gave to players.
    pub fn token_key(&self) -> TokenKey {
        self.inner.shared.player_tokens.key()
    }

    /// Knows the tokens again that another process gave. Call it before anybody is served.
    pub fn take_token_key(&self, key: TokenKey) {
        self.inner.shared.player_tokens.take_key(key);
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.inner.connections.taken()
    }

    /// What each gate has counted, by port.
    pub fn counters(&self) -> Vec<GateCounters> {
        let state = self.inner.state();
        let config = self.inner.shared.sessions.snapshot();
        let mut counters: Vec<GateCounters> = gate_keys(&config.config)
            .into_iter()
            .filter_map(|key| Some(state.gates.get(&key)?.snapshot(state.address(key)?)))
            .collect();
        counters.sort_by_key(|counters| counters.service);
        counters
    }

    /// How the media servers behind the gates stand.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.inner.shared.upstreams.status()
    }

    /// How many files and sockets the process can have open.
    pub fn open_files(&self) -> u64 {
        self.inner.shared.limits.open_files
    }

    /// Where a gate listens: the port that the system chose when the configuration says 0.
    pub fn address(&self, key: ServiceKey) -> Option<SocketAddr> {
        self.inner.state().address(key)
    }
}

impl Drop for Gates {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        for (_, listening) in state.listening.drain() {
            listening.phase.send_replace(Phase::Closed);
        }
        for phase in state.former.drain(..) {
            phase.send_replace(Phase::Closed);
        }
    }
}

impl State {
    fn bind(&mut self, key: ServiceKey) -> Result<Bound, ListenError> {
        let held_by = self.listening.keys().find(|other| other.port == key.port).copied();
        let inherited = self.inherited.take(key).and_then(|listener| TcpListener::from_std(listener).ok());
        let listener = match inherited {
            Some(listener) => listener,
            None => listen(key).map_err(|error| ListenError { held_by, ..error })?,
        };
        let address = listener.local_addr().map_err(|source| ListenError {
            service: key,
            address: ([0; 4], key.port).into(),
            source,
            held_by,
        })?;
        Ok((key, address, listener))
    }

    fn address(&self, key: ServiceKey) -> Option<SocketAddr> {
        let any = ServiceKey { address: None, ..key };
        self.listening.get(&key).or_else(|| self.listening.get(&any)).map(|listening| listening.address)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(self: &Arc<Self>, state: &mut State, (key, address, listener): Bound) {
        tracing::info!(service = %key, %address, "gate open");
        let (phase, phases) = watch::channel(Phase::Serving);
        let socket = listener.as_fd().try_clone_to_owned();
        let socket = socket.inspect_err(|error| {
            tracing::warn!(service = %key, %error, "its listening socket will not outlive this process");
        });
        let accepting = tokio::spawn(accept(self.clone(), key, listener, Phases(phases)));
        let listening = Listening { phase, address, socket: socket.ok(), accepting: Some(accepting) };
        state.listening.insert(key, listening);
    }

    /// The gate that a connection belongs to: the one that names its local address goes first.
    fn gate(&self, config: &Config, key: ServiceKey, stream: &TcpStream) -> Option<Arc<GateState>> {
        let local = stream.local_addr().ok()?;
        let exact = ServiceKey { address: Some(canonical(local.ip())), ..key };
        let keys = gate_keys(config);
        let key = [exact, key].into_iter().find(|key| keys.contains(key))?;
        self.state().gates.get(&key).cloned()
    }

    fn connect(self: &Arc<Self>, key: ServiceKey, stream: TcpStream, peer: SocketAddr, phases: &Phases) {
        let snapshot = self.shared.sessions.snapshot();
        let Some(gate) = self.gate(&snapshot.config, key, &stream) else { return };
        let peer = SocketAddr::new(canonical(peer.ip()), peer.port());
        add(&gate.connections, 1);
        let trust = trust_of(&snapshot.config, gate.key);
        if trust.is_some_and(|trust| trust.announces(peer.ip())) {
            tokio::spawn(self.clone().announced(gate, stream, peer, phases.clone()));
        } else {
            let trusted = trust.is_some_and(|trust| trust.trusts(peer.ip()));
            self.admit((gate, stream, peer, phases), Caller::of(peer, trusted), Opening::default());
        }
    }

    /// Serves a connection that a trusted proxy has to announce.
    async fn announced(
        self: Arc<Self>,
        gate: Arc<GateState>,
        mut stream: TcpStream,
        peer: SocketAddr,
        mut phases: Phases,
    ) {
        let read = tokio::select! {
            read = announced::read(&mut stream, self.shared.limits.http.head_time) => read,
            () = phases.reach(Phase::Draining) => return,
        };
        // Who is no proxy any more by now is refused request by request.
        let snapshot = self.shared.sessions.snapshot();
        let trusted = |client: SocketAddr| {
            trust_of(&snapshot.config, gate.key).is_none_or(|trust| trust.trusts(client.ip()))
        };
        let (caller, opening) = match read {
            Beginning::Announced(Announced::Own, rest) => {
                (Caller { announced: true, ..Caller::of(peer, true) }, Opening::Input(rest))
            }
            Beginning::Announced(Announced::Client { source, destination: _, tls }, rest) => {
                let caller = Caller { client: source, trusted: trusted(source), announced: true, tls };
                (caller, Opening::Input(rest))
            }
            Beginning::Refused(reject, seen) => {
                add(&gate.proxies_refused, 1);
                (Caller::of(peer, true), Opening::Refused(reject, seen))
            }
            Beginning::Nothing => return,
        };
        self.admit((gate, stream, peer, &phases), caller, opening);
    }

    fn admit(
        &self,
        (gate, stream, peer, phases): (Arc<GateState>, TcpStream, SocketAddr, &Phases),
        caller: Caller,
        opening: Opening,
    ) {
        let Caller { client, trusted, announced, tls } = caller;
        let limits = self.shared.limits.set_by(&self.shared.sessions.snapshot().config.limits);
        let wire = Wire::new();
        // A trusted proxy has no limit of its own: its connections are those of many.
        let owner = (!trusted).then_some(client.ip());
        let place = match self.connections.take(owner, &gate, &wire, &limits) {
            Ok(place) => place,
            Err(limit) => {
                add(&gate.connections_refused, 1);
                let value = match limit {
                    Limit::ConnectionsPerAddress => limits.connections_per_address,
                    _ => limits.most_connections().0,
                };
                self.shared.sessions.hits().hit(limit, value, client.ip(), REFUSED);
                refuse(stream);
                return;
            }
        };
        // Without it, small answers wait for the client's acknowledgement; nothing is lost if it fails.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().unwrap_or_else(|_| ([0; 4], gate.key.port).into());
        let connection = Connection {
            shared: self.shared.clone(),
            gate,
            limits,
            peer: peer.ip(),
            client,
            local,
            announced,
            tls,
            wire,
            phases: phases.clone(),
            presence: Presence::new(),
            place: Arc::new(place),
        };
        tokio::spawn(serve::run(connection, stream, opening));
    }

    /// Takes note of a connection that the system could not give.
    fn not_accepted(&self, key: ServiceKey, error: &io::Error) {
        if out_of_files(error) {
            let room = self.connections.make_room();
            let remedy = if room {
                "connections that wait for a request are closed: raise the hard limit of open files (LimitNOFILE=)"
            } else {
                "new connections wait: raise the hard limit of open files (LimitNOFILE=)"
            };
            self.shared.sessions.hits().hit(Limit::OpenFiles, self.shared.limits.open_files, key, remedy);
        } else if let Some(held_back) = self.not_accepted.say() {
            tracing::warn!(service = %key, %error, since_last_said = held_back, "cannot accept a connection; trying again");
        }
    }
}

/// What becomes of a connection that has no place.
const REFUSED: &str = "the connection is answered 503 and closed, since no other could be closed for it; for a carrier's NAT, \
                       `limit` raises it, and a proxy in front is named by `real_ip` or `proxy_protocol`";

/// Whom a connection is for.
#[derive(Clone, Copy, Debug)]
struct Caller {
    /// The client that a proxy announced, else the peer.
    client: SocketAddr,
    /// Whether that is a trusted proxy, whose connections are not counted against one address.
    trusted: bool,
    announced: bool,
    tls: bool,
}

impl Caller {
    fn of(peer: SocketAddr, trusted: bool) -> Self {
        Self { client: peer, trusted, announced: false, tls: false }
    }
}

/// The proxies that a gate trusts.
fn trust_of(config: &Config, key: ServiceKey) -> Option<&Trust> {
    config.services.iter().find(|service| service.key == key).and_then(Service::trust)
}

/// Answers a connection that has no place, and closes it. A fresh socket's buffer takes the answer at once: it costs no
/// task and waits for nothing.
fn refuse(stream: TcpStream) {
    let answer = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nCache-Control: no-store\r\n\
        Content-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\nbusy\n";
    // tokio knows a socket to be writable only after it has been told; the socket itself knows at once.
    let Ok(stream) = stream.into_std() else { return };
    // What the client has sent already is taken out first: closing with unread bytes is a reset, which can overtake
    // the answer.
    let mut sent = [0; 16 * 1024];
    let _ = (&stream).read(&mut sent);
    // A client that has gone needs no answer.
    let _ = (&stream).write_all(answer);
}

async fn accept(inner: Arc<Inner>, key: ServiceKey, listener: TcpListener, mut phases: Phases) {
    let mut ending = phases.clone();
    let ended = ending.reach(Phase::Draining);
    let mut ended = std::pin::pin!(ended);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ended.as_mut() => return,
        };
        match accepted {
            Ok((stream, peer)) => inner.connect(key, stream, peer, &phases),
            Err(error) => {
                inner.not_accepted(key, &error);
                tokio::select! {
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    () = phases.reach(Phase::Draining) => return,
                }
            }
        }
    }
}

fn gate_keys(config: &Config) -> Vec<ServiceKey> {
    config
        .services
        .iter()
        .filter(|service| matches!(service.kind, ServiceKind::Gate(_)) && service.key.proto == Proto::Tcp)
        .map(|service| service.key)
        .collect()
}

/// What has to be listened on. A gate for every address of a port also takes the connections of the gates
/// that name one: two sockets would be in each other's way.
fn sockets(config: &Config) -> Vec<ServiceKey> {
    let keys = gate_keys(config);
    let any = |key: &ServiceKey| ServiceKey { address: None, ..*key };
    keys.iter().filter(|key| key.address.is_none() || !keys.contains(&any(key))).copied().collect()
}
