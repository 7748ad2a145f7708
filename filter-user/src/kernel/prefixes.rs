//! From a partition to prefixes for a longest-prefix-match trie.

use std::collections::HashMap;

use crate::{
    address::{Address, Partition, range_prefixes},
    offload::ClassId,
};

/// A prefix and the class of what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix<A> {
    /// The lowest address.
    pub(super) network: A,
    /// The prefix length in bits.
    pub(super) len: u8,
    /// The class.
    pub(super) class: ClassId,
}

/// A class for what no prefix matches, and prefixes for all the rest, in rising order and disjoint.
///
/// The class that would need the most prefixes is the one that needs none.
pub(super) fn cover<A: Address>(partition: &Partition<A, ClassId>) -> (ClassId, Vec<Prefix<A>>) {
    let mut counts: HashMap<ClassId, usize> = HashMap::new();
    for piece in partition.iter() {
        *counts.entry(piece.label).or_default() += range_prefixes(piece.first, piece.last).count();
    }
    // Of equals the lowest class, so that the same partition always gives the same prefixes.
    let background = counts
        .iter()
        .max_by_key(|(class, count)| (**count, std::cmp::Reverse(**class)))
        .map_or(0, |(class, _)| *class);
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
