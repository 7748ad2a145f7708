//! Programs that meet another source address in every run of BPF_PROG_TEST_RUN, which itself offers one frame again
//! and again: a program in front writes the next address of a table into the frame.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use anyhow::{Context, ensure};
use ipnet::IpNet;

use crate::{
    bpf::{self, Instruction, MapKind, Traits, instruction},
    timed::{self, Ran, Timed},
};

/// Addresses in a table, a power of two. So many that they do not stay in a processor's cache together with what
/// they lead to, and one after the other, so that reading them costs little.
pub const ADDRESSES: u32 = 1 << 20;
/// Lookups in one run of a [`Trie`].
pub const LOOKUPS: u32 = 64;

/// Bytes of an entry; an IPv4 address takes the first four.
const ENTRY: usize = 16;
/// Where the frame has the number of the next address, after all that the programs look at.
const INDEX: usize = 80;
/// Bytes of a frame.
const FRAME: usize = 88;

const BPF_F_NO_PREALLOC: u32 = 1;
const MAP_LOOKUP_ELEM: i32 = 1;
const TAIL_CALL: i32 = 12;

/// Addresses of one family, in the kernel.
#[derive(Debug)]
pub struct Addresses {
    map: OwnedFd,
    v6: bool,
}

impl Addresses {
    /// Takes as many as there is room for; fewer are repeated.
    ///
    /// # Errors
    ///
    /// When there are none, or the kernel refuses the map.
    pub fn new(addresses: impl Iterator<Item = IpAddr>) -> anyhow::Result<Self> {
        let mut bytes = Vec::with_capacity(ADDRESSES as usize * ENTRY);
        let mut v6 = false;
        for address in addresses.take(ADDRESSES as usize) {
            match address {
                IpAddr::V4(address) => {
                    bytes.extend(address.octets());
                    bytes.extend([0; 12]);
                }
                IpAddr::V6(address) => {
                    v6 = true;
                    bytes.extend(address.octets());
                }
            }
        }
        let length = bytes.len();
        ensure!(length > 0, "no addresses");
        for at in length..ADDRESSES as usize * ENTRY {
            bytes.push(bytes[at - length]);
        }
        let map = bpf::map(MapKind::Array, 4, bytes.len() as u32, 1, 0).context("a map of addresses")?;
        bpf::update(map.as_fd(), &[0; 4], &bytes).context("cannot fill a map of addresses")?;
        Ok(Self { map, v6 })
    }

    /// r2 = where the address with the number in r8 is; r9 is lost.
    fn next(&self) -> [Instruction; 6] {
        [
            instruction(0xbf, 9, 8, 0, 0),                             // r9 = r8
            instruction(0x57, 9, 0, 0, ADDRESSES as i32 - 1),          // r9 &= number of addresses - 1
            instruction(0x67, 9, 0, 0, ENTRY.trailing_zeros() as i32), // r9 <<= 4
            instruction(0x18, 2, 2, 0, self.map.as_raw_fd()),          // r2 = the map's one value
            instruction(0, 0, 0, 0, 0),
            instruction(0x0f, 2, 9, 0, 0), // r2 += r9
        ]
    }
}

