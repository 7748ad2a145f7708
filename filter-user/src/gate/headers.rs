//! Which headers pass, and which are ours alone to set.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::{
    http::{Client, canonical_name},
    model::Upstream,
};

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
const OURS: [&str; 42] = [
    "ali-cdn-real-ip",
    "cdn-src-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "gcdn-client-ip",
    "incap-client-ip",
    "proxy-client-ip",
    "remote-addr",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-envoy-original-path",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-nf-client-connection-ip",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-rewrite-url",
    "x-sucuri-clientip",
    "x-true-client-ip",
    "x-vercel-forwarded-for",
];

/// Prepares a client's headers for the upstream.
pub(super) fn for_upstream(headers: &mut HeaderMap, client: &Client, upgrade: bool) {
    strip_hop_by_hop(headers, upgrade);
    remove_where(headers, |name| {
        let name = canonical_name(name.as_str().as_bytes());
        let name = std::str::from_utf8(&name).unwrap_or_default();
        name.starts_with("x-forwarded-") || name == "x-forwarded" || OURS.contains(&name)
    });
    let Client { address, https } = *client;
    let proto = if https { "https" } else { "http" };
    let host = headers.get(header::HOST).cloned();
    // A host has no quote in it, and the framer has seen to that it is one.
    let named = host.as_ref().and_then(|host| host.to_str().ok()).map(|host| format!(";host=\"{host}\""));
    let node = match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("\"[{v6}]\""),
    };
    let forwarded = format!("for={node};proto={proto}{}", named.unwrap_or_default());
    headers.insert(header::FORWARDED, HeaderValue::try_from(forwarded).expect("each part is visible ASCII"));
    if let Some(host) = host {
        headers.insert("x-forwarded-host", host);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static(proto));
    let address = HeaderValue::try_from(address.to_string()).expect("an address is visible ASCII");
    headers.insert("x-forwarded-for", address.clone());
    headers.insert("x-real-ip", address);
}

