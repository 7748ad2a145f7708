//! From a partition to the `flat` engine's buckets: see [`filter_ebpf::flat`] for what they mean.

mod installed;
mod pieces;
#[cfg(test)]
mod tests;
mod writer;

use filter_ebpf::flat::{Bucket, KEY_BITS, LINE_BUCKETS, Line, Root, WIDEST_ROOT};

use crate::{address::Partition, offload::ClassId};
pub(crate) use installed::{installed_v4, installed_v6};
use pieces::{Block, Pieces, below};
use writer::{TooMany, Writer, width_for};

/// From so many IPv4 pieces on, buckets know all 32 bits: 17 select them, and 15 are compared.
const COMPLETE_V4: usize = 1 << 16;
const COMPLETE_V4_WIDTH: u32 = 32 - KEY_BITS;
/// Bits that select one of the root's buckets, at least.
const NARROWEST: u32 = 4;

/// A table's addresses as buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flat {
    first_line: usize,
    /// An even number of them.
    buckets: Vec<Bucket>,
    pub(crate) v4: Root,
    pub(crate) v6: Root,
}

impl Flat {
    /// Lays out two partitions, whose classes are below [`CLASSES`](filter_ebpf::flat::CLASSES), from a line on.
    pub(crate) fn new(
        v4: &Partition<u32, ClassId>,
        v6: &Partition<u128, ClassId>,
        first_line: usize,
    ) -> Result<Self, TooMany> {
        let mut writer = Writer { first: (first_line * LINE_BUCKETS) as u32, buckets: Vec::new() };
        let v4 = root_v4(&mut writer, v4)?;
        let v6 = root_v6(&mut writer, v6)?;
        if !writer.buckets.len().is_multiple_of(LINE_BUCKETS) {
            writer.allocate(1)?;
        }
        Ok(Self { first_line, buckets: writer.buckets, v4, v6 })
    }

    /// The number of the first line.
    pub(crate) fn first_line(&self) -> usize {
        self.first_line
    }

    /// The lines from the first on.
    pub(crate) fn lines(&self) -> &[Line] {
        // SAFETY: pairs of buckets have a line's size and alignment, and every bit pattern is a line.
        unsafe { std::slice::from_raw_parts(self.buckets.as_ptr().cast(), self.buckets.len() / LINE_BUCKETS) }
    }
}

fn root_v4(writer: &mut Writer, partition: &Partition<u32, ClassId>) -> Result<Root, TooMany> {
    let (starts, classes) = partition.as_slices();
    let mut width = width_for(starts.len()).clamp(NARROWEST, WIDEST_ROOT);
    if starts.len() >= COMPLETE_V4 {
        width = width.max(COMPLETE_V4_WIDTH);
    }
    let all = Block { pieces: 0..starts.len(), lower: false, start: 0, used: 0 };
    let first = writer.allocate(1)?;
    writer.array(Pieces { starts, classes }, &all, width)?;
    Ok(Root { prefix: 0, mask: 0, first, skip: 0, width, shift: 64 - width })
}

fn root_v6(writer: &mut Writer, partition: &Partition<u128, ClassId>) -> Result<Root, TooMany> {
    let (starts, classes) = partition.as_slices();
    let pieces = Pieces { starts, classes };
    let inside = pieces.densest();
    let width = width_for(inside.pieces.len()).clamp(NARROWEST, WIDEST_ROOT);
    let first = writer.allocate(1 + (1 << width))?;
    for (at, part) in (first + 1..).zip(pieces.parts(&inside, width)) {
        writer.narrow(at, pieces, &part)?;
    }
    let (starts, classes) = pieces.around(&inside);
    let all = Block { pieces: 0..starts.len(), lower: false, start: 0, used: 0 };
    writer.narrow(first, Pieces { starts: &starts, classes: &classes }, &all)?;
    let Block { start: prefix, used: skip, .. } = inside;
    Ok(Root { prefix, mask: !below(skip), first, skip, width, shift: 64 - width })
}
