//! The `flat` engine's memory, and the lookup that both the program and the host's tests run.
//!
//! It is a multibit trie. As in DIR-24-8 (Gupta, Lin and McKeown, 1998) the first bits of an address index an array
//! directly. As in DXR (Zec, Rizzo and Mikuc, 2012) what lies there is a short sorted array of ranges: here so short
//! that it fills half a cache line, and all of it is compared at once, by SWAR (SIMD within a register).
//!
//! ```text
//! an address: 64 bits (IPv4: its 32, then zeros; IPv6: the upper half first), used up from the left
//!  ┌───── skip ─────┬────── width ───────┬────── 15 bits ───────┬──────────── rest ─────────────┐
//!  │  Root.prefix   │  which bucket      │  which of its ranges │  only below a range that has  │
//!  │                │                    │                      │  a pointer in place of a class│
//!  └────────────────┴─────────┬──────────┴──────────┬───────────┴───────────────────────────────┘
//!                             │                     │
//!  buckets  │ others │ 0 │ 1 │ 2 │ … │ 2^width-1 │  │  further arrays of buckets, and single ones
//!           └ Root.first      │                     │
//!  ┌──────────────────────────┴──┐                  │
//!  a narrow bucket: 32 bytes, two to a cache line   │
//!    word 0  │ start 1 │ start 2 │ start 3 │ start 4  │  where ranges begin: 15 bits and a spare one
//!    word 1  │ start 5 │ start 6 │ start 7 │ pointers │  the upper bits of all its pointers
//!    word 2  │ range 0 │ range 1 │ range 2 │ range 3  │  a class, or DEEP and the lower bits of a pointer
//!    word 3  │ range 4 │ range 5 │ range 6 │ range 7  │
//!  a wide bucket: the same bytes, two starts of all 64 bits
//!    word 0  │               start 1                  │
//!    word 1  │               start 2                  │
//!    word 2  │ range 0 │ range 1 │ range 2 │          │
//!    word 3  │ pointers │                             │
//! ```
//!
//! A family's [`Root`] says how many bits select a bucket: directly, without an index in between, so that most lookups
//! touch one line. A *narrow* bucket divides its addresses by their next 15 bits into up to eight ranges. All starts
//! are compared at once, four to a word, because the spare bit of each catches the borrow of a subtraction; there is no
//! branch for random sources to mispredict. A pointer leads to where a range is divided further:
//!
//! - 2^k buckets, selected by the next k bits, for a bucket that would need more than eight ranges;
//! - a bucket for the bits below the 15, where prefixes are longer;
//! - a *wide* bucket, which finishes a single long prefix at once.
//!
//! IPv6's lower half is looked at only where prefixes longer than /64 are.
//!
//! BENCHMARKS.md has the figures of this layout and of the ones that it took the place of.

/// A cache line. All of a generation is made of them.
pub type Line = [u64; 8];
/// Half a line: `[starts, starts and upper pointer bits, classes, classes]`, or if it is wide
/// `[start, start, classes, upper pointer bits]`.
pub type Bucket = [u64; 4];

/// Bytes in a line.
pub const LINE_BYTES: usize = size_of::<Line>();
/// Buckets in a line.
pub const LINE_BUCKETS: usize = size_of::<Line>() / size_of::<Bucket>();
/// Bits by which a narrow bucket tells its addresses apart.
pub const KEY_BITS: u32 = 15;
/// Ranges in a narrow bucket.
pub const RANGES: usize = 8;
/// Ranges in a wide bucket.
pub const WIDE_RANGES: usize = 3;
/// A start that no address reaches: it fills a narrow bucket's unused places.
pub const NEVER: u16 = 1 << KEY_BITS;
/// Classes that a range has room for.
pub const CLASSES: usize = 1 << 15;
/// Set where a range has a pointer in place of a class.
pub const DEEP: u32 = 1 << 15;
/// Steps of a lookup, at most. Most use 15 bits; an array has at least four buckets while two bits are left, so
/// that 128 bits are used up after 64 steps and two where a half ends.
pub const STEPS: u32 = 72;
/// Bits that select one of a root's buckets, at most.
pub const WIDEST_ROOT: u32 = 20;

/// One in each 16-bit lane.
const LANES: u64 = 0x0001_0001_0001_0001;
/// The spare bit of each lane of starts.
const SPARE: u64 = LANES << KEY_BITS;

