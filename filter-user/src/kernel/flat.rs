//! From a partition to the `flat` engine's lines: see [`filter_ebpf::flat`] for what they mean.

use filter_ebpf::flat::{
    CLASS_MASK, LEAST_USED, LEVELS_V4, LEVELS_V6, Line, OFFSET_BITS, ROOT_BITS, ROOTS, SPLIT, WIDEST_LEAF,
    WIDEST_NODE, entry,
};

use crate::{
    address::{Address, Partition, Piece},
    offload::ClassId,
};

/// 4-byte words in a line.
const LINE: u32 = 16;

/// Pieces for each entry of a node, about: fewer need more memory for nodes, more need larger leaves.
const PIECES_FOR_AN_ENTRY: usize = 2;

/// Words of a leaf where another node could be: the program searches so many in one go.
const LEAF: u32 = 8;

/// What the `flat` engine knows of a table's addresses: lines and, for each family, the roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flat {
    pub(super) lines: Vec<Line>,
    pub(super) v4_roots: [u32; ROOTS],
    pub(super) v6_roots: [u32; ROOTS],
}

/// The lines would be more than offsets can reach; at least 128 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Flat {
    /// Lays out two partitions, whose classes are below [`filter_ebpf::flat::CLASSES`].
    pub(super) fn new(v4: &Partition<u32, ClassId>, v6: &Partition<u128, ClassId>) -> Result<Self, TooMany> {
        let mut space = Space::default();
        let pieces = v4.iter().map(|piece| (u64::from(piece.first) << 32, piece.label));
        let v4_roots = roots::<V4>(&mut space, pieces)?;
        let pieces = uppers(&mut space, v6)?;
        let v6_roots = roots::<V6>(&mut space, pieces)?;
        Ok(Self { lines: space.lines, v4_roots, v6_roots })
    }
}

/// Pieces of the upper 64 bits, by where they start.
fn uppers(space: &mut Space, partition: &Partition<u128, ClassId>) -> Result<Vec<(u64, Upper)>, TooMany> {
    let mut uppers: Vec<(u64, Upper)> = Vec::with_capacity(partition.pieces());
    let mut pieces = partition.iter().peekable();
    let mut before = 0;
    let mut inside = Vec::new();
    while let Some(Piece { first, label, .. }) = pieces.next() {
        let upper = (first >> 64) as u64;
        if first as u64 == 0 && pieces.peek().is_none_or(|next| (next.first >> 64) as u64 != upper) {
            uppers.push((upper, Upper::Class(label)));
            before = label;
            continue;
        }
        inside.clear();
        if first as u64 != 0 {
            inside.push((0, before));
        }
        inside.push((first as u64, label));
        before = label;
        while let Some(next) = pieces.next_if(|next| (next.first >> 64) as u64 == upper) {
            inside.push((next.first as u64, next.label));
            before = next.label;
        }
        uppers.push((upper, Upper::Split(space.records(&inside)?)));
        // The /64 ends, and its last piece may go on.
        if let Some(following) = upper.checked_add(1)
            && pieces.peek().is_none_or(|next| (next.first >> 64) as u64 != following)
        {
            uppers.push((following, Upper::Class(before)));
        }
    }
    Ok(uppers)
}

/// What holds from a start on, in the upper 64 bits of IPv6.
#[derive(Clone, Copy)]
enum Upper {
    /// A class.
    Class(ClassId),
    /// In one /64 only: a pointer to records.
    Split(u32),
}

/// How a family's leaves are written.
trait Family {
    type Value: Copy;
    /// Bits of an address; addresses are left-aligned in 64.
    const BITS: u32;
    const LEVELS: u32;
    /// 4-byte words in a leaf's word.
    const UNIT: u32;
    /// Words of a leaf that a value takes.
    fn words(value: Self::Value) -> u32;
    fn class(value: Self::Value) -> Option<ClassId>;
    /// Writes a word, or two; `rest` is what nodes have not used of the start.
    fn write(leaf: &mut Vec<u64>, rest: u64, value: Self::Value);
}

