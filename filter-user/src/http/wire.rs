//! What the raw side of a connection and its requests' judge tell each other.

use std::{
    collections::VecDeque,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::head::Reject;

/// What the raw side read of a request. hyper hands requests on in order, so that the first fact in the
/// queue is always the one of the request in hand.
#[derive(Debug)]
pub(crate) enum Fact {
    /// A sound head.
    Request { target: Vec<u8>, upgrade: bool },
    /// The connection ends here, with this answer; then the first line of what was sent, for the log.
    Reject(Reject, String),
}

/// How an upgrade stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// The upstream has not answered yet.
    Waiting,
    /// The upstream switched: the rest of the connection is raw.
    Accepted,
    /// It did not: another request follows.
    Refused,
}

#[derive(Debug)]
struct State {
    facts: VecDeque<Fact>,
    upgrade: Option<Upgrade>,
    waker: Option<Waker>,
    idle_waker: Option<Waker>,
    busy_waker: Option<Waker>,
    /// What was wrong with a body that broke off.
    body_fault: Option<&'static str>,
    /// Requests whose answer is not finished.
    unanswered: usize,
}

/// Shared by both sides of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Wire(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Since when there is no request in hand, in milliseconds after [`BEGINNING`] and one; 0 while there is one.
    idle_since: AtomicU64,
}

/// Some moment before all others.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

fn millis() -> u64 {
    BEGINNING.elapsed().as_millis() as u64 + 1
}

impl Wire {
    pub(crate) fn new() -> Self {
        let state = State {
            facts: VecDeque::new(),
            upgrade: None,
            waker: None,
            idle_waker: None,
            busy_waker: None,
            body_fault: None,
            unanswered: 0,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), idle_since: AtomicU64::new(millis()) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the connection has had no request in hand: since its last answer, or since it was made. `None` while it
    /// has one, and for ever after an upgrade.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        match self.0.idle_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(Duration::from_millis(millis().saturating_sub(since))),
        }
    }

    pub(crate) fn push(&self, fact: Fact) {
        let mut state = self.state();
        if matches!(fact, Fact::Request { upgrade: true, .. }) {
            state.upgrade = Some(Upgrade::Waiting);
        }
        state.unanswered += 1;
        self.0.idle_since.store(0, Ordering::Relaxed);
        state.facts.push_back(fact);
        if let Some(waker) = state.busy_waker.take() {
            waker.wake();
        }
    }

    /// Waits until a request is in hand.
    pub(crate) fn poll_busy(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.unanswered > 0 {
            return Poll::Ready(());
        }
        state.busy_waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn pop(&self) -> Option<Fact> {
        self.state().facts.pop_front()
    }

    /// Called when an answer is finished or given up.
    pub(crate) fn answered(&self) {
        let mut state = self.state();
        state.unanswered = state.unanswered.saturating_sub(1);
        if state.unanswered == 0 && state.upgrade != Some(Upgrade::Accepted) {
            self.0.idle_since.store(millis(), Ordering::Relaxed);
        }
        if state.unanswered == 0
            && let Some(waker) = state.idle_waker.take()
        {
            waker.wake();
        }
    }

    /// Waits until every answer is finished.
    pub(crate) fn poll_idle(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.unanswered == 0 {
            return Poll::Ready(());
        }
        state.idle_waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.state().unanswered == 0
    }

    pub(crate) fn decide(&self, upgrade: Upgrade) {
        let mut state = self.state();
        state.upgrade = Some(upgrade);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Waits for the upgrade to be decided: true when it was accepted.
    pub(crate) fn poll_upgrade(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut state = self.state();
        match state.upgrade {
            Some(Upgrade::Waiting) => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Upgrade::Accepted) => Poll::Ready(true),
            Some(Upgrade::Refused) | None => Poll::Ready(false),
        }
    }

    pub(crate) fn set_body_fault(&self, fault: &'static str) {
        self.state().body_fault = Some(fault);
    }

    pub(crate) fn body_fault(&self) -> Option<&'static str> {
        self.state().body_fault
    }
}
