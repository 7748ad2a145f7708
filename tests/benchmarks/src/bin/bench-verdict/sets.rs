//! Which prefixes are listed, and where packets come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use filter_ebpf::measure::Lookups;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Bits of an IPv6 address that vary: everything lies in 2000::/3, as all that is routed does.
const V6_BITS: u64 = 0x1fff_ffff_ffff_ffff;
/// The same for prefixes that crowd, as real ones do: 128 blocks of /16 to /20.
const V6_CROWDED: u64 = 0x0e0f_ffff_ffff_ffff;
const V6_FIXED: u64 = 0x2000_0000_0000_0000;

/// Where the sequence begins that the prefixes are around.
const LISTED: u64 = 7;
/// Where the sequence of sources begins that has nothing to do with them.
const ANYWHERE: u64 = 11;

/// A kind of list, of any length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    /// Its name in tables.
    pub(crate) name: &'static str,
    /// What is in it, for a plot.
    pub(crate) title: &'static str,
    pub(crate) v6: bool,
    /// The lengths of its prefixes, in turn.
    lengths: &'static [u8],
    /// Bits of the upper half of an address that are random.
    random: u64,
    /// Bits of it that are set.
    fixed: u64,
}

/// A list like what most are: single addresses, /28s and /24s.
pub(crate) const V4_MIXED: Set = Set {
    name: "v4 mixed",
    title: "IPv4, /24, /28 and /32",
    v6: false,
    lengths: &[24, 28, 32, 32],
    random: u64::MAX,
    fixed: 0,
};
/// Single addresses, as abuse lists have them.
pub(crate) const V4_ADDRESSES: Set = Set {
    name: "v4 addresses",
    title: "IPv4, single addresses",
    v6: false,
    lengths: &[32],
    random: u64::MAX,
    fixed: 0,
};
/// Networks of providers, sites and homes, all over 2000::/3.
pub(crate) const V6_MIXED: Set = Set {
    name: "v6 mixed",
    title: "IPv6, /32 to /64",
    v6: true,
    lengths: &[32, 40, 48, 48, 48, 48, 56, 64],
    random: V6_BITS,
    fixed: V6_FIXED,
};
/// The same, in few blocks.
pub(crate) const V6_DENSE: Set =
    Set { name: "v6 crowded", title: "IPv6, /32 to /64, crowded", random: V6_CROWDED, ..V6_MIXED };
/// Single addresses, in few blocks.
pub(crate) const V6_ADDRESSES: Set = Set {
    name: "v6 addresses",
    title: "IPv6, single addresses",
    lengths: &[128],
    random: V6_CROWDED,
    ..V6_MIXED
};
/// Where packets come from when the list is a table of countries.
pub(crate) const V4_COUNTRY: Set =
    Set { name: "v4 country", title: "IPv4, a table of countries", ..V4_ADDRESSES };
/// The same.
pub(crate) const V6_COUNTRY: Set = Set {
    name: "v6 country",
    title: "IPv6, a table of countries",
    v6: true,
    lengths: &[128],
    random: V6_BITS,
    fixed: V6_FIXED,
};

impl Set {
    /// The beginning of the sequence of listed sources: the nth lies in the nth prefix.
    pub(crate) fn listed(&self) -> Lookups {
        self.from(LISTED)
    }

    /// The beginning of the sequence of sources that may come from anywhere.
    pub(crate) fn anywhere(&self) -> Lookups {
        self.from(ANYWHERE)
    }

    fn from(&self, seed: u64) -> Lookups {
        let Self { random, fixed, v6, .. } = *self;
        Lookups { seed, sum: 0, random, set: fixed, chained: 0, v6: u64::from(v6) }
    }

    /// The first `count` prefixes of the list, in no order. Some may cover others.
    pub(crate) fn prefixes(&self, count: u32) -> impl Iterator<Item = IpNet> {
        let lengths = self.lengths.iter().cycle();
        addresses(self.listed()).zip(lengths).take(count as usize).map(|(address, length)| match address {
            IpAddr::V4(address) => Ipv4Net::new_assert(address, *length).trunc().into(),
            IpAddr::V6(address) => Ipv6Net::new_assert(address, *length).trunc().into(),
        })
    }
}

/// The addresses of a sequence; it never ends.
pub(crate) fn addresses(mut from: Lookups) -> impl Iterator<Item = IpAddr> {
    std::iter::repeat_with(move || {
        let (upper, lower) = from.draw();
        match from.v6 {
            0 => Ipv4Addr::from_bits((upper >> 32) as u32).into(),
            _ => Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(lower)).into(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{V4_ADDRESSES, V4_MIXED, V6_ADDRESSES, V6_DENSE, V6_MIXED, addresses};

    #[test]
    fn every_listed_source_lies_in_its_prefix() {
        for set in [V4_MIXED, V4_ADDRESSES, V6_MIXED, V6_DENSE, V6_ADDRESSES] {
            let mut pairs = addresses(set.listed()).zip(set.prefixes(1_000));
            assert!(pairs.all(|(address, prefix)| prefix.contains(&address)), "{}", set.name);
        }
    }

    #[test]
    fn sources_from_anywhere_are_others() {
        let listed: Vec<_> = V4_ADDRESSES.prefixes(1_000).collect();
        let anywhere = addresses(V4_ADDRESSES.anywhere()).take(1_000);
        let hits = anywhere.filter(|address| listed.iter().any(|prefix| prefix.contains(address))).count();
        assert!(hits < 5, "{hits} of 1,000 sources");
    }

    #[test]
    fn ipv6_is_where_ipv6_is_routed() {
        assert!(addresses(V6_MIXED.anywhere()).take(1_000).all(|address| match address {
            std::net::IpAddr::V6(address) => address.segments()[0] >> 13 == 1,
            std::net::IpAddr::V4(_) => false,
        }));
    }
}
