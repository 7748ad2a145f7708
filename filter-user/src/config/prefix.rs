//! Prefixes as people write them.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why a text is no address or prefix, and which part of it is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixError {
    kind: Kind,
    /// The part to blame, in bytes of the text.
    part: Range<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Empty,
    NoAddress,
    Octet(String),
    LeadingZero(String),
    TooManyOctets,
    /// An IPv4 prefix with less than four octets and no length; the text.
    Short(String),
    Length(String),
    LengthRange {
        written: String,
        most: u8,
    },
    Netmask,
    AddressRange,
    /// An address of IPv6 with the name of an interface: `fe80::1%eth0`.
    Zone,
}

impl PrefixError {
    /// The part to blame, in bytes of the text.
    pub fn part(&self) -> Range<usize> {
        self.part.clone()
    }

    /// A stable name for this kind of error.
    pub fn code(&self) -> &'static str {
        match self.kind {
            Kind::Empty | Kind::NoAddress | Kind::TooManyOctets | Kind::AddressRange | Kind::Zone => {
                "not-a-prefix"
            }
            Kind::Octet(_) => "octet-range",
            Kind::LeadingZero(_) => "leading-zero",
            Kind::Short(_) => "short-without-length",
            Kind::Length(_) | Kind::Netmask => "prefix-length",
            Kind::LengthRange { .. } => "prefix-range",
        }
    }

    /// What to write instead, when that can be said.
    pub fn help(&self) -> Option<String> {
        Some(match &self.kind {
            Kind::Empty | Kind::NoAddress => {
                "write an address (192.0.2.1, 2001:db8::1) or a prefix (192.0.2.0/24, 172.16/24, 2001:db8::/32)"
                    .into()
            }
            Kind::Octet(_) => "an octet is a number from 0 to 255".into(),
            Kind::LeadingZero(written) => {
                let digits = written.trim_start_matches('0');
                let digits = if digits.is_empty() { "0" } else { digits };
                format!("write `{digits}`; some programs read a leading zero as octal")
            }
            Kind::TooManyOctets => "an IPv4 address has four octets".into(),
            Kind::Short(written) => {
                let bits = (written.split('.').count() * 8).min(32);
                format!("write `{written}/{bits}` for the network, or all four octets for one address")
            }
            Kind::Length(_) | Kind::LengthRange { .. } => {
                "the length is a number of bits: at most 32 for IPv4, at most 128 for IPv6".into()
            }
            Kind::Netmask => {
                "write the number of bits that are set in the netmask: /24 for 255.255.255.0".into()
            }
            Kind::AddressRange => "write the prefixes that make up the range, one by one".into(),
            Kind::Zone => "leave out the `%` and what follows: rules hold on every filtered interface".into(),
        })
    }
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Empty => f.write_str("an empty value is no address or prefix"),
            Kind::NoAddress => f.write_str("this is no IP address or prefix"),
            Kind::Octet(octet) => write!(f, "the octet {octet} is over 255"),
            Kind::LeadingZero(number) => write!(f, "the number {number} has a leading zero"),
            Kind::TooManyOctets => f.write_str("this IPv4 address has more than four octets"),
            Kind::Short(_) => f.write_str("a short prefix needs a length"),
            Kind::Length(_) => f.write_str("the prefix length is not a number"),
            Kind::LengthRange { written, most } => write!(f, "the prefix length {written} is over {most}"),
            Kind::Netmask => f.write_str("a netmask is no prefix length"),
            Kind::AddressRange => f.write_str("ranges of addresses are not read"),
            Kind::Zone => f.write_str("a zone means nothing in a rule: packets do not carry it"),
        }
    }
}

impl std::error::Error for PrefixError {}

/// Reads an address or a prefix; the flag says that host bits below the mask were set, and were masked.
///
/// Short IPv4 prefixes fill with zero octets: `172.16/24` is 172.16.0.0/24. An IPv4-mapped IPv6 prefix of at
/// least 96 bits is given as the IPv4 prefix.
///
/// # Errors
///
/// The text is neither; the error says which part is to blame.
pub fn parse_prefix(text: &str) -> Result<(IpNet, bool), PrefixError> {
    let fail = |kind, part| Err(PrefixError { kind, part });
    if text.is_empty() {
        return fail(Kind::Empty, 0..0);
    }
    let (address, length) = match text.find('/') {
        Some(slash) => (&text[..slash], Some(slash + 1)),
        None => (text, None),
    };
    if address.contains(':') {
        if let Some((before, _)) = address.split_once('%')
            && before.parse::<Ipv6Addr>().is_ok()
        {
            return fail(Kind::Zone, before.len()..address.len());
        }
        let Ok(address) = address.parse::<Ipv6Addr>() else {
            return fail(Kind::NoAddress, 0..text.len());
        };
        let length = length.map_or(Ok(128), |at| read_length(text, at, 128))?;
        return Ok(v6(address, length));
    }
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
    if address.is_empty()
        || !address.starts_with(|c: char| c.is_ascii_digit())
        || !address.chars().all(numeric)
    {
        return fail(Kind::NoAddress, 0..text.len());
    }
    if address.contains('-') {
        return fail(Kind::AddressRange, 0..text.len());
    }
    let mut octets = [0_u8; 4];
    let mut count = 0;
    let mut at = 0;
    for octet in address.split('.') {
        let part = at..at + octet.len();
        at = part.end + 1;
        if octet.is_empty() {
            return fail(Kind::NoAddress, 0..text.len());
        }
        if octet.len() > 1 && octet.starts_with('0') {
            return fail(Kind::LeadingZero(octet.into()), part);
        }
        let Ok(value) = octet.parse() else { return fail(Kind::Octet(octet.into()), part) };
        let Some(place) = octets.get_mut(count) else { return fail(Kind::TooManyOctets, 0..address.len()) };
        *place = value;
        count += 1;
    }
    let length = match length {
        Some(at) => read_length(text, at, 32)?,
        None if count == 4 => 32,
        None => return fail(Kind::Short(address.into()), 0..text.len()),
    };
    Ok(v4(octets.into(), length))
}

