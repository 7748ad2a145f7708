use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tokio::{sync::watch, task::AbortHandle, time::Instant};

use super::{
    SessionKey, Visit,
    key::new_session_id,
    snapshot::Fingerprint,
    transfer::{Running, moved},
};
use crate::{
    backend::{Answered, Redirect},
    policy::{Decision, Stage, Verdict},
};

/// What the backends said of a session, and for how long that holds.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub(super) decision: Decision,
    pub(super) redirect: Option<Redirect>,
    pub(super) answers: Arc<[Answered]>,
    pub(super) fingerprint: Fingerprint,
    pub(super) until: Instant,
    /// How long the session may be idle and still count as open.
    pub(super) window: Duration,
    pub(super) user_id: Option<Arc<str>>,
}

/// Where a session stands with the backends.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    Unasked,
    Asking,
    /// The backends could not be asked, for a limit of nicgate's own. The next request tries again.
    Overloaded,
    Settled(Settled),
}

/// A session. What changes with every request is in its [`Entry`].
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: Arc<SessionKey>,
    pub(super) id: Arc<str>,
    /// The request that opened it, for the questions to the backends.
    pub(super) first: Arc<Visit>,
    pub(super) opened: Instant,
    pub(super) opened_at: SystemTime,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) bytes: AtomicU64,
    /// The task that asks the backends again and closes the session in the end.
    pub(super) tender: Mutex<Option<AbortHandle>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Ok(Some(tender)) = self.tender.get_mut().map(Option::take) {
            tender.abort();
        }
    }
}

/// A session's place in the table.
#[derive(Debug)]
struct Entry {
    session: Arc<Session>,
    touched: u64,
    seen: Instant,
    /// Whether any request was admitted: only then it counts as a client.
    admitted: bool,
    transfers: HashMap<u64, Arc<Running>>,
}

/// Every session, bounded.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<Arc<SessionKey>, Entry>,
    /// By last touch: the first is the one that was idle longest.
    order: BTreeMap<u64, Arc<SessionKey>>,
    clients: HashMap<Arc<str>, usize>,
    counters: SessionCounters,
    clock: u64,
}

/// Figures of the session table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SessionCounters {
    /// Sessions with at least one admitted request.
    pub open: u64,
    /// Sessions in the table, denied ones included.
    pub entries: u64,
    /// Transfers that run now.
    pub transfers: u64,
    /// Sessions ever opened.
    pub opened: u64,
    /// Idle sessions that had to leave because the table was full.
    pub evicted: u64,
    /// Requests refused because the table was full of live sessions.
    pub overflowed: u64,
    /// Questions asked of backends.
    pub questions: u64,
    /// Times that the backends were not asked, for a limit of nicgate's own.
    pub unasked: u64,
    /// Transfers that were cut.
    pub cut: u64,
}

/// One session, for people.
#[derive(Clone, Debug, Serialize)]
pub struct SessionInfo {
    /// Its id, as backends see it.
    pub id: Arc<str>,
    /// What makes it one session.
    #[serde(flatten)]
    pub key: SessionKey,
    /// When it was opened, in seconds since 1970.
    pub opened_at: u64,
    /// How long ago, in seconds.
    pub open_seconds: u64,
    /// Seconds since its last request.
    pub idle_seconds: u64,
    /// Transfers that run now.
    pub transfers: usize,
    /// Bytes moved.
    pub bytes: u64,
    /// What the backends said, when they were asked.
    pub verdict: Option<Verdict>,
    /// Whether the backends or the default decided.
    pub stage: Option<Stage>,
    /// X-UserId.
    pub user_id: Option<Arc<str>>,
    /// The User-Agent that opened it.
    pub user_agent: Option<Arc<str>>,
}

/// How many live sessions are passed over in the search for an idle one to evict.
const EVICTION_TRIES: usize = 64;

impl Table {
    /// Finds or opens a session and counts the request; `None` when the table is full of live ones.
    pub(super) fn touch(&mut self, key: SessionKey, visit: &Arc<Visit>, cap: usize) -> Option<Arc<Session>> {
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(&key) {
            self.order.remove(&entry.touched);
            self.order.insert(self.clock, entry.session.key.clone());
            entry.touched = self.clock;
            entry.seen = Instant::now();
            return Some(entry.session.clone());
        }
        if self.entries.len() >= cap && !self.evict() {
            self.counters.overflowed += 1;
            return None;
        }
        let key = Arc::new(key);
        let session = Arc::new(Session {
            key: key.clone(),
            id: new_session_id(),
            first: visit.clone(),
            opened: Instant::now(),
            opened_at: SystemTime::now(),
            standing: watch::Sender::new(Standing::Unasked),
            bytes: AtomicU64::new(0),
            tender: Mutex::new(None),
        });
        self.order.insert(self.clock, key.clone());
        self.entries.insert(
            key,
            Entry {
                session: session.clone(),
                touched: self.clock,
                seen: session.opened,
                admitted: false,
                transfers: HashMap::new(),
            },
        );
        self.counters.opened += 1;
        Some(session)
    }

