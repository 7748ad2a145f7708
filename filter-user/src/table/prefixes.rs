//! From a partition to prefixes for a longest-prefix-match trie.

use std::collections::HashMap;

use crate::{
    address::{Address, Partition, range_prefixes},
    offload::ClassId,
};

/// A prefix and the class of what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix<A> {
    /// The lowest address.
    pub(crate) network: A,
    /// The prefix length in bits.
    pub(crate) len: u8,
    /// The class.
    pub(crate) class: ClassId,
}

/// A class for what no prefix matches, and prefixes for all the rest, in rising order and disjoint.
///
/// The class that would need the most prefixes is the one that needs none.
pub(crate) fn cover<A: Address>(partition: &Partition<A, ClassId>) -> (ClassId, Vec<Prefix<A>>) {
    let mut counts: HashMap<ClassId, usize> = HashMap::new();
    for piece in partition.iter() {
        *counts.entry(piece.label).or_default() += range_prefixes(piece.first, piece.last).count();
    }
    // Of equals the lowest class, so that the same partition always gives the same prefixes.
    let background = counts
        .iter()
        .max_by_key(|(class, count)| (**count, std::cmp::Reverse(**class)))
        .map_or(ClassId(0), |(class, _)| *class);
    let prefixes = partition
        .iter()
        .filter(|piece| piece.label != background)
        .flat_map(|piece| {
            range_prefixes(piece.first, piece.last).map(move |(network, len)| Prefix {
                network,
                len,
                class: piece.label,
            })
        })
        .collect();
    (background, prefixes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a trie of these prefixes says of an address.
    fn longest<A: Address>(prefixes: &[Prefix<A>], default: ClassId, address: A) -> ClassId {
        prefixes
            .iter()
            .filter(|p| p.network <= address && address <= p.network.block_end(A::BITS - p.len))
            .max_by_key(|p| p.len)
            .map_or(default, |p| p.class)
    }

    proptest! {
        #[test]
        fn the_longest_prefix_has_the_address_s_class(
            nets in proptest::collection::vec((any::<u16>(), 0u8..=16, 0u32..4), 0..20),
            probes in proptest::collection::vec(any::<u32>(), 20),
        ) {
            let nets: Vec<(u32, u32, ClassId)> = nets
                .into_iter()
                .map(|(high, host_bits, class)| {
                    let host = (1u32 << host_bits) - 1;
                    let first = u32::from(high) & !host;
                    (first, first | host, ClassId(class))
                })
                .collect();
            let partition = Partition::from_nested(nets.clone(), ClassId(2));
            let (default, prefixes) = cover(&partition);
            let edges = nets.iter().flat_map(|n| [n.0, n.1, n.0.wrapping_sub(1), n.1.wrapping_add(1)]);
            for address in edges.chain(probes) {
                prop_assert_eq!(longest(&prefixes, default, address), partition.get(address), "{:x}", address);
            }
        }
    }

    #[test]
    fn the_class_with_the_most_prefixes_needs_none() {
        let partition = Partition::from_nested(vec![(1u32, 1, ClassId(1)), (7, 7, ClassId(1))], ClassId(0));
        let (default, prefixes) = cover(&partition);
        assert_eq!(default, ClassId(0));
        assert_eq!(prefixes, [1, 7].map(|network| Prefix { network, len: 32, class: ClassId(1) }));
        let (default, prefixes) = cover(&Partition::<u128, ClassId>::constant(ClassId(5)));
        assert_eq!((default, prefixes.len()), (ClassId(5), 0));
    }
}
