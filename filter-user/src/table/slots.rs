//! Numbers that things keep for as long as they exist.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    ops::Range,
};

/// A slot for each key: the previous one if it had one, else the lowest that no previous key has either,
/// because a previous table may still be read. `None` when the range has too few.
pub(super) fn assign<K: Eq + Hash>(
    previous: &HashMap<K, u32>,
    keys: impl Iterator<Item = K>,
    range: Range<u32>,
) -> Option<Vec<u32>> {
    let taken: HashSet<u32> = previous.values().copied().collect();
    let mut free = range.filter(|slot| !taken.contains(slot));
    keys.map(|key| previous.get(&key).copied().or_else(|| free.next())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_keeps_its_slot_and_what_comes_takes_none_that_was_in_use() {
        let previous = HashMap::from([("a", 1), ("b", 2), ("gone", 3)]);
        assert_eq!(assign(&previous, ["b", "new", "a"].into_iter(), 1..10), Some(vec![2, 4, 1]));
    }

    #[test]
    fn too_few_slots_are_noticed() {
        let previous = HashMap::from([("gone", 2)]);
        assert_eq!(assign(&previous, ["a"].into_iter(), 1..3), Some(vec![1]));
        assert_eq!(assign(&previous, ["a", "b"].into_iter(), 1..3), None);
    }
}