struct V4;

impl Family for V4 {
    type Value = ClassId;
    const BITS: u32 = 32;
    const LEVELS: u32 = LEVELS_V4;
    const UNIT: u32 = 1;

    fn words(_: ClassId) -> u32 {
        1
    }

    fn class(value: ClassId) -> Option<ClassId> {
        Some(value)
    }

    fn write(leaf: &mut Vec<u64>, rest: u64, value: ClassId) {
        leaf.push(rest >> 32 | u64::from(value));
    }
}

struct V6;

impl Family for V6 {
    type Value = Upper;
    const BITS: u32 = 64;
    const LEVELS: u32 = LEVELS_V6;
    const UNIT: u32 = 2;

    fn words(value: Upper) -> u32 {
        match value {
            Upper::Class(_) => 1,
            Upper::Split(_) => 2,
        }
    }

    fn class(value: Upper) -> Option<ClassId> {
        match value {
            Upper::Class(class) => Some(class),
            Upper::Split(_) => None,
        }
    }

    fn write(leaf: &mut Vec<u64>, rest: u64, value: Upper) {
        match value {
            Upper::Class(class) => leaf.push(rest | u64::from(class)),
            Upper::Split(records) => {
                let pointer = u64::from(records);
                leaf.push(rest | pointer >> 15);
                leaf.push(rest | SPLIT | pointer & (SPLIT - 1));
            }
        }
    }
}

fn roots<F: Family>(
    space: &mut Space,
    pieces: impl IntoIterator<Item = (u64, F::Value)>,
) -> Result<[u32; ROOTS], TooMany> {
    let mut roots = [0; ROOTS];
    let mut pieces = pieces.into_iter().peekable();
    // Of one root at a time: of all, they would be the largest allocation of a reload.
    let mut inside: Vec<(u64, F::Value)> = Vec::new();
    for (number, root) in (0..).zip(&mut roots) {
        let start: u64 = number << (u64::BITS - ROOT_BITS);
        // The piece that goes on from the root before, unless another begins here.
        let before = inside.pop().filter(|_| pieces.peek().is_none_or(|piece| piece.0 > start));
        inside.clear();
        inside.extend(before);
        let last = start | u64::MAX >> ROOT_BITS;
        inside.extend(std::iter::from_fn(|| pieces.next_if(|piece| piece.0 <= last)));
        *root = tree::<F>(space, &Part { start, pieces: &inside }, ROOT_BITS, 0)?;
    }
    Ok(roots)
}

/// A block of addresses that have their first bits in common.
struct Part<'p, V> {
    start: u64,
    /// The pieces in it; the first may have begun before it.
    pieces: &'p [(u64, V)],
}

/// The 2^width equal parts of the block at `start`, whose addresses have `used` bits in common.
fn parts<V>(pieces: &[(u64, V)], start: u64, used: u32, width: u32) -> impl Iterator<Item = Part<'_, V>> {
    let host = u64::MAX.checked_shr(used + width).unwrap_or(0);
    let (mut from, mut next) = (0, start);
    (0..1u32 << width).map(move |_| {
        let start = next;
        let last = start | host;
        next = last.wrapping_add(1);
        // The piece that ends where this part begins is of no interest to it.
        if pieces.get(from + 1).is_some_and(|piece| piece.0 == start) {
            from += 1;
        }
        let first = from;
        while pieces.get(from + 1).is_some_and(|piece| piece.0 <= last) {
            from += 1;
        }
        Part { start, pieces: &pieces[first..=from] }
    })
}

