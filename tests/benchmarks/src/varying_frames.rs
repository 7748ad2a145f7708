//! Programs that meet another frame in every run of BPF_PROG_TEST_RUN, which itself offers one again and again: a
//! program in front writes the next entry of a table into the frame, a source address for example.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use anyhow::{Context, ensure};
use ipnet::IpNet;

use crate::test_run::{self, Ran, Timed};
use kit::bpf::{self, Instruction, MapKind, Traits, instruction};

/// Addresses in a table, a power of two. So many that they do not stay in a processor's cache together with what
/// they lead to, and one after the other, so that reading them costs little.
pub const ADDRESSES: u32 = 1 << 20;
/// Lookups in one run of a [`Trie`].
pub const LOOKUPS: u32 = 64;

/// Beginnings of sequences in a table.
const SEEDS: u32 = 1 << 14;

/// Bytes of an entry; an IPv4 address takes the first four, the beginning of a sequence the first eight.
const ENTRY: usize = 16;
/// Where the frame has the number of the next entry, after all that the programs look at.
const INDEX: usize = 80;
/// Bytes of a frame.
const FRAME: usize = 88;

const BPF_F_NO_PREALLOC: u32 = 1;
const MAP_LOOKUP_ELEM: i32 = 1;
const TAIL_CALL: i32 = 12;

/// What a program in front writes, in the kernel.
#[derive(Debug)]
pub struct Entries {
    map: OwnedFd,
    /// A power of two.
    count: u32,
    kind: Kind,
}

/// What an entry is, and so where it belongs in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The source of an IPv4 packet.
    V4,
    /// The source of an IPv6 packet.
    V6,
    /// The first eight bytes of the frame.
    Seed,
}

impl Entries {
    /// Sources, all of one family. Takes [`ADDRESSES`]; fewer are repeated.
    ///
    /// # Errors
    ///
    /// When there are none, or the kernel refuses the map.
    pub fn sources(addresses: impl Iterator<Item = IpAddr>) -> anyhow::Result<Self> {
        let mut kind = Kind::V4;
        let entries = addresses.map(|address| match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96).to_be_bytes(),
            IpAddr::V6(address) => {
                kind = Kind::V6;
                address.octets()
            }
        });
        let map = filled(entries, ADDRESSES)?;
        Ok(Self { map, count: ADDRESSES, kind })
    }

    /// Numbers that stand at the beginning of a frame, in host byte order. Takes 16,384; fewer are repeated.
    ///
    /// # Errors
    ///
    /// As [`Entries::sources`].
    pub fn seeds(seeds: impl Iterator<Item = u64>) -> anyhow::Result<Self> {
        let entries = seeds.map(|seed| {
            let mut entry = [0; ENTRY];
            entry[..8].copy_from_slice(&seed.to_ne_bytes());
            entry
        });
        Ok(Self { map: filled(entries, SEEDS)?, count: SEEDS, kind: Kind::Seed })
    }

    /// r2 = where the entry with the number in r8 is; r9 is lost.
    fn next(&self) -> [Instruction; 6] {
        [
            instruction(0xbf, 9, 8, 0, 0),                             // r9 = r8
            instruction(0x57, 9, 0, 0, self.count as i32 - 1),         // r9 &= number of entries - 1
            instruction(0x67, 9, 0, 0, ENTRY.trailing_zeros() as i32), // r9 <<= 4
            instruction(0x18, 2, 2, 0, self.map.as_raw_fd()),          // r2 = the map's one value
            instruction(0, 0, 0, 0, 0),
            instruction(0x0f, 2, 9, 0, 0), // r2 += r9
        ]
    }

    /// Writes the entry at r2 to the frame at r7; r5 is lost.
    fn write(&self) -> Vec<Instruction> {
        let whole = |from: i16, to: i16| {
            [
                instruction(0x79, 5, 2, from, 0), // r5 = eight bytes of it
                instruction(0x7b, 7, 5, to, 0),   // to the frame
            ]
        };
        match self.kind {
            Kind::Seed => whole(0, 0).to_vec(),
            Kind::V6 => [whole(0, 22), whole(8, 30)].concat(),
            Kind::V4 => vec![
                instruction(0x61, 5, 2, 0, 0),  // r5 = the address
                instruction(0x63, 7, 5, 26, 0), // to the frame
            ],
        }
    }
}

