//! How often each limit has been reached.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

use super::Throttle;
use crate::model::Limit;

/// How often each limit has been reached since the process started.
#[derive(Debug, Default)]
pub struct LimitHits([Hits; Limit::ALL.len()]);

#[derive(Debug, Default)]
struct Hits {
    count: AtomicU64,
    throttle: Throttle,
}

/// How often one limit has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitCount {
    /// Which.
    pub limit: Limit,
    /// What it is now; `null` for those that are set in several places.
    pub value: Option<u64>,
    /// How often something was refused, or left out, because of it.
    pub hits: u64,
}

impl LimitHits {
    /// Counts that `limit` with this value kept something from being done, and says so once a minute.
    ///
    /// `whose` is whatever reached it, `remedy` what an operator can do.
    pub fn hit(&self, limit: Limit, value: impl fmt::Display, whose: impl fmt::Display, remedy: &str) {
        self.hits(limit, 1, value, whose, remedy);
    }

    /// [`Self::hit`], of many things at once.
    pub fn hits(
        &self,
        limit: Limit,
        count: u64,
        value: impl fmt::Display,
        whose: impl fmt::Display,
        remedy: &str,
    ) {
        let hits = &self.0[limit as usize];
        hits.count.fetch_add(count, Ordering::Relaxed);
        if let Some(held_back) = hits.throttle.say() {
            tracing::warn!(
                target: "nicgate::limit",
                %limit, value = %value, whose = %whose, since_last_said = held_back,
                "a limit is reached: {remedy}; all are counted by its name in `nicgate stats`, one a minute is logged"
            );
        }
    }

    /// How often a limit has been reached.
    pub fn count(&self, limit: Limit) -> u64 {
        self.0[limit as usize].count.load(Ordering::Relaxed)
    }

    /// Every limit, those included that were never reached; `value` says what each is now.
    pub fn counts(&self, value: impl Fn(Limit) -> Option<u64>) -> Vec<LimitCount> {
        let count = |limit| LimitCount { limit, value: value(limit), hits: self.count(limit) };
        Limit::ALL.into_iter().map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_counts_for_itself() {
        let hits = LimitHits::default();
        hits.hit(Limit::Questions, 5, "192.0.2.1", "raise it");
        hits.hit(Limit::Questions, 5, "192.0.2.1", "raise it");
        hits.hits(Limit::Events, 40, 5, "a monitor", "raise it");
        for LimitCount { limit, hits, value } in hits.counts(|limit| Some(limit as u64)) {
            assert_eq!(value, Some(limit as u64));
            let expected = match limit {
                Limit::Questions => 2,
                Limit::Events => 40,
                _ => 0,
            };
            assert_eq!(hits, expected, "{limit}");
        }
    }
}