/// The entry for one part, whose addresses have `used` bits in common, `level` nodes below the root.
fn tree<F: Family>(
    space: &mut Space,
    part: &Part<'_, F::Value>,
    used: u32,
    level: u32,
) -> Result<u32, TooMany> {
    if let [(_, only)] = part.pieces
        && let Some(class) = F::class(*only)
    {
        return space.constant::<F>(class);
    }
    let words: u32 = part.pieces.iter().map(|(_, value)| F::words(*value)).sum();
    let full = level == F::LEVELS || used == F::BITS;
    if used >= LEAST_USED && (full || words <= LEAF) {
        return leaf::<F>(space, part, used);
    }
    let least = LEAST_USED.saturating_sub(used).max(1);
    let width = (part.pieces.len() / PIECES_FOR_AN_ENTRY)
        .max(1)
        .next_power_of_two()
        .ilog2()
        .clamp(least, WIDEST_NODE)
        .min(F::BITS - used);
    let node = space.node(width)?;
    for (part, at) in parts(part.pieces, part.start, used, width).zip(node..) {
        let entry = tree::<F>(space, &part, used + width, level + 1)?;
        space.set(at, entry);
    }
    pointer(node, width, true)
}

fn leaf<F: Family>(space: &mut Space, part: &Part<'_, F::Value>, used: u32) -> Result<u32, TooMany> {
    let mut words = std::mem::take(&mut space.leaf);
    words.clear();
    for (start, value) in part.pieces {
        let rest = start.max(&part.start).checked_shl(used).unwrap_or(0);
        F::write(&mut words, rest, *value);
    }
    let width = exponent(words.len())?;
    let at = space.block((1 << width) * F::UNIT)?;
    // What is too many repeats the first word, which is content with any address.
    let padding = (1usize << width) - words.len();
    let padded = std::iter::repeat_n(words[0], padding).chain(words.iter().copied());
    for (word, at) in padded.zip((at..).step_by(F::UNIT as usize)) {
        if F::UNIT == 1 {
            space.set(at, word as u32);
        } else {
            space.set_long(at, word);
        }
    }
    space.leaf = words;
    pointer(at / F::UNIT, width, false)
}

/// The exponent of the power of two that has room for so many.
fn exponent(words: usize) -> Result<u32, TooMany> {
    let width = words.next_power_of_two().ilog2();
    if width > WIDEST_LEAF { Err(TooMany) } else { Ok(width) }
}

fn pointer(offset: u32, width: u32, node: bool) -> Result<u32, TooMany> {
    if offset >> OFFSET_BITS != 0 { Err(TooMany) } else { Ok(entry::pointer(offset, width, node)) }
}

/// Lines in the making.
#[derive(Default)]
struct Space {
    lines: Vec<Line>,
    /// Unused blocks inside lines: of 1, 2, 4 and 8 words.
    unused: [Vec<u32>; 4],
    /// Leaves of one word, by the exponent of its size and by class.
    constants: [Vec<Option<u32>>; 2],
    /// The words of the leaf in the making.
    leaf: Vec<u64>,
}

impl Space {
    fn fresh(&mut self, lines: u32) -> Result<u32, TooMany> {
        let first = self.lines.len();
        let end = first + lines as usize;
        if end > (1 << OFFSET_BITS) / LINE as usize {
            return Err(TooMany);
        }
        self.lines.resize(end, [0; 8]);
        Ok(first as u32 * LINE)
    }

    /// Room for a power of two of 4-byte words: never across lines unless it fills them.
    fn block(&mut self, words: u32) -> Result<u32, TooMany> {
        if words >= LINE {
            return self.fresh(words / LINE);
        }
        let wanted = words.ilog2() as usize;
        let found = (wanted..self.unused.len()).find_map(|size| Some((size, self.unused[size].pop()?)));
        let (size, at) = match found {
            Some(found) => found,
            None => (self.unused.len(), self.fresh(1)?),
        };
        // Halves of what was found stay unused down to the wanted size.
        for size in wanted..size {
            self.unused[size].push(at + (1 << size));
        }
        Ok(at)
    }

    /// The leaf for addresses that all have one class.
    fn constant<F: Family>(&mut self, class: ClassId) -> Result<u32, TooMany> {
        let (size, index) = (F::UNIT.ilog2() as usize, class as usize);
        if let Some(Some(known)) = self.constants[size].get(index) {
            return Ok(*known);
        }
        let at = self.block(F::UNIT)?;
        self.set(at, class);
        let entry = pointer(at / F::UNIT, 0, false)?;
        let constants = &mut self.constants[size];
        constants.resize(constants.len().max(index + 1), None);
        constants[index] = Some(entry);
        Ok(entry)
    }

