//! Maps in memory.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
};

/// `count` values of a map, shared with the kernel and with other processes (`BPF_F_MMAPABLE`, Linux 5.5).
///
/// Nobody but the holder decides who may write when: this value gives an address, and takes the mapping away when it
/// is dropped.
#[derive(Debug)]
pub(in crate::kernel) struct Mapping<T> {
    first: NonNull<T>,
    bytes: usize,
    _values: PhantomData<T>,
}

// SAFETY: the mapping belongs to this value alone until it is dropped, and is the same for every thread; what is read
// or written through the address is the holder's to synchronise.
unsafe impl<T: Send> Send for Mapping<T> {}
// SAFETY: as above; a shared reference gives nothing but the address.
unsafe impl<T: Sync> Sync for Mapping<T> {}

impl<T> Mapping<T> {
    /// Maps the first `count` values of a map.
    ///
    /// # Errors
    ///
    /// The map is smaller, cannot be mapped, or there is no room.
    pub(in crate::kernel) fn new(map: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        let bytes = count.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a fresh shared mapping of a file descriptor; no Rust object is at the address. The kernel
        // refuses a length that is more than the map has.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { first, bytes, _values: PhantomData })
    }

    /// Where the first value is: aligned to a page, valid for the values that were asked for until this is dropped.
    pub(in crate::kernel) fn as_ptr(&self) -> *mut T {
        self.first.as_ptr()
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; no reference into it outlives `self`.
        unsafe { libc::munmap(self.first.as_ptr().cast(), self.bytes) };
    }
}
