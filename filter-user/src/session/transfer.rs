//! Live transfers.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Sessions, standing::Session};
use crate::judge::Request;

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
}

/// What the table knows of a live transfer.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) request: Arc<Request>,
    cut: watch::Sender<Option<Cut>>,
}

impl Running {
    pub(super) fn new(request: Arc<Request>) -> Arc<Self> {
        Arc::new(Self { request, cut: watch::Sender::new(None) })
    }

    pub(super) fn cut(&self, why: Cut) {
        self.cut.send_if_modified(|cut| {
            let first = cut.is_none();
            if first {
                *cut = Some(why);
            }
            first
        });
    }
}

/// A request that was admitted and whose answer is on its way. Dropping it ends the transfer.
#[derive(Debug)]
pub struct Transfer {
    pub(super) sessions: Arc<Sessions>,
    pub(super) session: Arc<Session>,
    pub(super) running: Arc<Running>,
    pub(super) id: u64,
}

/// Counts a session's bytes, either way. It does not keep the transfer open.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Session>);

impl Meter {
    /// Counts bytes.
    pub fn moved(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Transfer {
    /// Counts the session's bytes.
    pub fn meter(&self) -> Meter {
        Meter(self.session.clone())
    }

    /// Ends when the transfer has to be cut; never otherwise.
    pub fn cut(&self) -> impl Future<Output = Cut> + Send + Sync + 'static {
        let mut cut = self.running.cut.subscribe();
        async move {
            let why = cut.wait_for(Option::is_some).await.ok().and_then(|why| *why);
            match why {
                Some(why) => why,
                // The transfer itself is gone, so that nobody needs to know.
                None => std::future::pending().await,
            }
        }
    }

    /// The session's id.
    pub fn session_id(&self) -> &Arc<str> {
        &self.session.id
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.sessions.end(&self.session, self.id);
    }
}

/// Bytes moved by a session so far.
pub(super) fn moved(bytes: &AtomicU64) -> u64 {
    bytes.load(Ordering::Relaxed)
}
