//! Writing buckets.

use filter_ebpf::flat::{Bucket, CLASSES, DEEP, KEY_BITS, NEVER, RANGES, WIDE_RANGES, pointer};

use super::pieces::{Block, Content, Halves, Pieces, Segment};
use crate::offload::ClassId;

/// Pieces for each bucket of an array, at most: the array has the power of two of buckets that keeps this, so
/// that the eight ranges that a bucket holds are rarely too few.
const RANGES_FOR_A_BUCKET: usize = 4;
/// Bits that an array below the root is selected by, at most.
const WIDEST_ARRAY: u32 = pointer::WIDTH_MASK;

/// The buckets would be more than pointers can reach, which is 512 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// Buckets in the making.
pub(super) struct Writer {
    /// The number of the first one.
    pub(super) first: u32,
    pub(super) buckets: Vec<Bucket>,
}

impl Writer {
    /// The number of the first of so many new buckets.
    pub(super) fn allocate(&mut self, count: usize) -> Result<u32, TooMany> {
        let end = self.buckets.len() + count;
        if self.first as usize + end > (pointer::BLOCKS * pointer::BLOCK) as usize {
            return Err(TooMany);
        }
        let number = self.first + self.buckets.len() as u32;
        self.buckets.resize(end, [0; 4]);
        Ok(number)
    }

    /// The same, for at most [`RANGES`] buckets, all in one block.
    fn allocate_together(&mut self, count: usize) -> Result<u32, TooMany> {
        let next = self.first + self.buckets.len() as u32;
        let left = (next.next_multiple_of(pointer::BLOCK) - next) as usize;
        if left < count {
            self.allocate(left)?;
        }
        self.allocate(count)
    }

    fn set(&mut self, number: u32, bucket: Bucket) {
        self.buckets[(number - self.first) as usize] = bucket;
    }

    /// Writes a narrow bucket.
    pub(super) fn narrow<A: Halves>(
        &mut self,
        at: u32,
        pieces: Pieces<'_, A>,
        block: &Block,
    ) -> Result<(), TooMany> {
        let mut bucket = Narrow::default();
        let left = A::HALF - block.used;
        if block.pieces.len() == 1 {
            bucket.classes[0] = class(pieces.classes[block.pieces.start]);
        } else if let Some(segments) = pieces.segments(block, KEY_BITS.min(left), RANGES) {
            for (start, segment) in bucket.starts.iter_mut().zip(&segments[1..]) {
                *start = (segment.start << block.used >> (64 - KEY_BITS)) as u16;
            }
            bucket.upper = self.targets(pieces, block, KEY_BITS.min(left), &segments, &mut bucket.classes)?;
        } else {
            let width = width_for(block.pieces.len()).clamp(1, WIDEST_ARRAY.min(left));
            let array = self.array(pieces, block, width)?;
            bucket.upper = (array / pointer::BLOCK) as u16;
            bucket.classes[0] = (DEEP | width << pointer::WIDTH_SHIFT | (array % pointer::BLOCK)) as u16;
        }
        self.set(at, bucket.words());
        Ok(())
    }

    /// Writes 2^width narrow buckets for the parts of a block.
    pub(super) fn array<A: Halves>(
        &mut self,
        pieces: Pieces<'_, A>,
        block: &Block,
        width: u32,
    ) -> Result<u32, TooMany> {
        let array = self.allocate(1 << width)?;
        for (at, part) in (array..).zip(pieces.parts(block, width)) {
            self.narrow(at, pieces, &part)?;
        }
        Ok(array)
    }

    /// Says what a bucket's segments are, and writes the buckets of those that are divided further. Returns the
    /// upper bits of the pointers to these.
    fn targets<A: Halves>(
        &mut self,
        pieces: Pieces<'_, A>,
        block: &Block,
        bits: u32,
        segments: &[Segment],
        classes: &mut [u16],
    ) -> Result<u16, TooMany> {
        let divided = segments.iter().filter(|segment| matches!(segment.content, Content::Pieces(_))).count();
        let first = if divided > 0 { self.allocate_together(divided)? } else { 0 };
        let mut next = first;
        for (segment, to) in segments.iter().zip(classes) {
            let range = match &segment.content {
                Content::Class(found) => {
                    *to = class(*found);
                    continue;
                }
                Content::Pieces(range) => range.clone(),
            };
            let used = block.used + bits;
            let (inside, kind) = if used == A::HALF {
                (Block { pieces: range, lower: true, start: 0, used: 0 }, pointer::LOWER)
            } else {
                (Block { pieces: range, lower: block.lower, start: segment.start, used }, pointer::BELOW)
            };
            *to = (DEEP | kind | (next % pointer::BLOCK)) as u16;
            if let Some(segments) = pieces.segments(&inside, A::HALF - inside.used, WIDE_RANGES) {
                *to |= pointer::WIDE as u16;
                self.wide(next, pieces, &inside, &segments)?;
            } else {
                self.narrow(next, pieces, &inside)?;
            }
            next += 1;
        }
        Ok((first / pointer::BLOCK) as u16)
    }

    /// Writes a wide bucket.
    fn wide<A: Halves>(
        &mut self,
        at: u32,
        pieces: Pieces<'_, A>,
        block: &Block,
        segments: &[Segment],
    ) -> Result<(), TooMany> {
        let mut classes = [0; WIDE_RANGES];
        let upper = self.targets(pieces, block, A::HALF - block.used, segments, &mut classes)?;
        // An address that passes a start that stands twice passes two.
        let (starts, classes) = match segments {
            [only] => ([only.start; 2], [0, 0, classes[0]]),
            [_, last] => ([last.start; 2], [classes[0], 0, classes[1]]),
            [_, middle, last, ..] => ([middle.start, last.start], classes),
            [] => unreachable!("a block has a segment"),
        };
        let words = classes.iter().rev().fold(0, |word, class| word << 16 | u64::from(*class));
        self.set(at, [starts[0], starts[1], words, u64::from(upper)]);
        Ok(())
    }
}

fn class(class: ClassId) -> u16 {
    debug_assert!(class.index() < CLASSES);
    class.0 as u16
}

/// The width of an array for so many pieces.
pub(super) fn width_for(pieces: usize) -> u32 {
    pieces.div_ceil(RANGES_FOR_A_BUCKET).next_power_of_two().ilog2()
}

/// What a narrow bucket consists of.
struct Narrow {
    starts: [u16; RANGES - 1],
    /// The upper bits of pointers.
    upper: u16,
    classes: [u16; RANGES],
}

impl Default for Narrow {
    fn default() -> Self {
        Self { starts: [NEVER; RANGES - 1], upper: 0, classes: [0; RANGES] }
    }
}

impl Narrow {
    fn words(&self) -> Bucket {
        let [a, b, c, d, e, f, g] = self.starts;
        let [h, i, j, k, l, m, n, o] = self.classes;
        [[a, b, c, d], [e, f, g, self.upper], [h, i, j, k], [l, m, n, o]]
            .map(|quarters| quarters.iter().rev().fold(0, |word, quarter| word << 16 | u64::from(*quarter)))
    }
}
