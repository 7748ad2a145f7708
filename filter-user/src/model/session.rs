//! What makes a session, and how many there may be.

use std::{fmt, time::Duration};

use super::Origin;

/// Whether a session goes on when its client's address changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Follows {
    /// It does not: the same token from another address is another session.
    #[default]
    Nothing,
    /// Within a network of IPv4 and one of IPv6 of these lengths.
    Prefix(u8, u8),
    /// Wherever its token is shown.
    Token,
}

impl fmt::Display for Follows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("off"),
            Self::Prefix(v4, v6) => write!(f, "ip_prefix {v4}/{v6}"),
            Self::Token => f.write_str("token"),
        }
    }
}

/// How sessions are kept; for all streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionSettings {
    /// Whether a session follows its client to another address.
    pub follows: Follows,
    /// How long a player may be quiet at least before it counts as gone; `None` when the configuration does not say.
    pub idle: Option<Duration>,
}

/// How many sessions there may be at once on the streams of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaxSessions {
    /// For each token; for each address where there is no token.
    pub per_token: Option<(u32, Origin)>,
    /// For each address.
    pub per_address: Option<(u32, Origin)>,
}

impl MaxSessions {
    /// Each line: as it would be written, and where it is.
    pub fn lines(&self) -> impl Iterator<Item = (String, &Origin)> {
        [("token", &self.per_token), ("address", &self.per_address)].into_iter().filter_map(|(of, limit)| {
            limit.as_ref().map(|(most, origin)| (format!("max_sessions {most} per {of}"), origin))
        })
    }
}