/// A program, with one in front of it that varies the source.
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
    pub fn new(addresses: &Addresses, target: &Timed) -> anyhow::Result<Self> {
        // Both must have these in common, and the kernel does not tell what the target has.
        let mut refused = None;
        for (frags, says_xdp) in [(true, true), (true, false), (false, true), (false, false)] {
            match Self::with(addresses, target.as_fd(), Traits { frags, says_xdp }) {
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
    pub fn bare(addresses: &Addresses) -> anyhow::Result<Self> {
        let traits = Traits { frags: true, says_xdp: true };
        Ok(Self::with(addresses, Timed::bare_with(traits)?.as_fd(), traits)?)
    }

    fn with(addresses: &Addresses, target: BorrowedFd<'_>, traits: Traits) -> io::Result<Self> {
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
            instruction(0x61, 8, 7, INDEX as i16, 0), // r8 = the number of the next address
        ];
        program.extend(addresses.next());
        program.extend([
            instruction(0x07, 8, 0, 0, 1),            // r8 += 1
            instruction(0x63, 7, 8, INDEX as i16, 0), // to the frame
        ]);
        if addresses.v6 {
            program.extend([
                instruction(0x79, 5, 2, 0, 0),  // r5 = its upper half
                instruction(0x7b, 7, 5, 22, 0), // to the frame
                instruction(0x79, 5, 2, 8, 0),  // r5 = its lower half
                instruction(0x7b, 7, 5, 30, 0), // to the frame
            ]);
        } else {
            program.extend([
                instruction(0x61, 5, 2, 0, 0),  // r5 = the address
                instruction(0x63, 7, 5, 26, 0), // to the frame
            ]);
        }
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

    /// Runs it on `repeat` addresses, from the one with this number on. The frame is one of the family, its source
    /// of no account.
    ///
    /// # Errors
    ///
    /// The kernel's.
    ///
    /// # Panics
    ///
    /// When the frame is longer than 80 bytes.
    pub fn run(&self, frame: &[u8], first: u32, repeat: u32) -> io::Result<Ran> {
        let mut padded = [0; FRAME];
        padded[..frame.len()].copy_from_slice(frame);
        assert!(frame.len() <= INDEX, "no room for the number of the next address");
        padded[INDEX..INDEX + 4].copy_from_slice(&first.to_ne_bytes());
        timed::run(self.program.as_fd(), &padded, &mut [], repeat)
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
    /// When the addresses are of the other family.
    pub fn lookups(&self, addresses: &Addresses) -> io::Result<TrieLookups> {
        assert_eq!(self.v6, addresses.v6, "one family");
        let mut program = vec![
            instruction(0x61, 7, 1, 0, 0), // r7 = the frame's beginning
            instruction(0x61, 3, 1, 4, 0), // r3 = its end
            instruction(0xbf, 4, 7, 0, 0), // r4 = r7
            instruction(0x07, 4, 0, 0, 8), // r4 += 8
            instruction(0xb7, 0, 0, 0, 0), // r0 = XDP_ABORTED
            instruction(0xbd, 4, 3, 1, 0), // if r4 <= r3, go on
            instruction(0x95, 0, 0, 0, 0), // exit
            instruction(0x61, 8, 7, 0, 0), // r8 = the number of the next address
            instruction(0x61, 6, 7, 4, 0), // r6 = how many were found
        ];
        for _ in 0..LOOKUPS {
            program.extend(addresses.next());
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
            instruction(0xb7, 0, 0, 0, timed::XDP_DROP as i32), // r0 = XDP_DROP
            instruction(0x95, 0, 0, 0, 0),                      // exit
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
        let ran = timed::run(self.0.as_fd(), &frame, &mut after, repeat)?;
        let found = u32::from_ne_bytes([after[4], after[5], after[6], after[7]]);
        Ok((ran.nanoseconds / f64::from(LOOKUPS), found))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::{Addresses, LOOKUPS, Trie, Varied};
    use crate::{
        frames::{TCP, to_port},
        netns,
        timed::{Timed, XDP_DROP},
        xdp::Program,
    };

    /// 198.18.0.0 and 10.0.0.0 in turn, and the same for IPv6.
    fn addresses(v6: bool) -> Addresses {
        let pair: [IpAddr; 2] = if v6 {
            ["2001:db8:bad::1", "2001:db8:900d::1"].map(|text| text.parse().unwrap())
        } else {
            ["198.18.0.1", "10.0.0.1"].map(|text| text.parse().unwrap())
        };
        Addresses::new(pair.into_iter()).unwrap()
    }

    fn frame(v6: bool) -> Vec<u8> {
        let nobody: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        to_port(nobody, nobody, TCP, 80)
    }

    #[test]
    fn a_program_meets_the_addresses_in_turn() {
        if !netns::available() {
            return;
        }
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
    fn a_trie_finds_what_is_in_it() {
        if !netns::available() {
            return;
        }
        for (v6, prefix) in [(false, "198.18.0.0/16"), (true, "2001:db8:bad::/48")] {
            let trie = Trie::new(v6, &[prefix.parse().unwrap()]).unwrap();
            let lookups = trie.lookups(&addresses(v6)).unwrap();
            assert_eq!(lookups.run(0, 3).unwrap().1, 3 * LOOKUPS / 2, "every second one");
        }
    }
}