/// A map with one value, which is all entries: the first `count`, or fewer again and again.
fn filled(entries: impl Iterator<Item = [u8; ENTRY]>, count: u32) -> anyhow::Result<OwnedFd> {
    let mut bytes: Vec<u8> = entries.take(count as usize).flatten().collect();
    let length = bytes.len();
    ensure!(length > 0, "a table without entries");
    for at in length..count as usize * ENTRY {
        bytes.push(bytes[at - length]);
    }
    let map =
        bpf::map(MapKind::Array, 4, bytes.len() as u32, 1, 0).context("cannot make a table of entries")?;
    bpf::update(map.as_fd(), &[0; 4], &bytes).context("cannot fill a table of entries")?;
    Ok(map)
}

/// A program, with one in front of it that varies the frame.
#[derive(Debug)]
pub struct Varied {
    program: OwnedFd,
    // The one it calls is there as long as this array.
    _target: OwnedFd,
}

impl Varied {
    /// Puts it in front of `target`, which must not be attached through a dispatcher.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the programs or the call from one to the other.
    pub fn new(entries: &Entries, target: &Timed) -> anyhow::Result<Self> {
        // Both must have these in common, and the kernel does not tell what the target has.
        let mut refused = None;
        for (frags, says_xdp) in [(true, true), (true, false), (false, true), (false, false)] {
            match Self::with(entries, target.as_fd(), Traits { frags, says_xdp }) {
                Ok(varied) => return Ok(varied),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.expect("four were tried")).context("cannot put a program in front of another")
    }

    /// The same in front of nothing but a `return XDP_DROP`: what the harness itself costs.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn bare(entries: &Entries) -> anyhow::Result<Self> {
        let traits = Traits { frags: true, says_xdp: true };
        Ok(Self::with(entries, Timed::bare_with(traits)?.as_fd(), traits)?)
    }

    fn with(entries: &Entries, target: BorrowedFd<'_>, traits: Traits) -> io::Result<Self> {
        let array = bpf::map(MapKind::ProgramArray, 4, 4, 1, 0)?;
        let mut program = vec![
            instruction(0xbf, 6, 1, 0, 0),            // r6 = the context
            instruction(0x61, 7, 1, 0, 0),            // r7 = the frame's beginning
            instruction(0x61, 3, 1, 4, 0),            // r3 = its end
            instruction(0xbf, 4, 7, 0, 0),            // r4 = r7
            instruction(0x07, 4, 0, 0, FRAME as i32), // r4 += its length
            instruction(0xb7, 0, 0, 0, 0),            // r0 = XDP_ABORTED
            instruction(0xbd, 4, 3, 1, 0),            // if r4 <= r3, go on
            instruction(0x95, 0, 0, 0, 0),            // exit
            instruction(0x61, 8, 7, INDEX as i16, 0), // r8 = the number of the next entry
        ];
        program.extend(entries.next());
        program.extend([
            instruction(0x07, 8, 0, 0, 1),            // r8 += 1
            instruction(0x63, 7, 8, INDEX as i16, 0), // to the frame
        ]);
        program.extend(entries.write());
        program.extend([
            instruction(0xbf, 1, 6, 0, 0),                 // r1 = the context
            instruction(0x18, 2, 1, 0, array.as_raw_fd()), // r2 = the array of programs
            instruction(0, 0, 0, 0, 0),
            instruction(0xb7, 3, 0, 0, 0),         // r3 = 0
            instruction(0x85, 0, 0, 0, TAIL_CALL), // on to the other program
            instruction(0xb7, 0, 0, 0, 0),         // r0 = XDP_ABORTED
            instruction(0x95, 0, 0, 0, 0),         // exit
        ]);
        let program = bpf::load(&program, traits)?;
        bpf::update(array.as_fd(), &[0; 4], &target.as_raw_fd().to_ne_bytes())?;
        Ok(Self { program, _target: array })
    }

    /// Runs it on `repeat` entries, from the one with this number on. The frame is right but for what the entries
    /// are.
    ///
    /// # Errors
    ///
    /// The kernel's.
    ///
    /// # Panics
    ///
    /// When the frame is longer than 80 bytes.
    pub fn run(&self, frame: &[u8], first: u32, repeat: u32) -> io::Result<Ran> {
        self.run_and_see(frame, &mut [], first, repeat)
    }

