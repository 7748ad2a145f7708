use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use aya::maps::MapData;
use filter_ebpf::layout::control;

/// Bytes that are mapped; the kernel rounds the two entries up to a page.
const MAPPED: usize = control::ENTRIES as usize * size_of::<u64>();

/// The control map, mapped into memory, because a system call copies a value byte by byte, and the switch to
/// another table has to be one store.
#[derive(Debug)]
pub(super) struct Control {
    entries: NonNull<AtomicU64>,
    /// Keeps the map alive; the mapping alone would, too.
    _map: MapData,
}

// SAFETY: the mapping belongs to this value alone until it is dropped, and is read and written atomically.
unsafe impl Send for Control {}
// SAFETY: as above.
unsafe impl Sync for Control {}

impl Control {
    pub(super) fn new(map: MapData) -> Result<Self> {
        // SAFETY: a fresh shared mapping of a file descriptor; no Rust object is at the address.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MAPPED,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("could not map the control map into memory");
        }
        let entries = NonNull::new(address.cast()).context("the control map was mapped at address 0")?;
        Ok(Self { entries, _map: map })
    }

    fn entry(&self, index: u32) -> &AtomicU64 {
        assert!(index < control::ENTRIES);
        // SAFETY: inside the mapping, aligned because mappings are, and accessed atomically by all sides.
        unsafe { self.entries.add(index as usize).as_ref() }
    }

    /// The live table's serial number; 0 before the first.
    pub(super) fn live(&self) -> u64 {
        self.entry(control::LIVE).load(Ordering::Acquire)
    }

    /// Makes another table the live one. Everything in it must have been written.
    pub(super) fn switch(&self, serial: u64) {
        self.entry(control::LIVE).store(serial, Ordering::Release);
    }

    /// One drop in so many is reported; 0 for none.
    pub(super) fn sampling(&self) -> u64 {
        self.entry(control::SAMPLING).load(Ordering::Relaxed)
    }

    pub(super) fn set_sampling(&self, one_in: u32) {
        self.entry(control::SAMPLING).store(u64::from(one_in), Ordering::Relaxed);
    }
}

impl Control {
    /// Entries in the tries of bans; while it is 0, the program does not look there.
    pub(super) fn bans(&self) -> u64 {
        self.entry(control::BANS).load(Ordering::Acquire)
    }

    pub(super) fn set_bans(&self, entries: u64) {
        self.entry(control::BANS).store(entries, Ordering::Release);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; no reference into it outlives `self`.
        unsafe { libc::munmap(self.entries.as_ptr().cast(), MAPPED) };
    }
}
