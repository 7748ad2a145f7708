//! Whether this process owns what is enforced, or another one has taken over.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Fault, Reply};

/// Whoever works on what is enforced holds this meanwhile; whoever hands it over waits for them, and keeps others from
/// beginning.
#[derive(Debug)]
pub(super) struct Ownership(RwLock<bool>);

/// Nothing else is worked on while this lives.
#[derive(Debug)]
pub struct Held<'a>(RwLockWriteGuard<'a, bool>);

impl Held<'_> {
    /// From now on, another process owns everything.
    pub fn give_up(mut self) {
        *self.0 = false;
    }
}

impl Ownership {
    /// This process is the owner.
    pub(super) fn new() -> Self {
        Self(RwLock::new(true))
    }

    /// Leave to work on what is enforced, as long as the guard lives; `None` when another process owns it.
    pub(super) async fn work(&self) -> Option<RwLockReadGuard<'_, bool>> {
        Some(self.0.read().await).filter(|owned| **owned)
    }

    /// Waits for those who work, and keeps others from beginning.
    pub(super) async fn hold(&self) -> Held<'_> {
        Held(self.0.write().await)
    }
}

/// The answer to whoever asks the former owner.
pub(super) fn moved<T>() -> Reply<T> {
    Reply::refused(Fault::Moved, "another process has just taken over: ask it".to_owned())
}
