//! A session, and where it stands with the backends.

use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use tokio::{sync::watch, task::AbortHandle, time::Instant};

use super::{SessionKey, snapshot::Fingerprint};
use crate::{backend::Conclusion, judge::Request};

/// What the backends said of a session, and for how long that holds.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub(super) conclusion: Arc<Conclusion>,
    pub(super) fingerprint: Fingerprint,
    pub(super) until: Instant,
    /// How long the session may be idle and still count as open.
    pub(super) window: Duration,
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

/// A session. What changes with every request is in its place in the table.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: Arc<SessionKey>,
    pub(super) id: Arc<str>,
    /// The request that opened it, for the questions to the backends.
    pub(super) first: Arc<Request>,
    pub(super) opened: Instant,
    /// In seconds since 1970.
    pub(super) opened_at: u64,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) bytes: AtomicU64,
    /// The task that asks the backends again and closes the session in the end.
    pub(super) refresher: Mutex<Option<AbortHandle>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Ok(Some(refresher)) = self.refresher.get_mut().map(Option::take) {
            refresher.abort();
        }
    }
}
