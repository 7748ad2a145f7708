//! Ethernet frames, byte by byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of a VLAN tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of an outer (service) VLAN tag.
pub const SERVICE_VLAN: u16 = 0x88a8;
/// IP protocol numbers.
pub const TCP: u8 = 6;
/// IP protocol numbers.
pub const UDP: u8 = 17;
/// IP protocol numbers.
pub const SCTP: u8 = 132;

/// An Ethernet header, tags (EtherType, VLAN id), and what follows.
pub fn ethernet(tags: &[(u16, u16)], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1];
    for (kind, id) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(id.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 header with `options` words of options (0 to 10); `fragment` is the field with flags and offset.
pub fn ipv4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    options: u8,
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let header = 20 + usize::from(options) * 4;
    let mut packet = vec![0x40 | (5 + options), 0];
    packet.extend(((header + payload.len()) as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.resize(header, 1); // options: no operation
    packet.extend(payload);
    packet
}

/// An IPv6 extension header: its number, and its bytes but for the first, which names the next header.
#[derive(Clone, Debug)]
pub struct Extension {
    /// Its number in the header before.
    pub number: u8,
    /// From its second byte on.
    pub rest: Vec<u8>,
}

impl Extension {
    /// A hop-by-hop (0), routing (43) or destination (60) header of `8 * (units + 1)` bytes.
    pub fn options(number: u8, units: u8) -> Self {
        let mut rest = vec![units];
        rest.resize(7 + usize::from(units) * 8, 0);
        Self { number, rest }
    }

    /// An authentication header of `4 * (words + 2)` bytes.
    pub fn authentication(words: u8) -> Self {
        let mut rest = vec![words];
        rest.resize(7 + usize::from(words) * 4, 0xaa);
        Self { number: 51, rest }
    }

    /// A fragment header with the offset in bytes (a multiple of 8).
    pub fn fragment(offset: u16, more: bool) -> Self {
        let [a, b] = (offset | u16::from(more)).to_be_bytes();
        Self { number: 44, rest: vec![0, a, b, 9, 9, 9, 9] }
    }
}

/// An IPv6 header, extension headers and what follows.
pub fn ipv6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    extensions: &[Extension],
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut body = Vec::new();
    for (index, extension) in extensions.iter().enumerate() {
        body.push(extensions.get(index + 1).map_or(protocol, |next| next.number));
        body.extend(&extension.rest);
    }
    body.extend(payload);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend([extensions.first().map_or(protocol, |first| first.number), 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(body);
    packet
}

/// The first bytes of a TCP, UDP or SCTP header, and some more.
pub fn ports(destination: u16) -> Vec<u8> {
    let mut bytes = 40_000u16.to_be_bytes().to_vec();
    bytes.extend(destination.to_be_bytes());
    bytes.resize(20, 0x50);
    bytes
}

/// A plain packet to a port; both addresses must be of one family.
pub fn to_port(source: IpAddr, destination: IpAddr, protocol: u8, port: u16) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ethernet(&[], IPV4, &ipv4(source, destination, protocol, 0, 0, &ports(port)))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ethernet(&[], IPV6, &ipv6(source, destination, &[], protocol, &ports(port)))
        }
        _ => panic!("{source} and {destination} are of two families"),
    }
}
