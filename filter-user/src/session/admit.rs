use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    SessionCounters, SessionInfo, SessionKey, Snapshot, Transfer,
    snapshot::Fingerprint,
    table::{Session, Settled, Standing, Table},
    transfer::Running,
};
use crate::{
    address::canonical,
    backend::{Answered, Backends, Operation, Redirect, TURN_WAIT},
    bans::{Ban, Banned},
    config::{Access, Config},
    policy::{Decision, Policy, PolicyId, Subject, Verdict},
};

/// The bounds of the session table. The defaults are what production uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions in the table, denied ones included.
    pub sessions: usize,
    /// How long a ban holds before the backends are asked again.
    pub ban: Duration,
    /// How long a denial or admission by the default holds when no backend responded: short, so that an
    /// outage of the backends does not outlast itself.
    pub outage: Duration,
    /// How long a session that no backend was asked about stays open after its last request.
    pub idle: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            sessions: 200_000,
            ban: Duration::from_secs(10),
            outage: Duration::from_secs(2),
            idle: crate::backend::DEFAULT_AUTH_DURATION,
        }
    }
}

/// A request, as it is judged.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Playing or publishing.
    pub operation: Operation,
    /// The normalised path, without the leading `/`.
    pub path: Arc<str>,
    /// The media protocol.
    pub proto: &'static str,
    /// The client.
    pub address: IpAddr,
    /// The port of the gate that it came to.
    pub port: u16,
    /// The token, when the client gave one.
    pub token: Option<Arc<str>>,
    /// The User-Agent.
    pub ua: Option<Arc<str>>,
    /// The Referer.
    pub referer: Option<Arc<str>>,
    /// The Host.
    pub host: Option<Arc<str>>,
    /// The query string as it is forwarded.
    pub qs: Option<Arc<str>>,
}

/// On what ground a request was ruled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// No stream has this path.
    NoStream,
    /// Nothing judges this operation on this stream.
    Open,
    /// The operation does not exist on this stream.
    Closed,
    /// `no_auto_token`, and the request has no token.
    NoToken,
    /// The session table is full of live sessions.
    Busy,
    /// The backends could not be asked, for a limit of nicgate's own: the client should come back.
    Overloaded,
    /// An operator banned the address.
    Banned,
    /// A policy judged.
    Judged(PolicyId, Decision),
}

