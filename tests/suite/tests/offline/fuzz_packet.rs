//! The packet parser on anything: `cargo bolero test -p tests fuzz_packet` runs it for as long as one likes.

use filter_ebpf::parse::{Address, Frame, Ip, Parsed, parse};

/// A reader that remembers how far it was asked to read, so that what a verdict rests on is known.
struct Watched<'a> {
    frame: &'a [u8],
    seen: std::cell::Cell<usize>,
}

impl Frame for Watched<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        let bytes = self.frame.bytes(at)?;
        self.seen.set(self.seen.get().max(at + N));
        Some(bytes)
    }
}

fn check(input: &[u8]) {
    let watched = Watched { frame: input, seen: 0.into() };
    let parsed = parse(&watched);
    assert_eq!(parsed, parse(input));
    // Whatever follows what was read changes nothing.
    let seen = watched.seen.get();
    let mut longer = input[..seen].to_vec();
    if !matches!(parsed, Parsed::Hidden(_) | Parsed::Truncated) {
        assert_eq!(parse(&longer[..]), parsed);
        longer.extend([0xff; 64]);
        assert_eq!(parse(&longer[..]), parsed);
    }
    let check_ip = |ip: Ip| {
        let header = if ip.v6 { 40 } else { 20 };
        assert!(ip.at >= 14 && ip.at + header <= input.len());
        let source = ip.source.address();
        assert!(ip.destination(input).is_some());
        match source {
            Address::V4(bytes) if ip.v6 => {
                assert_eq!(input[ip.at + 8..ip.at + 24], Address::V4(bytes).mapped());
            }
            Address::V4(bytes) => assert_eq!(input[ip.at + 12..ip.at + 16], bytes),
            Address::V6(bytes) => assert_eq!(input[ip.at + 8..ip.at + 24], bytes),
        }
    };
    match parsed {
        Parsed::Port(ip, _, port) => {
            check_ip(ip);
            assert!(input.windows(2).any(|pair| pair == port.to_be_bytes()));
        }
        Parsed::Hidden(ip) => check_ip(ip),
        Parsed::NotIp | Parsed::OtherProtocol | Parsed::LaterFragment | Parsed::TooManyTags => {
            assert!(input.len() >= 14);
        }
        Parsed::Truncated => {}
    }
}

#[test]
fn any_bytes_are_parsed() {
    bolero::check!().for_each(check);
}

#[test]
fn nearly_packets_are_parsed() {
    // Bytes that lead deeper: a generator of random bytes would seldom write an EtherType.
    bolero::check!().with_type::<(u8, u8, Vec<u8>)>().for_each(|(tags, kind, rest)| {
        let mut frame = vec![0; 12];
        for _ in 0..tags % 11 {
            frame.extend([0x81, 0, 0, 0]);
        }
        match kind % 3 {
            0 => frame.extend([0x08, 0, 0x40 | kind >> 4]),
            1 => frame.extend([0x86, 0xdd, 0x60]),
            _ => frame.extend([0x88, 0xa8]),
        }
        frame.extend(rest);
        check(&frame);
    });
}
