use crate::{
    address::{Address, Partition},
    offload::ClassId,
};

/// Counts ranges of one class in a sequence of classes from the lowest address to the highest.
#[derive(Default)]
pub(super) struct Ranges {
    last: Option<u32>,
    /// By class, of which there are few.
    counts: Vec<usize>,
}

impl Ranges {
    pub(super) fn next(&mut self, class: u32) {
        if self.last != Some(class) {
            let index = class as usize;
            if index >= self.counts.len() {
                self.counts.resize(index + 1, 0);
            }
            self.counts[index] += 1;
            self.last = Some(class);
        }
    }

    /// All but those of the class that has the most, against which the others stand out.
    pub(super) fn standing_out(&self) -> usize {
        self.counts.iter().sum::<usize>() - self.counts.iter().max().copied().unwrap_or(0)
    }
}

/// Ranges of addresses that a table tells from the rest.
pub(super) fn ranges<A: Address>(partition: &Partition<A, ClassId>) -> usize {
    let mut ranges = Ranges::default();
    partition.iter().for_each(|piece| ranges.next(piece.label));
    ranges.standing_out()
}