impl Ground {
    /// Whether the request may pass.
    pub fn admits(&self) -> bool {
        match self {
            Self::Open => true,
            Self::Judged(_, decision) => decision.verdict == Verdict::Allow,
            Self::NoStream | Self::Closed | Self::NoToken | Self::Busy | Self::Overloaded | Self::Banned => {
                false
            }
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub struct Ruling {
    /// What it was judged by.
    pub snapshot: Arc<Snapshot>,
    /// The stream's name, unless there is none.
    pub stream: Option<Arc<str>>,
    /// Why.
    pub ground: Ground,
    /// The ban, when that is why.
    pub ban: Option<Arc<Ban>>,
    /// Where the backends send a refused client.
    pub redirect: Option<Redirect>,
    /// What the backends said, when they were asked, now or earlier in the session.
    pub answers: Arc<[Answered]>,
    /// The transfer, when the request may pass: in shadow mode also when it is denied.
    pub transfer: Option<Transfer>,
}

/// Every session, and the snapshot that they are judged by.
#[derive(Debug)]
pub struct Sessions {
    current: RwLock<Arc<Snapshot>>,
    banned: RwLock<Arc<Banned>>,
    table: Mutex<Table>,
    pub(super) backends: Backends,
    pub(super) limits: SessionLimits,
    transfers: AtomicU64,
}

/// What a judgement by the snapshot alone says.
pub(super) enum Outlook {
    Final(Ground),
    Ask(PolicyId),
}

impl Snapshot {
    /// Judges by the lists; also finds the stream.
    pub(super) fn outlook(&self, visit: &Visit) -> (Option<Arc<str>>, Outlook) {
        let Some(stream) = self.config.stream_for(&visit.path) else {
            return (None, Outlook::Final(Ground::NoStream));
        };
        let access = match visit.operation {
            Operation::Play => &stream.on_play,
            Operation::Publish => &stream.on_publish,
        };
        let outlook = match access {
            Access::Open => Outlook::Final(Ground::Open),
            Access::Closed => Outlook::Final(Ground::Closed),
            Access::Policy(_) if self.config.no_auto_token && visit.token.is_none() => {
                Outlook::Final(Ground::NoToken)
            }
            Access::Policy(id) => match self.judge(self.config.policy(*id), visit) {
                Decision { verdict: Verdict::Ask, .. } => Outlook::Ask(*id),
                decision => Outlook::Final(Ground::Judged(*id, decision)),
            },
        };
        (Some(stream.name.clone()), outlook)
    }

    fn judge(&self, policy: &Policy, visit: &Visit) -> Decision {
        let address = canonical(visit.address);
        policy.judge(&Subject {
            address,
            country: self.countries.country(address),
            token: visit.token.as_deref(),
            ua: visit.ua.as_deref(),
        })
    }
}

impl Sessions {
    /// No session yet.
    pub fn new(snapshot: Arc<Snapshot>, limits: SessionLimits) -> Arc<Self> {
        Arc::new(Self {
            current: RwLock::new(snapshot),
            banned: RwLock::default(),
            table: Mutex::default(),
            backends: Backends::new(),
            limits,
            transfers: AtomicU64::new(0),
        })
    }

    /// What requests are judged by now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whom the gates refuse now.
    pub(super) fn banned(&self) -> Arc<Banned> {
        self.banned.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn swap_banned(&self, banned: Banned) {
        *self.banned.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(banned);
    }

    pub(super) fn swap(&self, snapshot: Arc<Snapshot>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        // The table's methods leave it consistent at every point where they could panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open sessions, the latest used first.
    pub fn list(&self) -> Vec<SessionInfo> {
        self.table().list()
    }

    /// The table's figures.
    pub fn counters(&self) -> SessionCounters {
        *self.table().counters()
    }

    /// Judges a request, asking the backends if the lists leave it to them and their verdict is not known.
    pub async fn admit(self: &Arc<Self>, visit: &Arc<Visit>) -> Ruling {
        loop {
            let snapshot = self.snapshot();
            let banned = self.banned();
            let (stream, outlook) = snapshot.outlook(visit);
            // Shadow mode lets the banned pass, too, but not to where there is nothing.
            let nowhere = snapshot.config.shadow && stream.is_none();
            let ban = banned.find(visit.address, visit.port).filter(|_| !nowhere).cloned();
            let outlook = if ban.is_some() { Outlook::Final(Ground::Banned) } else { outlook };
            let mut ruling = Ruling {
                snapshot,
                stream,
                ground: Ground::NoStream,
                ban,
                redirect: None,
                answers: Arc::default(),
                transfer: None,
            };
            let session = match outlook {
                Outlook::Final(ground) => {
                    ruling.ground = ground;
                    None
                }
                Outlook::Ask(id) => {
                    let name = ruling.stream.as_ref().expect("a policy judges only streams");
                    let Some(session) = self.open(name, visit) else {
                        ruling.ground = Ground::Busy;
                        return ruling;
                    };
                    let settled = self.settle(&session, &ruling.snapshot, id).await;
                    match settled {
                        Some(settled) => {
                            ruling.ground = Ground::Judged(id, settled.decision);
                            ruling.redirect = settled.redirect;
                            ruling.answers = settled.answers;
                        }
                        None => ruling.ground = Ground::Overloaded,
                    }
                    Some(session)
                }
            };
            let Some(name) = &ruling.stream else { return ruling };
            if !ruling.ground.admits() && !ruling.snapshot.config.shadow {
                return ruling;
            }
            let session = match session {
                Some(session) => session,
                None => match self.open(name, visit) {
                    Some(session) => session,
                    None => {
                        ruling.ground = Ground::Busy;
                        return ruling;
                    }
                },
            };
            let id = self.transfers.fetch_add(1, Ordering::Relaxed);
            let running = Running::new(visit.clone());
            if !self.table().begin(&session, id, &running) {
                continue;
            }
            let transfer = Transfer { sessions: self.clone(), session, running, id };
            // A reload swaps first and then re-judges what is registered, and so does a ban. Registered before
            // the swap, this transfer is re-judged there; after it, here.
            if !Arc::ptr_eq(&ruling.snapshot, &self.snapshot()) || !Arc::ptr_eq(&banned, &self.banned()) {
                continue;
            }
            transfer.session.ensure_tender(self);
            ruling.transfer = Some(transfer);
            return ruling;
        }
    }

    fn open(&self, stream: &Arc<str>, visit: &Arc<Visit>) -> Option<Arc<Session>> {
        let key = SessionKey {
            operation: visit.operation,
            stream: stream.clone(),
            address: canonical(visit.address),
            proto: visit.proto,
            token: visit.token.clone(),
        };
        self.table().touch(key, visit, self.limits.sessions)
    }

    pub(super) fn end(&self, session: &Arc<Session>, id: u64) {
        self.table().end(session, id);
    }

    /// What the backends say of the session: as remembered, else as they are asked now; `None` when they could not
    /// be asked.
    pub(super) async fn settle(
        self: &Arc<Self>,
        session: &Arc<Session>,
        snapshot: &Arc<Snapshot>,
        id: PolicyId,
    ) -> Option<Settled> {
        let policy = snapshot.config.policy(id);
        let fingerprint = Fingerprint::of(policy);
        // Longer than any question takes; only a question that broke off lets it pass.
        let patience = TURN_WAIT + snapshot.config.backend_timeout + Duration::from_secs(1);
        loop {
            let mut standing = session.standing.subscribe();
            let mine = session.standing.send_if_modified(|standing| {
                let ask = match standing {
                    Standing::Unasked | Standing::Overloaded => true,
                    Standing::Asking => false,
                    Standing::Settled(settled) => !settled.holds(fingerprint),
                };
                if ask {
                    *standing = Standing::Asking;
                }
                ask
            });
            if mine {
                session.tend(self, Some((snapshot.clone(), id)));
            }
            let answer =
                standing.wait_for(|standing| matches!(standing, Standing::Settled(_) | Standing::Overloaded));
            let settled = match tokio::time::timeout(patience, answer).await {
                Ok(Ok(standing)) => match &*standing {
                    Standing::Settled(settled) => Some(settled.clone()),
                    Standing::Unasked | Standing::Asking | Standing::Overloaded => None,
                },
                Ok(Err(_)) | Err(_) => None,
            };
            match settled {
                Some(settled) if settled.fingerprint == fingerprint => return Some(settled),
                Some(_) => {}
                // Nobody has said anything: the default is for backends that were asked and are silent.
                None => return None,
            }
        }
    }
}

impl Settled {
    /// Whether a request may rely on it. An admission that ran out still holds: the session's tender asks
    /// again in the background, or closes the session.
    pub(super) fn holds(&self, fingerprint: Fingerprint) -> bool {
        self.fingerprint == fingerprint
            && (self.decision.verdict == Verdict::Allow || Instant::now() < self.until)
    }
}

/// What a configuration says of a session's operation now.
pub(super) fn policy_of(config: &Config, visit: &Visit) -> Option<PolicyId> {
    let stream = config.stream_for(&visit.path)?;
    match visit.operation {
        Operation::Play => &stream.on_play,
        Operation::Publish => &stream.on_publish,
    }
    .policy()
}

impl Access {
    fn policy(&self) -> Option<PolicyId> {
        match self {
            Self::Policy(id) => Some(*id),
            Self::Open | Self::Closed => None,
        }
    }
}
