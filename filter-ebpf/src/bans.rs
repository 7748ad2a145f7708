//! Runtime bans as they lie in their own maps: tries beside the compiled table, which are looked into only while
//! there is a ban, and only for packets that the table would pass.
//!
//! A trie's key is a scope, which is always matched in full, and then the address. A longer prefix overrides a
//! shorter one, so that userspace writes an entry only where something changes: see
//! `filter_user::bans::entries`.

/// Bans that can be in force at the same time.
pub const MAX_BANS: u32 = 16_384;
/// Entries of one trie: the bans, and what is exempt from them. Nothing is allocated before it is used.
pub const MAX_ENTRIES: u32 = 1 << 18;
/// Bits in front of an IPv4 address in its key.
pub const SCOPE_BITS_V4: u32 = 32;
/// Bits in front of an IPv6 address in its key.
pub const SCOPE_BITS_V6: u32 = 64;

/// The scope of bans on every protected port.
pub const EVERYWHERE: [u8; 4] = [0; 4];

/// The scope of bans on one port; `proto` is a [`crate::layout::Proto`].
#[inline(always)]
pub const fn scope(proto: u8, port: u16) -> [u8; 4] {
    let [upper, lower] = port.to_be_bytes();
    [1 + proto, 0, upper, lower]
}

/// The protocol and the port of a scope; `None` for [`EVERYWHERE`].
#[inline(always)]
pub const fn addressed(scope: [u8; 4]) -> Option<(u8, u16)> {
    let [proto, _, upper, lower] = scope;
    match proto {
        0 => None,
        proto => Some((proto - 1, u16::from_be_bytes([upper, lower]))),
    }
}

/// The data of an IPv4 trie's key: the scope, and the address in network byte order.
pub type KeyV4 = [u8; 8];
/// The same for IPv6, with four zeros in between: a trie's value stands right behind its key, and has to be
/// aligned to 8.
pub type KeyV6 = [u8; 24];

/// What a trie says of a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ban {
    /// When it ends, in nanoseconds of CLOCK_BOOTTIME; [`FOR_EVER`] or [`EXEMPT`].
    pub until: u64,
    /// Which ban it is; never 0, but for what is exempt.
    pub id: u32,
    /// Zero.
    pub padding: u32,
}

/// A ban without an end.
pub const FOR_EVER: u64 = 0;
/// Ended before it began: addresses that nothing bans, inside a prefix that is banned.
pub const EXEMPT: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Proto;

    #[test]
    fn scopes_differ() {
        let scopes = [
            EVERYWHERE,
            scope(Proto::Tcp as u8, 80),
            scope(Proto::Udp as u8, 80),
            scope(Proto::Tcp as u8, 0x5000),
            scope(Proto::Tcp as u8, 0),
        ];
        for (i, a) in scopes.iter().enumerate() {
            assert!(scopes[..i].iter().all(|b| a != b), "{a:?}");
        }
        assert_eq!(addressed(EVERYWHERE), None);
        assert_eq!(addressed(scope(Proto::Sctp as u8, 0x1234)), Some((Proto::Sctp as u8, 0x1234)));
        assert_eq!(size_of::<Ban>(), 16);
    }
}
