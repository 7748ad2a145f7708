//! Admitting a request: its judgement, and what the backends say where the lists leave it to them.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::{
    SessionCounters, SessionInfo, SessionKey, Snapshot, Transfer,
    snapshot::Fingerprint,
    standing::{Session, Settled, Standing},
    table::Table,
    transfer::Running,
};
use crate::{
    address::canonical,
    backend::{Answered, AskLimits, BackendStatus, Backends, Redirect},
    bans::BanIndex,
    judge::{Ground, Judgement, Request, Verdict, judge},
    kernel::boottime,
    limits::LimitHits,
    model::{Limit, Limits, PolicyId},
};

/// The bounds of the session table. The defaults are what production uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions in the table, denied ones included.
    pub sessions: usize,
    /// Sessions of one IPv4 address or one IPv6 /64: a carrier's NAT has thousands of viewers.
    pub sessions_per_address: usize,
    /// About as many bytes as all sessions may take.
    pub bytes: usize,
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
            sessions: Limit::Sessions.default_count(),
            sessions_per_address: Limit::SessionsPerAddress.default_count(),
            bytes: Limit::SessionBytes.default_count(),
            ban: Duration::from_secs(10),
            outage: Duration::from_secs(2),
            idle: crate::backend::DEFAULT_AUTH_DURATION,
        }
    }
}

