//! The header with which a proxy begins a connection: the PROXY protocol, versions 1 and 2.
//!
//! The `ppp` crate reads the header; how much of it may be there, what may be in it, and its checksum are looked at
//! here. Only trusted peers are read in this way: from anybody else such a header is a malformed request.

use std::net::SocketAddr;

use crc32c::{crc32c, crc32c_append};
use ppp::{v1, v2};

use crate::address::canonical;

/// The longest header of version 1, its CRLF included.
const LONGEST_V1: usize = 107;
/// The longest header of version 2 that is read. Addresses take 36 bytes; what a proxy adds of certificates and of its
/// own, some hundreds.
const LONGEST_V2: usize = 4096;
/// What comes before the part of a header of version 2 whose length it says.
const FIXED_V2: usize = 16;

/// What a trusted proxy says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// It is the proxy's own, for a health check for example.
    Own,
    /// It carries the requests of a client.
    Client {
        /// The client's address and port.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
        /// Whether it did so over TLS.
        tls: bool,
    },
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAnnouncement(pub &'static str);

/// Reads the header at the beginning of a connection: what it says and how long it is. `None` when more bytes have to
/// come first.
///
/// # Errors
///
/// What is there is no header, or a broken one. It never becomes one with more bytes.
pub fn read(bytes: &[u8]) -> Result<Option<(Announced, usize)>, BadAnnouncement> {
    let begins = |prefix: &[u8]| bytes.iter().zip(prefix).all(|(one, other)| one == other);
    if begins(v2::PROTOCOL_PREFIX) {
        read_v2(bytes)
    } else if begins(b"PROXY ") {
        read_v1(bytes)
    } else {
        Err(BadAnnouncement("a connection of this proxy begins without a PROXY header"))
    }
}

fn read_v1(bytes: &[u8]) -> Result<Option<(Announced, usize)>, BadAnnouncement> {
    let line = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(length) = line.iter().position(|byte| *byte == b'\n').map(|at| at + 1) else {
        let long = line.len() == LONGEST_V1;
        return if long { Err(BadAnnouncement("PROXY header is too long")) } else { Ok(None) };
    };
    let header =
        v1::Header::try_from(&line[..length]).map_err(|_| BadAnnouncement("PROXY header is malformed"))?;
    let client =
        |source: SocketAddr, destination: SocketAddr| Announced::Client { source, destination, tls: false };
    let announced = match header.addresses {
        v1::Addresses::Unknown => Announced::Own,
        v1::Addresses::Tcp4(v1::IPv4 {
            source_address,
            source_port,
            destination_address,
            destination_port,
        }) => client((source_address, source_port).into(), (destination_address, destination_port).into()),
        v1::Addresses::Tcp6(v1::IPv6 {
            source_address,
            source_port,
            destination_address,
            destination_port,
        }) => client(plain(source_address, source_port), plain(destination_address, destination_port)),
    };
    Ok(Some((announced, length)))
}

fn plain(address: std::net::Ipv6Addr, port: u16) -> SocketAddr {
    SocketAddr::new(canonical(address.into()), port)
}

fn read_v2(bytes: &[u8]) -> Result<Option<(Announced, usize)>, BadAnnouncement> {
    let Some([high, low]) = bytes.get(FIXED_V2 - 2..FIXED_V2).and_then(|length| length.first_chunk()) else {
        return Ok(None);
    };
    let length = FIXED_V2 + usize::from(u16::from_be_bytes([*high, *low]));
    if length > LONGEST_V2 {
        return Err(BadAnnouncement("PROXY header is too long"));
    }
    let Some(bytes) = bytes.get(..length) else { return Ok(None) };
    let header = v2::Header::try_from(bytes).map_err(|_| BadAnnouncement("PROXY header is malformed"))?;
    let tls = read_fields(&header)?;
    if header.command == v2::Command::Local {
        return Ok(Some((Announced::Own, length)));
    }
    if header.protocol == v2::Protocol::Datagram {
        return Err(BadAnnouncement("PROXY header is about datagrams"));
    }
    let announced = match header.addresses {
        v2::Addresses::Unspecified => Announced::Own,
        v2::Addresses::IPv4(v2::IPv4 {
            source_address,
            source_port,
            destination_address,
            destination_port,
        }) => Announced::Client {
            source: (source_address, source_port).into(),
            destination: (destination_address, destination_port).into(),
            tls,
        },
        v2::Addresses::IPv6(v2::IPv6 {
            source_address,
            source_port,
            destination_address,
            destination_port,
        }) => Announced::Client {
            source: plain(source_address, source_port),
            destination: plain(destination_address, destination_port),
            tls,
        },
        v2::Addresses::Unix(_) => {
            return Err(BadAnnouncement("PROXY header names a Unix socket, which is no address to judge"));
        }
    };
    Ok(Some((announced, length)))
}

/// A field's kind and length.
const FIELD_HEAD: usize = 3;
/// The field of a checksum over the whole header.
const CRC32C: u8 = 0x03;
/// The field that describes the client's TLS, and the bit in its first byte that says that there is any.
const SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;

/// Looks at the fields that follow the addresses; whether they say that the client came over TLS. What follows when no
/// addresses are given is skipped, as the protocol has it.
fn read_fields(header: &v2::Header<'_>) -> Result<bool, BadAnnouncement> {
    let bytes = header.as_bytes();
    let mut at = bytes.len() - header.tlv_bytes().len();
    let mut tls = false;
    let mut checked = false;
    for field in header.tlvs() {
        let field = field.map_err(|_| BadAnnouncement("a field of the PROXY header is cut"))?;
        let value = &*field.value;
        let start = at + FIELD_HEAD;
        at = start + value.len();
        match (field.kind, value) {
            (CRC32C, value) => {
                let sent: [u8; 4] = value
                    .try_into()
                    .map_err(|_| BadAnnouncement("checksum of the PROXY header is malformed"))?;
                // Each would be a part of what the other is computed from.
                if std::mem::replace(&mut checked, true) {
                    return Err(BadAnnouncement("PROXY header has two checksums"));
                }
                // It is computed with zeros in its own place.
                let sum = crc32c_append(crc32c_append(crc32c(&bytes[..start]), &[0; 4]), &bytes[at..]);
                if sum != u32::from_be_bytes(sent) {
                    return Err(BadAnnouncement("checksum of the PROXY header is wrong"));
                }
            }
            (SSL, [client, ..]) => tls |= client & CLIENT_SSL != 0,
            _ => {}
        }
    }
    Ok(tls)
}

/// The header, version 2, with which a connection for a client begins.
pub fn write(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    // Both have to be of one family.
    let mapped = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        SocketAddr::V6(_) => address,
    };
    let (source, destination) = if source.is_ipv4() == destination.is_ipv4() {
        (source, destination)
    } else {
        (mapped(source), mapped(destination))
    };
    let command = v2::Version::Two | v2::Command::Proxy;
    v2::Builder::with_addresses(command, v2::Protocol::Stream, (source, destination))
        .build()
        .expect("two addresses are shorter than a header may be")
}

