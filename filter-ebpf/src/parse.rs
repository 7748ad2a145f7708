//! From a frame to the port that it is addressed to.
//!
//! Written for two compilers: the host's, and the kernel's verifier, which must see that every loop ends
//! and every read is inside the packet.

use crate::layout::Proto;

/// A frame that can be read with bounds.
pub trait Frame {
    /// The `N` bytes at offset `at`, or `None` when they are not all there.
    fn bytes<const N: usize>(&self, at: usize) -> Option<&[u8; N]>;

    /// The same offset. In the kernel, in a form that makes the verifier forget how it came about: it would
    /// otherwise check everything that follows once for each number of tags and each chain of extension
    /// headers, and there are hundreds of thousands of combinations.
    #[inline(always)]
    fn forget(&self, at: usize) -> usize {
        at
    }
}

/// The big-endian numbers at fixed places of a header. The compiler would read them byte by byte, because it does
/// not know that every machine with an XDP driver reads across alignment.
mod read {
    macro_rules! reader {
        ($name:ident, $type:ty, $load:literal) => {
            #[inline(always)]
            pub(super) fn $name<const AT: usize, const N: usize>(header: &[u8; N]) -> $type {
                const { assert!(AT + size_of::<$type>() <= N) };
                #[cfg(target_arch = "bpf")]
                {
                    let number: u64;
                    // SAFETY: reads bytes of the header, as was checked above.
                    unsafe {
                        core::arch::asm!(
                            concat!("{number} = *(", $load, " *)({header} + {at})"),
                            number = out(reg) number,
                            header = in(reg) header.as_ptr(),
                            at = const AT,
                            options(pure, readonly, nostack)
                        );
                    }
                    <$type>::from_be(number as $type)
                }
                #[cfg(not(target_arch = "bpf"))]
                {
                    let mut bytes = [0; size_of::<$type>()];
                    bytes.copy_from_slice(&header[AT..AT + size_of::<$type>()]);
                    <$type>::from_be_bytes(bytes)
                }
            }
        };
    }

    reader!(half, u16, "u16");
    reader!(word, u32, "u32");
    reader!(long, u64, "u64");
}

impl Frame for [u8] {
    fn bytes<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.get(at..)?.first_chunk()
    }
}

/// VLAN tags that are looked through. Two are in use anywhere; more are looked through because Linux
/// strips any number of priority tags (VLAN 0) in front of an IP header.
pub const MAX_TAGS: usize = 8;
/// IPv6 extension headers that are looked through.
pub const MAX_EXTENSIONS: usize = 8;

/// Covers any offset that a header can have: 14 + 8 × 4 + 40 + 8 × 2048 = 16470.
pub const OFFSET_MASK: usize = 0x7fff;

/// An IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// IPv6, or else IPv4.
    pub v6: bool,
    /// Its offset in the frame. The fixed part of the header (20 or 40 bytes) is there.
    pub at: usize,
    /// Where the frame ends according to this header; what is behind it is padding.
    pub end: usize,
    /// The source address.
    pub source: Numbers,
}

/// A source or destination address in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4, also when it was written as an IPv4-mapped IPv6 address.
    V4([u8; 4]),
    /// IPv6.
    V6([u8; 16]),
}

/// An address as numbers in host byte order, which is what lookups compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// IPv6, or else IPv4, also when it was written as an IPv4-mapped IPv6 address.
    pub v6: bool,
    /// The upper 64 bits of IPv6; IPv4 in the uppermost 32.
    pub upper: u64,
    /// The lower 64 bits of IPv6; 0 for IPv4.
    pub lower: u64,
}

impl Numbers {
    /// The same address as bytes.
    #[inline(always)]
    pub fn address(self) -> Address {
        if self.v6 {
            Address::V6((u128::from(self.upper) << 64 | u128::from(self.lower)).to_be_bytes())
        } else {
            Address::V4(((self.upper >> 32) as u32).to_be_bytes())
        }
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// More than [`MAX_TAGS`] VLAN tags.
    TooManyTags,
    /// It ends before or in the IP header, or the header is not one.
    Truncated,
    /// A fragment other than the first; it has no port.
    LaterFragment,
    /// A protocol without ports.
    OtherProtocol,
    /// A protocol with ports, or a chain of extension headers with anything behind it, that ends or is
    /// given up before the port.
    Hidden(Ip),
    /// Addressed to a port.
    Port(Ip, Proto, u16),
}

const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const SCTP: u8 = 132;

/// Finds out what a frame is. It begins with the Ethernet header.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Parsed {
    let Some(ethernet) = frame.bytes::<14>(0) else { return Parsed::Truncated };
    let mut ether_type = read::half::<12, 14>(ethernet);
    let mut at = 14;
    // Untagged frames, which are nearly all, leave at the first comparison.
    for _ in 0..MAX_TAGS {
        if ether_type != VLAN && ether_type != SERVICE_VLAN {
            break;
        }
        let Some(tag) = frame.bytes::<4>(at) else { return Parsed::Truncated };
        ether_type = read::half::<2, 4>(tag);
        at += 4;
    }
    at = frame.forget(at);
    match ether_type {
        IPV4 => parse_v4(frame, at),
        IPV6 => parse_v6(frame, at),
        VLAN | SERVICE_VLAN => Parsed::TooManyTags,
        _ => Parsed::NotIp,
    }
}