fn read_length(text: &str, at: usize, most: u8) -> Result<u8, PrefixError> {
    let length = &text[at..];
    let fail = |kind| Err(PrefixError { kind, part: at..text.len() });
    if length.contains('.') && length.parse::<Ipv4Addr>().is_ok() {
        return fail(Kind::Netmask);
    }
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
        return fail(Kind::Length(length.into()));
    }
    if length.len() > 1 && length.starts_with('0') {
        return fail(Kind::LeadingZero(length.into()));
    }
    match length.parse() {
        Ok(bits) if bits <= most => Ok(bits),
        _ => fail(Kind::LengthRange { written: length.into(), most }),
    }
}

fn v4(address: Ipv4Addr, length: u8) -> (IpNet, bool) {
    let net = Ipv4Net::new(address, length).expect("a length of at most 32").trunc();
    (net.into(), net.addr() != address)
}

fn v6(address: Ipv6Addr, length: u8) -> (IpNet, bool) {
    if let (Some(mapped), 96..) = (address.to_ipv4_mapped(), length) {
        return v4(mapped, length - 96);
    }
    let net = Ipv6Net::new(address, length).expect("a length of at most 128").trunc();
    (net.into(), net.addr() != address)
}

/// In a list of addresses to be denied, a shorter prefix is more than one would list: 16 million addresses of IPv4.
const SHORT_V4: u8 = 8;
const SHORT_V6: u8 = 16;

/// Whether a prefix holds more addresses than one would shut out: it is shorter than /8 (IPv4) or /16 (IPv6).
pub fn is_large_network(net: &IpNet) -> bool {
    net.prefix_len() < if net.addr().is_ipv4() { SHORT_V4 } else { SHORT_V6 }
}

/// Whether an IPv6 prefix covers the IPv4-mapped addresses, which it does not match: those clients are judged
/// as IPv4.
pub(super) fn covers_mapped(net: &IpNet) -> bool {
    match net {
        IpNet::V4(_) => false,
        IpNet::V6(net) => net.prefix_len() < 96 && net.contains(&Ipv4Addr::UNSPECIFIED.to_ipv6_mapped()),
    }
}

