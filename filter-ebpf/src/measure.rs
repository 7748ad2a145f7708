//! What the programs that only measure, and benchmarks, share. The programs are an object of their own.

/// Name of the program that only looks up addresses.
pub const PROGRAM_LOOKUPS: &str = "nicgate_lookups";
/// Name of the program that draws addresses and looks up none.
pub const PROGRAM_DRAWS: &str = "nicgate_draws";
/// Name of the program that drops everything.
pub const PROGRAM_BARE: &str = "nicgate_bare";

/// Lookups in one run of [`PROGRAM_LOOKUPS`].
pub const LOOKUPS: u32 = 64;

/// What [`PROGRAM_LOOKUPS`] looks up; the frame begins with it, and has it again afterwards. The host makes the
/// same addresses with the same functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Lookups {
    /// The random generator's state.
    pub seed: u64,
    /// The sum of all classes so far.
    pub sum: u64,
    /// Bits that are random in an address's upper 64 bits; IPv4 lies in the uppermost 32.
    pub random: u64,
    /// Bits that are set in all of them.
    pub set: u64,
    /// Not 0: the next address depends on the class of the one before, so that no two lookups overlap.
    pub chained: u64,
    /// 0 for IPv4, 1 for IPv6.
    pub v6: u64,
}

impl Lookups {
    /// The frame's beginning.
    pub fn to_bytes(&self) -> [u8; size_of::<Self>()] {
        let Self { seed, sum, random, set, chained, v6 } = *self;
        let mut bytes = [0; size_of::<Self>()];
        for (word, to) in [seed, sum, random, set, chained, v6].iter().zip(bytes.chunks_exact_mut(8)) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// What a frame begins with; `None` if it is shorter.
    pub fn from_bytes(frame: &[u8]) -> Option<Self> {
        let mut words = frame.as_chunks::<8>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes));
        Some(Self {
            seed: words.next()?,
            sum: words.next()?,
            random: words.next()?,
            set: words.next()?,
            chained: words.next()?,
            v6: words.next()?,
        })
    }

    /// The next address, as its upper and lower 64 bits.
    #[inline(always)]
    pub fn draw(&mut self) -> (u64, u64) {
        // A Weyl sequence through a multiplicative hash: a few instructions, every bit depends on the state.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.seed;
        bits = (bits ^ bits >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        bits ^= bits >> 32;
        (bits & self.random | self.set, bits.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// Takes a class into account.
    #[inline(always)]
    pub fn found(&mut self, class: u32) {
        self.sum = self.sum.wrapping_add(u64::from(class));
        // A branch, and not a mask: a sum with zero would still have to wait for the class.
        if self.chained != 0 {
            self.seed = self.seed.wrapping_add(u64::from(class));
        }
    }
}
