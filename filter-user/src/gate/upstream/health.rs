//! Whether a media server works, as far as requests and checks have shown.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// So many checks in a row have to fail before a server is down; the first that succeeds brings it back.
const FAILED_CHECKS: u32 = 2;

/// How a media server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// It gets requests.
    Up,
    /// Requests failed: it gets one now and then, and others only while no other server is up.
    Failing,
    /// Checks failed: it gets no requests.
    Down,
}

/// What has been seen of a server.
#[derive(Debug)]
pub(super) struct Health {
    max_fails: u32,
    fail_timeout: Duration,
    /// Whether there is anything to look at: the usual request asks for no more than this.
    troubled: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// Requests that failed since the last that did not.
    failures: u32,
    /// When the next request may try a server that fails.
    retry: Option<Instant>,
    /// The same of checks.
    failed_checks: u32,
    /// When the state began.
    since: Instant,
    /// Why a request or a check failed the last time.
    last: Option<String>,
}

impl Health {
    pub(super) fn new(max_fails: u32, fail_timeout: Duration) -> Self {
        let seen = Seen { failures: 0, retry: None, failed_checks: 0, since: Instant::now(), last: None };
        Self { max_fails, fail_timeout, troubled: AtomicBool::new(false), seen: Mutex::new(seen) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, seen: &Seen) -> ServerState {
        if seen.failed_checks >= FAILED_CHECKS {
            ServerState::Down
        } else if seen.failures >= self.max_fails {
            ServerState::Failing
        } else {
            ServerState::Up
        }
    }

    /// How it stands.
    pub(super) fn state(&self) -> ServerState {
        if self.troubled.load(Ordering::Relaxed) { self.of(&self.seen()) } else { ServerState::Up }
    }

    /// How it stands, for how long, and what failed last.
    pub(super) fn report(&self) -> (ServerState, Duration, Option<String>) {
        let seen = self.seen();
        (self.of(&seen), seen.since.elapsed(), seen.last.clone())
    }

    /// Whether a server that fails is due to be tried by one request; whoever is told so tries it.
    pub(super) fn try_now(&self) -> bool {
        let mut seen = self.seen();
        let now = Instant::now();
        let due = self.of(&seen) == ServerState::Failing && seen.retry.is_none_or(|retry| retry <= now);
        if due {
            seen.retry = Some(now + self.fail_timeout);
        }
        due
    }

    /// A request was answered. Returns the new state when that changed it.
    pub(super) fn answered(&self) -> Option<ServerState> {
        if !self.troubled.load(Ordering::Relaxed) {
            return None;
        }
        self.change(|seen| (seen.failures, seen.retry) = (0, None))
    }

    /// A request failed. Returns the new state when that changed it.
    pub(super) fn failed(&self, why: &str) -> Option<ServerState> {
        self.change(|seen| {
            seen.failures = seen.failures.saturating_add(1);
            seen.last = Some(why.to_owned());
            if seen.failures >= self.max_fails {
                seen.retry = Some(Instant::now() + self.fail_timeout);
            }
        })
    }

    /// A check succeeded, or failed for this reason. Returns the new state when that changed it.
    pub(super) fn checked(&self, result: Result<(), String>) -> Option<ServerState> {
        self.change(|seen| match result {
            Ok(()) => seen.failed_checks = 0,
            Err(why) => {
                seen.failed_checks = seen.failed_checks.saturating_add(1);
                seen.last = Some(why);
            }
        })
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) -> Option<ServerState> {
        let mut seen = self.seen();
        let before = self.of(&seen);
        change(&mut seen);
        let after = self.of(&seen);
        self.troubled.store(seen.failures > 0 || seen.failed_checks > 0, Ordering::Relaxed);
        (after != before).then(|| {
            seen.since = Instant::now();
            after
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_take_a_server_out_and_one_answer_brings_it_back() {
        let health = Health::new(3, Duration::from_secs(3600));
        assert_eq!((health.failed("a"), health.failed("b")), (None, None));
        assert_eq!(health.answered(), None, "not in a row");
        assert_eq!((health.failed("a"), health.failed("b")), (None, None));
        assert_eq!(health.failed("refused"), Some(ServerState::Failing));
        assert_eq!(health.state(), ServerState::Failing);
        assert_eq!(health.report().2.as_deref(), Some("refused"));
        assert_eq!(health.failed("again"), None, "it fails already");
        assert_eq!(health.answered(), Some(ServerState::Up));
        assert_eq!(health.state(), ServerState::Up);
    }

    #[test]
    fn one_request_at_a_time_tries_a_server_that_fails() {
        let health = Health::new(1, Duration::from_millis(1));
        assert!(!health.try_now(), "it works");
        health.failed("refused");
        std::thread::sleep(Duration::from_millis(2));
        assert!(health.try_now());
        let health = Health::new(1, Duration::from_secs(3600));
        health.failed("refused");
        assert!(!health.try_now(), "not yet");
        health.seen().retry = Some(Instant::now());
        assert!(health.try_now());
        assert!(!health.try_now(), "somebody does already");
    }

    #[test]
    fn checks_take_a_server_out_whatever_requests_say() {
        let health = Health::new(3, Duration::from_secs(1));
        assert_eq!(health.checked(Err("503".into())), None, "once is not enough");
        assert_eq!(health.checked(Err("503".into())), Some(ServerState::Down));
        assert_eq!(health.answered(), None);
        assert_eq!(health.state(), ServerState::Down);
        assert!(!health.try_now());
        assert_eq!(health.checked(Ok(())), Some(ServerState::Up));
        assert_eq!(health.state(), ServerState::Up);
    }
}
