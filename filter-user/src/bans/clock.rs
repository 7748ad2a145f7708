//! The clock that bans end by.

use std::time::Duration;

/// A moment of CLOCK_BOOTTIME: it goes on while the machine sleeps, and nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boottime {
    /// Nanoseconds since the machine was started.
    pub nanoseconds: u64,
}

impl Boottime {
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
