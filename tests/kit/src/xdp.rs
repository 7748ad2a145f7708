//! XDP programs of a few instructions, so that a benchmark needs no BPF toolchain: one that makes a flood, one
//! that drops it and knows nothing else, and one that passes everything.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use aya::programs::ProgramInfo;

use crate::{
    bpf::{self, BPF_F_TEST_XDP_LIVE_FRAMES, Instruction, TestRun, Traits, instruction},
    device,
    netns::Namespace,
};

const GET_PRANDOM_U32: i32 = 7;
const REDIRECT: i32 = 23;
/// Frames that the kernel makes at once.
const BATCH: u32 = 64;

/// Which addresses a flood comes from: the low 16 bits are an odd number below `2 * count`, the rest is fixed.
/// No two of them are neighbours, so that no filter can put them together into longer prefixes.
#[derive(Clone, Copy, Debug)]
pub struct Sources {
    /// How many, a power of two, at most 32768.
    pub count: u32,
}

impl Sources {
    /// The low 16 bits of each.
    pub fn low(self) -> impl Iterator<Item = u16> {
        (0..self.count as u16).map(|index| index * 2 + 1)
    }
}

/// Bytes of a flood's frames, without their checksum: a whole number of 8.
pub const FRAME: usize = 80;

/// One family's frame, and where its varied fields are.
#[derive(Clone, Debug)]
pub struct Template {
    family: Family,
    frame: [u8; FRAME],
}

impl Template {
    /// From a frame with right checksums, of a source whose low 16 bits are 0; padded at its end.
    ///
    /// # Panics
    ///
    /// When the frame is longer than [`FRAME`].
    pub fn new(family: Family, frame: &[u8]) -> Self {
        let mut padded = [0; FRAME];
        padded[..frame.len()].copy_from_slice(frame);
        Self { family, frame: padded }
    }

    /// Instructions that write it to r2, with r0 and r7 as the varied fields. All of it, in every frame: a page
    /// that was dropped comes back with what was written to it before.
    fn writes(&self) -> Vec<Instruction> {
        let mut program = Vec::new();
        for (at, word) in (0..).step_by(8).zip(self.frame.chunks_exact(8)) {
            let half = |bytes: &[u8]| i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            program.push(instruction(0x18, 5, 0, 0, half(&word[..4]))); // r5 = eight bytes
            program.push(instruction(0, 0, 0, 0, half(&word[4..])));
            program.push(instruction(0x7b, 2, 5, at, 0)); // to their place
        }
        program.push(instruction(0x6b, 2, 0, self.family.source_low(), 0));
        program.extend(self.family.balances().iter().map(|at| instruction(0x6b, 2, 7, *at, 0)));
        program
    }
}

/// An address family, and where its varied fields are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// From 198.18.x.x, for benchmarks by RFC 2544.
    V4,
    /// From 2001:db8:bad::x.
    V6,
}

impl Family {
    /// Where the low 16 bits of the source are.
    fn source_low(self) -> i16 {
        if self == Self::V4 { 28 } else { 36 }
    }

    /// Other 16-bit fields that its checksums cover: IPv4's identification, the low half of TCP's sequence number.
    fn balances(self) -> &'static [i16] {
        if self == Self::V4 { &[18, 40] } else { &[60] }
    }
}

/// A program in the kernel.
#[derive(Debug)]
pub struct Program(OwnedFd);

/// A program on an interface, until its last descriptor is closed.
#[derive(Debug)]
pub struct Attached(OwnedFd);

impl Attached {
    /// Detaches at once. Closing the descriptor would do so later, while a process that another test is just
    /// starting still has its copy.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn detach(self) -> io::Result<()> {
        bpf::detach(self.0.as_fd())
    }
}

