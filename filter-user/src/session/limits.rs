//! The bounds of the session table.

use std::time::Duration;

/// The bounds of the session table. The defaults are what production uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions in the table, denied ones included.
    pub sessions: usize,
    /// Sessions of one IPv4 address or one IPv6 /64: a carrier's NAT has thousands of viewers.
    pub sessions_per_address: usize,
    /// About as many bytes as all sessions may take.
    pub bytes: usize,
    /// How long a ban holds before the backends are asked again.
    pub ban: Duration,
    /// How long a denial or admission by the default holds when no backend responded: short, so that an
    /// outage of the backends does not outlast itself.
    pub outage: Duration,
    /// How long a player may be quiet before it counts as gone, where its playlist does not let expect longer.
    pub idle: Duration,
    /// How long a session that finds every place of its user taken waits for one: a player that changes channels may
    /// begin with the new one before it is done with the old one.
    pub grace: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            sessions: 200_000,
            sessions_per_address: 16_384,
            bytes: 512 << 20,
            ban: Duration::from_secs(10),
            outage: Duration::from_secs(2),
            idle: Duration::from_secs(30),
            grace: Duration::from_secs(1),
        }
    }
}
