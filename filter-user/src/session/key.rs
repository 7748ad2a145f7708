//! What makes requests belong together.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

use crate::model::Operation;

/// What makes two requests belong to one session. The protocol is no part of it: the playlist, the segments, the keys,
/// the subtitles and the thumbnails of one viewer are one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionKey {
    /// Playing or publishing.
    pub operation: Operation,
    /// The stream's name.
    pub stream: Arc<str>,
    /// The client; IPv4-mapped addresses as IPv4.
    pub address: IpAddr,
    /// The token, when the client gave one.
    pub token: Option<Arc<str>>,
}

/// The same, of a request that is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyRef<'a> {
    pub(super) operation: Operation,
    pub(super) stream: &'a str,
    /// Canonical.
    pub(super) address: IpAddr,
    pub(super) token: Option<&'a str>,
}

/// A session's id, in UUID form. It identifies, it proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(Uuid);

impl SessionId {
    pub(super) fn new() -> Self {
        Self(Uuid::new_v4())
    }

    /// Reads what [`fmt::Display`] writes; `None` when it is no id.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }

    /// A part of `most` that is the session's own: what is due for many sessions at once is spread by it.
    pub(super) fn part_of(self, most: Duration) -> Duration {
        // A version 4 UUID is random here.
        let word = u32::from_be_bytes([self.0.as_bytes()[0], self.0.as_bytes()[1], 0, 0]);
        most.mul_f64(f64::from(word) / f64::from(u32::MAX))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("a session's id is a UUID"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = SessionId::new();
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert_eq!(SessionId::parse("nobody"), None);
        assert_ne!(SessionId::new(), id);
    }

    #[test]
    fn what_is_due_at_once_is_spread() {
        let most = Duration::from_secs(100);
        let parts: Vec<Duration> = (0..1000).map(|_| SessionId::new().part_of(most)).collect();
        assert!(parts.iter().all(|part| *part <= most));
        let early = parts.iter().filter(|part| **part < most / 2).count();
        assert!((300..700).contains(&early), "{early} of 1000");
    }
}