    fn node(&mut self, width: u32) -> Result<u32, TooMany> {
        self.block(1 << width)
    }

    fn set(&mut self, at: u32, word: u32) {
        let long = &mut self.lines[(at / LINE) as usize][(at % LINE / 2) as usize];
        let shift = at % 2 * 32;
        *long = *long & !(u64::from(u32::MAX) << shift) | u64::from(word) << shift;
    }

    fn set_long(&mut self, at: u32, word: u64) {
        self.lines[(at / LINE) as usize][(at % LINE / 2) as usize] = word;
    }

    /// Writes the lower halves of addresses in one /64, and their classes.
    fn records(&mut self, pieces: &[(u64, ClassId)]) -> Result<u32, TooMany> {
        const WORDS: u32 = 4;
        let width = exponent(pieces.len())?;
        let at = self.block((1 << width) * WORDS)?;
        let padding = (1usize << width) - pieces.len();
        let padded = std::iter::repeat_n(&pieces[0], padding).chain(pieces);
        for ((lower, class), at) in padded.zip((at..).step_by(WORDS as usize)) {
            self.set_long(at, *lower);
            self.set_long(at + 2, u64::from(*class));
        }
        pointer(at / WORDS, width, false)
    }
}

/// [`ranges`] of IPv4 according to what the kernel holds. `None` if a pointer leads outside.
pub(super) fn ranges_v4(lines: &[Line], roots: &[u32; ROOTS]) -> Option<usize> {
    walk(lines, roots, |lines, leaf, classes| {
        let (at, width) = target(leaf);
        for index in at..at + (1 << width) {
            classes.next(word(lines, index)? & CLASS_MASK as u32);
        }
        Some(())
    })
}

/// The same for IPv6.
pub(super) fn ranges_v6(lines: &[Line], roots: &[u32; ROOTS]) -> Option<usize> {
    walk(lines, roots, |lines, leaf, classes| {
        let (at, width) = target(leaf);
        let long = |at: u32| Some(lines.get(at as usize / 8)?[at as usize % 8]);
        let end = at + (1 << width);
        let mut index = at;
        while index < end {
            let mut one = long(index)?;
            // The first of two words is told by the one behind it; padding may repeat it.
            let upper = one & !CLASS_MASK;
            let mut last = index;
            while last + 1 < end && long(last + 1)? & !CLASS_MASK == upper {
                last += 1;
            }
            let split = long(last)? & SPLIT != 0 && last > index;
            if split {
                let before = long(last - 1)?;
                one = long(last)?;
                let records = ((before & CLASS_MASK) << 15 | one & (SPLIT - 1)) as u32;
                let (at, width) = target(records);
                for record in at..at + (1 << width) {
                    classes.next((long(record * 2 + 1)? & CLASS_MASK) as u32);
                }
            } else {
                classes.next((long(last)? & CLASS_MASK) as u32);
            }
            index = last + 1;
        }
        Some(())
    })
}

fn target(pointer: u32) -> (u32, u32) {
    (pointer >> entry::OFFSET_SHIFT, pointer & entry::WIDTH_MASK)
}

fn word(lines: &[Line], at: u32) -> Option<u32> {
    let long = lines.get((at / LINE) as usize)?[(at % LINE / 2) as usize];
    Some((long >> (at % 2 * 32)) as u32)
}

/// Counts ranges of one class in a sequence of classes from the lowest address to the highest.
#[derive(Default)]
struct Ranges {
    last: Option<u32>,
    /// By class, of which there are few.
    counts: Vec<usize>,
}