/// Where a range is divided further. A bucket's ranges share the upper bits of their pointers, so that all
/// targets of one bucket lie within [`pointer::BLOCK`] buckets.
pub mod pointer {
    /// The bucket's number inside its block.
    pub const OFFSET_BITS: u32 = 8;
    /// Buckets in a block.
    pub const BLOCK: u32 = 1 << OFFSET_BITS;
    /// Where the width stands: the target is 2^width buckets, selected by the next bits.
    pub const WIDTH_SHIFT: u32 = OFFSET_BITS;
    /// Bits of the width.
    pub const WIDTH_MASK: u32 = 15;
    /// The target is a wide bucket; its width is 0.
    pub const WIDE: u32 = 1 << 12;
    /// The bits that the bucket compared are used up.
    pub const BELOW: u32 = 1 << 13;
    /// The upper half is used up: go on with the lower.
    pub const LOWER: u32 = 1 << 14;
    /// Blocks that can be reached.
    pub const BLOCKS: u32 = 1 << 16;
}

/// Where a family's addresses begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Root {
    /// The first bits of nearly all addresses in the table; only those have buckets of their own.
    pub prefix: u64,
    /// Which bits those are; 0 for IPv4.
    pub mask: u64,
    /// The bucket of all other addresses; the buckets of these follow. IPv4 has no others, and this one is unused.
    pub first: u32,
    /// How many bits `mask` has.
    pub skip: u32,
    /// Bits that select a bucket: 1 to [`WIDEST_ROOT`].
    pub width: u32,
    /// 64 - `width`.
    pub shift: u32,
}

/// Where a generation's lines are.
pub trait Lines {
    /// One line; `None` outside.
    fn line(&self, index: u32) -> Option<&Line>;

    /// Walks on from a range that has a pointer.
    fn walk(&self, cursor: Cursor) -> Option<u32> {
        walk(self, cursor)
    }
}

impl Lines for [Line] {
    fn line(&self, index: u32) -> Option<&Line> {
        self.get(index as usize)
    }
}

/// How far a lookup got.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// A class, or with [`DEEP`] the lower bits of a pointer; above them the pointer's upper bits.
    pub found: u32,
    /// What is left of the half in use.
    pub rest: u64,
    /// The half in use.
    pub half: u64,
    /// The half that comes after it.
    pub lower: u64,
}

/// The class of an address, given as 64 bits (IPv4 in the uppermost 32) and the 64 below. `None` only if the
/// memory is not what the host wrote.
#[inline(always)]
pub fn class<L: Lines + ?Sized>(lines: &L, root: &Root, upper: u64, lower: u64) -> Option<u32> {
    let (mut bucket, mut rest) = (u64::from(root.first), upper);
    if (upper ^ root.prefix) & root.mask == 0 {
        rest = shifted_left(upper, root.skip);
        bucket += 1 + shifted_right(rest, root.shift);
        rest = shifted_left(rest, root.width);
    }
    let found = narrow(at(lines, bucket)?, rest);
    if found & DEEP == 0 {
        return Some(found & (DEEP - 1));
    }
    let mut cursor = Cursor { found, rest, half: upper, lower };
    // Prefixes of up to 48 bits and crowded places need one step more, single addresses two: here, because a call
    // costs more than either.
    cursor.step(lines)?;
    if cursor.found & DEEP != 0 {
        cursor.step(lines)?;
    }
    if cursor.found & DEEP == 0 { Some(cursor.found & (DEEP - 1)) } else { lines.walk(cursor) }
}

/// Follows pointers to a class.
#[inline(always)]
pub fn walk<L: Lines + ?Sized>(lines: &L, mut cursor: Cursor) -> Option<u32> {
    // The compiler must not know how often, or it writes the loop out as often.
    for _ in 0..opaque(STEPS) {
        if cursor.found & DEEP == 0 {
            return Some(cursor.found & (DEEP - 1));
        }
        cursor.step(lines)?;
    }
    None
}

