//! From a partition to the `flat` engine's buckets: see [`filter_ebpf::flat`] for what they mean.

use std::ops::Range;

use filter_ebpf::flat::{
    Bucket, CELL_BITS, CLASSES, DEEP, LINE_BUCKETS, Line, NEVER, PIECES, Root, WIDE_PIECES, WIDEST_ROOT,
    pointer,
};

use crate::{
    address::{Address, Partition},
    offload::ClassId,
};

/// Pieces for each bucket of an array, at most: the array has the power of two of buckets that keeps this, so
/// that the eight pieces that a bucket holds are rarely too few.
const PIECES_FOR_A_BUCKET: usize = 4;
/// From so many IPv4 pieces on, buckets know all 32 bits: 17 select them, and 15 are compared.
const COMPLETE_V4: usize = 1 << 16;
const COMPLETE_V4_WIDTH: u32 = 32 - CELL_BITS;
/// Bits that select one of the root's buckets, at least.
const NARROWEST: u32 = 4;
/// Bits that an array below the root is selected by, at most.
const WIDEST_ARRAY: u32 = pointer::WIDTH_MASK;
/// The root's buckets are for the smallest block in which all but one in so many pieces begin.
const STRAYS: usize = 16;
/// Bits of that block, at most.
const LONGEST_PREFIX: u32 = 32;

/// A table's addresses as buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flat {
    first_line: usize,
    /// An even number of them.
    buckets: Vec<Bucket>,
    pub(super) v4: Root,
    pub(super) v6: Root,
}

/// The buckets would be more than pointers can reach, which is 512 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Flat {
    /// Lays out two partitions, whose classes are below [`CLASSES`], from a line on.
    pub(super) fn new(
        v4: &Partition<u32, ClassId>,
        v6: &Partition<u128, ClassId>,
        first_line: usize,
    ) -> Result<Self, TooMany> {
        let mut space = Space { first: (first_line * LINE_BUCKETS) as u32, buckets: Vec::new() };
        let v4 = root_v4(&mut space, v4)?;
        let v6 = root_v6(&mut space, v6)?;
        if !space.buckets.len().is_multiple_of(LINE_BUCKETS) {
            space.allocate(1)?;
        }
        Ok(Self { first_line, buckets: space.buckets, v4, v6 })
    }

    /// The number of the first line.
    pub(super) fn first_line(&self) -> usize {
        self.first_line
    }

    /// The lines from the first on.
    pub(super) fn lines(&self) -> &[Line] {
        // SAFETY: pairs of buckets have a line's size and alignment, and every bit pattern is a line.
        unsafe { std::slice::from_raw_parts(self.buckets.as_ptr().cast(), self.buckets.len() / LINE_BUCKETS) }
    }
}

/// An address as one or two halves of 64 bits, left-aligned.
trait Halves: Address {
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
struct Pieces<'p, A> {
    starts: &'p [A],
    classes: &'p [ClassId],
}

/// A block of addresses: all that have the first `used` bits of a half in common (and, in the lower half, the
/// whole upper one).
#[derive(Clone, Debug)]
struct Block {
    /// The pieces in it. The first may have begun before it; the others begin inside.
    pieces: Range<usize>,
    lower: bool,
    /// The first address, in the half.
    start: u64,
    used: u32,
}

impl Block {
    /// The last address, in the half.
    fn last(&self) -> u64 {
        self.start | below(self.used)
    }
}

/// All bits but the first `used`.
fn below(used: u32) -> u64 {
    u64::MAX.checked_shr(used).unwrap_or(0)
}

/// A part of a block: all that a bucket does not tell apart.
struct Cell {
    /// The first address, in the half.
    start: u64,
    content: Content,
}

enum Content {
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
    fn cells(&self, block: &Block, bits: u32, most: usize) -> Option<Vec<Cell>> {
        let used = block.used + bits;
        let cell_of = |piece: usize| self.starts[piece].half(block.lower) & !below(used);
        let mut cells = Vec::with_capacity(most + 2);
        let mut piece = block.pieces.start;
        while piece < block.pieces.end {
            if cells.len() > most {
                return None;
            }
            let first = piece == block.pieces.start;
            let start = if first { block.start } else { cell_of(piece) };
            let exact = first || self.is_exact(piece, block.lower, used);
            let mut next = piece + 1;
            while next < block.pieces.end && cell_of(next) == start {
                next += 1;
            }
            if exact && next == piece + 1 {
                cells.push(Cell { start, content: Content::Class(self.classes[piece]) });
            } else {
                let from = if exact { piece } else { piece - 1 };
                cells.push(Cell { start, content: Content::Pieces(from..next) });
                // The last piece goes on behind the cell.
                if let Some(behind) = (start | below(used)).checked_add(1)
                    && behind <= block.last()
                    && (next == block.pieces.end || cell_of(next) != behind)
                {
                    cells.push(Cell { start: behind, content: Content::Class(self.classes[next - 1]) });
                }
            }
            piece = next;
        }
        (cells.len() <= most).then_some(cells)
    }

