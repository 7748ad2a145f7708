//! Ethernet frames that no honest stack would send: any source, any tags.

use std::net::{IpAddr, SocketAddr};

use crate::netns::{EDGE_MAC, ROUTER_MAC};

/// The transport header that a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The first segment of a connection.
    TcpSyn,
    /// A datagram with no payload.
    Udp,
}

/// A frame from the router to the edge, from `source` to `destination`, with VLAN tags, the outer one first.
/// Every length and checksum is right.
///
/// # Panics
///
/// When the two addresses are of different families.
pub fn frame(tags: &[u16], source: SocketAddr, destination: SocketAddr, transport: Transport) -> Vec<u8> {
    let mut frame = [EDGE_MAC, ROUTER_MAC].concat();
    for tag in tags {
        frame.extend([0x81, 0x00]);
        frame.extend(tag.to_be_bytes());
    }
    let (protocol, mut segment) = match transport {
        Transport::TcpSyn => (6, tcp_syn(source.port(), destination.port())),
        Transport::Udp => (17, udp(source.port(), destination.port())),
    };
    let checksum_at = if protocol == 6 { 16 } else { 6 };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let pseudo = [&from.octets()[..], &to.octets()[..], &[0, protocol], &length(&segment)].concat();
            fill_checksum(&mut segment, checksum_at, &pseudo);
            let total = (20 + segment.len()) as u16;
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            header.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            fill_checksum(&mut header, 10, &[]);
            frame.extend([0x08, 0x00]);
            frame.extend(header);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let pseudo =
                [&from.octets()[..], &to.octets()[..], &[0, 0], &length(&segment), &[0, 0, 0, protocol]]
                    .concat();
            fill_checksum(&mut segment, checksum_at, &pseudo);
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length(&segment));
            frame.extend([protocol, 64]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        _ => panic!("{source} and {destination} are of different families"),
    }
    frame.extend(segment);
    frame
}

fn tcp_syn(source: u16, destination: u16) -> Vec<u8> {
    let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

fn udp(source: u16, destination: u16) -> Vec<u8> {
    let mut datagram = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    datagram.extend([0, 8, 0, 0]);
    datagram
}

fn length(segment: &[u8]) -> [u8; 2] {
    (segment.len() as u16).to_be_bytes()
}

/// Writes the Internet checksum (RFC 1071) of `pseudo` and `bytes` at an offset that holds zeroes.
fn fill_checksum(bytes: &mut [u8], at: usize, pseudo: &[u8]) {
    let words = pseudo.chunks(2).chain(bytes.chunks(2));
    let mut sum: u32 =
        words.map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // A UDP checksum of zero would mean that there is none; all ones is the same number.
    let checksum = match !(sum as u16) {
        0 => 0xffff,
        checksum => checksum,
    };
    bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}