impl Program {
    /// Passes everything.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn pass() -> io::Result<Self> {
        load(&[instruction(0xb7, 0, 0, 0, 2), instruction(0x95, 0, 0, 0, 0)])
    }

    /// Drops frames with a VLAN tag (type 0x8100) and passes all others.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn drop_tagged() -> io::Result<Self> {
        load(&[
            instruction(0x61, 2, 1, 0, 0),  // r2 = the frame's beginning
            instruction(0x61, 3, 1, 4, 0),  // r3 = the frame's end
            instruction(0xbf, 4, 2, 0, 0),  // r4 = r2
            instruction(0x07, 4, 0, 0, 14), // r4 += 14
            instruction(0xb7, 0, 0, 0, 2),  // r0 = XDP_PASS
            instruction(0x2d, 4, 3, 3, 0),  // if r4 > r3, exit
            instruction(0x69, 5, 2, 12, 0), // r5 = the frame's type, as it is in memory
            instruction(0x55, 5, 0, 1, i32::from(0x8100_u16.to_be())), // if r5 is another, exit
            instruction(0xb7, 0, 0, 0, 1),  // r0 = XDP_DROP
            instruction(0x95, 0, 0, 0, 0),  // exit
        ])
    }

    /// Drops what comes from 198.18/16 and *:*:bad::/48, two bytes that it compares with constants, and passes the
    /// rest.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn bare_drop() -> io::Result<Self> {
        let in_memory = |value: u16| i32::from(value.to_be());
        load(&[
            instruction(0xb7, 0, 0, 0, 2),                 // r0 = XDP_PASS
            instruction(0x61, 2, 1, 0, 0),                 // r2 = the frame's beginning
            instruction(0x61, 3, 1, 4, 0),                 // r3 = its end
            instruction(0xbf, 4, 2, 0, 0),                 // r4 = r2
            instruction(0x07, 4, 0, 0, 38),                // r4 += 38
            instruction(0x2d, 4, 3, 8, 0),                 // if r4 > r3, exit
            instruction(0x69, 5, 2, 12, 0),                // r5 = its type
            instruction(0x69, 4, 2, 26, 0),                // r4 = two bytes of the source in either family
            instruction(0x55, 5, 0, 2, in_memory(0x0800)), // if r5 is not IPv4, go on below
            instruction(0x15, 4, 0, 3, in_memory(0xc612)), // if r4 is 198.18, drop
            instruction(0x95, 0, 0, 0, 0),                 // exit
            instruction(0x55, 5, 0, 2, in_memory(0x86dd)), // if r5 is not IPv6, exit
            instruction(0x55, 4, 0, 1, in_memory(0x0bad)), // if r4 is not the third group of the source, exit
            instruction(0xb7, 0, 0, 0, 1),                 // r0 = XDP_DROP
            instruction(0x95, 0, 0, 0, 0),                 // exit
        ])
    }

    /// Writes a frame of either family, by chance, from a random source, and sends it out of the interface. The
    /// templates are frames from the source whose low 16 bits are 0. What a source adds to a checksum, another
    /// field under the same checksum takes away.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn flood(templates: &[Template; 2], interface: u32, sources: Sources) -> io::Result<Self> {
        let [first, second] = templates.each_ref().map(Template::writes);
        let mut program = vec![
            instruction(0xbf, 6, 1, 0, 0),                        // r6 = the context
            instruction(0x85, 0, 0, 0, GET_PRANDOM_U32),          // r0 = a random number
            instruction(0xbf, 8, 0, 0, 0),                        // r8 = r0
            instruction(0x77, 8, 0, 0, 31),                       // r8 >>= 31
            instruction(0x57, 0, 0, 0, sources.count as i32 - 1), // r0 &= count - 1
            instruction(0x67, 0, 0, 0, 1),                        // r0 <<= 1
            instruction(0x07, 0, 0, 0, 1),                        // r0 += 1
            instruction(0xb7, 7, 0, 0, 0),                        // r7 = 0
            instruction(0x1f, 7, 0, 0, 0),                        // r7 -= r0
            instruction(0xdc, 0, 0, 0, 16),                       // r0 = r0 in network order, 16 bits
            instruction(0xdc, 7, 0, 0, 16),                       // r7 = r7 in network order, 16 bits
            instruction(0x61, 2, 6, 0, 0),                        // r2 = the frame's beginning
            instruction(0x61, 3, 6, 4, 0),                        // r3 = its end
            instruction(0xbf, 4, 2, 0, 0),                        // r4 = r2
            instruction(0x07, 4, 0, 0, FRAME as i32),             // r4 += its length
            instruction(0xb7, 1, 0, 0, 0),                        // r1 = XDP_ABORTED
            instruction(0x2d, 4, 3, (first.len() + second.len() + 6) as i16, 0), // if r4 > r3, leave
            instruction(0x55, 8, 0, first.len() as i16 + 1, 0),   // if r8 is not 0, go to the second
        ];
        program.extend(&first);
        program.push(instruction(0x05, 0, 0, second.len() as i16, 0)); // go on after the second
        program.extend(&second);
        program.extend([
            instruction(0xb7, 1, 0, 0, interface as i32), // r1 = the interface
            instruction(0xb7, 2, 0, 0, 0),                // r2 = no flags
            instruction(0x85, 0, 0, 0, REDIRECT),         // r0 = bpf_redirect(r1, r2)
            instruction(0x95, 0, 0, 0, 0),                // exit
            instruction(0xbf, 0, 1, 0, 0),                // r0 = r1
            instruction(0x95, 0, 0, 0, 0),                // exit
        ]);
        load(&program)
    }

    /// Attaches it natively to an interface of the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// The kernel's: another program is attached, or the driver has no XDP.
    pub fn attach(&self, interface: u32) -> io::Result<Attached> {
        bpf::attach(self.0.as_fd(), interface).map(Attached)
    }

    /// Opens one that is pinned.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn pinned(pin: &Path) -> anyhow::Result<Self> {
        Ok(Self(ProgramInfo::from_pin(pin)?.fd()?.as_fd().try_clone_to_owned()?))
    }

    /// Runs it on a copy of a frame, `repeat` times; returns what it returned the last time. Any number of threads
    /// may do so at once.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn run(&self, frame: &[u8], repeat: u32) -> io::Result<u32> {
        let mut run = TestRun {
            program: self.0.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat,
            ..TestRun::default()
        };
        bpf::test_run(&mut run)?;
        Ok(run.result)
    }

    /// Runs it on `repeat` live frames that begin as copies of `frame`, in the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// The kernel's; live frames need Linux 5.18.
    pub fn run_live(&self, frame: &[u8], repeat: u32) -> io::Result<()> {
        let mut run = TestRun {
            program: self.0.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat,
            flags: BPF_F_TEST_XDP_LIVE_FRAMES,
            batch_size: BATCH,
            ..TestRun::default()
        };
        bpf::test_run(&mut run)
    }
}

impl From<Program> for OwnedFd {
    fn from(program: Program) -> Self {
        program.0
    }
}

/// Attaches, in native mode or not at all, a program that drops frames with a VLAN tag and passes all others.
///
/// # Errors
///
/// When there is no such interface, or what the kernel says.
pub fn drop_tagged_natively(namespace: &Namespace, interface: &str) -> anyhow::Result<Attached> {
    namespace.run(|| Ok(Program::drop_tagged()?.attach(device::index(interface)?)?))
}

fn load(program: &[Instruction]) -> io::Result<Program> {
    bpf::load(program, Traits::PLAIN).map(Program)
}

/// Detaches the link that is pinned there, as `bpftool link detach` does; the pin stays.
///
/// # Errors
///
/// When it is no pinned link.
pub fn detach_pinned_link(pin: &Path) -> io::Result<()> {
    bpf::detach_pinned(pin)
}
