//! A live transfer, in the hands of whoever carries it.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Cut, Protocol, SessionId, Sessions, entry::Session, live::Running};

/// A request that was admitted and whose answer is on its way. Dropping it ends the transfer.
#[derive(Debug)]
pub struct Transfer {
    pub(super) sessions: Arc<Sessions>,
    pub(super) running: Arc<Running>,
    /// Its place among the live ones.
    pub(super) key: usize,
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
        Meter(self.running.session.clone())
    }

    /// Ends when the transfer has to be cut; never otherwise.
    pub fn cut(&self) -> impl Future<Output = Cut> + Send + Sync + 'static {
        let running = self.running.clone();
        async move { running.wait().await }
    }

    /// Notes what a manifest says that passes: its protocol, and how often its player asks for something at least.
    pub fn learn(&self, protocol: Option<Protocol>, target_duration: Option<Duration>) {
        self.running.session.learn(protocol, target_duration);
    }

    /// The session's id.
    pub fn session_id(&self) -> SessionId {
        self.running.session.id
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.sessions.end(&self.running, self.key);
    }
}
