//! Pieces of the address space, and how they fall into blocks of addresses.

use std::ops::Range;

use crate::{address::Address, offload::ClassId};

/// The root's buckets are for the smallest block in which all but one in so many pieces begin.
const STRAYS: usize = 16;
/// Bits of that block, at most.
const LONGEST_PREFIX: u32 = 32;

/// An address as one or two halves of 64 bits, left-aligned.
pub(super) trait Halves: Address {
    /// Bits of a half.
    const HALF: u32;

    fn half(self, lower: bool) -> u64;

    /// What the upper half does not have.
    fn below(self) -> u64;

    /// The first address that has an upper half.
    fn of_upper(half: u64) -> Self;
}

impl Halves for u32 {
    const HALF: u32 = 32;

    fn half(self, _: bool) -> u64 {
        u64::from(self) << 32
    }

    fn below(self) -> u64 {
        0
    }

    fn of_upper(half: u64) -> Self {
        (half >> 32) as u32
    }
}

impl Halves for u128 {
    const HALF: u32 = 64;

    fn half(self, lower: bool) -> u64 {
        if lower { self as u64 } else { (self >> 64) as u64 }
    }

    fn below(self) -> u64 {
        self as u64
    }

    fn of_upper(half: u64) -> Self {
        u128::from(half) << 64
    }
}

/// Pieces in rising order, each from its start to the next one's.
#[derive(Clone, Copy)]
pub(super) struct Pieces<'p, A> {
    pub(super) starts: &'p [A],
    pub(super) classes: &'p [ClassId],
}

/// A block of addresses: all that have the first `used` bits of a half in common (and, in the lower half, the
/// whole upper one).
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// The pieces in it. The first may have begun before it; the others begin inside.
    pub(super) pieces: Range<usize>,
    pub(super) lower: bool,
    /// The first address, in the half.
    pub(super) start: u64,
    pub(super) used: u32,
}

impl Block {
    /// The last address, in the half.
    fn last(&self) -> u64 {
        self.start | below(self.used)
    }
}

/// All bits but the first `used`.
pub(super) fn below(used: u32) -> u64 {
    u64::MAX.checked_shr(used).unwrap_or(0)
}

/// A part of a block: all that a bucket does not tell apart.
pub(super) struct Segment {
    /// The first address, in the half.
    pub(super) start: u64,
    pub(super) content: Content,
}

pub(super) enum Content {
    Class(ClassId),
    /// Several pieces; the first may have begun before.
    Pieces(Range<usize>),
}

impl<A: Halves> Pieces<'_, A> {
    /// Whether a piece begins where all bits after the first `used` are zero.
    fn is_exact(&self, piece: usize, lower: bool, used: u32) -> bool {
        let start = self.starts[piece];
        start.half(lower) & below(used) == 0 && (lower || start.below() == 0)
    }

    /// What `bits` more bits divide a block into, neighbours of one class joined; `None` for more than `most`.
    pub(super) fn segments(&self, block: &Block, bits: u32, most: usize) -> Option<Vec<Segment>> {
        let used = block.used + bits;
        let segment_of = |piece: usize| self.starts[piece].half(block.lower) & !below(used);
        let mut segments = Vec::with_capacity(most + 2);
        let mut piece = block.pieces.start;
        while piece < block.pieces.end {
            if segments.len() > most {
                return None;
            }
            let first = piece == block.pieces.start;
            let start = if first { block.start } else { segment_of(piece) };
            let exact = first || self.is_exact(piece, block.lower, used);
            let mut next = piece + 1;
            while next < block.pieces.end && segment_of(next) == start {
                next += 1;
            }
            if exact && next == piece + 1 {
                segments.push(Segment { start, content: Content::Class(self.classes[piece]) });
            } else {
                let from = if exact { piece } else { piece - 1 };
                segments.push(Segment { start, content: Content::Pieces(from..next) });
                // The last piece goes on behind the segment.
                if let Some(behind) = (start | below(used)).checked_add(1)
                    && behind <= block.last()
                    && (next == block.pieces.end || segment_of(next) != behind)
                {
                    segments.push(Segment { start: behind, content: Content::Class(self.classes[next - 1]) });
                }
            }
            piece = next;
        }
        (segments.len() <= most).then_some(segments)
    }

    /// The 2^width equal parts of a block.
    pub(super) fn parts(&self, block: &Block, width: u32) -> impl Iterator<Item = Block> {
        let (lower, used) = (block.lower, block.used + width);
        let (mut from, end) = (block.pieces.start, block.pieces.end);
        let mut next = block.start;
        (0..1u32 << width).map(move |_| {
            let start = next;
            let last = start | below(used);
            next = last.wrapping_add(1);
            // The piece that ends where this part begins is of no interest to it.
            if from + 1 < end
                && self.starts[from + 1].half(lower) == start
                && (lower || self.starts[from + 1].below() == 0)
            {
                from += 1;
            }
            let first = from;
            while from + 1 < end && self.starts[from + 1].half(lower) <= last {
                from += 1;
            }
            Block { pieces: first..from + 1, lower, start, used }
        })
    }

    /// The smallest block in which nearly all pieces begin.
    pub(super) fn densest(&self) -> Block {
        let changes = &self.starts[1..];
        let strays = changes.len() / STRAYS;
        let (mut start, mut used) = (0, 0);
        let before = |half: u64| changes.partition_point(|change| change.half(false) < half);
        while used < LONGEST_PREFIX && !changes.is_empty() {
            let middle = start | 1 << (63 - used);
            let last = start | below(used);
            let (low, high) = (before(start), last.checked_add(1).map_or(changes.len(), before));
            let inside = [before(middle) - low, high - before(middle)];
            if changes.len() - inside[0] <= strays {
                used += 1;
            } else if changes.len() - inside[1] <= strays {
                (start, used) = (middle, used + 1);
            } else {
                break;
            }
        }
        let first = self.starts.partition_point(|piece| *piece <= A::of_upper(start)) - 1;
        let block = Block { pieces: 0..0, lower: false, start, used };
        let end = self.starts.partition_point(|piece| piece.half(false) <= block.last());
        Block { pieces: first..end, ..block }
    }

    /// The pieces outside a block; inside there is only the one before.
    pub(super) fn around(&self, block: &Block) -> (Vec<A>, Vec<ClassId>) {
        let before = self.starts.partition_point(|piece| *piece < A::of_upper(block.start)).max(1);
        let mut starts = self.starts[..before].to_vec();
        let mut classes = self.classes[..before].to_vec();
        if let Some(behind) = block.last().checked_add(1) {
            let next = self.starts.partition_point(|piece| *piece <= A::of_upper(behind));
            starts.push(A::of_upper(behind));
            classes.push(self.classes[next - 1]);
            starts.extend(&self.starts[next..]);
            classes.extend(&self.classes[next..]);
        }
        (starts, classes)
    }
}
