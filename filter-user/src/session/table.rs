//! Every session, bounded.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

use super::{
    SessionKey, SessionLimits,
    key::{new_session_id, remembered},
    standing::{Session, Standing},
    transfer::{Running, moved},
};
use crate::{
    address::subscriber,
    judge::{Request, Verdict},
    kernel::wall_clock,
    model::{Limit, Stage},
};

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

impl Entry {
    fn rank(&self) -> Rank {
        (self.admitted, self.touched)
    }
}

/// Who has to leave first: those of whom no request was admitted, and of these the one that was idle longest.
type Rank = (bool, u64);
type Order = BTreeMap<Rank, Arc<SessionKey>>;

/// Every session, bounded in number, in bytes, and for each address.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<Arc<SessionKey>, Entry>,
    order: Order,
    /// The same for each subscriber: an address, or a /64 of IPv6.
    by_address: HashMap<IpAddr, Order>,
    clients: HashMap<Arc<str>, usize>,
    counters: SessionCounters,
    clock: u64,
    /// About as many bytes as the sessions take.
    bytes: usize,
}

/// Figures of the session table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCounters {
    /// Sessions with at least one admitted request.
    pub open: u64,
    /// Sessions in the table, denied ones included.
    pub entries: u64,
    /// About as many bytes as they take.
    #[serde(default)]
    pub bytes: u64,
    /// Transfers that run now.
    pub transfers: u64,
    /// Sessions ever opened.
    pub opened: u64,
    /// Idle sessions that had to leave because the table was full.
    pub evicted: u64,
    /// Requests refused because the table, or their address's share of it, was full of live sessions.
    pub overflowed: u64,
    /// Questions asked of backends.
    pub questions: u64,
    /// Times that the backends were not asked, for a limit of nicgate's own.
    pub unasked: u64,
    /// Transfers that were cut.
    pub cut: u64,
}

/// One session, for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// What a session takes beside its texts: itself, its places in the maps, its task.
const SESSION_BYTES: usize = 2048;

/// About as many bytes as a session takes.
fn cost(session: &Session) -> usize {
    let length = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
    let Request { path, token, ua, referer, host, query, .. } = &*session.first;
    let texts = [token, ua, referer, host, query].map(length).iter().sum::<usize>() + path.len();
    SESSION_BYTES + texts + length(&session.key.token)
}

