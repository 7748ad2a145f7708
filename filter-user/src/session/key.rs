use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
};

use serde::Serialize;

use crate::backend::Operation;

/// What makes two requests belong to one session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct SessionKey {
    /// Playing or publishing.
    pub operation: Operation,
    /// The stream's name.
    pub stream: Arc<str>,
    /// The client; IPv4-mapped addresses as IPv4.
    pub address: IpAddr,
    /// The media protocol.
    pub proto: &'static str,
    /// The token, when the client gave one.
    pub token: Option<Arc<str>>,
}

/// A new session's id, in the form of a random UUID. It identifies, it proves nothing.
pub(super) fn new_session_id() -> Arc<str> {
    // Each RandomState has keys of its own, seeded by the operating system's randomness.
    let half = |salt: u8| u128::from(RandomState::new().hash_one(salt));
    let random = (half(0) << 64) | half(1);
    let version_4 = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{version_4:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_look_like_uuids() {
        let (a, b) = (new_session_id(), new_session_id());
        assert_ne!(a, b);
        let groups: Vec<usize> = a.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(a.as_bytes()[14], b'4');
        assert!(matches!(a.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }
}