impl SessionLimits {
    /// With what the configuration sets in place of what is here.
    fn set_by(self, set: &Limits) -> Self {
        Self {
            sessions: set.count(Limit::Sessions, self.sessions),
            sessions_per_address: set.count(Limit::SessionsPerAddress, self.sessions_per_address),
            bytes: set.count(Limit::SessionBytes, self.bytes),
            ..self
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub struct Admission {
    /// What was said of it; no backend remains to be asked.
    pub judgement: Judgement,
    /// Where the backends send a refused client.
    pub redirect: Option<Redirect>,
    /// What the backends said, when they were asked, now or earlier in the session.
    pub answers: Arc<[Answered]>,
    /// The transfer, when the request may pass: in shadow mode also when it is denied.
    pub transfer: Option<Transfer>,
}

impl From<Judgement> for Admission {
    fn from(judgement: Judgement) -> Self {
        Self { judgement, redirect: None, answers: Arc::default(), transfer: None }
    }
}

/// Every session, and the snapshot that they are judged by.
#[derive(Debug)]
pub struct Sessions {
    current: ArcSwap<Snapshot>,
    bans: ArcSwap<BanIndex>,
    table: Mutex<Table>,
    pub(super) backends: Backends,
    pub(super) limits: SessionLimits,
    hits: Arc<LimitHits>,
    transfers: AtomicU64,
}

impl Sessions {
    /// No session yet.
    pub fn new(snapshot: Arc<Snapshot>, limits: SessionLimits) -> Arc<Self> {
        let hits: Arc<LimitHits> = Arc::default();
        Arc::new(Self {
            current: ArcSwap::new(snapshot),
            bans: ArcSwap::default(),
            table: Mutex::default(),
            backends: Backends::new(hits.clone()),
            hits,
            limits,
            transfers: AtomicU64::new(0),
        })
    }

    /// What requests are judged by now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Whom the gates refuse now.
    pub(super) fn bans(&self) -> Arc<BanIndex> {
        self.bans.load_full()
    }

    pub(super) fn swap_bans(&self, bans: BanIndex) {
        self.bans.store(Arc::new(bans));
    }

    pub(super) fn swap(&self, snapshot: Arc<Snapshot>) {
        self.current.store(snapshot);
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

    /// How often limits of nicgate's own were reached; gates count theirs here, too.
    pub fn hits(&self) -> &Arc<LimitHits> {
        &self.hits
    }

    /// Every backend that was asked: how it stands, and what was counted.
    pub fn backends(&self) -> Vec<BackendStatus> {
        self.backends.status()
    }

    /// What is said of a request before any backend is asked.
    pub(super) fn judge(&self, snapshot: &Snapshot, request: &Request) -> Judgement {
        judge(&snapshot.config, &*snapshot.countries, &self.bans(), boottime(), request)
    }

    /// Judges a request by the snapshot that it was read by, asking the backends if the lists leave it to them and
    /// their verdict is not known.
    ///
    /// `None` when a reload or a ban came in between: the request has to be read and judged anew, so that no
    /// request is judged by a mixture of two configurations.
    pub async fn admit(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        request: &Arc<Request>,
    ) -> Option<Admission> {
        let bans = self.bans();
        let judgement = judge(&snapshot.config, &*snapshot.countries, &bans, boottime(), request);
        let asks = judgement.ground.asks();
        let mut admission = Admission::from(judgement);
        let Some(stream) = admission.judgement.stream.clone() else { return Some(admission) };
        if asks.is_none() && !admission.judgement.ground.admits() && !snapshot.config.shadow {
            return Some(admission);
        }
        let session = match self.open(snapshot, &stream, request) {
            Ok(session) => session,
            Err(limit) => {
                admission.judgement.ground = Ground::Limited(limit);
                return Some(admission);
            }
        };
        if let Some(id) = asks {
            admission.judgement.ground = match self.settle(&session, snapshot, id, request).await {
                Some(settled) => {
                    admission.redirect = settled.conclusion.redirect.clone();
                    admission.answers = settled.conclusion.answers.clone();
                    Ground::Judged(id, settled.conclusion.decision)
                }
                None => Ground::Limited(Limit::Questions),
            };
            if !admission.judgement.ground.admits() && !snapshot.config.shadow {
                return Some(admission);
            }
        }
        let id = self.transfers.fetch_add(1, Ordering::Relaxed);
        let running = Running::new(request.clone());
        if !self.table().begin(&session, id, &running) {
            return None;
        }
        let transfer = Transfer { sessions: self.clone(), session, running, id };
        // A reload swaps first and then re-judges what is registered, and so does a ban. Registered before
        // the swap, this transfer is re-judged there; after it, here.
        if !Arc::ptr_eq(snapshot, &self.snapshot()) || !Arc::ptr_eq(&bans, &self.bans()) {
            return None;
        }
        transfer.session.ensure_refresher(self);
        admission.transfer = Some(transfer);
        Some(admission)
    }

    fn open(
        &self,
        snapshot: &Snapshot,
        stream: &Arc<str>,
        request: &Arc<Request>,
    ) -> Result<Arc<Session>, Limit> {
        let key = SessionKey {
            operation: request.operation,
            stream: stream.clone(),
            address: canonical(request.address),
            proto: request.proto.into(),
            // No client can give a token that has the form of nicgate's own.
            token: request.token.clone().or_else(|| request.auto_token.clone()),
        };
        let limits = self.limits.set_by(&snapshot.config.limits);
        let opened = self.table().touch(key, request, &limits);
        opened.inspect_err(|limit| {
            let SessionLimits { sessions, sessions_per_address, bytes, .. } = limits;
            let value = match limit {
                Limit::SessionsPerAddress => sessions_per_address,
                Limit::SessionBytes => bytes,
                _ => sessions,
            };
            let remedy = "answered 503: every session that could make room has a live transfer";
            self.hits.hit(*limit, value, request.address, remedy);
        })
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
        request: &Arc<Request>,
    ) -> Option<Settled> {
        let policy = snapshot.config.policy(id);
        let fingerprint = Fingerprint::of(policy);
        // Longer than any question takes; only a question that broke off lets it pass.
        let patience = AskLimits::of(&snapshot.config).longest(policy) + Duration::from_secs(1);
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
                session.refresh(self, Some((snapshot.clone(), id, request.clone())));
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
    /// Whether a request may rely on it. An admission that ran out still holds: the session's refresher asks
    /// again in the background, or closes the session.
    pub(super) fn holds(&self, fingerprint: Fingerprint) -> bool {
        self.fingerprint == fingerprint
            && (self.conclusion.decision.verdict == Verdict::Allow || Instant::now() < self.until)
    }
}
