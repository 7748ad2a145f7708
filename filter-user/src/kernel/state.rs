//! The program's state, mapped into memory.

use std::{
    os::fd::AsFd as _,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::MapData;
use filter_ebpf::layout::{self, GROUPS, Generation, State, TableHeader};

use super::{
    error::{Context as _, Error, Result},
    pins::Lock,
    sys::Mapping,
};
use crate::table::Ports;

/// The state, mapped into memory, because a system call copies a value byte by byte, and the switch to another
/// table has to be one store.
#[derive(Debug)]
pub(super) struct MappedState {
    state: Mapping<State>,
    /// Keeps the map alive; the mapping alone would, too.
    _map: MapData,
}

impl MappedState {
    pub(super) fn new(map: MapData) -> Result<Self> {
        if map.info().context("could not look at the map of the state")?.value_size() as usize
            != size_of::<State>()
        {
            return Err(Error::other_version("the map of the state is of another build"));
        }
        let state = Mapping::new(map.fd().as_fd(), 1).context("could not map the state into memory")?;
        Ok(Self { state, _map: map })
    }

    /// One of the words that change while packets are judged.
    fn word(&self, word: impl FnOnce(*mut State) -> *mut u64) -> &AtomicU64 {
        // SAFETY: inside the mapping, aligned because mappings and the structure are, and accessed atomically
        // by all sides.
        unsafe { AtomicU64::from_ptr(word(self.state.as_ptr())) }
    }

    fn live_word(&self) -> &AtomicU64 {
        // SAFETY: a place inside the mapping.
        self.word(|state| unsafe { &raw mut (*state).control.live })
    }

    fn sampling_word(&self) -> &AtomicU64 {
        // SAFETY: a place inside the mapping.
        self.word(|state| unsafe { &raw mut (*state).control.sampling })
    }

    fn bans_word(&self) -> &AtomicU64 {
        // SAFETY: a place inside the mapping.
        self.word(|state| unsafe { &raw mut (*state).control.bans })
    }

    /// The live table's serial number; 0 before the first.
    pub(super) fn live(&self) -> u64 {
        self.live_word().load(Ordering::Acquire)
    }

    /// Makes another table the live one. Everything in it must have been written.
    pub(super) fn switch(&self, serial: u64) {
        self.live_word().store(serial, Ordering::Release);
    }

    /// One drop in so many is reported; 0 for none.
    pub(super) fn sampling(&self) -> u64 {
        self.sampling_word().load(Ordering::Relaxed)
    }

    pub(super) fn set_sampling(&self, one_in: u32) {
        self.sampling_word().store(u64::from(one_in), Ordering::Relaxed);
    }

    /// Entries in the tries of bans; while it is 0, the program does not look there.
    pub(super) fn bans(&self) -> u64 {
        self.bans_word().load(Ordering::Acquire)
    }

    pub(super) fn set_bans(&self, entries: u64) {
        self.bans_word().store(entries, Ordering::Release);
    }

    fn generation(&self, index: u32) -> *mut Generation {
        assert!(index < layout::GENERATIONS);
        // SAFETY: a place inside the mapping.
        unsafe { (&raw mut (*self.state.as_ptr()).generations).cast::<Generation>().add(index as usize) }
    }

    /// A generation's header.
    pub(super) fn header(&self, index: u32) -> TableHeader {
        // SAFETY: inside the mapping; volatile because another process may write meanwhile, and every bit
        // pattern is one.
        unsafe { (&raw const (*self.generation(index)).header).read_volatile() }
    }

    /// What stands on a generation's ports, group by group.
    pub(super) fn groups(&self, index: u32) -> Vec<[u32; 4]> {
        (0..GROUPS)
            .map(|group| {
                // SAFETY: as above.
                unsafe {
                    (&raw const (*self.generation(index)).groups)
                        .cast::<[u32; 4]>()
                        .add(group)
                        .read_volatile()
                }
            })
            .collect()
    }

    /// Writes a generation. No packet may be judged by it; that nobody else writes, the lock says.
    pub(super) fn write(&self, _lock: &mut Lock, index: u32, header: &TableHeader, ports: &Ports) {
        let to = self.generation(index);
        // SAFETY: inside the mapping, which overlaps no Rust object; the lock, of which there is one and which is
        // borrowed exclusively, keeps other writers away.
        unsafe {
            (&raw mut (*to).groups).copy_from_nonoverlapping(ports.groups.as_ref(), 1);
            (&raw mut (*to).ports).copy_from_nonoverlapping(ports.ports.as_ref(), 1);
            (&raw mut (*to).header).write_volatile(*header);
        }
    }
}