    /// The same; the frame's beginning, as it is afterwards, goes to `after`.
    ///
    /// # Errors
    ///
    /// As [`Varied::run`].
    ///
    /// # Panics
    ///
    /// As [`Varied::run`].
    pub fn run_and_see(&self, frame: &[u8], after: &mut [u8], first: u32, repeat: u32) -> io::Result<Ran> {
        assert!(frame.len() <= INDEX, "no room for the number of the next entry");
        let mut padded = [0; FRAME];
        padded[..frame.len()].copy_from_slice(frame);
        padded[INDEX..INDEX + 4].copy_from_slice(&first.to_ne_bytes());
        // The kernel says ENOSPC to who has no room for all of the frame.
        let mut seen = [0; FRAME];
        let ran = test_run::run(self.program.as_fd(), &padded, &mut seen, repeat)?;
        after.copy_from_slice(&seen[..after.len()]);
        Ok(ran)
    }
}

/// The kernel's LPM_TRIE by itself, as one fills it who is not nicgate: with the prefixes as they come, in no order.
#[derive(Debug)]
pub struct Trie {
    map: OwnedFd,
    v6: bool,
}

impl Trie {
    /// Fills one, each prefix with the value 1.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn new(v6: bool, prefixes: &[IpNet]) -> io::Result<Self> {
        let key = if v6 { 20 } else { 8 };
        let map = bpf::map(MapKind::LpmTrie, key, 4, prefixes.len() as u32, BPF_F_NO_PREALLOC)?;
        let mut bytes = Vec::with_capacity(20);
        for prefix in prefixes {
            bytes.clear();
            bytes.extend(u32::from(prefix.prefix_len()).to_ne_bytes());
            match prefix.network() {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
            bpf::update(map.as_fd(), &bytes, &1u32.to_ne_bytes())?;
        }
        Ok(Self { map, v6 })
    }

    /// A program that looks addresses up in it.
    ///
    /// # Errors
    ///
    /// The kernel's.
    ///
    /// # Panics
    ///
    /// When the entries are not sources of its family.
    pub fn lookups(&self, entries: &Entries) -> io::Result<TrieLookups> {
        assert_eq!(self.v6, entries.kind == Kind::V6, "one family");
        let mut program = vec![
            instruction(0x61, 7, 1, 0, 0), // r7 = the frame's beginning
            instruction(0x61, 3, 1, 4, 0), // r3 = its end
            instruction(0xbf, 4, 7, 0, 0), // r4 = r7
            instruction(0x07, 4, 0, 0, 8), // r4 += 8
            instruction(0xb7, 0, 0, 0, 0), // r0 = XDP_ABORTED
            instruction(0xbd, 4, 3, 1, 0), // if r4 <= r3, go on
            instruction(0x95, 0, 0, 0, 0), // exit
            instruction(0x61, 8, 7, 0, 0), // r8 = the number of the next entry
            instruction(0x61, 6, 7, 4, 0), // r6 = how many were found
        ];
        for _ in 0..LOOKUPS {
            program.extend(entries.next());
            program.push(instruction(0x07, 8, 0, 0, 1)); // r8 += 1
            if self.v6 {
                program.extend([
                    instruction(0x62, 10, 0, -24, 128), // the key: all bits
                    instruction(0x61, 5, 2, 0, 0),      // of the address, in words, because the key
                    instruction(0x63, 10, 5, -20, 0),   // begins with one
                    instruction(0x61, 5, 2, 4, 0),
                    instruction(0x63, 10, 5, -16, 0),
                    instruction(0x61, 5, 2, 8, 0),
                    instruction(0x63, 10, 5, -12, 0),
                    instruction(0x61, 5, 2, 12, 0),
                    instruction(0x63, 10, 5, -8, 0),
                ]);
            } else {
                program.extend([
                    instruction(0x62, 10, 0, -24, 32), // the key: all bits
                    instruction(0x61, 5, 2, 0, 0),     // of the address
                    instruction(0x63, 10, 5, -20, 0),
                ]);
            }
            program.extend([
                instruction(0x18, 1, 1, 0, self.map.as_raw_fd()), // r1 = the trie
                instruction(0, 0, 0, 0, 0),
                instruction(0xbf, 2, 10, 0, 0),              // r2 = the stack
                instruction(0x07, 2, 0, 0, -24),             // r2 = the key
                instruction(0x85, 0, 0, 0, MAP_LOOKUP_ELEM), // r0 = the value, if any
                instruction(0x15, 0, 0, 2, 0),               // if there is none, go on
                instruction(0x61, 5, 0, 0, 0),               // r5 = the value
                instruction(0x0f, 6, 5, 0, 0),               // r6 += r5
            ]);
        }
        program.extend([
            instruction(0x63, 7, 8, 0, 0), // both to the frame
            instruction(0x63, 7, 6, 4, 0),
            instruction(0xb7, 0, 0, 0, test_run::XDP_DROP as i32), // r0 = XDP_DROP
            instruction(0x95, 0, 0, 0, 0),                         // exit
        ]);
        bpf::load(&program, Traits::PLAIN).map(TrieLookups)
    }
}

