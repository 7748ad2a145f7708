//! Ranges of addresses that stand out from the rest.

use crate::{
    address::{Address, Partition},
    offload::ClassId,
};

/// Counts ranges of one class in a sequence of classes from the lowest address to the highest.
#[derive(Default)]
struct Ranges {
    last: Option<ClassId>,
    /// By class, of which there are few.
    counts: Vec<usize>,
}

impl Ranges {
    fn next(&mut self, class: ClassId) {
        if self.last != Some(class) {
            let index = class.index();
            if index >= self.counts.len() {
                self.counts.resize(index + 1, 0);
            }
            self.counts[index] += 1;
            self.last = Some(class);
        }
    }

    /// All but those of the class that has the most, against which the others stand out.
    fn standing_out(&self) -> usize {
        self.counts.iter().sum::<usize>() - self.counts.iter().max().copied().unwrap_or(0)
    }
}

/// How many ranges stand out, in a sequence of classes from the lowest address to the highest.
pub(super) fn standing_out(classes: impl Iterator<Item = ClassId>) -> usize {
    let mut ranges = Ranges::default();
    classes.for_each(|class| ranges.next(class));
    ranges.standing_out()
}

/// Ranges of addresses that a table tells from the rest.
pub(super) fn ranges<A: Address>(partition: &Partition<A, ClassId>) -> usize {
    standing_out(partition.as_slices().1.iter().copied())
}