impl Ranges {
    fn next(&mut self, class: u32) {
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
    fn standing_out(&self) -> usize {
        self.counts.iter().sum::<usize>() - self.counts.iter().max().copied().unwrap_or(0)
    }
}

/// Ranges of addresses that a table tells from the rest.
pub(super) fn ranges<A: Address>(partition: &Partition<A, ClassId>) -> usize {
    let mut ranges = Ranges::default();
    partition.iter().for_each(|piece| ranges.next(piece.label));
    ranges.standing_out()
}

fn walk(
    lines: &[Line],
    roots: &[u32; ROOTS],
    leaf: impl Fn(&[Line], u32, &mut Ranges) -> Option<()>,
) -> Option<usize> {
    let mut classes = Ranges::default();
    let mut todo: Vec<u32> = roots.iter().rev().copied().collect();
    // A node that led to itself would never end.
    let mut left = lines.len() * LINE as usize + ROOTS;
    while let Some(found) = todo.pop() {
        left = left.checked_sub(1)?;
        if found & entry::NODE == 0 {
            leaf(lines, found, &mut classes)?;
        } else {
            let (at, width) = target(found);
            for index in (at..at + (1 << width)).rev() {
                todo.push(word(lines, index)?);
            }
        }
    }
    Some(classes.standing_out())
}

#[cfg(test)]
mod tests {
    use std::ops::BitXor;

    use filter_ebpf::flat::{class_v4, class_v6};
    use proptest::prelude::*;

    use super::*;

    fn ask_v4(flat: &Flat, address: u32) -> Option<u32> {
        class_v4(flat.lines.as_slice(), &flat.v4_roots, address)
    }

    fn ask_v6(flat: &Flat, address: u128) -> Option<u32> {
        class_v6(flat.lines.as_slice(), &flat.v6_roots, (address >> 64) as u64, address as u64)
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
        let flat = Flat::new(v4, v6).unwrap();
        for address in around(v4).into_iter().chain(more.iter().map(|bits| *bits as u32)) {
            assert_eq!(ask_v4(&flat, address), Some(v4.get(address)), "{}", address.ip());
        }
        for address in around(v6).into_iter().chain(more.iter().copied()) {
            assert_eq!(ask_v6(&flat, address), Some(v6.get(address)), "{}", address.ip());
        }
        assert_eq!(ranges_v4(&flat.lines, &flat.v4_roots), Some(ranges(v4)));
        assert_eq!(ranges_v6(&flat.lines, &flat.v6_roots), Some(ranges(v6)));
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
                (last ^ A::MIN.block_end(host_bits), last, class)
            });
            Partition::from_nested(nets.collect(), 3)
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
            (this, this, 1 + n % 2)
        });
        Partition::from_sorted(pieces, 0).unwrap()
    }

    #[test]
    fn dense_runs_fill_whole_leaves() {
        let none = Partition::constant(0);
        let none_v4 = Partition::constant(0);
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
    fn one_class_needs_one_line() {
        let flat = Flat::new(&Partition::constant(5), &Partition::constant(6)).unwrap();
        assert_eq!((flat.lines.len(), ask_v4(&flat, 9), ask_v6(&flat, 9)), (1, Some(5), Some(6)));
    }

    #[test]
    fn memory_follows_the_pieces() {
        // A scattered million, which is the worst: every prefix costs two pieces, and no two share an entry.
        let mut state = 1u32;
        let nets = std::iter::repeat_with(|| {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let address = state ^ state >> 15;
            (address, address, 1)
        });
        let v4 = Partition::from_nested(nets.take(1_000_000).collect(), 0);
        let flat = Flat::new(&v4, &Partition::constant(0)).unwrap();
        let bytes = flat.lines.len() * size_of::<Line>();
        assert!(bytes < 24 << 20, "{bytes} bytes for {} pieces", v4.pieces());
    }

    #[test]
    fn more_than_a_leaf_can_hold_is_refused() {
        let one_net = dense(0x2001u128 << 112, 1_100_000, |at| at + 2);
        assert_eq!(Flat::new(&Partition::constant(0), &one_net), Err(TooMany));
    }
}
