//! How many connections there may be, in all and from one client, and which go when there are too many.
//!
//! A connection that waits for its next request can be closed without harm: its client makes another one (RFC 9112, 9.5).
//! So those that have waited longest make room for new ones, and a new one is refused only where too few wait.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, watch};

use super::{
    Limits,
    counters::{GateState, add},
};
use crate::{address::subscriber, http::Wire, limits::Throttle, model::Limit};

/// How long a connection has to have waited before it makes room: a new one gets this long for its first request.
const SETTLED: Duration = Duration::from_secs(1);
/// Looking through all connections is paid for by closing this share of them.
const SHARE: usize = 64;

/// Counts connections, by the addresses that a single client controls.
#[derive(Debug)]
pub(super) struct ConnectionLimits {
    state: Mutex<State>,
    total: watch::Sender<usize>,
    said: Throttle,
}

#[derive(Debug, Default)]
struct State {
    /// By address; those of trusted proxies, which are for many clients, are nobody's.
    owners: HashMap<Option<IpAddr>, Owner>,
    next_id: u64,
    /// Those of all connections that were asked to leave and have not yet.
    leaving: usize,
}

#[derive(Debug, Default)]
struct Owner {
    connections: HashMap<u64, Arc<Open>>,
    leaving: usize,
}

/// An open connection.
#[derive(Debug)]
struct Open {
    wire: Wire,
    gate: Arc<GateState>,
    leave: Notify,
    leaving: AtomicBool,
}

/// A connection's place. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Place {
    counts: Arc<ConnectionLimits>,
    owner: Option<IpAddr>,
    id: u64,
    open: Arc<Open>,
}

impl ConnectionLimits {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), total: watch::Sender::new(0), said: Throttle::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection of `gate` from `address`, or the limit that leaves none. Without an address, as for a
    /// trusted proxy, only the limit of all connections counts.
    pub(super) fn take(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        gate: &Arc<GateState>,
        wire: &Wire,
        limits: &Limits,
    ) -> Result<Place, Limit> {
        let owner = address.map(subscriber);
        let mut state = self.state();
        let mine = owner.and_then(|_| state.owners.get(&owner)).map_or(0, Owner::staying);
        if mine >= limits.connections_per_address && !self.close_idle(&mut state, owner, mine / SHARE) {
            return Err(Limit::ConnectionsPerAddress);
        }
        let (most, limit) = limits.most_connections();
        let all = *self.total.borrow() - state.leaving;
        if all >= most && !self.close_idle(&mut state, None, all / SHARE) {
            return Err(limit);
        }
        let id = state.next_id;
        state.next_id += 1;
        let open = Arc::new(Open {
            wire: wire.clone(),
            gate: gate.clone(),
            leave: Notify::new(),
            leaving: AtomicBool::new(false),
        });
        state.owners.entry(owner).or_default().connections.insert(id, open.clone());
        self.total.send_modify(|total| *total += 1);
        add(&gate.connections_open, 1);
        Ok(Place { counts: self.clone(), owner, id, open })
    }

    /// Closes connections that wait for a request, because the system has no room for more. False when none do.
    pub(super) fn make_room(&self) -> bool {
        let mut state = self.state();
        let all = *self.total.borrow() - state.leaving;
        self.close_idle(&mut state, None, all / SHARE)
    }

    /// Closes `count` of the connections that have waited longest for a request, and one at least; of one owner or of all.
    fn close_idle(&self, state: &mut State, of: Option<IpAddr>, count: usize) -> bool {
        let owners = state.owners.iter().filter(|(owner, _)| of.is_none() || of == **owner);
        let mut idle: Vec<(Duration, Option<IpAddr>, &Arc<Open>)> = owners
            .flat_map(|(owner, connections)| connections.connections.values().map(move |open| (*owner, open)))
            .filter(|(_, open)| !open.leaving.load(Ordering::Relaxed))
            .filter_map(|(owner, open)| Some((open.wire.idle_for()?, owner, open)))
            .filter(|(waited, ..)| *waited >= SETTLED)
            .collect();
        if idle.is_empty() {
            return false;
        }
        let count = count.clamp(1, idle.len());
        idle.select_nth_unstable_by_key(count - 1, |(waited, ..)| std::cmp::Reverse(*waited));
        let gone: Vec<Option<IpAddr>> = idle[..count]
            .iter()
            .map(|(_, owner, open)| {
                open.leaving.store(true, Ordering::Relaxed);
                open.leave.notify_one();
                add(&open.gate.connections_closed_idle, 1);
                *owner
            })
            .collect();
        state.leaving += count;
        for owner in gone {
            if let Some(owner) = state.owners.get_mut(&owner) {
                owner.leaving += 1;
            }
        }
        if let Some(held_back) = self.said.say() {
            tracing::warn!(
                of = of.map(tracing::field::display),
                closed = count,
                since_last_said = held_back,
                "connections that wait for a request are closed to make room for others; \
                 `connections_closed_idle` counts them all, one a minute is logged"
            );
        }
        true
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

impl Owner {
    fn staying(&self) -> usize {
        self.connections.len() - self.leaving
    }
}

impl Place {
    /// Ends when the connection has to make room for others.
    pub(super) async fn leave(&self) {
        self.open.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.counts.state();
        let left = usize::from(self.open.leaving.load(Ordering::Relaxed));
        state.leaving -= left;
        if let Some(owner) = state.owners.get_mut(&self.owner) {
            owner.leaving -= left;
            owner.connections.remove(&self.id);
            if owner.connections.is_empty() {
                state.owners.remove(&self.owner);
            }
        }
        self.counts.total.send_modify(|total| *total -= 1);
        self.open.gate.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}