/// Reads `a.b.c.d` or `a.b.c.d/n` in its usual form at the start of `bytes`, up to the line's end; gives the
/// prefix and where the next line begins. `None` when the line is anything else, host bits included.
pub(super) fn fast_v4_line(bytes: &[u8]) -> Option<(IpNet, usize)> {
    let mut at = 0;
    let mut number = |end: fn(u8) -> bool, most: u32| {
        let start = at;
        let mut value = 0_u32;
        while let Some(digit) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            value = value * 10 + u32::from(digit);
            at += 1;
            if at - start > 3 {
                return None;
            }
        }
        let stop = bytes.get(at).copied().unwrap_or(b'\n');
        let zero = at - start > 1 && bytes[start] == b'0';
        if at == start || zero || value > most || !end(stop) {
            return None;
        }
        at += 1;
        Some((value, stop, at))
    };
    let mut address = 0;
    for _ in 0..3 {
        address = address << 8 | number(|stop| stop == b'.', 255)?.0;
    }
    let (last, stop, mut next) = number(|stop| matches!(stop, b'\n' | b'/'), 255)?;
    address = address << 8 | last;
    let mut length = 32;
    if stop == b'/' {
        (length, _, next) = number(|stop| stop == b'\n', 32)?;
    }
    let host = u32::MAX.checked_shr(length).unwrap_or(0);
    if address & host != 0 {
        return None;
    }
    let net = Ipv4Net::new(Ipv4Addr::from_bits(address), length as u8).expect("a length of at most 32");
    Some((net.into(), next.min(bytes.len())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ok(text: &str) -> (String, bool) {
        let (net, masked) = parse_prefix(text).unwrap();
        (net.to_string(), masked)
    }

    #[test]
    fn prefixes_are_read_as_flussonic_reads_them() {
        for (text, net, masked) in [
            ("192.0.2.1", "192.0.2.1/32", false),
            ("172.16/24", "172.16.0.0/24", false),
            ("10.10/16", "10.10.0.0/16", false),
            ("10/8", "10.0.0.0/8", false),
            ("10.10/8", "10.0.0.0/8", true),
            ("192.0.2.77/24", "192.0.2.0/24", true),
            ("0/0", "0.0.0.0/0", false),
            ("255.255.255.255/0", "0.0.0.0/0", true),
            ("2001:db8::1", "2001:db8::1/128", false),
            ("2001:db8::/32", "2001:db8::/32", false),
            ("2001:db8::1/32", "2001:db8::/32", true),
            ("::/0", "::/0", false),
            ("::ffff:192.0.2.1", "192.0.2.1/32", false),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24", false),
            ("::ffff:0:0/96", "0.0.0.0/0", false),
            ("::ffff:192.0.2.1/112", "192.0.0.0/16", true),
        ] {
            assert_eq!(ok(text), (net.to_owned(), masked), "{text}");
        }
    }

    #[test]
    fn what_is_no_prefix_is_blamed_on_the_right_part() {
        for (text, code, part) in [
            ("", "not-a-prefix", 0..0),
            ("examplehost", "not-a-prefix", 0..11),
            ("10.300.0.1", "octet-range", 3..6),
            ("10.0.0.99999999999999999999", "octet-range", 7..27),
            ("10.01.0.1", "leading-zero", 3..5),
            ("10.0.0.0/08", "leading-zero", 9..11),
            ("10.0.0.0/33", "prefix-range", 9..11),
            ("10.0.0.0/999", "prefix-range", 9..12),
            ("2001:db8::/129", "prefix-range", 11..14),
            ("2001:db8::/012", "leading-zero", 11..14),
            ("10.10", "short-without-length", 0..5),
            ("10", "short-without-length", 0..2),
            ("1.2.3.4.5", "not-a-prefix", 0..9),
            ("1..3.4", "not-a-prefix", 0..6),
            ("1.2.3.4/", "prefix-length", 8..8),
            ("1.2.3.4/-1", "prefix-length", 8..10),
            ("1.2.3.4/255.255.0.0", "prefix-length", 8..19),
            ("1.2.3.4/8/9", "prefix-length", 8..11),
            ("10.0.0.1-10.0.0.9", "not-a-prefix", 0..17),
            ("fe80::1%eth0", "not-a-prefix", 7..12),
            ("fe80::1%eth0/64", "not-a-prefix", 7..12),
            ("x:y%eth0", "not-a-prefix", 0..8),
            ("1:2", "not-a-prefix", 0..3),
        ] {
            let error = parse_prefix(text).unwrap_err();
            assert_eq!((error.code(), error.part()), (code, part), "{text}: {error}");
        }
    }

    #[test]
    fn only_wide_v6_prefixes_cover_the_mapped_block() {
        let covers = |text: &str| covers_mapped(&parse_prefix(text).unwrap().0);
        assert!(covers("::/0"));
        assert!(covers("::/80"));
        assert!(covers("::fffe:0:0/95"));
        assert!(!covers("::ffff:0:0/96"));
        assert!(!covers("2001:db8::/32"));
        assert!(!covers("::/96"));
    }

    #[test]
    fn the_fast_path_takes_canonical_lines_only() {
        let fast = |line: &str| fast_v4_line(line.as_bytes()).map(|(net, next)| (net.to_string(), next));
        assert_eq!(fast("1.2.3.4\nx"), Some(("1.2.3.4/32".into(), 8)));
        assert_eq!(fast("1.2.3.0/24\n"), Some(("1.2.3.0/24".into(), 11)));
        assert_eq!(fast("0.0.0.0/0"), Some(("0.0.0.0/0".into(), 9)));
        for line in [
            "",
            "\n",
            "1.2.3.4/24",
            "01.2.3.4",
            "1.2.3",
            "1.2.3.4/33",
            "1.2.3.4 ",
            "1.2.3.4\r\n",
            "256.1.1.1",
            "1.2.3.4/08",
            "1.2.3.4/",
            "1.2.3.4/0000",
            "1.2.3.4444",
            "::1",
        ] {
            assert_eq!(fast(line), None, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn the_fast_path_agrees_with_the_slow_one(line in r"[0-9]{1,4}(\.[0-9]{1,3}){2,4}(/[0-9]{1,3})?|\PC*") {
            if let Some((net, next)) = fast_v4_line(line.as_bytes()) {
                prop_assert_eq!(parse_prefix(&line), Ok((net, false)));
                prop_assert_eq!(next, line.len());
            }
        }

        #[test]
        fn every_v4_prefix_reads_back(bits: u32, length in 0..=32_u8) {
            let (net, masked) = v4(Ipv4Addr::from_bits(bits), length);
            prop_assert_eq!(masked, net.addr() != Ipv4Addr::from_bits(bits));
            prop_assert_eq!(parse_prefix(&net.to_string()), Ok((net, false)));
            prop_assert_eq!(fast_v4_line(net.to_string().as_bytes()), Some((net, net.to_string().len())));
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC*") {
            if let Err(error) = parse_prefix(&text) {
                prop_assert!(text.get(error.part()).is_some());
                prop_assert!(error.help().is_some());
            }
        }
    }
}
