//! Sessions whose client goes on from another address: a phone that leaves one network for another.
//!
//! Only where the configuration wants it so, and only with a token. A session is in one place at a time. It moves at once
//! when its place is quiet, or when it has not moved for a while; whoever shows the same token from elsewhere meanwhile
//! is refused, and so is its former place for as long as the new one is in use.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use super::{
    Cut, Sessions, Snapshot,
    entry::{Place, Presence, Session, Travel},
    holder::{Holder, What},
    info::Counts,
    kept::Kept,
    moment::Moment,
};
use crate::{
    judge::{Refusal, Request},
    model::Follows,
};

/// Parts with a lock of their own.
const SHARDS: usize = 64;
/// How many one part has before those that are gone are looked for.
const FEW: usize = 64;
/// How long a session stays where it is, in use, before it moves from there.
const STAYS: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Part {
    sessions: HashMap<Holder, Weak<Session>>,
    clean_at: usize,
}

/// Where each session is that may move; empty unless the configuration lets them.
#[derive(Debug)]
pub(super) struct Whereabouts(Box<[Mutex<Part>]>);

impl Whereabouts {
    pub(super) fn new() -> Self {
        let part = |_| Mutex::new(Part { sessions: HashMap::new(), clean_at: FEW });
        Self((0..SHARDS).map(part).collect())
    }

    fn get(&self, traveller: Holder) -> Option<Arc<Session>> {
        let part = self.0[traveller.part(SHARDS)].lock().unwrap_or_else(PoisonError::into_inner);
        part.sessions.get(&traveller)?.upgrade()
    }

    fn set(&self, traveller: Holder, session: &Arc<Session>) {
        let mut part = self.0[traveller.part(SHARDS)].lock().unwrap_or_else(PoisonError::into_inner);
        if part.sessions.len() >= part.clean_at {
            part.sessions.retain(|_, session| session.strong_count() > 0);
            part.clean_at = (2 * part.sessions.len()).max(FEW);
        }
        part.sessions.insert(traveller, Arc::downgrade(session));
    }
}

/// The network of an address within which sessions move; `None` when they move anywhere.
fn network(address: IpAddr, (v4, v6): (u8, u8)) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(v4.min(32))).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(v6.min(128))).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

impl Sessions {
    /// What stands for a client wherever it is; `None` when its session does not move.
    fn traveller(&self, snapshot: &Snapshot, stream: &str, request: &Request) -> Option<Holder> {
        let network = match snapshot.config.sessions.follows {
            Follows::Nothing => return None,
            Follows::Prefix(v4, v6) => Some(network(request.address, (v4, v6))),
            Follows::Token => None,
        };
        let token = request.token.as_deref()?;
        let operation = request.operation;
        Some(self.digests.of(What::Traveller { operation, stream, token, network }))
    }

    /// Notes where a session is that may move.
    pub(super) fn settle_down(&self, snapshot: &Snapshot, request: &Request, session: &Arc<Session>) {
        if let Some(traveller) = self.traveller(snapshot, &session.stream.name, request) {
            self.whereabouts.set(traveller, session);
        }
    }

    /// The session of a request from where it was not before; `None` when there is none that moves.
    pub(super) fn follow(
        &self,
        snapshot: &Snapshot,
        stream: &str,
        request: &Request,
        (now, presence): (Moment, &Presence),
    ) -> Option<Result<Arc<Session>, Refusal>> {
        let traveller = self.traveller(snapshot, stream, request)?;
        let former = self.whereabouts.get(traveller)?;
        let address = request.address.to_canonical();
        let hash = self.hash_of(stream, request);
        let kept = Kept::of(request, self.players.of(request));
        let moved = {
            let mut state = former.state();
            // Its first question is on its way, or it is refused: this client is judged for itself.
            let known = matches!(state.place, Place::Held) || state.cached.is_some();
            if state.closed || !known || matches!(state.place, Place::Refused { .. }) {
                return None;
            }
            let stays = |travel: &Travel| travel.from == address || now.since(travel.at) < STAYS;
            if state.travel.as_deref().is_some_and(stays) && !former.is_quiet(&state, now, presence) {
                return Some(Err(Refusal::Elsewhere));
            }
            let moved = Arc::new(former.continued(&state, (hash, address), kept, now));
            state.closed = true;
            state.place = Place::None;
            state.holders.clear();
            moved
        };
        self.table.remove(&former);
        self.cut_all(&former, Cut::Moved);
        self.arrive(&former, moved).map(|moved| {
            self.whereabouts.set(traveller, &moved);
            Ok(moved)
        })
    }

    /// Puts a session that has moved into the table, in the places of the one that it was.
    fn arrive(&self, former: &Arc<Session>, moved: Arc<Session>) -> Option<Arc<Session>> {
        let (held, holders) = {
            let state = moved.state();
            (matches!(state.place, Place::Held), state.holders.clone())
        };
        self.claims.hand_over(former, &moved, &holders);
        let mut gone = Vec::new();
        let inserted = self.table.insert(&moved, &self.limits(), &mut gone);
        Counts::add(&self.counts.evicted, gone.len());
        gone.iter().for_each(|session| self.closed(session));
        match inserted {
            Ok(inserted) if Arc::ptr_eq(&inserted, &moved) => {
                self.table.set_held(&moved, held);
                self.counts.moved.fetch_add(1, Ordering::Relaxed);
                Some(moved)
            }
            // Another request was quicker, or there is no room.
            _ => {
                moved.state().closed = true;
                self.closed(&moved);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_masked() {
        for (address, lengths, expected) in [
            ("192.0.2.77", (24, 56), "192.0.2.0"),
            ("::ffff:192.0.2.77", (16, 56), "192.0.0.0"),
            ("192.0.2.77", (32, 128), "192.0.2.77"),
            ("192.0.2.77", (0, 0), "0.0.0.0"),
            ("2001:db8:0:12ff::1", (24, 56), "2001:db8:0:1200::"),
            ("2001:db8::1", (24, 128), "2001:db8::1"),
            ("2001:db8::1", (24, 0), "::"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(
                network(address, lengths),
                expected.parse::<IpAddr>().unwrap(),
                "{address} {lengths:?}"
            );
        }
    }
}
