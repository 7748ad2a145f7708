//! Which headers pass, and which are ours alone to set.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::http::canonical_name;

/// Headers for one hop only. `Upgrade` and `Connection` are set again for an upgrade that passes.
const HOP_BY_HOP: [&str; 12] = [
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// What a client could use to name another address, host or path than the one that is judged.
const OURS: [&str; 9] = [
    "cf-connecting-ip",
    "client-ip",
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// Prepares a client's headers for the upstream.
pub(super) fn for_upstream(headers: &mut HeaderMap, client: IpAddr, upgrade: bool) {
    let protocol = headers.get(header::UPGRADE).cloned();
    strip_hop_by_hop(headers);
    remove_where(headers, |name| {
        let name = canonical_name(name.as_str().as_bytes());
        let name = std::str::from_utf8(&name).unwrap_or_default();
        name.starts_with("x-forwarded-") || name == "x-forwarded" || OURS.contains(&name)
    });
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.insert("x-forwarded-host", host);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    let client = HeaderValue::try_from(client.to_string()).expect("an address is visible ASCII");
    headers.insert("x-forwarded-for", client);
    if upgrade && let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Prepares the upstream's headers for the client.
pub(super) fn for_client(headers: &mut HeaderMap, upgrade: bool) {
    let protocol = headers.get(header::UPGRADE).cloned();
    strip_hop_by_hop(headers);
    if upgrade && let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Removes hop-by-hop headers, their aliases, and what Connection names; but never Host or Content-Length,
/// which a client must not be able to take away.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| name != header::HOST && name != header::CONTENT_LENGTH)
        .collect();
    for name in named {
        headers.remove(name);
    }
    remove_where(headers, |name| {
        let name = canonical_name(name.as_str().as_bytes());
        HOP_BY_HOP.iter().any(|hop| hop.as_bytes() == name)
    });
}

fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let unwanted: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_word_for_the_client_reaches_the_upstream() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "tv.example"),
            ("content-length", "5"),
            ("connection", "close, x-secret, content-length, host"),
            ("x-secret", "1"),
            ("x-forwarded-for", "203.0.113.1"),
            ("x_forwarded_for", "203.0.113.1"),
            ("x.real.ip", "203.0.113.1"),
            ("forwarded", "for=203.0.113.1"),
            ("x-forwarded-port", "1"),
            ("te", "trailers"),
            ("keep_alive", "1"),
            ("accept", "*/*"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        for_upstream(&mut headers, "192.0.2.1".parse().unwrap(), false);
        let mut left: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                ("accept", "*/*"),
                ("content-length", "5"),
                ("host", "tv.example"),
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarded-host", "tv.example"),
                ("x-forwarded-proto", "http"),
            ]
        );
    }
}