    /// The 2^width equal parts of a block.
    fn parts(&self, block: &Block, width: u32) -> impl Iterator<Item = Block> {
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
    fn densest(&self) -> Block {
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
    fn around(&self, block: &Block) -> (Vec<A>, Vec<ClassId>) {
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

/// Buckets in the making.
struct Space {
    /// The number of the first one.
    first: u32,
    buckets: Vec<Bucket>,
}

impl Space {
    /// The number of the first of so many new buckets.
    fn allocate(&mut self, count: usize) -> Result<u32, TooMany> {
        let end = self.buckets.len() + count;
        if self.first as usize + end > (pointer::BLOCKS * pointer::BLOCK) as usize {
            return Err(TooMany);
        }
        let number = self.first + self.buckets.len() as u32;
        self.buckets.resize(end, [0; 4]);
        Ok(number)
    }

    /// The same, for at most [`PIECES`] buckets, all in one block.
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
    fn narrow<A: Halves>(&mut self, at: u32, pieces: Pieces<'_, A>, block: &Block) -> Result<(), TooMany> {
        let mut bucket = Narrow::default();
        let left = A::HALF - block.used;
        if block.pieces.len() == 1 {
            bucket.classes[0] = class(pieces.classes[block.pieces.start]);
        } else if let Some(cells) = pieces.cells(block, CELL_BITS.min(left), PIECES) {
            for (start, cell) in bucket.starts.iter_mut().zip(&cells[1..]) {
                *start = (cell.start << block.used >> (64 - CELL_BITS)) as u16;
            }
            bucket.upper = self.targets(pieces, block, CELL_BITS.min(left), &cells, &mut bucket.classes)?;
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
    fn array<A: Halves>(&mut self, pieces: Pieces<'_, A>, block: &Block, width: u32) -> Result<u32, TooMany> {
        let array = self.allocate(1 << width)?;
        for (at, part) in (array..).zip(pieces.parts(block, width)) {
            self.narrow(at, pieces, &part)?;
        }
        Ok(array)
    }

    /// Says what a bucket's cells are, and writes the buckets of those that are divided further. Returns the
    /// upper bits of the pointers to these.
    fn targets<A: Halves>(
        &mut self,
        pieces: Pieces<'_, A>,
        block: &Block,
        bits: u32,
        cells: &[Cell],
        classes: &mut [u16],
    ) -> Result<u16, TooMany> {
        let divided = cells.iter().filter(|cell| matches!(cell.content, Content::Pieces(_))).count();
        let first = if divided > 0 { self.allocate_together(divided)? } else { 0 };
        let mut next = first;
        for (cell, to) in cells.iter().zip(classes) {
            let range = match &cell.content {
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
                (Block { pieces: range, lower: block.lower, start: cell.start, used }, pointer::BELOW)
            };
            *to = (DEEP | kind | (next % pointer::BLOCK)) as u16;
            if let Some(cells) = pieces.cells(&inside, A::HALF - inside.used, WIDE_PIECES) {
                *to |= pointer::WIDE as u16;
                self.wide(next, pieces, &inside, &cells)?;
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
        cells: &[Cell],
    ) -> Result<(), TooMany> {
        let mut classes = [0; WIDE_PIECES];
        let upper = self.targets(pieces, block, A::HALF - block.used, cells, &mut classes)?;
        // An address that passes a start that stands twice passes two.
        let (starts, classes) = match cells {
            [only] => ([only.start; 2], [0, 0, classes[0]]),
            [_, last] => ([last.start; 2], [classes[0], 0, classes[1]]),
            [_, middle, last, ..] => ([middle.start, last.start], classes),
            [] => unreachable!("a block has a cell"),
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
fn width_for(pieces: usize) -> u32 {
    pieces.div_ceil(PIECES_FOR_A_BUCKET).next_power_of_two().ilog2()
}

/// What a narrow bucket consists of.
struct Narrow {
    starts: [u16; PIECES - 1],
    /// The upper bits of pointers.
    upper: u16,
    classes: [u16; PIECES],
}

impl Default for Narrow {
    fn default() -> Self {
        Self { starts: [NEVER; PIECES - 1], upper: 0, classes: [0; PIECES] }
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

fn root_v4(space: &mut Space, partition: &Partition<u32, ClassId>) -> Result<Root, TooMany> {
    let (starts, classes) = partition.as_slices();
    let mut width = width_for(starts.len()).clamp(NARROWEST, WIDEST_ROOT);
    if starts.len() >= COMPLETE_V4 {
        width = width.max(COMPLETE_V4_WIDTH);
    }
    let all = Block { pieces: 0..starts.len(), lower: false, start: 0, used: 0 };
    let first = space.allocate(1)?;
    space.array(Pieces { starts, classes }, &all, width)?;
    Ok(Root { prefix: 0, mask: 0, first, skip: 0, width, shift: 64 - width })
}

fn root_v6(space: &mut Space, partition: &Partition<u128, ClassId>) -> Result<Root, TooMany> {
    let (starts, classes) = partition.as_slices();
    let pieces = Pieces { starts, classes };
    let inside = pieces.densest();
    let width = width_for(inside.pieces.len()).clamp(NARROWEST, WIDEST_ROOT);
    let first = space.allocate(1 + (1 << width))?;
    for (at, part) in (first + 1..).zip(pieces.parts(&inside, width)) {
        space.narrow(at, pieces, &part)?;
    }
    let (starts, classes) = pieces.around(&inside);
    let all = Block { pieces: 0..starts.len(), lower: false, start: 0, used: 0 };
    space.narrow(first, Pieces { starts: &starts, classes: &classes }, &all)?;
    let Block { start: prefix, used: skip, .. } = inside;
    Ok(Root { prefix, mask: !below(skip), first, skip, width, shift: 64 - width })
}

#[cfg(test)]
mod tests {
    use std::ops::BitXor;

    use filter_ebpf::flat;
    use proptest::prelude::*;

    use super::{
        super::{
            installed::{installed_v4, installed_v6},
            ranges::ranges,
        },
        *,
    };

    fn ask_v4(flat: &Flat, address: u32) -> Option<u32> {
        flat::class(flat.lines(), &flat.v4, u64::from(address) << 32, 0)
    }

    fn ask_v6(flat: &Flat, address: u128) -> Option<u32> {
        flat::class(flat.lines(), &flat.v6, (address >> 64) as u64, address as u64)
    }

    fn around<A: Address>(partition: &Partition<A, ClassId>) -> Vec<A> {
        partition
            .iter()
            .flat_map(|piece| {
                [Some(piece.first), Some(piece.last), piece.first.next(), piece.last.previous()]
            })
            .flatten()
            .collect()
    }

    fn check(v4: &Partition<u32, ClassId>, v6: &Partition<u128, ClassId>, more: &[u128]) {
        let flat = Flat::new(v4, v6, 0).unwrap();
        for address in around(v4).into_iter().chain(more.iter().map(|bits| *bits as u32)) {
            assert_eq!(ask_v4(&flat, address), Some(v4.get(address).0), "{}", address.ip());
        }
        for address in around(v6).into_iter().chain(more.iter().copied()) {
            assert_eq!(ask_v6(&flat, address), Some(v6.get(address).0), "{}", address.ip());
        }
        assert_eq!(installed_v4(flat.lines(), &flat.v4), Some(ranges(v4)));
        assert_eq!(installed_v6(flat.lines(), &flat.v6), Some(ranges(v6)));
    }

    /// Pieces of random lengths, many of them short, from starts that meet often.
    fn starts<A: Address + BitXor<Output = A>>(
        bits: impl Strategy<Value = A>,
        most: usize,
    ) -> impl Strategy<Value = Partition<A, ClassId>> {
        proptest::collection::vec((bits, 0u8..=128, 0..7u32), 0..most).prop_map(|nets| {
            let nets = nets.into_iter().map(|(address, len, class)| {
                let host_bits = A::BITS - len.min(A::BITS);
                let last = address.block_end(host_bits);
                (last ^ A::MIN.block_end(host_bits), last, ClassId(class))
            });
            Partition::from_nested(nets.collect(), ClassId(3))
        })
    }

    fn near_v4() -> impl Strategy<Value = u32> {
        prop_oneof![
            0x0a00_0000u32..0x0a00_0200,
            0u32..4,
            u32::MAX - 3..=u32::MAX,
            any::<u32>(),
            any::<u32>().prop_map(|bits| bits & 0x0300_ff07),
        ]
    }

    fn near_v6() -> impl Strategy<Value = u128> {
        const NET: u128 = 0x2001_0db8 << 96;
        prop_oneof![
            NET..NET + 32,
            (0u128..64).prop_map(|n| NET + (n << 64)),
            (0u128..64, 0u128..8).prop_map(|(n, low)| NET + (n << 62) + low),
            (any::<u16>(), any::<u64>()).prop_map(|(n, low)| NET + (u128::from(n) << 80) + u128::from(low)),
            0u128..4,
            u128::MAX - 3..=u128::MAX,
            any::<u128>(),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..Default::default() })]
        #[test]
        fn a_lookup_is_what_the_partition_says(
            v4 in starts(near_v4(), 400),
            v6 in starts(near_v6(), 400),
            more in proptest::collection::vec(any::<u128>(), 100),
        ) {
            check(&v4, &v6, &more);
        }
    }

    /// A class that changes at every one of so many addresses, `apart` from each other.
    fn dense<A: Address>(first: A, count: u32, apart: impl Fn(A) -> A) -> Partition<A, ClassId> {
        let mut at = first;
        let pieces = (0..count).map(|n| {
            let this = at;
            at = apart(at);
            (this, this, ClassId(1 + n % 2))
        });
        Partition::from_sorted(pieces, ClassId(0)).unwrap()
    }

    #[test]
    fn dense_runs_fill_whole_leaves() {
        let none = Partition::constant(ClassId(0));
        let none_v4 = Partition::constant(ClassId(0));
        for first in [0u32, 0x0a00_ff00, u32::MAX - 150_000] {
            check(&dense(first, 150_000, |at| at.wrapping_add(1)), &none, &[]);
            check(&dense(first, 50_000, |at| at.wrapping_add(3)), &none, &[]);
        }
        for (first, apart) in [
            (0u128, 1u128),
            (0x2001 << 112, 1 << 64),
            (0x2001 << 112, 3 << 64),
            ((0x2001 << 112) + 7, 1 << 64),
            ((0x2001 << 112) + 7, 1 << 80),
            ((0x2001 << 112) + 7, (1 << 80) + 1),
            (u128::MAX - (200_000 << 32), 1 << 32),
        ] {
            check(&none_v4, &dense(first, 100_000, |at| at.wrapping_add(apart)), &[]);
        }
    }

    #[test]
    fn a_small_table_needs_little() {
        let flat = Flat::new(&Partition::constant(ClassId(5)), &Partition::constant(ClassId(6)), 0).unwrap();
        assert_eq!((ask_v4(&flat, 9), ask_v6(&flat, 9)), (Some(5), Some(6)));
        assert!(size_of_val(flat.lines()) <= 2_048, "{} lines", flat.lines().len());
    }

    #[test]
    fn a_table_can_begin_behind_something_else() {
        let v4 = dense(0x0a00_0000u32, 3_000, |at| at + 5);
        let v6 = dense(0x2001u128 << 112, 3_000, |at| at + (7 << 60));
        let flat = Flat::new(&v4, &v6, 700).unwrap();
        let mut lines = vec![[u64::MAX; 8]; flat.first_line()];
        lines.extend(flat.lines());
        for address in around(&v4) {
            let upper = u64::from(address) << 32;
            assert_eq!(flat::class(&lines[..], &flat.v4, upper, 0), Some(v4.get(address).0));
        }
        for address in around(&v6) {
            let (upper, lower) = ((address >> 64) as u64, address as u64);
            assert_eq!(flat::class(&lines[..], &flat.v6, upper, lower), Some(v6.get(address).0));
        }
    }

    #[test]
    fn memory_follows_the_pieces() {
        // A scattered million, which is the worst: every address costs two pieces, both in one bucket. With
        // an eighth more for growth, two generations leave 4 of 64 MB to everything else.
        let mut state = 1u32;
        let nets = std::iter::repeat_with(|| {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let address = state ^ state >> 15;
            (address, address, ClassId(1))
        });
        let v4 = Partition::from_nested(nets.take(1_000_000).collect(), ClassId(0));
        let flat = Flat::new(&v4, &Partition::constant(ClassId(0)), 0).unwrap();
        let bytes = size_of_val(flat.lines());
        assert!(bytes * 9 / 4 < 60_000_000, "{bytes} bytes for {} pieces", v4.pieces());
    }

    #[test]
    fn more_than_pointers_reach_is_refused() {
        let last = (pointer::BLOCKS * pointer::BLOCK) as usize / LINE_BUCKETS;
        let none = (Partition::constant(ClassId(0)), Partition::constant(ClassId(0)));
        assert_eq!(Flat::new(&none.0, &none.1, last - 8), Err(TooMany));
        assert!(Flat::new(&none.0, &none.1, last - 64).is_ok());
    }
}
