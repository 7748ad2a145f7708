//! What a trusted proxy says of the client whose request it passes on.
//!
//! A header is believed from a peer that is trusted for it, and from nobody else. What can be read in two ways is
//! refused: a proxy that does not replace the header passes on what the client wrote, and the server behind could take
//! the other value.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv6Addr},
};

use http::HeaderMap;

use super::{Reject, head::canonical_name};
use crate::{
    address::canonical,
    model::{AddressHeader, Trust},
};

/// The most trusted proxies that a request may have come through. A longer list is read up to here, whatever its length.
const MOST_HOPS: usize = 32;

/// Who a request is from, as far as the proxies in front are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address; IPv4-mapped addresses as IPv4.
    pub address: IpAddr,
    /// Whether the proxy was reached over TLS.
    pub https: bool,
}

/// Who a request is from that came over a connection from `peer`.
///
/// `peer` itself, unless it is trusted to name another and does: a proxy's own requests, such as health checks, have no
/// header.
///
/// # Errors
///
/// A trusted proxy's header is there twice, has an alias beside it, or says no address where one has to be.
pub fn client(trust: &Trust, peer: IpAddr, headers: &HeaderMap) -> Result<Client, Reject> {
    let peer = canonical(peer);
    let Some(header) = trust.header_of(peer) else { return Ok(Client { address: peer, https: false }) };
    let https = match single(headers, "x-forwarded-proto")? {
        None => false,
        Some(proto) if proto.eq_ignore_ascii_case("https") => true,
        Some(proto) if proto.eq_ignore_ascii_case("http") => false,
        Some(_) => return Err(Reject::bad("X-Forwarded-Proto of a trusted proxy is neither http nor https")),
    };
    let Some(value) = single(headers, header.name())? else { return Ok(Client { address: peer, https }) };
    let address = match header {
        AddressHeader::XRealIp | AddressHeader::CfConnectingIp => {
            plain_address(value).ok_or(Reject::bad("address header of a trusted proxy is no address"))?
        }
        AddressHeader::XForwardedFor => {
            let hops = value.rsplit(',').map(|hop| address_with_port(hop.trim_matches(SPACE), digits));
            first_untrusted(trust, hops)?
        }
        AddressHeader::Forwarded => {
            let elements = elements(value).ok_or(Reject::bad("Forwarded of a trusted proxy is malformed"))?;
            let hops = elements.iter().rev().map(|element| {
                element.as_deref().and_then(|node| address_with_port(node, digits_or_obfuscated))
            });
            first_untrusted(trust, hops)?
        }
    };
    Ok(Client { address, https })
}

/// Optional white space, as HTTP has it.
const SPACE: [char; 2] = [' ', '\t'];

/// The one value of a header; `None` when it is not there.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Reject> {
    let mut found = None;
    for (key, value) in headers {
        let key = key.as_str();
        if key.len() != name.len() || canonical_name(key.as_bytes()) != name.as_bytes() {
            continue;
        }
        if key != name {
            return Err(Reject::bad("alias of a header that a trusted proxy sets"));
        }
        let value = value.to_str().map_err(|_| Reject::bad("header of a trusted proxy is not ASCII"))?;
        if found.replace(value.trim_matches(SPACE)).is_some() {
            return Err(Reject::bad("header that a trusted proxy sets is there twice"));
        }
    }
    Ok(found)
}

/// The first hop, from the nearest one on, that is no trusted proxy; the farthest where all are.
fn first_untrusted(trust: &Trust, hops: impl Iterator<Item = Option<IpAddr>>) -> Result<IpAddr, Reject> {
    let mut farthest = None;
    for (count, hop) in hops.enumerate() {
        if count >= MOST_HOPS {
            return Err(Reject::bad("request came through too many proxies"));
        }
        // A trusted proxy wrote it, and it is no address: `unknown`, an identifier, or something broken.
        let hop = hop.ok_or(Reject::bad("a trusted proxy does not say the address of its client"))?;
        if !trust.trusts(hop) {
            return Ok(hop);
        }
        farthest = Some(hop);
    }
    farthest.ok_or(Reject::bad("address header of a trusted proxy is empty"))
}

fn plain_address(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(canonical)
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address_with_port(text: &str, port: fn(&str) -> bool) -> Option<IpAddr> {
    if let Some(address) = plain_address(text) {
        return Some(address);
    }
    let (address, rest): (IpAddr, &str) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            (address.parse::<Ipv6Addr>().ok()?.into(), rest)
        }
        None => {
            let colon = text.find(':')?;
            (text[..colon].parse().ok()?, &text[colon..])
        }
    };
    let sound = rest.is_empty() || rest.strip_prefix(':').is_some_and(port);
    sound.then(|| canonical(address))
}