/// The header, version 2, with which a connection of the proxy's own begins, for a check for example.
pub fn write_own() -> Vec<u8> {
    let command = v2::Version::Two | v2::Command::Local;
    v2::Builder::new(command, v2::AddressFamily::Unspecified | v2::Protocol::Unspecified)
        .build()
        .expect("no address is shorter than a header may be")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    /// A header of version 2 with these bytes after its length, whatever they mean.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2, &[command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [198, 51, 100, 1, 192, 0, 2, 1, 0x12, 0x67, 0, 80];

    fn fields(fields: &[(u8, &[u8])]) -> Vec<u8> {
        let field = |(kind, value): &(u8, &[u8])| {
            let length = u16::try_from(value.len()).unwrap().to_be_bytes();
            [&[*kind], &length[..], value].concat()
        };
        [&V4[..], &fields.iter().flat_map(field).collect::<Vec<_>>()].concat()
    }

    fn source(bytes: &[u8]) -> Result<Option<String>, &'static str> {
        match read(bytes) {
            Ok(None) => Err("more"),
            Ok(Some((Announced::Own, _))) => Ok(None),
            Ok(Some((Announced::Client { source, .. }, _))) => Ok(Some(source.to_string())),
            Err(BadAnnouncement(why)) => Err(why),
        }
    }

    #[test]
    fn lines_of_version_1_are_read() {
        let tcp4 = b"PROXY TCP4 198.51.100.1 192.0.2.1 4711 80\r\nGET / HTTP/1.1\r\n";
        let client = Announced::Client {
            source: "198.51.100.1:4711".parse().unwrap(),
            destination: "192.0.2.1:80".parse().unwrap(),
            tls: false,
        };
        assert_eq!(read(tcp4), Ok(Some((client, 43))));
        let malformed = Err("PROXY header is malformed");
        for (line, expected) in [
            ("TCP6 2001:db8::1 2001:db8::2 1 2", Ok(Some("[2001:db8::1]:1"))),
            ("TCP6 ::ffff:198.51.100.1 ::1 1 2", Ok(Some("198.51.100.1:1"))),
            ("UNKNOWN", Ok(None)),
            ("UNKNOWN ffff::1 whatever", Ok(None)),
            ("TCP4 198.51.100.1 192.0.2.1 4711", malformed),
            ("TCP4 198.51.100.1 192.0.2.1 4711 80 81", malformed),
            ("TCP4 198.51.100.1 192.0.2.1 4711 65536", malformed),
            ("TCP4 198.51.100.1 192.0.2.1 04711 80", malformed),
            ("TCP4 198.51.100.01 192.0.2.1 4711 80", malformed),
            ("TCP4 2001:db8::1 2001:db8::2 1 2", malformed),
            ("TCP6 198.51.100.1 192.0.2.1 4711 80", malformed),
            ("TCP4  198.51.100.1 192.0.2.1 4711 80", malformed),
            ("tcp4 198.51.100.1 192.0.2.1 4711 80", malformed),
            ("UDP4 198.51.100.1 192.0.2.1 4711 80", malformed),
            ("UNKNOWN\u{e9}", malformed),
        ] {
            let read = source(format!("PROXY {line}\r\n").as_bytes());
            assert_eq!(read, expected.map(|source| source.map(str::to_owned)), "{line}");
        }
        assert_eq!(source(b"PROXY TCP4 198.51.100.1 192.0.2.1 4711 80\n"), Err("PROXY header is malformed"));
        assert_eq!(source(b"PROXY TCP4 \xff\r\n"), Err("PROXY header is malformed"));
        let long = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
        assert_eq!(source(long(LONGEST_V1).as_bytes()), Ok(None));
        assert_eq!(source(long(LONGEST_V1 + 1).as_bytes()), Err("PROXY header is too long"));
    }

    #[test]
    fn headers_of_version_2_are_read() {
        let v6: Vec<u8> = [[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]; 2]
            .concat()
            .into_iter()
            .chain([0, 1, 0, 2])
            .collect();
        let malformed = Err("PROXY header is malformed");
        for (command, family, rest, expected) in [
            (0x21, 0x11, &V4[..], Ok(Some("198.51.100.1:4711"))),
            (0x21, 0x21, &v6, Ok(Some("[2001:db8::1]:1"))),
            (0x20, 0x11, &V4, Ok(None)),
            (0x20, 0x00, &[], Ok(None)),
            (0x21, 0x00, b"whatever", Ok(None)),
            // The length is a lie: shorter than the addresses, and therefore nothing that could be read on.
            (0x21, 0x11, &V4[..11], malformed),
            (0x21, 0x21, &V4, malformed),
            (0x22, 0x11, &V4, malformed),
            (0x11, 0x11, &V4, malformed),
            (0x21, 0x41, &V4, malformed),
            (0x21, 0x13, &V4, malformed),
            (0x21, 0x12, &V4, Err("PROXY header is about datagrams")),
            (0x21, 0x31, &[b'/'; 216], Err("PROXY header names a Unix socket, which is no address to judge")),
        ] {
            let header = v2(command, family, rest);
            assert_eq!(
                source(&header),
                expected.map(|s| s.map(str::to_owned)),
                "{command:x} {family:x} {rest:?}"
            );
            let followed = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(read(&followed), read(&header), "what follows is not looked at");
        }
        let longest = LONGEST_V2 - FIXED_V2;
        assert_eq!(source(&v2(0x20, 0x00, &vec![0; longest])), Ok(None));
        assert_eq!(source(&v2(0x20, 0x00, &vec![0; longest + 1])), Err("PROXY header is too long"));
        assert_eq!(
            source(&v2(0x20, 0x00, &[0; 65535])[..16]),
            Err("PROXY header is too long"),
            "known at once"
        );
    }

    #[test]
    fn fields_are_whole_and_their_checksum_is_right() {
        let read = |rest: &[u8]| source(&v2(0x21, 0x11, rest)).map(|_| ());
        assert_eq!(read(&fields(&[(1, b"h2"), (4, b""), (0xea, b"x")])), Ok(()));
        for cut in [&[1][..], &[1, 0], &[1, 0, 1], &[1, 0xff, 0xff, 0]] {
            assert_eq!(read(&[&V4[..], cut].concat()), Err("a field of the PROXY header is cut"), "{cut:?}");
        }
        // Computed by the protocol's own words: the whole header with zeros in the field.
        let with = |sums: &[u32]| {
            let written: Vec<(u8, [u8; 4])> = sums.iter().map(|sum| (3, sum.to_be_bytes())).collect();
            let mut all: Vec<(u8, &[u8])> = vec![(1, b"h2")];
            all.extend(written.iter().map(|(kind, sum)| (*kind, &sum[..])));
            all.push((4, b"padding"));
            fields(&all)
        };
        let right = crc32c(&v2(0x21, 0x11, &with(&[0])));
        assert_eq!(read(&with(&[right])), Ok(()));
        assert_eq!(read(&with(&[right ^ 1])), Err("checksum of the PROXY header is wrong"));
        assert_eq!(read(&with(&[0])), Err("checksum of the PROXY header is wrong"));
        assert_eq!(read(&fields(&[(3, b"abc")])), Err("checksum of the PROXY header is malformed"));
        let first = crc32c(&v2(0x21, 0x11, &with(&[0, 7])));
        assert_eq!(read(&with(&[first, 7])), Err("PROXY header has two checksums"));
        let mut changed = v2(0x21, 0x11, &with(&[right]));
        changed[16] ^= 1;
        assert_eq!(source(&changed), Err("checksum of the PROXY header is wrong"), "of the address, too");
    }

    #[test]
    fn tls_in_front_is_known_from_its_field() {
        let tls = |value: &[u8]| match read(&v2(0x21, 0x11, &fields(&[(0x20, value)]))) {
            Ok(Some((Announced::Client { tls, .. }, _))) => tls,
            other => panic!("{other:?}"),
        };
        assert!(tls(&[1, 0, 0, 0, 0]) && tls(&[7, 0, 0, 0, 1]));
        assert!(!tls(&[0, 0, 0, 0, 0]) && !tls(&[]) && !tls(&[6]));
    }

    #[test]
    fn what_is_cut_waits_and_what_is_wrong_is_known_at_once() {
        let whole = [
            b"PROXY TCP4 198.51.100.1 192.0.2.1 4711 80\r\n".to_vec(),
            v2(0x21, 0x11, &fields(&[(1, b"h2")])),
            v2(0x20, 0x00, &[]),
        ];
        for header in whole {
            for end in 0..header.len() {
                assert_eq!(read(&header[..end]), Ok(None), "{end} of {header:?}");
            }
            assert_eq!(read(&header).unwrap().unwrap().1, header.len());
        }
        for other in
            ["G", "GET / HTTP/1.1\r\n", "PROXYTCP4", "PROXY\t", "\r\n\r\nQ", "proxy TCP4", "\x16\x03"]
        {
            assert!(read(other.as_bytes()).is_err(), "{other:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (source, destination, expected) in [
            ("198.51.100.1:4711", "192.0.2.1:80", 28),
            ("[2001:db8::1]:4711", "[2001:db8::2]:80", 52),
            ("198.51.100.1:4711", "[2001:db8::2]:80", 52),
            ("[2001:db8::1]:4711", "192.0.2.1:80", 52),
        ] {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            let written = write(source, destination);
            let announced = Announced::Client { source, destination, tls: false };
            assert_eq!((read(&written), written.len()), (Ok(Some((announced, expected))), expected));
        }
        assert_eq!(read(&write_own()), Ok(Some((Announced::Own, 16))));
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic_and_more_of_them_change_no_answer(
            start in 0usize..3,
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            more in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let begin: &[u8] = [&b""[..], b"PROXY ", V2][start];
            let bytes = [begin, &bytes].concat();
            let first = read(&bytes);
            if first != Ok(None) {
                prop_assert_eq!(read(&[&bytes[..], &more].concat()), first);
            }
            if let Ok(Some((_, length))) = first {
                prop_assert!(length <= bytes.len() && length <= LONGEST_V2);
            }
        }
    }
}