#[inline(always)]
fn parse_v4<F: Frame + ?Sized>(frame: &F, at: usize) -> Parsed {
    let Some(header) = frame.bytes::<20>(at) else { return Parsed::Truncated };
    let length = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || length < 20 {
        return Parsed::Truncated;
    }
    // Offset in units of 8 bytes, without the flags. The ports of a first fragment are in it: Linux
    // discards one whose payload is shorter than 8 bytes, and any that overlap.
    if read::half::<6, 20>(header) & 0x1fff != 0 {
        return Parsed::LaterFragment;
    }
    let source = Numbers { v6: false, upper: u64::from(read::word::<12, 20>(header)) << 32, lower: 0 };
    let end = at + usize::from(read::half::<2, 20>(header));
    transport(frame, Ip { v6: false, at, end, source }, header[9], at + length)
}

#[inline(always)]
fn parse_v6<F: Frame + ?Sized>(frame: &F, start: usize) -> Parsed {
    let Some(header) = frame.bytes::<40>(start) else { return Parsed::Truncated };
    if header[0] >> 4 != 6 {
        return Parsed::Truncated;
    }
    let end = start + 40 + usize::from(read::half::<4, 40>(header));
    let (upper, lower) = (read::long::<8, 40>(header), read::long::<16, 40>(header));
    let source = if upper == 0 && lower >> 32 == 0xffff {
        Numbers { v6: false, upper: lower << 32, lower: 0 }
    } else {
        Numbers { v6: true, upper, lower }
    };
    let ip = Ip { v6: true, at: start, end, source };
    let mut next = header[6];
    let mut at = start + 40;
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(next) {
            break;
        }
        // The shortest extension header has 8 bytes.
        let Some(extension) = frame.bytes::<8>(at) else { return Parsed::Hidden(ip) };
        let length = match next {
            FRAGMENT => {
                if read::half::<2, 8>(extension) & 0xfff8 != 0 {
                    return Parsed::LaterFragment;
                }
                8
            }
            AUTHENTICATION => (usize::from(extension[1]) + 2) * 4,
            _ => (usize::from(extension[1]) + 1) * 8,
        };
        next = extension[0];
        at = frame.forget(at + length);
    }
    if is_extension(next) { Parsed::Hidden(ip) } else { transport(frame, ip, next, at) }
}

#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
}

#[inline(always)]
fn transport<F: Frame + ?Sized>(frame: &F, ip: Ip, protocol: u8, at: usize) -> Parsed {
    let proto = match protocol {
        TCP => Proto::Tcp,
        UDP => Proto::Udp,
        SCTP => Proto::Sctp,
        _ => return Parsed::OtherProtocol,
    };
    // All three begin with the source port and the destination port.
    match frame.bytes::<4>(at) {
        Some(ports) => Parsed::Port(ip, proto, read::half::<2, 4>(ports)),
        None => Parsed::Hidden(ip),
    }
}

impl Ip {
    /// The destination address. `None` only if the frame is not the one that was parsed.
    #[inline(always)]
    pub fn destination<F: Frame + ?Sized>(self, frame: &F) -> Option<Address> {
        if self.v6 {
            Some(canonical(frame.bytes::<16>(self.at + 24)?))
        } else {
            Some(Address::V4(*frame.bytes::<4>(self.at + 16)?))
        }
    }
}

/// `::ffff:a.b.c.d` is the IPv4 address.
#[inline(always)]
fn canonical(address: &[u8; 16]) -> Address {
    match *address {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Address::V4([a, b, c, d]),
        other => Address::V6(other),
    }
}

impl Address {
    /// Sixteen bytes, IPv4 as IPv4-mapped.
    #[inline(always)]
    pub fn mapped(self) -> [u8; 16] {
        match self {
            Self::V4([a, b, c, d]) => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
            Self::V6(address) => address,
        }
    }
}
