//! The `flat` engine's memory, and the lookup that both the program and the host's tests run.
//!
//! A generation's addresses lie in cache lines of 64 bytes, numbered from 0. The top 8 bits of an address
//! (IPv4's 32, IPv6's upper 64) select one of 256 root entries. An entry points to
//!
//! - a *node*: 2^w entries, selected by the next w bits, where w follows from how many pieces there are; or
//! - a *leaf*: 2^w words in rising order, each the start of a piece and its class. A leaf of up to eight words
//!   never crosses a line, and is searched without a branch.
//!
//! Where all addresses have one class there is a leaf of one word, the same for all of that class. An entry
//! could say so itself; but whether it does is then a branch that random sources mispredict.
//!
//! Most lookups touch one entry and one leaf: two lines. Larger leaves exist only where the levels of nodes
//! were used up; every eighth word is searched first.
//!
//! All of a leaf's words keep the bits of the address that the nodes have not used, left-aligned: IPv4 16
//! bits above 16 bits for the class, IPv6 48 bits above 16. So nothing is looked up in a second array, and a
//! search is for the last word that is not above the address with all lower bits set.
//!
//! Pieces that begin inside an IPv6 /64 are rare. Such a /64 has two words with the same upper bits, whose
//! lower bits together point to *records*: the lower 64 bits of an address, and its class.
//!
//! # What was measured
//!
//! One lookup of random IPv4 sources, ns (AMD EPYC, Linux 6.18). The rows are of different runs on a machine
//! whose cores were busy with other work: LPM_TRIE alone went from 320 to 493 at 100,000 between runs, so
//! differences below a factor of 1.5 between rows mean nothing. *Overlapping* lookups depend on nothing (the
//! first three columns); of *chained* ones each waits for the one before.
//!
//! | layout | 1,000 | 100,000 | 1,000,000 | chained, 100,000 |
//! |---|---|---|---|---|
//! | LPM_TRIE | 79 | 400 | 977 | 403 |
//! | leaves up to 8 words, searched with branches | 13 | 26 | 59 | 37 |
//! | leaves up to 8 words, searched without (this one) | 15 | 24 | 59 | 45 |
//!
//! The two searches are not told apart by this; with branches the small table and chained lookups did better.
//! The one without was kept on the expectation, not measured, that its cost depends less on what an attacker
//! sends. Other layouts (B-trees, other numbers of pieces for an entry) were not measured.

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

    /// Among 2^width runs of eight 4-byte words, the last one whose first word is at most `key`, or the first.
    fn last_short(&self, first: u32, width: u32, key: u64) -> Option<u32> {
        last(first, width, |run| {
            let line = halves(self.line(run >> 1)?);
            Some(at_most(u64::from(line[(run << 3 & 8) as usize]), key))
        })
    }

    /// The same of lines and their first 8-byte word.
    fn last_long(&self, first: u32, width: u32, key: u64) -> Option<u32> {
        last(first, width, |line| Some(any_at_most(self.line(line)?[0], key)))
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
    let (mut at, mut width) = (u64::from(found >> entry::OFFSET_SHIFT), width(found));
    if width > 3 {
        at = u64::from(lines.last_short((at >> 3) as u32, width - 3, key)?) << 3;
        width = 3;
    }
    let line = halves(lines.line((at >> 4) as u32)?);
    let mask = (1 << width) - 1;
    for step in [4, 2, 1] {
        // A step that is larger than the leaf compares the word with which it already is content.
        let step = step & mask;
        at += step & at_most(u64::from(line[((at + step) & 15) as usize]), key);
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
    let (mut at, mut width) = (u64::from(found >> entry::OFFSET_SHIFT), width(found));
    if width > 3 {
        at = u64::from(lines.last_long((at >> 3) as u32, width - 3, key)?) << 3;
        width = 3;
    }
    let line = lines.line((at >> 3) as u32)?;
    let mask = (1 << width) - 1;
    for step in [4, 2, 1] {
        let step = step & mask;
        // The lowest bit belongs to the class: without it both are below 2^63.
        at += step & at_most(line[((at + step) & 7) as usize] >> 1, key >> 1);
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
        let at = u64::from(found >> entry::OFFSET_SHIFT) + (rest >> (64 - width));
        rest <<= width;
        found = halves(lines.line((at >> 4) as u32)?)[(at & 15) as usize];
    }
    Some((found, rest))
}

/// Among 2^width places from `first` on, the last one for which `reached` gives all ones, or the first. Not a
/// branch here either: the verifier would follow both sides of every one.
#[inline(always)]
fn last(first: u32, width: u32, reached: impl Fn(u32) -> Option<u64>) -> Option<u32> {
    let (mut at, mut step) = (u64::from(first), 1u64 << width >> 1);
    // The compiler must not know how often, or it writes the loop out as often.
    for _ in 0..opaque(u64::from(WIDEST_LEAF)) {
        if step == 0 {
            break;
        }
        at += step & reached((at + step) as u32)?;
        step >>= 1;
    }
    Some(at as u32)
}

/// The class in the last of some records that is at most `lower`.
#[inline(always)]
pub fn record<L: Lines + ?Sized>(lines: &L, records: u32, lower: u64) -> Option<u32> {
    let (mut at, mut width) = (u64::from(records >> entry::OFFSET_SHIFT), width(records));
    if width > 2 {
        at = u64::from(lines.last_long((at >> 2) as u32, width - 2, lower)?) << 2;
        width = 2;
    }
    let line = lines.line((at >> 2) as u32)?;
    let mask = (1 << width) - 1;
    for step in [2, 1] {
        let step = step & mask;
        at += step & any_at_most(line[((at + step) & 3) as usize * 2], lower);
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

/// All bits set if `a <= b`, else none; both below 2^63 - 1.
#[inline(always)]
fn at_most(a: u64, b: u64) -> u64 {
    sign(a.wrapping_sub(b + 1))
}

/// All bits set if `a <= b`, else none.
#[inline(always)]
fn any_at_most(a: u64, b: u64) -> u64 {
    // The borrow of b - a.
    !sign((!b & a) | (!(b ^ a) & b.wrapping_sub(a)))
}

/// The highest bit, in all places. The compiler must not see that this is a comparison: it would make it a
/// branch again, and the BPF instruction set has no conditional move.
#[inline(always)]
fn sign(number: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = number;
        // SAFETY: shifts a register.
        unsafe { core::arch::asm!("{0} s>>= 63", inout(reg) number, options(pure, nomem, nostack)) };
        number
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        (number.cast_signed() >> 63).cast_unsigned()
    }
}

/// Hides from the compiler what a number is.
#[inline(always)]
fn opaque(number: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = number;
        // SAFETY: moves a register onto itself.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack)) };
        number
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        number
    }
}
