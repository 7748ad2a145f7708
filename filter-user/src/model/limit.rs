//! Limits of nicgate's own: what each is called, and what it is unless the operator says otherwise.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A limit of nicgate's own. What it keeps from being done says nothing about a client or a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Connections over all gates.
    Connections,
    /// Connections from one address.
    ConnectionsPerAddress,
    /// The longest head of a request.
    HeadBytes,
    /// The most header lines of a request.
    HeaderLines,
    /// The longest target of a request.
    TargetBytes,
    /// Questions that wait for a backend.
    Questions,
    /// Questions of one address that wait for a backend.
    QuestionsPerAddress,
    /// How long a question may wait for a backend; set where the backend is.
    QueueTimeout,
    /// Sessions in all.
    Sessions,
    /// Sessions of one address.
    SessionsPerAddress,
    /// The memory of all sessions.
    SessionBytes,
    /// Runtime bans; as many as the kernel's maps hold.
    Bans,
    /// Sampled drops that a slow `monitor` may fall behind.
    Events,
    /// Files and sockets that the system lets the process open.
    OpenFiles,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
}

/// What can be said of a limit that the directive `limit` sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What it is unless it is set.
    pub default: u64,
    /// The same as one would write it.
    pub shown: &'static str,
    /// The smallest value that makes sense.
    pub smallest: u64,
    /// The largest value that makes sense.
    pub largest: u64,
    /// What it counts.
    pub unit: Unit,
    /// What it is for, and what happens to what exceeds it.
    pub meaning: &'static str,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Limit {
    /// Every limit, in the order in which they are shown.
    pub const ALL: [Self; 14] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::HeadBytes,
        Self::HeaderLines,
        Self::TargetBytes,
        Self::Questions,
        Self::QuestionsPerAddress,
        Self::QueueTimeout,
        Self::Sessions,
        Self::SessionsPerAddress,
        Self::SessionBytes,
        Self::Bans,
        Self::Events,
        Self::OpenFiles,
    ];

    /// Its name in the configuration, in counters and in the log.
    pub fn name(self) -> &'static str {
        self.names()[0]
    }

    /// Its one name, as a list.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Connections => &["connections"],
            Self::ConnectionsPerAddress => &["connections_per_address"],
            Self::HeadBytes => &["head_bytes"],
            Self::HeaderLines => &["header_lines"],
            Self::TargetBytes => &["target_bytes"],
            Self::Questions => &["questions"],
            Self::QuestionsPerAddress => &["questions_per_address"],
            Self::QueueTimeout => &["queue_timeout"],
            Self::Sessions => &["sessions"],
            Self::SessionsPerAddress => &["sessions_per_address"],
            Self::SessionBytes => &["session_bytes"],
            Self::Bans => &["bans"],
            Self::Events => &["events"],
            Self::OpenFiles => &["open_files"],
        }
    }

    /// The limit of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.name() == name)
    }

    /// What the directive `limit` can set it to; `None` for limits that are set elsewhere or not at all.
    ///
    /// The defaults are for an edge with some ten thousand viewers: thousands of them can share the address of a
    /// carrier's NAT, or of a proxy in front.
    #[expect(clippy::too_many_lines, reason = "one table, an entry for each limit")]
    pub fn setting(self) -> Option<Setting> {
        let setting = |default, shown, smallest, largest, unit, meaning| {
            Some(Setting { default, shown, smallest, largest, unit, meaning })
        };
        match self {
            Self::Connections => setting(
                65_536,
                "`65536`",
                16,
                4_194_304,
                Unit::Count,
                "Connections over all gates. Those that have waited longest for a request are closed to make room; where \
                 none waits, one more is answered 503 with `Retry-After`.",
            ),
            Self::ConnectionsPerAddress => setting(
                4096,
                "`4096`",
                1,
                4_194_304,
                Unit::Count,
                "Connections from one IPv4 address or one IPv6 /64. Those of it that have waited longest make room; where \
                 none waits, one more is answered 503 with `Retry-After`.",
            ),
            Self::HeadBytes => setting(
                32 * KIB,
                "`32k`",
                KIB,
                MIB,
                Unit::Bytes,
                "The longest head of a request. Longer is 431.",
            ),
            Self::HeaderLines => setting(
                100,
                "`100`",
                10,
                1000,
                Unit::Count,
                "The most header lines of a request. More is 431.",
            ),
            Self::TargetBytes => setting(
                16 * KIB,
                "`16k`",
                256,
                MIB,
                Unit::Bytes,
                "The longest target (path and query) of a request. Longer is 414.",
            ),
            Self::Questions => setting(
                16_384,
                "`16384`",
                1,
                1_048_576,
                Unit::Count,
                "Questions that wait for their turn at one backend. The request of one more is answered 503 with \
                 `Retry-After`, and the default does not apply.",
            ),
            Self::QuestionsPerAddress => setting(
                4096,
                "`4096`",
                1,
                1_048_576,
                Unit::Count,
                "Questions of one IPv4 address or one IPv6 /64 that wait for their turn at one backend. One more is \
                 answered 503 with `Retry-After`, and the default does not apply.",
            ),
            Self::Sessions => setting(
                200_000,
                "`200000`",
                1,
                10_000_000,
                Unit::Count,
                "Sessions. Those of whom no request was admitted make room first, then the one that was idle longest; \
                 where all have a live transfer, one more is answered 503 with `Retry-After`.",
            ),
            Self::SessionsPerAddress => setting(
                16_384,
                "`16384`",
                1,
                10_000_000,
                Unit::Count,
                "Sessions of one IPv4 address or one IPv6 /64, which make room for each other in the same way.",
            ),
            Self::SessionBytes => setting(
                512 * MIB,
                "`512m`",
                MIB,
                1 << 40,
                Unit::Bytes,
                "About as much memory as all sessions take; they make room in the same way.",
            ),
            Self::QueueTimeout | Self::Bans | Self::Events | Self::OpenFiles => None,
        }
    }
}

