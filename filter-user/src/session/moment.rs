//! The clock of the session table, in one word.

use std::time::Duration;

use tokio::time::Instant;

/// Nanoseconds since the beginning, which is before the table was made: enough for five centuries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) u64);

impl Moment {
    /// This much later.
    pub(super) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    /// This much earlier, or the beginning.
    pub(super) fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(time)))
    }

    /// The time since an earlier moment; none if that one is later.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How long ago a session can have begun that another process had.
const PAST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Says which moment it is. The first is as much later than the beginning as a session of another process can be old.
#[derive(Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(&self) -> Moment {
        Moment(nanos(PAST + self.0.elapsed()))
    }
}