/// Whether a body of the upstream's arrives as it can be passed on: with no coding of the transfer but chunks.
pub(super) fn transfer_is_plain(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Prepares the upstream's headers for the client.
pub(super) fn for_client(headers: &mut HeaderMap, upgrade: bool) {
    // Chunks were taken off: a length beside them says nothing (RFC 9112, 6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers, upgrade);
}

/// What is kept of a path where it stands in a reference.
const IN_PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`');

/// Where references of the upstream's lead, and what that is to the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) upstream: &'a Upstream,
    /// What the client calls the gate.
    pub(super) host: Option<&'a str>,
    /// What paths begin with for the client alone.
    pub(super) prefix: &'a str,
}

impl Place<'_> {
    /// Whether a URL of the upstream's is one of its own.
    fn is_own(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        let (name, here) = match self.host.map(|host| host.rsplit_once(':').unwrap_or((host, ""))) {
            Some((name, digits)) if !digits.ends_with(']') => (Some(name), digits.parse().ok()),
            _ => (self.host, None),
        };
        let named = url.host_str() == name;
        let of_server = |server: &Url| {
            // Some build it of the Host that they were asked by and of their own port.
            (url.host_str() == server.host_str() || named) && port == server.port_or_known_default()
        };
        // Those without a port of their own, of the Host alone. As it stands it leads to the gate, but not below its prefix.
        let of_host = named && url.port() == here && !self.prefix.is_empty();
        of_host || self.upstream.urls().any(of_server)
    }
}

/// References of the upstream's to itself become references to the gate: a path without a host, which is the gate's to
/// whoever reads it. The token goes with them, because players follow without the query that they came with.
pub(super) fn map_back(headers: &mut HeaderMap, place: &Place<'_>, token: Option<(&str, &str)>) {
    for name in [header::LOCATION, header::CONTENT_LOCATION, header::REFRESH] {
        let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) else { continue };
        let (before, reference) = match name == header::REFRESH {
            false => ("", value),
            // `5; url=REFERENCE`
            true => match value.to_ascii_lowercase().find("url=") {
                Some(at) => value.split_at(at + 4),
                None => continue,
            },
        };
        // The token is for whom is redirected, not for a name.
        let token = token.filter(|_| name != header::CONTENT_LOCATION);
        if let Some(mapped) = mapped(reference, place, token)
            && let Ok(mapped) = HeaderValue::try_from(format!("{before}{mapped}"))
        {
            headers.insert(name, mapped);
        }
    }
}

/// A reference as the client has to follow it; `None` when it stays as it is.
fn mapped(reference: &str, place: &Place<'_>, token: Option<(&str, &str)>) -> Option<String> {
    let mut path = match Url::parse(reference) {
        Ok(url) => {
            if !place.is_own(&url) {
                return None;
            }
            let fragment = url.fragment().map_or_else(String::new, |fragment| format!("#{fragment}"));
            let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
            format!("{}{query}{fragment}", url.path())
        }
        // To a browser a backslash is a slash, and a tab is nothing.
        Err(_) if reference.starts_with("//") || reference.contains(['\\', '\t']) => return None,
        Err(_) => reference.to_owned(),
    };
    if !place.prefix.is_empty() && path.starts_with('/') {
        path = format!("/{}{path}", utf8_percent_encode(place.prefix, IN_PATH));
    }
    if let Some((name, token)) = token {
        let (rest, fragment) = match path.split_once('#') {
            Some((rest, fragment)) => (rest.to_owned(), format!("#{fragment}")),
            None => (path.clone(), String::new()),
        };
        let query = rest.split_once('?').map(|(_, query)| query);
        let there = query.is_some_and(|query| {
            query.split('&').any(|piece| piece.split('=').next().is_some_and(|piece| piece == name))
        });
        if !there {
            let sign = if query.is_some() { '&' } else { '?' };
            let token = utf8_percent_encode(token, NON_ALPHANUMERIC);
            path = format!("{rest}{sign}{name}={token}{fragment}");
        }
    }
    (path != reference).then_some(path)
}

/// Removes hop-by-hop headers, their aliases, and what Connection names; but never Host or Content-Length,
/// which a client must not be able to take away. An upgrade that passes keeps its protocol.
fn strip_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    let protocol = headers.get(header::UPGRADE).filter(|_| upgrade).cloned();
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
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
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
    use crate::model::{ServerAddress, UpstreamServer};

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
            ("x-http-method-override", "DELETE"),
            ("x_method.override", "DELETE"),
            ("x-original-uri", "/other"),
            ("fastly-client-ip", "203.0.113.1"),
            ("wl-proxy-client-ip", "203.0.113.1"),
            ("accept", "*/*"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let client = Client { address: "192.0.2.1".parse().unwrap(), https: false };
        for_upstream(&mut headers, &client, false);
        let mut left: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                ("accept", "*/*"),
                ("content-length", "5"),
                ("forwarded", "for=192.0.2.1;proto=http;host=\"tv.example\""),
                ("host", "tv.example"),
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarded-host", "tv.example"),
                ("x-forwarded-proto", "http"),
                ("x-real-ip", "192.0.2.1"),
            ]
        );
    }

    #[test]
    fn what_a_proxy_in_front_said_is_passed_on_in_our_words() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("[2001:db8::2]:8080"));
        let client = Client { address: "2001:db8::1".parse().unwrap(), https: true };
        for_upstream(&mut headers, &client, false);
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::1]\";proto=https;host=\"[2001:db8::2]:8080\"");
        assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
        assert_eq!(headers["x-real-ip"], "2001:db8::1");
        assert_eq!(headers["x-forwarded-proto"], "https");
    }

    #[test]
    fn references_of_the_upstream_to_itself_lead_to_the_gate() {
        let upstream = Upstream::from(Url::parse("http://127.0.0.1:8080").unwrap());
        let place = Place { upstream: &upstream, host: Some("tv.example"), prefix: "" };
        let map = |reference: &str| mapped(reference, &place, Some(("token", "a b")));
        for (reference, expected) in [
            ("http://127.0.0.1:8080/live/", Some("/live/?token=a%20b")),
            ("http://tv.example:8080/live/?x=1#f", Some("/live/?x=1&token=a%20b#f")),
            ("/live/", Some("/live/?token=a%20b")),
            ("index.m3u8?token=own", None),
            ("http://other.example/live", None),
            ("http://tv.example/live", None),
            ("//other.example/live", None),
            ("/\\other.example/live", None),
            ("/\t/other.example/live", None),
        ] {
            assert_eq!(map(reference).as_deref(), expected, "{reference}");
        }
        let plain = |reference: &str| mapped(reference, &Place { host: None, ..place }, None);
        assert_eq!(plain("http://127.0.0.1:8080/a?b").as_deref(), Some("/a?b"));
        assert_eq!(plain("/a"), None);

        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_static("http://127.0.0.1:8080/a"));
        headers.insert("content-location", HeaderValue::from_static("http://127.0.0.1:8080/b"));
        headers.insert("refresh", HeaderValue::from_static("5; URL=http://127.0.0.1:8080/c"));
        map_back(&mut headers, &place, Some(("token", "t")));
        assert_eq!(headers["location"], "/a?token=t");
        assert_eq!(headers["content-location"], "/b");
        assert_eq!(headers["refresh"], "5; URL=/c?token=t");
    }

    #[test]
    fn references_to_any_server_lead_below_the_prefix() {
        let server = |text: &str| UpstreamServer::new(ServerAddress::Tcp(Url::parse(text).unwrap()));
        let servers = vec![
            server("http://127.0.0.1:8080"),
            server("http://192.0.2.7"),
            UpstreamServer::new(ServerAddress::Unix("/run/media".into())),
        ];
        let upstream = Upstream { name: "media".into(), servers, health: None, proxy_protocol: false };
        let at = |host, reference: &str| {
            mapped(reference, &Place { upstream: &upstream, host: Some(host), prefix: "a b/tv" }, None)
        };
        for (reference, expected) in [
            ("/cam/1", Some("/a%20b/tv/cam/1")),
            ("cam/1", None),
            ("?x", None),
            ("http://127.0.0.1:8080/cam/1?x#y", Some("/a%20b/tv/cam/1?x#y")),
            ("http://192.0.2.7/cam", Some("/a%20b/tv/cam")),
            ("http://192.0.2.7:8080/cam", None),
            ("http://tv.example:8080/cam", Some("/a%20b/tv/cam")),
            ("http://tv.example:9000/cam", Some("/a%20b/tv/cam")),
            ("http://tv.example:9001/cam", None),
            ("http://other.example/cam", None),
            ("//other.example/cam", None),
        ] {
            assert_eq!(at("tv.example:9000", reference).as_deref(), expected, "{reference}");
        }
        assert_eq!(at("[2001:db8::1]", "https://[2001:db8::1]/c").as_deref(), Some("/a%20b/tv/c"));
    }

    #[test]
    fn a_length_beside_chunks_is_dropped_and_other_codings_are_not_passed_on() {
        let headers = |codings: &[&'static str]| {
            let mut headers = HeaderMap::new();
            headers.insert("content-length", HeaderValue::from_static("3"));
            for coding in codings {
                headers.append("transfer-encoding", HeaderValue::from_static(coding));
            }
            headers
        };
        for (codings, plain) in [
            (&[][..], true),
            (&["Chunked"], true),
            (&["gzip"], false),
            (&["gzip, chunked"], false),
            (&["chunked", "chunked"], false),
        ] {
            assert_eq!(transfer_is_plain(&headers(codings)), plain, "{codings:?}");
        }
        let mut chunked = headers(&["chunked"]);
        for_client(&mut chunked, false);
        assert!(chunked.is_empty(), "{chunked:?}");
        let mut whole = headers(&[]);
        for_client(&mut whole, false);
        assert_eq!(whole["content-length"], "3");
    }
}
