//! Live transfers, all of them: what a reload and a ban look through.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU8, Ordering},
};

use serde::{Deserialize, Serialize};
use slab::Slab;
use tokio::sync::Notify;

use super::entry::Session;
use crate::judge::Request;

/// Parts with a lock of their own.
const SHARDS: usize = 64;

/// Why a live transfer was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// A reload changed the rules, and they deny it now.
    Rules,
    /// A reload removed its stream.
    StreamGone,
    /// The backends banned the session.
    Banned,
    /// An operator banned the address.
    AddressBanned,
    /// Its user has too many sessions.
    SessionLimit,
    /// An operator ended the session.
    Kicked,
    /// Its player goes on from another address.
    Moved,
}

const CUTS: [Cut; 7] = [
    Cut::Rules,
    Cut::StreamGone,
    Cut::Banned,
    Cut::AddressBanned,
    Cut::SessionLimit,
    Cut::Kicked,
    Cut::Moved,
];

/// What is known of a live transfer.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) session: Arc<Session>,
    pub(super) request: Arc<Request>,
    /// From 1, the place in [`CUTS`]; 0 while it goes on.
    cut: AtomicU8,
    changed: Notify,
}

impl Running {
    pub(super) fn new(session: Arc<Session>, request: Arc<Request>) -> Arc<Self> {
        Arc::new(Self { session, request, cut: AtomicU8::new(0), changed: Notify::new() })
    }

    /// Ends it; the first reason stays. False when it was ended already.
    pub(super) fn cut(&self, why: Cut) -> bool {
        let place = CUTS.iter().position(|one| *one == why).map_or(1, |place| place as u8 + 1);
        let first = self.cut.compare_exchange(0, place, Ordering::AcqRel, Ordering::Acquire).is_ok();
        self.changed.notify_waiters();
        first
    }

    fn why(&self) -> Option<Cut> {
        let place = usize::from(self.cut.load(Ordering::Acquire));
        CUTS.get(place.checked_sub(1)?).copied()
    }

    /// Waits until it is cut.
    pub(super) async fn wait(&self) -> Cut {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(why) = self.why() {
                return why;
            }
            changed.await;
        }
    }
}

/// Each in cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Slab<Arc<Running>>>);

/// Every live transfer.
#[derive(Debug)]
pub(super) struct Live(Box<[Shard]>);

impl Live {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| Shard::default()).collect())
    }

    fn shard(&self, session: &Session) -> MutexGuard<'_, Slab<Arc<Running>>> {
        lock(&self.0[session.hash as usize % SHARDS])
    }

    pub(super) fn insert(&self, running: Arc<Running>) -> usize {
        self.shard(&running.session).insert(running)
    }

    pub(super) fn remove(&self, running: &Running, key: usize) {
        self.shard(&running.session).try_remove(key);
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Those of one session.
    pub(super) fn of(&self, session: &Session) -> Vec<Arc<Running>> {
        let of = |running: &&Arc<Running>| std::ptr::eq(&*running.session, session);
        self.shard(session).iter().map(|(_, running)| running).filter(of).cloned().collect()
    }

    /// All of them, one part after the other.
    pub(super) fn all(&self) -> impl Iterator<Item = Arc<Running>> {
        self.0.iter().flat_map(|shard| {
            let some: Vec<_> = lock(shard).iter().map(|(_, running)| running.clone()).collect();
            some
        })
    }
}

fn lock(shard: &Shard) -> MutexGuard<'_, Slab<Arc<Running>>> {
    shard.0.lock().unwrap_or_else(PoisonError::into_inner)
}
