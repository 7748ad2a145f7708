//! Lists of prefixes that every filter takes as they are: none covers or touches another's addresses.

use std::{fmt, net::Ipv4Addr};

/// How many /24 networks there are to choose from: the first half of the unicast addresses, about.
const BLOCKS: u32 = 1 << 23;

/// One of the two lists that are enforced in turn; they have no prefix in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    A,
    B,
}

impl Which {
    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// As long as a list can be.
pub(crate) const LONGEST: u32 = BLOCKS / 2;

/// A network or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    address: Ipv4Addr,
    length: u8,
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.length {
            32 => write!(f, "{}", self.address),
            length => write!(f, "{}/{length}", self.address),
        }
    }
}

/// `count` prefixes in no order, half of them single addresses and half of them /24s.
pub(crate) fn list(which: Which, count: u32) -> impl Iterator<Item = Prefix> {
    let first = if which == Which::A { 0 } else { count };
    (first..first + count).map(|number| {
        let bits = scattered(number);
        let network = 0x0100_0000 + (bits << 8);
        let single = number.is_multiple_of(2);
        let host = if single { bits.wrapping_mul(0x9e37_79b1) >> 24 } else { 0 };
        Prefix { address: Ipv4Addr::from_bits(network | host), length: if single { 32 } else { 24 } }
    })
}

/// Another number below [`BLOCKS`] for each number below it.
fn scattered(number: u32) -> u32 {
    let mut x = number & (BLOCKS - 1);
    for _ in 0..2 {
        x ^= x >> 11;
        x = x.wrapping_mul(0x2c1b_3c6d) & (BLOCKS - 1);
        x ^= x >> 13;
    }
    x
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Which, list};

    #[test]
    fn no_two_prefixes_of_both_lists_are_in_one_block() {
        let count = 100_000;
        let blocks: HashSet<u32> = [Which::A, Which::B]
            .into_iter()
            .flat_map(|which| list(which, count))
            .map(|prefix| prefix.address.to_bits() >> 8)
            .collect();
        assert_eq!(blocks.len(), 2 * count as usize);
        assert!(list(Which::A, count).all(|prefix| (1..=223).contains(&prefix.address.octets()[0])));
    }
}
