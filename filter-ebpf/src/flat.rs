//! The `flat` engine's memory, and the lookup that both the program and the host's tests run.
//!
//! A generation's addresses lie in cache lines of 64 bytes, numbered from 0. The top 8 bits of an address
//! (IPv4's 32, IPv6's upper 64) select one of 256 root entries. An entry is a class, or points to
//!
//! - a *node*: 2^w entries, selected by the next w bits, where w follows from how many pieces there are; or
//! - a *leaf*: 2^w words in rising order, each the start of a piece and its class. A leaf of up to one line
//!   never crosses a line, and is searched without a branch: on random sources a mispredicted branch costs
//!   as much as the cache miss that it hides from the next packet.
//!
//! Where all addresses have one class there is a leaf of one word, the same for all of that class. An entry
//! could say so itself; but whether it does is then a branch that random sources mispredict.
//!
//! Most lookups touch one entry and one leaf: two lines. Leaves of several lines exist only where the levels
//! of nodes were used up; they are searched by their lines' first words.
//!
//! All of a leaf's words keep the bits of the address that the nodes have not used, left-aligned: IPv4 16
//! bits above 16 bits for the class, IPv6 48 bits above 16. So nothing is looked up in a second array, and a
//! search is for the last word that is not above the address with all lower bits set.
//!
//! Pieces that begin inside an IPv6 /64 are rare. Such a /64 has two words with the same upper bits, whose
//! lower bits together point to *records*: the lower 64 bits of an address, and its class.

/// A cache line. All of a generation is made of them.
pub type Line = [u64; 8];

/// Bytes in a line.
pub const LINE_BYTES: usize = size_of::<Line>();
/// Bits of an address that select a root entry.
pub const ROOT_BITS: u32 = 8;
/// Root entries of a family.
pub const ROOTS: usize = 1 << ROOT_BITS;
/// Bits that nodes and the root must have used before a leaf, so that the rest leaves room for a class.
pub const LEAST_USED: u32 = 16;
/// Levels of nodes for IPv4.
pub const LEVELS_V4: u32 = 2;
/// Levels of nodes for IPv6.
pub const LEVELS_V6: u32 = 4;
/// Bits that one node selects by, at most.
pub const WIDEST_NODE: u32 = 14;
/// The exponent of a leaf's or record block's size, at most; more than 2^20 words are never in one /16.
pub const WIDEST_LEAF: u32 = 20;
/// Classes that the words of a leaf have room for.
pub const CLASSES: usize = 1 << 15;
/// Offsets have so many bits.
pub const OFFSET_BITS: u32 = 25;

/// An entry of a node or root: `offset << 6 | node << 5 | width`.
///
/// The offset of a node counts 4-byte words, that of a leaf its own words (4 or 8 bytes), that of records
/// 16 bytes.
pub mod entry {
    /// Set in a pointer to a node.
    pub const NODE: u32 = 1 << 5;
    /// The width's bits.
    pub const WIDTH_MASK: u32 = 31;
    /// Where the offset stands.
    pub const OFFSET_SHIFT: u32 = 6;

    /// A pointer to 2^width words.
    #[inline(always)]
    pub const fn pointer(offset: u32, width: u32, node: bool) -> u32 {
        offset << OFFSET_SHIFT | if node { NODE } else { 0 } | width
    }
}

/// In the lower 16 bits of an IPv6 leaf's word: not a class, but the lower 15 bits of a pointer to records.
/// The word before has the 16 bits above these. The pointer is an [`entry`] of at most 31 bits.
pub const SPLIT: u64 = 1 << 15;
/// The bits of a leaf's word that hold the class.
pub const CLASS_MASK: u64 = 0xffff;

/// Where a generation's lines are.
pub trait Lines {
    /// One line; `None` outside.
    fn line(&self, index: u32) -> Option<&Line>;

    /// Among 2^width lines, the last one whose first 4-byte word is at most `key`, or the first line.
    fn last_short(&self, first: u32, width: u32, key: u64) -> Option<u32> {
        last_line(self, first, width, |line| below_or_equal(u64::from(halves(line)[0]), key))
    }

    /// The same by the first 8-byte word.
    fn last_long(&self, first: u32, width: u32, key: u64) -> Option<u32> {
        last_line(self, first, width, |line| not_above(line[0], key))
    }

    /// The class in the last record that is at most `lower`.
    fn record(&self, records: u32, lower: u64) -> Option<u32> {
        record(self, records, lower)
    }
}

impl Lines for [Line] {
    fn line(&self, index: u32) -> Option<&Line> {
        self.get(index as usize)
    }
}

/// The class of an IPv4 address (host byte order). `None` only if the memory is not what the host wrote.
#[inline(always)]
pub fn class_v4<L: Lines + ?Sized>(lines: &L, roots: &[u32; ROOTS], address: u32) -> Option<u32> {
    let root = roots[(address >> 24) as usize];
    let (found, rest) = descend(lines, root, u64::from(address) << 40, LEVELS_V4)?;
    let key = rest >> 32 | CLASS_MASK;
    let mut at = found >> entry::OFFSET_SHIFT;
    let mut width = width(found);
    if width > 4 {
        at = lines.last_short(at >> 4, width - 4, key)? << 4;
        width = 4;
    }
    let line = halves(lines.line(at >> 4)?);
    let (mut at, mask) = (u64::from(at), (1 << width) - 1);
    for step in [8, 4, 2, 1] {
        // A step that is larger than the leaf compares the word with which it already is content.
        let step = step & mask;
        at += step & below_or_equal(u64::from(line[((at + step) & 15) as usize]), key);
    }
    Some(line[(at & 15) as usize] & CLASS_MASK as u32)
}

