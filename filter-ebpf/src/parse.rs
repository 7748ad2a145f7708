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
}

/// A source or destination address in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4, also when it was written as an IPv4-mapped IPv6 address.
    V4([u8; 4]),
    /// IPv6.
    V6([u8; 16]),
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
    let mut ether_type = u16::from_be_bytes([ethernet[12], ethernet[13]]);
    let mut at = 14;
    // Untagged frames, which are nearly all, leave at the first comparison.
    for _ in 0..MAX_TAGS {
        if ether_type != VLAN && ether_type != SERVICE_VLAN {
            break;
        }
        let Some(tag) = frame.bytes::<4>(at) else { return Parsed::Truncated };
        ether_type = u16::from_be_bytes([tag[2], tag[3]]);
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
    if u16::from_be_bytes([header[6] & 0x1f, header[7]]) != 0 {
        return Parsed::LaterFragment;
    }
    transport(frame, Ip { v6: false, at }, header[9], at + length)
}

#[inline(always)]
fn parse_v6<F: Frame + ?Sized>(frame: &F, start: usize) -> Parsed {
    let Some(header) = frame.bytes::<40>(start) else { return Parsed::Truncated };
    if header[0] >> 4 != 6 {
        return Parsed::Truncated;
    }
    let ip = Ip { v6: true, at: start };
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
                if u16::from_be_bytes([extension[2], extension[3] & 0xf8]) != 0 {
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
        Some(ports) => Parsed::Port(ip, proto, u16::from_be_bytes([ports[2], ports[3]])),
        None => Parsed::Hidden(ip),
    }
}

impl Ip {
    /// The source address. `None` only if the frame is not the one that was parsed.
    #[inline(always)]
    pub fn source<F: Frame + ?Sized>(self, frame: &F) -> Option<Address> {
        if self.v6 {
            Some(canonical(frame.bytes::<16>(self.at + 8)?))
        } else {
            Some(Address::V4(*frame.bytes::<4>(self.at + 12)?))
        }
    }

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
