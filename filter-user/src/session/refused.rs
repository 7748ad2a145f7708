//! Tokens that are refused for a time, whoever shows them.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{holder::Holder, moment::Moment};
use crate::judge::Refusal;

/// Parts with a lock of their own.
const SHARDS: usize = 16;
/// How many one part remembers; then those that end first are forgotten.
const MOST: usize = 8192;

type Shard = Mutex<HashMap<Holder, (Moment, Refusal)>>;

/// What is refused, and until when.
#[derive(Debug)]
pub(super) struct Refused {
    shards: Box<[Shard]>,
    /// How many there are: nearly always none, and then no lock is taken.
    count: AtomicUsize,
}

impl Refused {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect(), count: AtomicUsize::new(0) }
    }

    fn shard(&self, holder: Holder) -> MutexGuard<'_, HashMap<Holder, (Moment, Refusal)>> {
        lock(&self.shards[holder.part(SHARDS)])
    }

    /// Refuses until then, or longer if that was so already.
    pub(super) fn insert(&self, holder: Holder, until: Moment, why: Refusal, now: Moment) {
        let mut shard = self.shard(holder);
        let before = shard.len();
        if before >= MOST {
            shard.retain(|_, (until, _)| *until > now);
            if shard.len() >= MOST
                && let Some(first) =
                    shard.iter().min_by_key(|(_, (until, _))| *until).map(|(holder, _)| *holder)
            {
                shard.remove(&first);
            }
        }
        let entry = shard.entry(holder).or_insert((until, why));
        if entry.0 < until {
            *entry = (until, why);
        }
        let after = shard.len();
        drop(shard);
        self.count.fetch_add(after, Ordering::Relaxed);
        self.count.fetch_sub(before, Ordering::Relaxed);
    }

    /// Why it is refused now, if it is.
    pub(super) fn get(&self, holder: impl FnOnce() -> Holder, now: Moment) -> Option<Refusal> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let holder = holder();
        self.shard(holder).get(&holder).filter(|(until, _)| *until > now).map(|(_, why)| *why)
    }

    /// Forgets what is refused no longer.
    pub(super) fn sweep(&self, now: Moment) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        for shard in &self.shards {
            let mut shard = lock(shard);
            let before = shard.len();
            shard.retain(|_, (until, _)| *until > now);
            self.count.fetch_sub(before - shard.len(), Ordering::Relaxed);
        }
    }
}

fn lock(shard: &Shard) -> MutexGuard<'_, HashMap<Holder, (Moment, Refusal)>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::holder::{Digests, What},
        *,
    };

    #[test]
    fn tokens_are_refused_until_then_and_their_number_is_bounded() {
        let (refused, digests) = (Refused::new(), Digests::new());
        let token = |token: &str| digests.of(What::Token(token));
        let at = |seconds| Moment::default().after(Duration::from_secs(seconds));
        refused.insert(token("a"), at(10), Refusal::Kicked, at(0));
        refused.insert(token("a"), at(5), Refusal::SessionLimit, at(0));
        assert_eq!(refused.get(|| token("a"), at(9)), Some(Refusal::Kicked), "the longer one holds");
        assert_eq!(refused.get(|| token("b"), at(9)), None);
        assert_eq!(refused.get(|| token("a"), at(10)), None);
        refused.sweep(at(10));
        assert_eq!(refused.count.load(Ordering::Relaxed), 0);
        let many = SHARDS * MOST + 2000;
        for n in 0..many {
            refused.insert(token(&n.to_string()), at(100 + n as u64), Refusal::Kicked, at(0));
        }
        assert!(refused.count.load(Ordering::Relaxed) <= SHARDS * MOST);
        let last = (many - 1).to_string();
        assert!(refused.get(|| token(&last), at(0)).is_some(), "those that end last are kept");
    }
}
