//! How many connections there may be, in all and from one client.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use tokio::sync::watch;

use super::{
    Limits,
    counters::{GateState, add},
};
use crate::address::subscriber;

/// Counts connections, by the addresses that a single client controls.
#[derive(Debug)]
pub(super) struct ConnectionLimits {
    taken: Mutex<HashMap<IpAddr, usize>>,
    total: watch::Sender<usize>,
}

/// A connection's place. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Place {
    counts: Arc<ConnectionLimits>,
    owner: IpAddr,
    gate: Arc<GateState>,
}

impl ConnectionLimits {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), total: watch::Sender::new(0) })
    }

    /// A place for a connection of `gate` from `address`; `None` when there are too many.
    pub(super) fn take(
        self: &Arc<Self>,
        address: IpAddr,
        gate: &Arc<GateState>,
        limits: &Limits,
    ) -> Option<Place> {
        let owner = subscriber(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = taken.get(&owner).copied().unwrap_or(0);
        if mine >= limits.connections_per_address || *self.total.borrow() >= limits.connections {
            return None;
        }
        taken.insert(owner, mine + 1);
        self.total.send_modify(|total| *total += 1);
        add(&gate.connections_open, 1);
        Some(Place { counts: self.clone(), owner, gate: gate.clone() })
    }

    /// How many places are taken.
    pub(super) fn taken(&self) -> usize {
        *self.total.borrow()
    }

    /// Waits until every place is free.
    pub(super) async fn empty(&self) {
        // The sender is in `self`: waiting cannot fail.
        let _ = self.total.subscribe().wait_for(|total| *total == 0).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.counts.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.owner);
            }
        }
        self.counts.total.send_modify(|total| *total -= 1);
        self.gate.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}
