//! The bounds of the session table.

use std::time::Duration;

use crate::model::{Config, Limit};

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
            sessions: Limit::Sessions.default_count(),
            sessions_per_address: Limit::SessionsPerAddress.default_count(),
            bytes: Limit::SessionBytes.default_count(),
            ban: Duration::from_secs(10),
            outage: Duration::from_secs(2),
            idle: Duration::from_secs(30),
            grace: Duration::from_secs(1),
        }
    }
}

impl SessionLimits {
    /// With what the configuration sets in place of what is here.
    pub(super) fn set_by(self, config: &Config) -> Self {
        let set = &config.limits;
        Self {
            sessions: set.count(Limit::Sessions, self.sessions),
            sessions_per_address: set.count(Limit::SessionsPerAddress, self.sessions_per_address),
            bytes: set.count(Limit::SessionBytes, self.bytes),
            idle: config.sessions.idle.unwrap_or(self.idle),
            ..self
        }
    }

    /// The value of one of those that bound the table.
    pub(super) fn value(&self, limit: Limit) -> usize {
        match limit {
            Limit::SessionsPerAddress => self.sessions_per_address,
            Limit::SessionBytes => self.bytes,
            _ => self.sessions,
        }
    }
}