fn digits(port: &str) -> bool {
    !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// RFC 7239, 6.3: a proxy may give a name of its own in place of the port.
fn digits_or_obfuscated(port: &str) -> bool {
    let named = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    digits(port) || port.strip_prefix('_').is_some_and(named)
}

/// The `for` of the last elements of a `Forwarded` header, unquoted; one more than are looked at. `None` when the header
/// is malformed anywhere: what cannot be read from the left could be read in another way from the right.
fn elements(value: &str) -> Option<VecDeque<Option<String>>> {
    let mut elements = VecDeque::new();
    let mut rest = value;
    loop {
        let mut node = None;
        loop {
            rest = rest.trim_start_matches(SPACE);
            let (name, after) = token(rest)?;
            let (value, after) = value_of(after.strip_prefix('=')?)?;
            if name.eq_ignore_ascii_case("for") && node.replace(value).is_some() {
                return None;
            }
            rest = after.trim_start_matches(SPACE);
            match rest.strip_prefix(';') {
                Some(more) => rest = more,
                None => break,
            }
        }
        if elements.len() > MOST_HOPS {
            elements.pop_front();
        }
        elements.push_back(node);
        if rest.is_empty() {
            return Some(elements);
        }
        rest = rest.strip_prefix(',')?;
    }
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().position(|byte| !super::head::is_token(byte)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A token or a quoted string, and what follows it.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(value, rest)| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::model::{Origin, RealIp};

    const PROXY: &str = "192.0.2.10";

    fn trust(header: AddressHeader) -> Trust {
        let origin = Origin { file: "f".into(), line: 1, column: 1 };
        let net = |net: &str| (net.parse().unwrap(), origin.clone());
        Trust {
            real_ip: vec![RealIp { from: vec![net("192.0.2.0/24"), net("2001:db8::/64")], header }],
            proxy_protocol: vec![net("203.0.113.9/32")],
        }
    }

    fn read(header: AddressHeader, peer: &str, lines: &[(&str, &str)]) -> Result<Client, &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        client(&trust(header), peer.parse().unwrap(), &headers).map_err(|reject| reject.reason)
    }

    fn address(header: AddressHeader, value: &str) -> Option<String> {
        let read = read(header, PROXY, &[(header.name(), value)]);
        read.ok().map(|client| client.address.to_string())
    }

    #[test]
    fn a_stranger_is_believed_nothing() {
        for header in AddressHeader::ALL {
            let lines = [(header.name(), "198.51.100.1"), ("x-forwarded-proto", "https")];
            for peer in ["198.51.100.7", "::ffff:198.51.100.7", "2001:db8:1::1", "203.0.113.9"] {
                let own = canonical(peer.parse().unwrap());
                assert_eq!(read(header, peer, &lines), Ok(Client { address: own, https: false }), "{peer}");
                let twice = [lines[0], lines[0], ("x_forwarded_for", "1"), ("x_real_ip", "1")];
                assert_eq!(read(header, peer, &twice), Ok(Client { address: own, https: false }), "{peer}");
            }
        }
    }

    #[test]
    fn a_list_is_read_from_the_right_to_the_first_stranger() {
        for (value, expected) in [
            ("198.51.100.1", Some("198.51.100.1")),
            ("203.0.113.5, 198.51.100.1", Some("198.51.100.1")),
            ("203.0.113.5,198.51.100.1 ,\t192.0.2.11, 192.0.2.12", Some("198.51.100.1")),
            ("not an address, 198.51.100.1", Some("198.51.100.1")),
            ("198.51.100.1, 203.0.113.9", Some("198.51.100.1")),
            ("198.51.100.1:4711", Some("198.51.100.1")),
            ("2001:db8:1::1", Some("2001:db8:1::1")),
            ("[2001:db8:1::1]", Some("2001:db8:1::1")),
            ("[2001:db8:1::1]:80", Some("2001:db8:1::1")),
            ("::ffff:198.51.100.1", Some("198.51.100.1")),
            // All are trusted: the farthest of them asks.
            ("192.0.2.12, 192.0.2.11", Some("192.0.2.12")),
            ("198.51.100.1, unknown, 192.0.2.11", None),
            ("198.51.100.1, unknown", None),
            ("198.51.100.1,", None),
            ("198.51.100.1,,192.0.2.11", None),
            ("", None),
            (" ", None),
            ("198.51.100.01", None),
            ("198.51.100.1:", None),
            ("198.51.100.1:x", None),
            ("198.51.100.1:123456", None),
            ("fe80::1%eth0", None),
            ("[198.51.100.1]", None),
            ("[2001:db8:1::1", None),
            ("[2001:db8:1::1]80", None),
            ("\"198.51.100.1\"", None),
        ] {
            assert_eq!(address(AddressHeader::XForwardedFor, value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn the_standard_header_is_read_whole_and_then_from_the_right() {
        for (value, expected) in [
            ("for=198.51.100.1", Some("198.51.100.1")),
            ("For=\"[2001:db8:1::17]:4711\"", Some("2001:db8:1::17")),
            ("for=198.51.100.1;proto=http;by=203.0.113.43", Some("198.51.100.1")),
            ("for=198.51.100.1 ; host=\"a,b;c\" , for=192.0.2.11", Some("198.51.100.1")),
            ("for=1.1.1.1, for=\"198.51.100.1:_port\"", Some("198.51.100.1")),
            ("by=x;for=\"198.51.100\\.1\"", Some("198.51.100.1")),
            ("for=192.0.2.12, for=192.0.2.11", Some("192.0.2.12")),
            ("for=unknown", None),
            ("for=_hidden, for=192.0.2.11", None),
            ("proto=http", None),
            ("for=1.1.1.1;for=198.51.100.1", None),
            // What could be one element to one reader and two to another.
            ("for=\"1.1.1.1, for=198.51.100.1", None),
            ("for=[2001:db8:1::1]", None),
            ("for=198.51.100.1:80", None),
            ("for=198.51.100.1,", None),
            ("for=198.51.100.1;", None),
            ("for = 198.51.100.1", None),
            ("for", None),
            ("", None),
        ] {
            assert_eq!(address(AddressHeader::Forwarded, value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn headers_of_one_address_have_one() {
        for header in [AddressHeader::XRealIp, AddressHeader::CfConnectingIp] {
            assert_eq!(address(header, "198.51.100.1").as_deref(), Some("198.51.100.1"));
            assert_eq!(address(header, " 2001:db8::1 ").as_deref(), Some("2001:db8::1"));
            // It is no list of hops: a trusted address is taken as it is.
            assert_eq!(address(header, "192.0.2.77").as_deref(), Some("192.0.2.77"));
            for wrong in ["198.51.100.1, 198.51.100.2", "198.51.100.1:80", "[::1]", "unknown", ""] {
                assert_eq!(address(header, wrong), None, "{wrong}");
            }
        }
    }

    #[test]
    fn duplicates_and_aliases_from_a_proxy_are_refused() {
        let header = AddressHeader::XForwardedFor;
        let good = ("x-forwarded-for", "198.51.100.1");
        for lines in [
            vec![good, good],
            vec![good, ("x_forwarded_for", "198.51.100.1")],
            vec![("x-forwarded.for", "198.51.100.1")],
            vec![good, ("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")],
            vec![good, ("x_forwarded_proto", "https")],
            vec![good, ("x-forwarded-proto", "gopher")],
        ] {
            assert!(read(header, PROXY, &lines).is_err(), "{lines:?}");
        }
        let address = "198.51.100.1".parse().unwrap();
        let other = [good, ("x-real-ip", "1"), ("x_real_ip", "2"), ("forwarded", "x")];
        assert_eq!(read(header, PROXY, &other), Ok(Client { address, https: false }), "another header");
        let https = [good, ("x-forwarded-proto", "HTTPS")];
        assert_eq!(read(header, PROXY, &https), Ok(Client { address, https: true }));
    }

    #[test]
    fn a_request_of_the_proxy_itself_is_the_proxys() {
        let own = Client { address: PROXY.parse().unwrap(), https: false };
        assert_eq!(read(AddressHeader::XForwardedFor, PROXY, &[]), Ok(own));
    }

    #[test]
    fn a_thousand_hops_are_read_as_far_as_they_matter() {
        let strangers = "1.1.1.1, ".repeat(1000);
        for (header, list, last) in [
            (AddressHeader::XForwardedFor, strangers.clone(), "198.51.100.1"),
            (AddressHeader::Forwarded, strangers.replace("1.1.1.1", "for=1.1.1.1"), "for=198.51.100.1"),
        ] {
            assert_eq!(address(header, &format!("{list}{last}")).as_deref(), Some("198.51.100.1"));
            let hop = if header == AddressHeader::Forwarded { "for=192.0.2.1" } else { "192.0.2.1" };
            let proxies = |count: usize| format!("{last}{}", format!(", {hop}").repeat(count));
            assert_eq!(address(header, &proxies(MOST_HOPS - 1)).as_deref(), Some("198.51.100.1"));
            for count in [MOST_HOPS, MOST_HOPS + 1, 1000] {
                assert_eq!(address(header, &proxies(count)), None, "{count}");
            }
        }
    }
}
