//! What the questions to a backend came to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The bounds of the histogram's buckets, in milliseconds.
const BUCKETS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

/// Defines a backend's counters, once: as they count, as they are read, and by their names.
macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// What has been counted of one backend since nicgate began to ask it.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
            latency: [AtomicU64; BUCKETS.len() + 1],
            latency_micros: AtomicU64,
        }

        /// One backend: how it stands, and what has been counted since nicgate began to ask it.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct BackendStatus {
            /// Its URL, without secrets.
            pub backend: Arc<str>,
            /// Questions that are being asked now.
            pub in_flight: usize,
            /// Questions that wait for their turn now.
            pub waiting: usize,
            /// How many are asked at once at most now: fewer than `max_questions` while it is slow.
            pub limit: usize,
            /// How many are asked at once at most.
            pub max_questions: usize,
            /// For how many seconds it has counted as not responding; `null` while it is asked.
            pub not_responding_seconds: Option<u64>,
            $($(#[$meta])* pub $name: u64,)*
            /// How long it took to be answered.
            pub latency: Latency,
        }

        impl Counters {
            pub(super) fn read(&self, status: Standing) -> BackendStatus {
                let Standing { backend, in_flight, waiting, limit, max_questions, not_responding } = status;
                BackendStatus {
                    backend,
                    in_flight,
                    waiting,
                    limit,
                    max_questions,
                    not_responding_seconds: not_responding.map(|since| since.as_secs()),
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    latency: self.latency(),
                }
            }
        }

        impl BackendStatus {
            /// Every counter with its name, for people.
            pub fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Questions that were sent.
    asked,
    /// Answered with 2xx.
    allowed,
    /// Answered with 3xx or 4xx.
    banned,
    /// Answered with another status, 5xx in most cases.
    failed,
    /// Not answered within `timeout`.
    timed_out,
    /// Nobody could be connected to.
    refused,
    /// TLS was not agreed on, or the certificate is not one that is trusted.
    untrusted,
    /// Closed, reset or malformed in the midst of an answer.
    broken,
    /// Given up before there was an answer, for example because another backend allowed first.
    abandoned,
    /// Not sent because the backend did not respond: they count as not answered.
    short_circuited,
    /// Not sent because no turn came within `queue_timeout`: 503.
    queue_timed_out,
    /// Not sent because too many waited: 503.
    queue_full,
    /// Not sent because nobody waited for the answer any more.
    unwanted,
    /// Answers with an `X-AuthDuration` or `X-Max-Sessions` that cannot be read.
    bad_terms,
    /// How often it was found not to respond.
    outages,
}

/// How a backend stands now.
pub(super) struct Standing {
    pub(super) backend: Arc<str>,
    pub(super) in_flight: usize,
    pub(super) waiting: usize,
    pub(super) limit: usize,
    pub(super) max_questions: usize,
    pub(super) not_responding: Option<Duration>,
}

/// How long answers took: a histogram as monitoring systems know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// How many answers took so long at most, for growing times.
    pub buckets: Vec<Bucket>,
    /// All answers.
    pub count: u64,
    /// All their time together, in microseconds.
    pub sum_us: u64,
}

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// This many milliseconds at most.
    pub le_ms: u64,
    /// Answers that did not take longer.
    pub count: u64,
}

pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    /// Counts an answer's time.
    pub(super) fn took(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = BUCKETS.iter().position(|bound| micros <= bound * 1000).unwrap_or(BUCKETS.len());
        add(&self.latency[place]);
        self.latency_micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn latency(&self) -> Latency {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BUCKETS.len());
        for (bound, bucket) in BUCKETS.into_iter().zip(&self.latency) {
            count += bucket.load(Ordering::Relaxed);
            buckets.push(Bucket { le_ms: bound, count });
        }
        count += self.latency[BUCKETS.len()].load(Ordering::Relaxed);
        Latency { buckets, count, sum_us: self.latency_micros.load(Ordering::Relaxed) }
    }
}

impl Latency {
    /// The time within which this share of the answers came, as a bucket's bound; `None` for none, or for more.
    pub fn within(&self, share: f64) -> Option<Duration> {
        let wanted = (self.count as f64 * share).max(1.0);
        let bucket = self.buckets.iter().find(|bucket| bucket.count as f64 >= wanted)?;
        Some(Duration::from_millis(bucket.le_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histogram_says_how_long_answers_took() {
        let counters = Counters::default();
        for millis in [0, 3, 3, 3, 40, 40, 40, 40, 900, 9000] {
            counters.took(Duration::from_millis(millis));
        }
        let latency = counters.latency();
        let at = |millis: u64| latency.buckets.iter().find(|bucket| bucket.le_ms == millis).unwrap().count;
        assert_eq!([1, 5, 50, 1000, 5000].map(at), [1, 4, 8, 9, 9]);
        assert_eq!((latency.count, latency.sum_us), (10, 10_069_000));
        assert_eq!(latency.within(0.5), Some(Duration::from_millis(50)));
        assert_eq!(latency.within(0.99), None, "longer than the last bucket");
        assert_eq!(Counters::default().latency().within(0.5), None);
    }
}