impl Limit {
    /// What it is unless it is set, for a limit that can be.
    pub fn default_count(self) -> usize {
        let default = self.setting().map_or(u64::MAX, |setting| setting.default);
        usize::try_from(default).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The limits that the configuration sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits([Option<u64>; Limit::ALL.len()]);

impl Limits {
    /// What the configuration says of a limit; `None` when it says nothing.
    pub fn get(&self, limit: Limit) -> Option<u64> {
        self.0[limit as usize]
    }

    /// What the configuration says of a limit of things, or `otherwise`.
    pub fn count(&self, limit: Limit, otherwise: usize) -> usize {
        self.get(limit).map_or(otherwise, |value| usize::try_from(value).unwrap_or(usize::MAX))
    }

    /// Sets a limit; returns what it was set to before.
    pub fn set(&mut self, limit: Limit, value: u64) -> Option<u64> {
        self.0[limit as usize].replace(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_one_name_and_a_default_that_it_allows() {
        for (place, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, place, "{limit} stands where the table of values has it");
            assert_eq!(Limit::named(limit.name()), Some(limit));
            assert_eq!(serde_json::to_value(limit).unwrap(), limit.name(), "one name everywhere");
            if let Some(Setting { default, smallest, largest, .. }) = limit.setting() {
                assert!((smallest..=largest).contains(&default), "{limit}");
            }
        }
        assert_eq!(Limit::named("nonsense"), None);
    }

    #[test]
    fn what_is_set_is_what_counts() {
        let mut limits = Limits::default();
        assert_eq!(limits.count(Limit::Sessions, 7), 7);
        assert_eq!(limits.set(Limit::Sessions, 5), None);
        assert_eq!(limits.set(Limit::Sessions, 6), Some(5));
        assert_eq!((limits.count(Limit::Sessions, 7), limits.get(Limit::Bans)), (6, None));
    }
}
