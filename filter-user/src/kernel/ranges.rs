use std::collections::HashMap;

use crate::{
    address::{Address, Partition},
    offload::ClassId,
};

/// Counts ranges of one class in a sequence of classes from the lowest address to the highest.
#[derive(Default)]
pub(super) struct Ranges {
    last: Option<u32>,
    counts: HashMap<u32, usize>,
}

impl Ranges {
    pub(super) fn next(&mut self, class: u32) {
        if self.last != Some(class) {
            *self.counts.entry(class).or_default() += 1;
            self.last = Some(class);
        }
    }

    /// All but those of the class that has the most, against which the others stand out.
    pub(super) fn standing_out(&self) -> usize {
        self.counts.values().sum::<usize>() - self.counts.values().max().copied().unwrap_or(0)
    }
}

/// Ranges of addresses that a table tells from the rest.
pub(super) fn ranges<A: Address>(partition: &Partition<A, ClassId>) -> usize {
    let mut ranges = Ranges::default();
    partition.iter().for_each(|piece| ranges.next(piece.label));
    ranges.standing_out()
}
