//! The order of some sessions: who has to leave first, and when each has to be looked at.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use slab::Slab;

use super::{
    SessionLimits,
    entry::{Place, Session},
    index::Index,
    lifetime::Due,
    list::{CHAINS, Linked, Links, List},
    moment::Moment,
    wheel::{Tick, Wheel},
};
use crate::{address::subscriber, model::Limit};

/// How many sessions are passed over in the search for one to evict.
pub(super) const TRIES: usize = 64;
/// How long a session may take to become something that is remembered.
const BEGINNING: Duration = Duration::from_secs(1);

const ALL: usize = 0;
const MINE: usize = 1;

/// How many sessions were passed over so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed(pub(super) usize);

/// A session's place in the order.
#[derive(Debug)]
struct Slot {
    session: Arc<Session>,
    links: [Links; CHAINS],
    /// Whether it is open. Those that are not have to leave first.
    held: bool,
    due: Tick,
}

impl Linked for Slot {
    fn links(&mut self) -> &mut [Links; CHAINS] {
        &mut self.links
    }
}

/// The sessions of one subscriber: an address, or a /64 of IPv6. First those that are not open.
#[derive(Debug, Default)]
struct Mine {
    lists: [List; 2],
    count: u32,
}

/// The sessions of some addresses.
#[derive(Debug, Default)]
pub(super) struct Order {
    slots: Slab<Slot>,
    /// First those that are not open. Each list begins with what has been in it longest.
    lists: [List; 2],
    addresses: HashMap<u64, Mine>,
    wheel: Wheel,
}

/// What a sweep found.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// They have left the table.
    pub(super) closed: Vec<Arc<Session>>,
    /// Their players have gone; they are in the table still.
    pub(super) ended: Vec<Arc<Session>>,
    /// The backends have to be asked.
    pub(super) ask: Vec<Arc<Session>>,
}