impl Cursor {
    /// Follows one pointer. Nearly without a branch: the verifier would follow each in every step.
    #[inline(always)]
    fn step<L: Lines + ?Sized>(&mut self, lines: &L) -> Option<()> {
        let found = u64::from(self.found);
        let lower = all_or_none(found, pointer::LOWER);
        self.half ^= (self.half ^ self.lower) & lower;
        let rest = self.rest << (all_or_none(found, pointer::BELOW) & u64::from(KEY_BITS));
        let rest = rest ^ (rest ^ self.lower) & lower;
        let width = found >> pointer::WIDTH_SHIFT & u64::from(pointer::WIDTH_MASK);
        let first = found >> 16 << pointer::OFFSET_BITS | found & u64::from(pointer::BLOCK - 1);
        // In two steps, because a shift by 64 is none.
        let bucket = at(lines, first + shifted_right(rest >> 1, 63 - width as u32))?;
        self.rest = shifted_left(rest, width as u32);
        self.found = if found & u64::from(pointer::WIDE) != 0 {
            wide(bucket, self.half)
        } else {
            narrow(bucket, self.rest)
        };
        Some(())
    }
}

/// A shift by less than 64, as the host writes all of them; the compiler would make sure.
#[inline(always)]
fn shifted_left(number: u64, bits: u32) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = number;
        // SAFETY: shifts a register; the instruction set takes any number of bits modulo 64.
        unsafe {
            core::arch::asm!("{0} <<= {1}", inout(reg) number, in(reg) u64::from(bits), options(pure, nomem, nostack));
        }
        number
    }
    #[cfg(not(target_arch = "bpf"))]
    number.wrapping_shl(bits)
}

/// The same to the right.
#[inline(always)]
fn shifted_right(number: u64, bits: u32) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = number;
        // SAFETY: as above.
        unsafe {
            core::arch::asm!("{0} >>= {1}", inout(reg) number, in(reg) u64::from(bits), options(pure, nomem, nostack));
        }
        number
    }
    #[cfg(not(target_arch = "bpf"))]
    number.wrapping_shr(bits)
}

/// All bits if one is set, else none.
#[inline(always)]
fn all_or_none(bits: u64, bit: u32) -> u64 {
    sign(bits << bit.leading_zeros() << 32)
}

#[inline(always)]
fn at<L: Lines + ?Sized>(lines: &L, bucket: u64) -> Option<&Bucket> {
    let line = lines.line((bucket / LINE_BUCKETS as u64) as u32)?;
    // SAFETY: one of the line's two halves.
    Some(unsafe { &*core::ptr::from_ref(line).cast::<Bucket>().add((bucket & 1) as usize) })
}

/// The range that begins with `rest`: its class, or the lower bits of a pointer; and above them the pointer's
/// upper bits.
#[inline(always)]
fn narrow(bucket: &Bucket, rest: u64) -> u32 {
    // In each lane the spare bit, and below it what is searched for. Where a start is not above that, taking it
    // away leaves the spare bit; and it never borrows from the next lane.
    let key = (rest >> (64 - KEY_BITS)).wrapping_mul(LANES) | SPARE;
    let reached = (key.wrapping_sub(bucket[0]) & SPARE) >> KEY_BITS;
    // The uppermost lane holds a part of a pointer.
    let more = (key.wrapping_sub(bucket[1]) & (SPARE >> 16)) >> KEY_BITS;
    // The sum of all lanes, in the uppermost.
    let range = (reached + more).wrapping_mul(LANES) >> 48;
    range_of(bucket, range & 7, bucket[1] >> 48)
}

/// The same of a wide bucket.
#[inline(always)]
fn wide(bucket: &Bucket, half: u64) -> u32 {
    let range = (at_most(bucket[0], half) & 1) + (at_most(bucket[1], half) & 1);
    range_of(bucket, range & 3, bucket[3])
}

#[inline(always)]
fn range_of(bucket: &Bucket, range: u64, upper: u64) -> u32 {
    // SAFETY: as many bytes, less aligned, and every bit pattern is a u16.
    let quarters = unsafe { &*core::ptr::from_ref(bucket).cast::<[u16; 16]>() };
    (upper as u32) << 16 | u32::from(quarters[RANGES + range as usize])
}

/// All bits set if `a <= b`, else none.
#[inline(always)]
fn at_most(a: u64, b: u64) -> u64 {
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
fn opaque(number: u32) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = u64::from(number);
        // SAFETY: moves a register onto itself.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack)) };
        number as u32
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        number
    }
}