    fn evict(&mut self) -> bool {
        for _ in 0..EVICTION_TRIES {
            let Some((touched, key)) = self.order.pop_first() else { return false };
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            debug_assert_eq!(entry.touched, touched);
            if entry.transfers.is_empty() {
                self.remove(&key);
                self.counters.evicted += 1;
                return true;
            }
            self.clock += 1;
            entry.touched = self.clock;
            self.order.insert(self.clock, key);
        }
        false
    }

    fn remove(&mut self, key: &SessionKey) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.order.remove(&entry.touched);
        if entry.admitted {
            self.counters.open -= 1;
            if let Some(count) = self.clients.get_mut(&key.stream) {
                *count -= 1;
                if *count == 0 {
                    self.clients.remove(&key.stream);
                }
            }
        }
    }

    /// Registers a live transfer; false when the session left the table meanwhile.
    pub(super) fn begin(&mut self, session: &Arc<Session>, id: u64, running: &Arc<Running>) -> bool {
        let Some(entry) = self.own_entry(session) else { return false };
        entry.transfers.insert(id, running.clone());
        let first = !std::mem::replace(&mut entry.admitted, true);
        self.counters.transfers += 1;
        if first {
            self.counters.open += 1;
            *self.clients.entry(session.key.stream.clone()).or_default() += 1;
        }
        true
    }

    pub(super) fn end(&mut self, session: &Arc<Session>, id: u64) {
        if let Some(entry) = self.own_entry(session)
            && entry.transfers.remove(&id).is_some()
        {
            self.counters.transfers -= 1;
        }
    }

    /// When the session was last in use; `None` once it has left the table.
    pub(super) fn last_use(&mut self, session: &Arc<Session>) -> Option<Instant> {
        let entry = self.own_entry(session)?;
        Some(if entry.transfers.is_empty() { entry.seen } else { Instant::now() })
    }

    /// Closes the session unless it was in use within `window`. True when it has left the table.
    pub(super) fn close_if_idle(&mut self, session: &Arc<Session>, window: Duration) -> bool {
        let Some(entry) = self.own_entry(session) else { return true };
        let idle = entry.transfers.is_empty() && entry.seen.elapsed() >= window;
        if idle {
            self.remove(&session.key);
        }
        idle
    }

    fn own_entry(&mut self, session: &Arc<Session>) -> Option<&mut Entry> {
        self.entries.get_mut(&session.key).filter(|entry| Arc::ptr_eq(&entry.session, session))
    }

    /// Open sessions of a stream, and of all streams.
    pub(super) fn clients(&self, stream: &str) -> (usize, usize) {
        (self.clients.get(stream).copied().unwrap_or(0), self.counters.open as usize)
    }

    /// Every live transfer, or those of one session.
    pub(super) fn running(&self, only: Option<&Arc<Session>>) -> Vec<(Arc<Session>, Arc<Running>)> {
        let of = |entry: &Entry| {
            let session = entry.session.clone();
            entry
                .transfers
                .values()
                .map(move |running| (session.clone(), running.clone()))
                .collect::<Vec<_>>()
        };
        match only {
            Some(session) => self
                .entries
                .get(&session.key)
                .filter(|entry| Arc::ptr_eq(&entry.session, session))
                .map_or_else(Vec::new, of),
            None => self.entries.values().flat_map(of).collect(),
        }
    }

    pub(super) fn counters(&mut self) -> &mut SessionCounters {
        self.counters.entries = self.entries.len() as u64;
        &mut self.counters
    }

    pub(super) fn list(&self) -> Vec<SessionInfo> {
        let mut list: Vec<(u64, SessionInfo)> = self
            .entries
            .values()
            .filter(|entry| entry.admitted)
            .map(|entry| (entry.touched, entry.info()))
            .collect();
        list.sort_by_key(|(touched, _)| std::cmp::Reverse(*touched));
        list.into_iter().map(|(_, info)| info).collect()
    }
}

impl Entry {
    fn info(&self) -> SessionInfo {
        let session = &self.session;
        let settled = match &*session.standing.borrow() {
            Standing::Settled(settled) => Some(settled.clone()),
            Standing::Unasked | Standing::Asking | Standing::Overloaded => None,
        };
        let idle = if self.transfers.is_empty() { self.seen.elapsed() } else { Duration::ZERO };
        SessionInfo {
            id: session.id.clone(),
            key: SessionKey::clone(&session.key),
            opened_at: session.opened_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
            open_seconds: session.opened.elapsed().as_secs(),
            idle_seconds: idle.as_secs(),
            transfers: self.transfers.len(),
            bytes: moved(&session.bytes),
            verdict: settled.as_ref().map(|settled| settled.decision.verdict),
            stage: settled.as_ref().map(|settled| settled.decision.stage),
            user_id: settled.and_then(|settled| settled.user_id),
            user_agent: session.first.ua.clone(),
        }
    }
}