/// A program that looks addresses up in a trie.
#[derive(Debug)]
pub struct TrieLookups(OwnedFd);

impl TrieLookups {
    /// Looks up `repeat` times [`LOOKUPS`] addresses, from the one with this number on. Returns the mean time of
    /// one lookup in ns, and how many were found.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn run(&self, first: u32, repeat: u32) -> io::Result<(f64, u32)> {
        let mut frame = [0; 64];
        frame[..4].copy_from_slice(&first.to_ne_bytes());
        let mut after = [0; 64];
        let ran = test_run::run(self.0.as_fd(), &frame, &mut after, repeat)?;
        let found = u32::from_ne_bytes([after[4], after[5], after[6], after[7]]);
        Ok((ran.nanoseconds / f64::from(LOOKUPS), found))
    }
}

#[cfg(test)]
mod as_root {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::{Entries, LOOKUPS, Trie, Varied};
    use crate::test_run::{Timed, XDP_DROP};
    use kit::{
        frames::{TCP, to_port},
        rights,
        xdp::Program,
    };

    /// 198.18.0.0 and 10.0.0.0 in turn, and the same for IPv6.
    fn addresses(v6: bool) -> Entries {
        let pair: [IpAddr; 2] = if v6 {
            ["2001:db8:bad::1", "2001:db8:900d::1"].map(|text| text.parse().unwrap())
        } else {
            ["198.18.0.1", "10.0.0.1"].map(|text| text.parse().unwrap())
        };
        Entries::sources(pair.into_iter()).unwrap()
    }

    fn frame(v6: bool) -> Vec<u8> {
        let nobody: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        to_port(nobody, nobody, TCP, 80)
    }

    #[test]
    fn a_program_meets_the_addresses_in_turn() {
        rights::need_root();
        for v6 in [false, true] {
            let addresses = addresses(v6);
            let target = Timed::from(Program::bare_drop().unwrap());
            let varied = Varied::new(&addresses, &target).unwrap();
            let dropped = |first, repeat| varied.run(&frame(v6), first, repeat).unwrap().action == XDP_DROP;
            assert!(dropped(0, 1) && dropped(2, 1) && !dropped(1, 1), "the address with the first's number");
            assert!(!dropped(0, 2) && dropped(0, 3), "and then the next");
        }
    }

    #[test]
    fn the_beginning_of_a_frame_varies_too() {
        rights::need_root();
        let seeds = Entries::seeds([7, 11].into_iter()).unwrap();
        let varied = Varied::bare(&seeds).unwrap();
        let mut after = [0; 8];
        let seen = |first, after: &mut [u8]| varied.run_and_see(&[0; 64], after, first, 2).map(drop).unwrap();
        seen(0, &mut after);
        assert_eq!(u64::from_ne_bytes(after), 11);
        seen(1, &mut after);
        assert_eq!(u64::from_ne_bytes(after), 7);
    }

    #[test]
    fn a_trie_finds_what_is_in_it() {
        rights::need_root();
        for (v6, prefix) in [(false, "198.18.0.0/16"), (true, "2001:db8:bad::/48")] {
            let trie = Trie::new(v6, &[prefix.parse().unwrap()]).unwrap();
            let lookups = trie.lookups(&addresses(v6)).unwrap();
            assert_eq!(lookups.run(0, 3).unwrap().1, 3 * LOOKUPS / 2, "every second one");
        }
    }
}
