use std::time::Duration;

/// A moment of CLOCK_BOOTTIME, the clock that bans end by: it goes on while the machine sleeps, and nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boottime {
    /// Nanoseconds since the machine was started.
    pub nanoseconds: u64,
}

impl Boottime {
    /// Now.
    pub fn now() -> Self {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a timespec that lives until the call returns.
        let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
        debug_assert_eq!(result, 0, "every kernel since 2.6.39 has this clock");
        Self { nanoseconds: time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 }
    }

    /// So much later.
    pub fn after(self, duration: Duration) -> Self {
        let more = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self { nanoseconds: self.nanoseconds.saturating_add(more) }
    }

    /// How long it is from `earlier` to here; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanoseconds.saturating_sub(earlier.nanoseconds))
    }
}