/// The class of an IPv6 address (host byte order), given as its upper and lower 64 bits. `None` only if the
/// memory is not what the host wrote.
#[inline(always)]
pub fn class_v6<L: Lines + ?Sized>(lines: &L, roots: &[u32; ROOTS], upper: u64, lower: u64) -> Option<u32> {
    let root = roots[(upper >> 56) as usize];
    let (found, rest) = descend(lines, root, upper << ROOT_BITS, LEVELS_V6)?;
    let key = rest | CLASS_MASK;
    let mut at = found >> entry::OFFSET_SHIFT;
    let mut width = width(found);
    if width > 3 {
        at = lines.last_long(at >> 3, width - 3, key)? << 3;
        width = 3;
    }
    let line = lines.line(at >> 3)?;
    let (mut at, mask) = (u64::from(at), (1 << width) - 1);
    for step in [4, 2, 1] {
        let step = step & mask;
        // The lowest bit belongs to the class: without it both are below 2^63.
        at += step & below_or_equal(line[((at + step) & 7) as usize] >> 1, key >> 1);
    }
    let word = line[(at & 7) as usize];
    if word & SPLIT == 0 {
        return Some((word & CLASS_MASK) as u32);
    }
    let before = (at as u32).wrapping_sub(1);
    let before = lines.line(before >> 3)?[(before & 7) as usize];
    let records = ((before & CLASS_MASK) << 15 | word & (SPLIT - 1)) as u32;
    lines.record(records, lower)
}

/// Follows nodes, at most `levels`; returns the entry at their end and the bits that were not used.
#[inline(always)]
fn descend<L: Lines + ?Sized>(lines: &L, root: u32, mut rest: u64, levels: u32) -> Option<(u32, u64)> {
    let mut found = root;
    for _ in 0..levels {
        if found & entry::NODE == 0 {
            break;
        }
        let width = width(found);
        let at = (found >> entry::OFFSET_SHIFT).wrapping_add((rest >> (64 - width)) as u32);
        rest <<= width;
        found = halves(lines.line(at >> 4)?)[(at & 15) as usize];
    }
    Some((found, rest))
}

/// Among 2^width lines, the last one for which `reached` gives all ones, or the first line. Not a branch here
/// either: the verifier would follow both sides of every one.
#[inline(always)]
pub fn last_line<L: Lines + ?Sized>(
    lines: &L,
    first: u32,
    width: u32,
    reached: impl Fn(&Line) -> u64,
) -> Option<u32> {
    let (mut at, mut step) = (u64::from(first), 1u64 << width >> 1);
    // The compiler must not know how often, or it writes the loop out as often.
    for _ in 0..opaque(u64::from(WIDEST_LEAF)) {
        if step == 0 {
            break;
        }
        at += step & reached(lines.line((at + step) as u32)?);
        step >>= 1;
    }
    // Changes nothing; but the verifier, whichever way it came, has the same bounds from here on, and so need
    // not go on for each of them.
    Some(opaque(at) as u32 & ((1 << OFFSET_BITS) - 1))
}

/// The class in the last of some records that is not above `lower`.
#[inline(always)]
pub fn record<L: Lines + ?Sized>(lines: &L, records: u32, lower: u64) -> Option<u32> {
    let mut at = records >> entry::OFFSET_SHIFT;
    let mut width = width(records);
    if width > 2 {
        at = lines.last_long(at >> 2, width - 2, lower)? << 2;
        width = 2;
    }
    let line = lines.line(at >> 2)?;
    let (mut at, mask) = (u64::from(at), (1 << width) - 1);
    for step in [2, 1] {
        let step = step & mask;
        at += step & not_above(line[((at + step) & 3) as usize * 2], lower);
    }
    Some((line[(at & 3) as usize * 2 + 1] & CLASS_MASK) as u32)
}

#[inline(always)]
fn width(pointer: u32) -> u32 {
    pointer & entry::WIDTH_MASK
}

/// A line as 4-byte words.
#[inline(always)]
fn halves(line: &Line) -> &[u32; 16] {
    // SAFETY: as many bytes, less aligned, and every bit pattern is a u32.
    unsafe { &*core::ptr::from_ref(line).cast() }
}

/// All bits set if `a <= b`, else none; both below 2^63.
#[inline(always)]
fn below_or_equal(a: u64, b: u64) -> u64 {
    (opaque(b.wrapping_sub(a)) >> 63).wrapping_sub(1)
}

/// All bits set if `a <= b`, else none.
#[inline(always)]
fn not_above(a: u64, b: u64) -> u64 {
    // The borrow of b - a.
    let borrow = (!b & a) | (!(b ^ a) & b.wrapping_sub(a));
    (opaque(borrow) >> 63).wrapping_sub(1)
}

/// Hides from the compiler where a number comes from. It would turn a comparison back into a branch, and the
/// BPF instruction set has no conditional move.
#[inline(always)]
fn opaque(number: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = number;
        // SAFETY: moves a register onto itself.
        unsafe {
            core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack, preserves_flags))
        };
        number
    }
    #[cfg(not(target_arch = "bpf"))]
    number
}
