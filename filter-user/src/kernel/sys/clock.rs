//! The kernel's clocks.

use std::time::{Duration, SystemTime};

use crate::bans::Boottime;

/// Time since 1970, by the clock that people set.
pub fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Now, by CLOCK_BOOTTIME (Linux 2.6.39), which bans end by.
pub fn boottime() -> Boottime {
    Boottime { nanoseconds: now(libc::CLOCK_BOOTTIME) }
}

/// Now, by CLOCK_MONOTONIC, which events carry; in nanoseconds.
pub(in crate::kernel) fn monotonic() -> u64 {
    now(libc::CLOCK_MONOTONIC)
}

fn now(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives until the call returns.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    debug_assert_eq!(result, 0, "every kernel that nicgate runs on has these clocks");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
