use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use tokio::sync::watch;

use super::{
    Limits,
    counters::{GateState, add},
};

/// Counts connections, by the addresses that a single client controls.
#[derive(Debug)]
pub(super) struct Seats {
    taken: Mutex<HashMap<IpAddr, usize>>,
    total: watch::Sender<usize>,
}

/// A connection's place. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    owner: IpAddr,
    gate: Arc<GateState>,
}

impl Seats {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), total: watch::Sender::new(0) })
    }

    /// A place for a connection of `gate` from `address`; `None` when there are too many.
    pub(super) fn take(
        self: &Arc<Self>,
        address: IpAddr,
        gate: &Arc<GateState>,
        limits: &Limits,
    ) -> Option<Seat> {
        let owner = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = taken.get(&owner).copied().unwrap_or(0);
        if mine >= limits.connections_per_address || *self.total.borrow() >= limits.connections {
            return None;
        }
        taken.insert(owner, mine + 1);
        self.total.send_modify(|total| *total += 1);
        add(&gate.connections_open, 1);
        Some(Seat { seats: self.clone(), owner, gate: gate.clone() })
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

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.owner);
            }
        }
        self.seats.total.send_modify(|total| *total -= 1);
        self.gate.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}
