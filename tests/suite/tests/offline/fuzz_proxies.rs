//! Arbitrary words of proxies: never a panic, and an address only where a plain reading gives the same.

use std::net::{IpAddr, SocketAddr};

use filter_user::{
    http::{
        client,
        proxy_protocol::{self, Announced},
    },
    model::{AddressHeader, Origin, RealIp, Trust},
};
use http::{HeaderMap, HeaderValue};

/// Pieces of lists of addresses.
const PIECES: [&str; 32] = [
    "192.0.2.1",
    "192.0.2.2",
    "198.51.100.1",
    "2001:db8::1",
    "[2001:db8::1]",
    "::ffff:192.0.2.1",
    "unknown",
    "_hidden",
    ",",
    ",",
    ", ",
    ";",
    "=",
    "\"",
    "\\",
    "for=",
    "For=",
    "by=",
    "proto=https",
    "for=192.0.2.1",
    "for=198.51.100.1",
    "for=\"[2001:db8::1]:80\"",
    "for=\"198.51.100.1:_p\"",
    ":80",
    ":",
    " ",
    "\t",
    "[",
    "]",
    "0",
    "\u{7f}",
    "\u{e9}",
];

fn trust(header: AddressHeader) -> Trust {
    let origin = Origin { file: "f".into(), line: 1, column: 1 };
    let from = vec![("192.0.2.0/24".parse().expect("a prefix"), origin)];
    Trust { real_ip: vec![RealIp { from, header }], proxy_protocol: Vec::new() }
}

/// A hop as an address, with a port perhaps.
fn plainly(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim_matches([' ', '\t']);
    let address = hop.parse().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()));
    address.or_else(|| hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok().filter(IpAddr::is_ipv6))
}

fn check_header(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let proxy: IpAddr = [192, 0, 2, 200].into();
    for header in AddressHeader::ALL {
        let mut headers = HeaderMap::new();
        headers.insert(header.name(), value.clone());
        let trust = trust(header);
        let stranger = [198, 51, 100, 200].into();
        let read = client(&trust, stranger, &headers).expect("a stranger's words mean nothing");
        assert_eq!(read.address, stranger);
        let Ok(read) = client(&trust, proxy, &headers) else { continue };
        let text = value.to_str().expect("what is understood is ASCII");
        match header {
            AddressHeader::XRealIp | AddressHeader::CfConnectingIp => {
                let plain: IpAddr = text.trim_matches([' ', '\t']).parse().expect("one address");
                assert_eq!(read.address, plain.to_canonical());
            }
            AddressHeader::XForwardedFor => {
                let hops: Vec<&str> = text.split(',').collect();
                let own = |hop: &&&str| !plainly(hop).is_some_and(|address| trust.trusts(address));
                let hop = hops.iter().rev().find(own).unwrap_or(&hops[0]);
                assert_eq!(
                    Some(read.address),
                    plainly(hop).map(|address| address.to_canonical()),
                    "{text:?}"
                );
            }
            AddressHeader::Forwarded => {
                // Written anew in the plainest form, it says the same.
                let written = format!("for=\"{}\"", SocketAddr::new(read.address, 80));
                headers.insert(header.name(), written.parse().expect("visible ASCII"));
                assert_eq!(client(&trust, proxy, &headers), Ok(read), "{text:?}");
                assert!(text.to_ascii_lowercase().contains("for="), "{text:?}");
            }
        }
    }
}

#[test]
fn address_headers_of_any_bytes() {
    bolero::check!().for_each(|bytes: &[u8]| check_header(bytes));
}

#[test]
fn address_headers_of_interesting_pieces() {
    bolero::check!().with_type::<Vec<u8>>().for_each(|choices| {
        let value: String =
            choices.iter().map(|choice| PIECES[usize::from(*choice) % PIECES.len()]).collect();
        check_header(value.as_bytes());
        let listed: Vec<&str> =
            choices.iter().map(|choice| PIECES[usize::from(*choice) % PIECES.len()]).collect();
        check_header(listed.join(",").as_bytes());
    });
}

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn check_announcement(bytes: &[u8]) {
    let read = proxy_protocol::read(bytes);
    // However it is cut, the same comes of it.
    let first =
        (0..=bytes.len()).map(|end| proxy_protocol::read(&bytes[..end])).find(|read| *read != Ok(None));
    assert_eq!(first.unwrap_or(Ok(None)), read);
    let Ok(Some((announced, length))) = read else { return };
    assert!(length <= bytes.len() && length <= 4096);
    let Announced::Client { source, destination, tls: _ } = announced else { return };
    if let Some(line) = bytes.strip_prefix(b"PROXY ") {
        let line = std::str::from_utf8(&line[..length - 8]).expect("ASCII");
        let words: Vec<&str> = line.split(' ').collect();
        let [_, from, to, from_port, to_port] = words[..] else { panic!("{line:?} has five words") };
        let plain = |address: &str, port: &str| {
            let address: IpAddr = address.parse().expect("an address");
            SocketAddr::new(address.to_canonical(), port.parse().expect("a port"))
        };
        assert_eq!((source, destination), (plain(from, from_port), plain(to, to_port)), "{line:?}");
    }
    let again = proxy_protocol::write(source, destination);
    let announced = Announced::Client { source, destination, tls: false };
    assert_eq!(proxy_protocol::read(&again), Ok(Some((announced, again.len()))));
}

#[test]
fn announcements_of_any_bytes() {
    bolero::check!().for_each(|bytes: &[u8]| {
        check_announcement(bytes);
        check_announcement(&[b"PROXY ", bytes].concat());
        check_announcement(&[b"PROXY TCP4 ", bytes, b"\r\n"].concat());
        check_announcement(&[V2, bytes].concat());
        // With a command, a family and a length that fit.
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
        for family in [0x11, 0x21] {
            check_announcement(&[V2, &[0x21, family], &length, bytes].concat());
        }
    });
}

/// Pieces of lines of version 1.
const WORDS: [&str; 16] = [
    "TCP4",
    "TCP6",
    "UNKNOWN",
    " ",
    " ",
    " ",
    "192.0.2.1",
    "198.51.100.1",
    "2001:db8::1",
    "80",
    "4711",
    "\r\n",
    "\r",
    "\n",
    "+1",
    "01",
];

#[test]
fn announcements_of_interesting_words() {
    bolero::check!().with_type::<Vec<u8>>().for_each(|choices| {
        let words: Vec<&str> =
            choices.iter().map(|choice| WORDS[usize::from(*choice) % WORDS.len()]).collect();
        check_announcement(format!("PROXY {}\r\n", words.concat()).as_bytes());
        check_announcement(format!("PROXY TCP4 {}\r\n", words.join(" ")).as_bytes());
    });
}