impl Table {
    /// Finds or opens a session and counts the request; or says which limit is reached where only live ones could make
    /// room.
    pub(super) fn touch(
        &mut self,
        key: SessionKey,
        request: &Arc<Request>,
        limits: &SessionLimits,
    ) -> Result<Arc<Session>, Limit> {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.seen = Instant::now();
            let session = entry.session.clone();
            self.put_last(&key);
            return Ok(session);
        }
        let address = subscriber(key.address);
        let key = Arc::new(key);
        let session = Arc::new(Session {
            key: key.clone(),
            id: new_session_id(),
            first: remembered(request, &key.stream),
            opened: Instant::now(),
            opened_at: wall_clock().as_secs(),
            standing: watch::Sender::new(Standing::Unasked),
            bytes: AtomicU64::new(0),
            refresher: Mutex::new(None),
        });
        let bytes = cost(&session);
        self.make_room(address, bytes, limits).inspect_err(|_| self.counters.overflowed += 1)?;
        self.bytes += bytes;
        self.clock += 1;
        let rank = (false, self.clock);
        self.order.insert(rank, key.clone());
        self.by_address.entry(address).or_default().insert(rank, key.clone());
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
        Ok(session)
    }

    /// Lets idle sessions go until one more of so many bytes fits in.
    fn make_room(&mut self, address: IpAddr, bytes: usize, limits: &SessionLimits) -> Result<(), Limit> {
        let mine = self.by_address.get(&address).map_or(0, Order::len);
        if mine >= limits.sessions_per_address && !self.evict(Some(address)) {
            return Err(Limit::SessionsPerAddress);
        }
        if self.entries.len() >= limits.sessions && !self.evict(None) {
            return Err(Limit::Sessions);
        }
        while self.bytes + bytes > limits.bytes {
            if !self.evict(None) {
                return Err(Limit::SessionBytes);
            }
        }
        Ok(())
    }

    /// Makes a session leave after all others of its kind.
    fn put_last(&mut self, key: &SessionKey) {
        self.clock += 1;
        let touched = self.clock;
        self.reorder(key, |entry| entry.touched = touched);
    }

    /// Changes what says when a session has to leave.
    fn reorder(&mut self, key: &SessionKey, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let former = entry.rank();
        change(entry);
        let (rank, key) = (entry.rank(), entry.session.key.clone());
        let mine = self.by_address.entry(subscriber(key.address)).or_default();
        for order in [&mut self.order, mine] {
            order.remove(&former);
            order.insert(rank, key.clone());
        }
    }

    /// Lets the session go that can be spared most, of all or of one subscriber. False when too many are live.
    fn evict(&mut self, of: Option<IpAddr>) -> bool {
        for _ in 0..EVICTION_TRIES {
            let order = match of {
                None => Some(&self.order),
                Some(address) => self.by_address.get(&address),
            };
            let Some(key) = order.and_then(|order| order.values().next()).cloned() else { return false };
            if self.entries.get(&key).is_some_and(|entry| entry.transfers.is_empty()) {
                self.remove(&key);
                self.counters.evicted += 1;
                return true;
            }
            // A live one is not looked at again soon.
            self.put_last(&key);
        }
        false
    }

    fn remove(&mut self, key: &SessionKey) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.bytes -= cost(&entry.session);
        self.order.remove(&entry.rank());
        let address = subscriber(key.address);
        if let Some(mine) = self.by_address.get_mut(&address) {
            mine.remove(&entry.rank());
            if mine.is_empty() {
                self.by_address.remove(&address);
            }
        }
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
        let first = !entry.admitted;
        self.counters.transfers += 1;
        if first {
            self.reorder(&session.key, |entry| entry.admitted = true);
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
        self.counters.bytes = self.bytes as u64;
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
            opened_at: session.opened_at,
            open_seconds: session.opened.elapsed().as_secs(),
            idle_seconds: idle.as_secs(),
            transfers: self.transfers.len(),
            bytes: moved(&session.bytes),
            verdict: settled.as_ref().map(|settled| settled.conclusion.decision.verdict),
            stage: settled.as_ref().map(|settled| settled.conclusion.decision.stage),
            user_id: settled.and_then(|settled| settled.conclusion.user_id.clone()),
            user_agent: session.first.ua.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Operation;

    fn request(address: &str, token: &str) -> Arc<Request> {
        Arc::new(Request {
            operation: Operation::Play,
            path: "cam".into(),
            proto: "hls",
            address: address.parse().unwrap(),
            port: 80,
            token: Some(token.into()),
            auto_token: None,
            ua: None,
            referer: None,
            host: None,
            query: None,
        })
    }

    fn touch(
        table: &mut Table,
        address: &str,
        token: &str,
        limits: &SessionLimits,
    ) -> Result<Arc<Session>, Limit> {
        let request = request(address, token);
        let key = SessionKey {
            operation: Operation::Play,
            stream: "cam".into(),
            address: request.address,
            proto: "hls".into(),
            token: request.token.clone(),
        };
        table.touch(key, &request, limits)
    }

    fn begin(table: &mut Table, session: &Arc<Session>, id: u64) {
        let running = Running::new(session.first.clone());
        assert!(table.begin(session, id, &running));
    }

    fn check(table: &Table) {
        let all: usize = table.by_address.values().map(Order::len).sum();
        assert_eq!((table.order.len(), all), (table.entries.len(), table.entries.len()));
        let bytes: usize = table.entries.values().map(|entry| cost(&entry.session)).sum();
        assert_eq!(table.bytes, bytes);
    }

    #[test]
    fn invented_tokens_of_an_address_push_out_each_other_and_nobody_else() {
        let limits = SessionLimits { sessions_per_address: 10, ..SessionLimits::default() };
        let mut table = Table::default();
        let viewer = touch(&mut table, "2001:db8::1", "viewer", &limits).unwrap();
        begin(&mut table, &viewer, 1);
        // The viewer pauses between two segments, behind the same network as whoever invents tokens.
        table.end(&viewer, 1);
        let other = touch(&mut table, "2001:db8:0:1::1", "other", &limits).unwrap();
        for n in 0..1000 {
            touch(&mut table, "2001:db8::2", &n.to_string(), &limits)
                .expect("there is always room for one more");
            check(&table);
        }
        assert_eq!(table.entries.len(), 11);
        for session in [&viewer, &other] {
            assert!(table.own_entry(session).is_some(), "{:?} stays", session.key);
        }
        assert_eq!(table.counters.evicted, 1000 - 9);
        // Where all are live there is no room.
        for n in 990..999 {
            let session = touch(&mut table, "2001:db8::2", &n.to_string(), &limits).unwrap();
            begin(&mut table, &session, n);
        }
        begin(&mut table, &viewer, 2);
        let refused = touch(&mut table, "2001:db8::3", "more", &limits).unwrap_err();
        assert_eq!(refused, Limit::SessionsPerAddress);
        assert!(touch(&mut table, "2001:db8:0:1::2", "more", &limits).is_ok());
        check(&table);
    }

    #[test]
    fn the_table_is_bounded_in_bytes() {
        let limits = SessionLimits { bytes: 100_000, ..SessionLimits::default() };
        let mut table = Table::default();
        for n in 0..1000u32 {
            let address = std::net::Ipv4Addr::from(n).to_string();
            touch(&mut table, &address, &"t".repeat(4000), &limits).unwrap();
            check(&table);
            assert!(table.bytes <= 100_000);
        }
        assert!(table.entries.len() >= 5, "and not emptied for it");
        for key in table.entries.keys().cloned().collect::<Vec<_>>() {
            table.remove(&key);
        }
        assert_eq!((table.bytes, table.order.len(), table.by_address.len()), (0, 0, 0));
    }
}
