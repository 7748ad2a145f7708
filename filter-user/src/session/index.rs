//! Finds a session by its key, under the lock of one part of the table that lookups share.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, PoisonError, RwLock},
};

use hashbrown::HashTable;

use super::{entry::Session, key::KeyRef};

/// Parts with a lock of their own.
const SHARDS: usize = 256;

/// Kept apart, so that the locks of two parts are never in one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(RwLock<HashTable<Arc<Session>>>);

/// Every session, by key.
#[derive(Debug)]
pub(super) struct Index {
    shards: Box<[Shard]>,
    /// Clients choose tokens: without the seed nobody can choose some that fall together.
    hasher: RandomState,
}

impl Index {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect(), hasher: RandomState::new() }
    }

    pub(super) fn hash(&self, key: &KeyRef<'_>) -> u64 {
        self.hasher.hash_one(key)
    }

    /// hashbrown uses the lowest and the highest bits.
    fn shard(&self, hash: u64) -> &RwLock<HashTable<Arc<Session>>> {
        &self.shards[(hash >> 32) as usize % SHARDS].0
    }

    pub(super) fn find(&self, hash: u64, key: &KeyRef<'_>) -> Option<Arc<Session>> {
        let shard = self.shard(hash).read().unwrap_or_else(PoisonError::into_inner);
        shard.find(hash, |session| session.hash == hash && session.key() == *key).cloned()
    }

    /// The caller has seen that no session has the key, and keeps others from inserting it.
    pub(super) fn insert(&self, session: Arc<Session>) {
        let mut shard = self.shard(session.hash).write().unwrap_or_else(PoisonError::into_inner);
        shard.insert_unique(session.hash, session, |session| session.hash);
    }

    pub(super) fn remove(&self, session: &Session) {
        let mut shard = self.shard(session.hash).write().unwrap_or_else(PoisonError::into_inner);
        if let Ok(entry) = shard.find_entry(session.hash, |one| std::ptr::eq(&**one, session)) {
            entry.remove();
        }
    }
}