/// A subscriber in one word. An IPv4 address takes the place of a /64 that no client has.
pub(super) fn word(address: IpAddr) -> u64 {
    match subscriber(address) {
        IpAddr::V4(v4) => 0xffff_ffff_0000_0000 | u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

impl Order {
    /// The first that has to leave, of those that are open or are not.
    pub(super) fn first(&self, held: usize) -> Option<u32> {
        self.lists[held].first()
    }

    /// When it was last used.
    pub(super) fn first_seen(&self, held: usize) -> Option<Moment> {
        self.first(held).map(|at| self.slots[at as usize].session.seen())
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.slots.iter().map(|(_, slot)| &slot.session)
    }

    /// Puts a session in; see [`Table::insert`](super::table::Table::insert).
    pub(super) fn insert(
        &mut self,
        index: &Index,
        session: Arc<Session>,
        limits: &SessionLimits,
        gone: &mut Vec<Arc<Session>>,
    ) -> Result<Arc<Session>, Limit> {
        // Requests with one key are of one address, and so of one order: nobody else inserts it now.
        if let Some(there) = index.find(session.hash, &session.key()) {
            return Ok(there);
        }
        let address = word(session.address);
        let mine = self.addresses.get(&address).map_or(0, |mine| mine.count as usize);
        if mine >= limits.sessions_per_address {
            gone.push(self.evict_of(index, address).ok_or(Limit::SessionsPerAddress)?);
        }
        let due = Tick::at(session.opened.after(BEGINNING));
        let slot =
            Slot { session: session.clone(), links: Default::default(), held: false, due: Tick::default() };
        let at = self.slots.insert(slot) as u32;
        session.slot.store(at, Ordering::Relaxed);
        self.lists[0].push(&mut self.slots, ALL, at);
        let mine = self.addresses.entry(address).or_default();
        mine.count += 1;
        mine.lists[0].push(&mut self.slots, MINE, at);
        self.schedule(at, due, false);
        index.insert(session.clone());
        Ok(session)
    }

    /// The session's slot, while it is in the table.
    pub(super) fn own_slot(&self, session: &Arc<Session>) -> Option<u32> {
        let at = session.slot.load(Ordering::Relaxed);
        let slot = self.slots.get(at as usize)?;
        Arc::ptr_eq(&slot.session, session).then_some(at)
    }

    fn evict_of(&mut self, index: &Index, address: u64) -> Option<Arc<Session>> {
        for passed in 0..TRIES {
            let mine = self.addresses.get(&address)?;
            let at = mine.lists[0].first().or_else(|| mine.lists[1].first())?;
            if let Some(evicted) = self.evict(index, at, Passed(passed)) {
                return Some(evicted);
            }
        }
        None
    }

    /// Lets a session go, unless it is in use: then it is not looked at again soon. At first one that was used since it
    /// was last looked at is spared, too.
    pub(super) fn evict(&mut self, index: &Index, at: u32, passed: Passed) -> Option<Arc<Session>> {
        let slot = &self.slots[at as usize];
        let used = slot.session.used.swap(false, Ordering::Relaxed);
        let live = slot.session.state().live > 0;
        if live || (used && passed.0 < TRIES / 2) {
            let held = slot.held;
            self.put(at, held);
            return None;
        }
        Some(self.remove(index, at))
    }

    /// Puts a session at the end of the lists of those that are open, or are not.
    pub(super) fn put(&mut self, at: u32, held: bool) {
        let slot = &mut self.slots[at as usize];
        let former = usize::from(std::mem::replace(&mut slot.held, held));
        let address = word(slot.session.address);
        let Self { slots, lists, addresses, .. } = self;
        let mine = addresses.entry(address).or_default();
        for (chain, lists) in [(ALL, lists), (MINE, &mut mine.lists)] {
            lists[former].unlink(slots, chain, at);
            lists[usize::from(held)].push(slots, chain, at);
        }
    }

    /// Takes a session out.
    pub(super) fn remove(&mut self, index: &Index, at: u32) -> Arc<Session> {
        let slot = &self.slots[at as usize];
        let (held, address) = (usize::from(slot.held), word(slot.session.address));
        self.lists[held].unlink(&mut self.slots, ALL, at);
        if let Some(mine) = self.addresses.get_mut(&address) {
            mine.lists[held].unlink(&mut self.slots, MINE, at);
            mine.count -= 1;
            if mine.count == 0 {
                self.addresses.remove(&address);
            }
        }
        let session = self.slots.remove(at as usize).session;
        index.remove(&session);
        session.state().closed = true;
        session
    }

    /// Has a session looked at.
    pub(super) fn schedule(&mut self, at: u32, due: Tick, only_earlier: bool) {
        let slot = &mut self.slots[at as usize];
        if only_earlier && slot.due <= due {
            return;
        }
        slot.due = self.wheel.insert(at, due);
    }

    /// Looks at every session that is due.
    pub(super) fn sweep(&mut self, index: &Index, now: Moment, least_idle: Duration, swept: &mut Swept) {
        while let Some((tick, slots)) = self.wheel.next(Tick::passed(now)) {
            for at in slots {
                // A slot that was made due earlier, or is another session's by now, has another entry.
                if self.slots.get(at as usize).is_some_and(|slot| slot.due <= tick) {
                    self.look(index, at, (now, least_idle), swept);
                }
            }
        }
    }

    /// Does what a session's state asks for.
    fn look(&mut self, index: &Index, at: u32, (now, least_idle): (Moment, Duration), swept: &mut Swept) {
        let session = self.slots[at as usize].session.clone();
        let due = {
            let mut state = session.state();
            let due = session.due(&state, now, least_idle);
            if due == Due::End {
                state.place = Place::None;
            }
            due
        };
        let next = match due {
            Due::Keep(moment) => moment,
            Due::Close => {
                swept.closed.push(self.remove(index, at));
                return;
            }
            Due::Ask => {
                swept.ask.push(session);
                now.after(BEGINNING)
            }
            Due::End => {
                self.put(at, false);
                swept.ended.push(session);
                now.after(BEGINNING)
            }
        };
        self.schedule(at, Tick::at(next), false);
    }
}

#[cfg(test)]
impl Order {
    /// Looks whether everything is in its place, once; returns how many sessions there are, and their bytes.
    pub(super) fn check(&self, index: &Index, cost: fn(&Session) -> usize) -> (usize, usize) {
        let count = |list: &List, chain: usize| {
            let mut count = 0;
            let mut next = list.first();
            while let Some(at) = next {
                count += 1;
                next = self.slots[at as usize].links[chain].after();
            }
            count
        };
        for held in [false, true] {
            let slots = self.slots.iter().filter(|(_, slot)| slot.held == held).count();
            assert_eq!(count(&self.lists[usize::from(held)], ALL), slots);
        }
        let mine: usize =
            self.addresses.values().flat_map(|mine| &mine.lists).map(|list| count(list, MINE)).sum();
        let counted: u32 = self.addresses.values().map(|mine| mine.count).sum();
        assert_eq!((mine, counted as usize), (self.slots.len(), self.slots.len()));
        for (at, slot) in &self.slots {
            let session = &slot.session;
            assert_eq!(self.own_slot(session), Some(at as u32));
            assert!(Arc::ptr_eq(&index.find(session.hash, &session.key()).expect("it is found"), session));
        }
        (self.slots.len(), self.sessions().map(|session| cost(session)).sum())
    }
}
