//! What the two address families have in common.

use std::{
    fmt::Debug,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An address as an integer: `u32` is the IPv4 space, `u128` the IPv6 space, both in host byte order, so
/// that integer order is address order.
pub trait Address: Copy + Ord + Debug + Send + 'static {
    /// The lowest address of the space.
    const MIN: Self;
    /// The highest address of the space.
    const MAX: Self;
    /// The number of bits in an address: 32 or 128.
    const BITS: u8;

    /// Sorts ranges: see [`Address::outer_first`].
    type OuterFirst: Ord;

    /// A key that is lower for the range that begins at a lower address, or begins at the same and is longer.
    fn outer_first(first: Self, last: Self) -> Self::OuterFirst;
    /// The next higher address, or `None` at the end of the space.
    fn next(self) -> Option<Self>;
    /// The next lower address, or `None` at the start of the space.
    fn previous(self) -> Option<Self>;
    /// How many low bits of `self` are zero: the size of the largest block that can start here.
    fn trailing_zeros(self) -> u8;
    /// The last address of the block of `2^host_bits` addresses that starts at `self`.
    fn block_end(self, host_bits: u8) -> Self;
    /// The block as a prefix.
    fn net(self, prefix_len: u8) -> IpNet;
    /// The address in the standard library's type.
    fn ip(self) -> IpAddr;
}

impl Address for u32 {
    const MIN: Self = 0;
    const MAX: Self = Self::MAX;
    const BITS: u8 = 32;

    /// One number, because a sort compares it twice as fast as two.
    type OuterFirst = u64;

    fn outer_first(first: Self, last: Self) -> u64 {
        u64::from(first) << 32 | u64::from(!last)
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }

    fn trailing_zeros(self) -> u8 {
        self.trailing_zeros() as u8
    }

    fn block_end(self, host_bits: u8) -> Self {
        self | Self::MAX.checked_shr(32 - u32::from(host_bits)).unwrap_or(0)
    }

    fn net(self, prefix_len: u8) -> IpNet {
        Ipv4Net::new(Ipv4Addr::from_bits(self), prefix_len).expect("a prefix length of at most 32").into()
    }

    fn ip(self) -> IpAddr {
        Ipv4Addr::from_bits(self).into()
    }
}

impl Address for u128 {
    const MIN: Self = 0;
    const MAX: Self = Self::MAX;
    const BITS: u8 = 128;

    type OuterFirst = (Self, Self);

    fn outer_first(first: Self, last: Self) -> (Self, Self) {
        (first, !last)
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }

    fn trailing_zeros(self) -> u8 {
        self.trailing_zeros() as u8
    }

    fn block_end(self, host_bits: u8) -> Self {
        self | Self::MAX.checked_shr(128 - u32::from(host_bits)).unwrap_or(0)
    }

    fn net(self, prefix_len: u8) -> IpNet {
        Ipv6Net::new(Ipv6Addr::from_bits(self), prefix_len).expect("a prefix length of at most 128").into()
    }

    fn ip(self) -> IpAddr {
        Ipv6Addr::from_bits(self).into()
    }
}

/// The address that is judged: an IPv4-mapped IPv6 address (`::ffff:0:0/96`) counts as the IPv4 address.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// First and last address of an IPv4 prefix.
pub fn net_range_v4(net: Ipv4Net) -> (u32, u32) {
    (net.network().to_bits(), net.broadcast().to_bits())
}

/// First and last address of an IPv6 prefix.
pub fn net_range_v6(net: Ipv6Net) -> (u128, u128) {
    (net.network().to_bits(), net.broadcast().to_bits())
}

/// Whom an address belongs to, as far as one can tell: one subscriber has a /64 of IPv6 at least.
pub fn subscriber(address: IpAddr) -> IpAddr {
    match canonical(address) {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}
