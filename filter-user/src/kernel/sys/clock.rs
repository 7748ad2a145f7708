//! The clock that bans end by.

use crate::bans::Boottime;

/// Now, by CLOCK_BOOTTIME (Linux 2.6.39).
pub fn boottime() -> Boottime {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives until the call returns.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    debug_assert_eq!(result, 0, "every kernel that nicgate runs on has this clock");
    Boottime { nanoseconds: time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 }
}
