//! Every session, bounded: in number, in bytes, and for each address.
//!
//! Requests of a session that is there find it in the [`Index`], and change nothing here. What begins, ends or has to
//! make room comes to the order of its address: one of several, each with a lock of its own. Locks are taken in this
//! sequence: an order, a part of the index, a session.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    SessionLimits,
    entry::Session,
    index::Index,
    key::KeyRef,
    moment::Moment,
    order::{Order, Passed, Swept, TRIES, word},
    wheel::Tick,
};
use crate::model::Limit;

/// Parts with a lock of their own.
const ORDERS: usize = 64;
/// About what a session takes beside its texts.
const SESSION_BYTES: usize = 384;

/// An order, and when the first of each of its lists was last used.
#[derive(Debug)]
#[repr(align(64))]
struct Shard {
    order: Mutex<Order>,
    oldest: [AtomicU64; 2],
}

/// Every session.
#[derive(Debug)]
pub(super) struct Table {
    index: Index,
    shards: Box<[Shard]>,
    entries: AtomicUsize,
    bytes: AtomicUsize,
}

/// About as many bytes as a session takes.
fn cost(session: &Session) -> usize {
    SESSION_BYTES + session.kept.bytes()
}

impl Table {
    pub(super) fn new() -> Self {
        let shard = |_| Shard {
            order: Mutex::default(),
            oldest: [AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)],
        };
        Self {
            index: Index::new(),
            shards: (0..ORDERS).map(shard).collect(),
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    pub(super) fn hash(&self, key: &KeyRef<'_>) -> u64 {
        self.index.hash(key)
    }

    pub(super) fn find(&self, hash: u64, key: &KeyRef<'_>) -> Option<Arc<Session>> {
        self.index.find(hash, key)
    }

    /// Sessions in the table.
    pub(super) fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// About as many bytes as they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn shard(&self, address: IpAddr) -> &Shard {
        // Neighbours are often of one provider: they are spread.
        let spread = word(address).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.shards[(spread >> 58) as usize % ORDERS]
    }

    /// Puts a session in, unless one of its key is there: then that one is returned. Those that had to leave for it are
    /// added to `gone`; when there is only room for sessions in use, the limit is.
    pub(super) fn insert(
        &self,
        session: &Arc<Session>,
        limits: &SessionLimits,
        gone: &mut Vec<Arc<Session>>,
    ) -> Result<Arc<Session>, Limit> {
        let before = gone.len();
        let inserted = self.try_insert(session, limits, gone);
        for session in &gone[before..] {
            self.count_out(session);
        }
        inserted
    }

    fn try_insert(
        &self,
        session: &Arc<Session>,
        limits: &SessionLimits,
        gone: &mut Vec<Arc<Session>>,
    ) -> Result<Arc<Session>, Limit> {
        let cost = cost(session);
        // What leaves is counted out later, but has left.
        let left = |gone: &[Arc<Session>]| gone.iter().map(|session| self::cost(session)).sum::<usize>();
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(cost, Ordering::Relaxed);
        let begun = gone.len();
        let put = loop {
            let many = self.entries() - (gone.len() - begun) > limits.sessions;
            let large = self.bytes() - left(&gone[begun..]) > limits.bytes;
            if !many && !large {
                let shard = self.shard(session.address);
                let mut order = shard.lock();
                break order
                    .insert(&self.index, session.clone(), limits, gone)
                    .inspect(|_| shard.publish(&order));
            }
            match self.evict() {
                Some(session) => gone.push(session),
                None if many => break Err(Limit::Sessions),
                None => break Err(Limit::SessionBytes),
            }
        };
        if !put.as_ref().is_ok_and(|put| Arc::ptr_eq(put, session)) {
            self.count_out(session);
        }
        put
    }

    fn count_out(&self, session: &Session) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(cost(session), Ordering::Relaxed);
    }

    /// Lets the session go that can be spared most. `None` when too many are in use.
    fn evict(&self) -> Option<Arc<Session>> {
        for passed in 0..TRIES {
            let oldest = |held: usize| {
                let of = |shard: &&Shard| shard.oldest[held].load(Ordering::Relaxed);
                self.shards.iter().min_by_key(of).filter(|shard| of(shard) != u64::MAX)
            };
            let (shard, held) = match (oldest(0), oldest(1)) {
                (Some(shard), _) => (shard, 0),
                (None, Some(shard)) => (shard, 1),
                (None, None) => return None,
            };
            let mut order = shard.lock();
            let evicted = order.first(held).and_then(|at| order.evict(&self.index, at, Passed(passed)));
            shard.publish(&order);
            if evicted.is_some() {
                return evicted;
            }
        }
        None
    }

    /// Takes a session out. False when it has left already.
    pub(super) fn remove(&self, session: &Arc<Session>) -> bool {
        let shard = self.shard(session.address);
        let mut order = shard.lock();
        let removed = order.own_slot(session).map(|at| order.remove(&self.index, at));
        shard.publish(&order);
        drop(order);
        let removed = removed.is_some();
        if removed {
            self.count_out(session);
        }
        removed
    }

    /// Notes whether a session is open.
    pub(super) fn set_held(&self, session: &Arc<Session>, held: bool) {
        let shard = self.shard(session.address);
        let mut order = shard.lock();
        if let Some(at) = order.own_slot(session) {
            order.put(at, held);
        }
        shard.publish(&order);
    }

    /// Has a session looked at at that moment, if that is earlier than it would have been.
    pub(super) fn look_at(&self, session: &Arc<Session>, moment: Moment) {
        let mut order = self.shard(session.address).lock();
        if let Some(at) = order.own_slot(session) {
            order.schedule(at, Tick::at(moment), true);
        }
    }

    /// Looks at every session that is due.
    pub(super) fn sweep(&self, now: Moment, least_idle: Duration) -> Swept {
        let mut swept = Swept::default();
        for shard in &self.shards {
            let mut order = shard.lock();
            order.sweep(&self.index, now, least_idle, &mut swept);
            shard.publish(&order);
        }
        swept.closed.iter().for_each(|session| self.count_out(session));
        swept
    }

    /// All sessions, one part after the other.
    pub(super) fn all(&self) -> impl Iterator<Item = Arc<Session>> {
        self.shards.iter().flat_map(|shard| {
            let some: Vec<_> = shard.lock().sessions().cloned().collect();
            some
        })
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Order> {
        // Its methods leave it consistent at every point where they could panic.
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells other parts how long its first ones have been idle.
    fn publish(&self, order: &Order) {
        for (held, oldest) in self.oldest.iter().enumerate() {
            oldest.store(order.first_seen(held).map_or(u64::MAX, |seen| seen.0), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
