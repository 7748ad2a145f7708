//! Reading a request's target so that nobody can read it in another way.
//!
//! The path is decoded once and written again with every unusual character encoded; the query is split at
//! `&` alone and each piece is written again in the same manner. What is forwarded is what was written.

use std::{fmt::Write, sync::Arc};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Why a request is answered 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous(pub &'static str);

/// The longest token, in bytes: sessions are kept by it. Longer than any signed token in use.
pub const LONGEST_TOKEN: usize = 4096;

/// A target that can be read in one way only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The decoded, normalised path without the leading `/`; a trailing `/` is kept.
    pub path: Arc<str>,
    /// The value of the token parameter, decoded; `None` also when it is empty.
    pub token: Option<Arc<str>>,
    /// The value of a segment `NAME=VALUE`, which is in no path any more; `None` also when it is empty.
    pub path_token: Option<Arc<str>>,
    /// The path to forward, with the leading `/`.
    pub forward_path: String,
    /// The query to forward, without the `?`.
    pub forward_query: Option<Arc<str>>,
}

/// What may stand in a path segment as it is: RFC 3986's pchar without `;`, which some servers cut off.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');
/// What may stand in a name or value of the query as it is. `;` separates parameters for some servers, `+`
/// is a space for some: both are encoded where they are meant literally.
const QUERY: &AsciiSet = &SEGMENT.remove(b'/').remove(b'?').add(b'&').add(b'=').add(b'\'').add(b'+');

/// Reads an origin-form target, whose token is a parameter of the query.
///
/// # Errors
///
/// What makes the target ambiguous.
pub fn read(target: &[u8], token_name: &str) -> Result<Target, Ambiguous> {
    read_either(target, token_name, false)
}

/// Reads an origin-form target, whose token may also be a segment `NAME=VALUE` of the path.
///
/// # Errors
///
/// What makes the target ambiguous.
pub fn read_with_segment(target: &[u8], token_name: &str) -> Result<Target, Ambiguous> {
    read_either(target, token_name, true)
}

fn read_either(target: &[u8], token_name: &str, segment: bool) -> Result<Target, Ambiguous> {
    if !target.iter().all(|byte| byte.is_ascii_graphic()) {
        return Err(Ambiguous("target has characters that have to be encoded"));
    }
    if target.contains(&b'#') {
        return Err(Ambiguous("target has a fragment"));
    }
    let (path, query) = match target.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    };
    let mut path = read_path(path)?;
    let mut path_token = None;
    if segment {
        path = take_token(&path, token_name, &mut path_token)?;
    }
    let mut forward_path = String::with_capacity(path.len() + 1);
    for segment in path.split('/') {
        forward_path.push('/');
        forward_path.extend(percent_encode(segment.as_bytes(), SEGMENT));
    }
    let mut token = None;
    let forward_query = query.map(|query| read_query(query, token_name, &mut token)).transpose()?;
    Ok(Target {
        path: path.into(),
        token: token.filter(|token| !token.is_empty()).map(Into::into),
        path_token: path_token.filter(|token| !token.is_empty()).map(Into::into),
        forward_path,
        forward_query: forward_query.map(Into::into),
    })
}

fn read_path(path: &[u8]) -> Result<String, Ambiguous> {
    let Some(path) = path.strip_prefix(b"/") else { return Err(Ambiguous("target is not a path")) };
    let mut segments: Vec<String> = Vec::new();
    let mut directory = true;
    for raw in path.split(|byte| *byte == b'/') {
        let segment = decode(raw)?;
        if segment.iter().any(|byte| matches!(byte, b'/' | b'\\')) {
            return Err(Ambiguous("path has an encoded slash or a backslash"));
        }
        if double_encoded(&segment) {
            return Err(Ambiguous("path is encoded twice"));
        }
        let segment = String::from_utf8(segment).map_err(|_| Ambiguous("path is not UTF-8"))?;
        if segment.chars().any(char::is_control) {
            return Err(Ambiguous("path has a control character"));
        }
        directory = true;
        match segment.as_str() {
            "" | "." => {}
            ".." => {
                segments.pop().ok_or(Ambiguous("path leaves the root"))?;
            }
            // Servers that cut parameters off a segment would read a dot segment here.
            dots if matches!(dots.split(';').next(), Some("." | "..")) => {
                return Err(Ambiguous("path has a dot segment with parameters"));
            }
            _ => {
                directory = false;
                segments.push(segment);
            }
        }
    }
    if directory && !segments.is_empty() {
        segments.push(String::new());
    }
    Ok(segments.join("/"))
}

/// Takes segments `NAME=VALUE` out of a path.
fn take_token(path: &str, token_name: &str, token: &mut Option<String>) -> Result<String, Ambiguous> {
    let mut left = Vec::new();
    for segment in path.split('/') {
        match segment.strip_prefix(token_name).and_then(|rest| rest.strip_prefix('=')) {
            Some(value) if value.len() > LONGEST_TOKEN => return Err(Ambiguous("token is too long")),
            Some(value) => {
                if token.replace(value.to_owned()).is_some_and(|former| former != value) {
                    return Err(Ambiguous("token is given twice"));
                }
            }
            None => left.push(segment),
        }
    }
    Ok(left.join("/"))
}

/// Whether the once decoded bytes could be decoded again.
fn double_encoded(bytes: &[u8]) -> bool {
    bytes.windows(3).any(|w| w[0] == b'%' && w[1].is_ascii_hexdigit() && w[2].is_ascii_hexdigit())
}

fn read_query(query: &[u8], token_name: &str, token: &mut Option<String>) -> Result<String, Ambiguous> {
    let mut forward = String::with_capacity(query.len());
    for (place, piece) in query.split(|byte| *byte == b'&').enumerate() {
        if place > 0 {
            forward.push('&');
        }
        let (name, value) = match piece.iter().position(|byte| *byte == b'=') {
            Some(sign) => (&piece[..sign], Some(&piece[sign + 1..])),
            None => (piece, None),
        };
        // Some decode what is broken in a way of their own, and could read the token's name there.
        let decoded_name = decode(name)?;
        let is_token = decoded_name == token_name.as_bytes();
        // In another's value it means nothing to the judge: ad macros, and titles with a percent sign.
        let decoded = value.map(|value| if is_token { decode(value) } else { Ok(decode_leniently(value)) });
        let decoded = decoded.transpose()?;
        if decoded_name.contains(&0) || decoded.as_ref().is_some_and(|value| value.contains(&0)) {
            return Err(Ambiguous("query has a NUL"));
        }
        if is_token {
            let value = decoded.clone().unwrap_or_default();
            let value = String::from_utf8(value).map_err(|_| Ambiguous("token is not UTF-8"))?;
            if value.chars().any(char::is_control) {
                return Err(Ambiguous("token has a control character"));
            }
            if value.len() > LONGEST_TOKEN {
                return Err(Ambiguous("token is too long"));
            }
            if token.replace(value).is_some() {
                return Err(Ambiguous("token is given twice"));
            }
        }
        forward.push_str(&write_query(&decoded_name, name, is_token));
        if let (Some(decoded), Some(raw)) = (decoded, value) {
            forward.push('=');
            forward.push_str(&write_query(&decoded, raw, is_token));
        }
    }
    Ok(forward)
}

/// Writes a name or value. A bare `+` stays one, for those who read a space; in the token it is a plus.
fn write_query(decoded: &[u8], raw: &[u8], token: bool) -> String {
    if token || !raw.contains(&b'+') {
        return percent_encode(decoded, QUERY).collect();
    }
    // No escape spans a `+`.
    let part = |raw| percent_encode(&decode_leniently(raw), QUERY).to_string();
    raw.split(|byte| *byte == b'+').map(part).collect::<Vec<_>>().join("+")
}

/// Undoes percent-encoding, strictly.
fn decode(raw: &[u8]) -> Result<Vec<u8>, Ambiguous> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw.iter();
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(*digit).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => out.push((high << 4 | low) as u8),
            _ => return Err(Ambiguous("percent-encoding is broken")),
        }
    }
    Ok(out)
}

/// Undoes percent-encoding where there is some; a percent sign that begins no escape means itself.
fn decode_leniently(raw: &[u8]) -> Vec<u8> {
    percent_encoding::percent_decode(raw).collect()
}

impl Target {
    /// The same below a prefix, which is segments of a path: what is judged and forwarded is what follows it. `None` when
    /// the path does not begin with it.
    #[must_use]
    pub fn below(self, prefix: &str) -> Option<Self> {
        if prefix.is_empty() {
            return Some(self);
        }
        let rest = self.path.strip_prefix(prefix)?;
        let path = if rest.is_empty() { rest } else { rest.strip_prefix('/')? };
        let (path, segments) = (path.into(), prefix.split('/').count());
        // Each segment of the path is one of what is forwarded.
        let kept = self.forward_path.split('/').skip(1 + segments);
        let forward_path = format!("/{}", kept.collect::<Vec<_>>().join("/"));
        Some(Self { path, forward_path, ..self })
    }

    /// The target to forward.
    pub fn forward(&self) -> String {
        let mut forward = self.forward_path.clone();
        if let Some(query) = &self.forward_query {
            write!(forward, "?{query}").expect("writing to a string");
        }
        forward
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(target: &str) -> Result<String, &'static str> {
        read(target.as_bytes(), "token").map(|target| target.forward()).map_err(|error| error.0)
    }

    fn token(target: &str) -> Option<String> {
        read(target.as_bytes(), "token").unwrap().token.map(|token| token.to_string())
    }

    #[test]
    fn below_a_prefix_there_is_a_target_of_its_own() {
        let below = |target: &str, prefix: &str| {
            let target = read_with_segment(target.as_bytes(), "token").unwrap().below(prefix)?;
            Some((target.path.to_string(), target.forward()))
        };
        for (target, prefix, expected) in [
            ("/tv/cam/1.ts?x=1", "tv", Some(("cam/1.ts", "/cam/1.ts?x=1"))),
            ("/tv//cam/", "tv", Some(("cam/", "/cam/"))),
            ("/tv", "tv", Some(("", "/"))),
            ("/tv/", "tv", Some(("", "/"))),
            ("/%74v/a%20b", "tv", Some(("a b", "/a%20b"))),
            ("/a%20b/tv/cam", "a b/tv", Some(("cam", "/cam"))),
            ("/token=t/tv/cam", "tv", Some(("cam", "/cam"))),
            ("/tv/tv/cam", "tv", Some(("tv/cam", "/tv/cam"))),
            ("/tv/../cam", "tv", None),
            ("/tvs/cam", "tv", None),
            ("/cam", "tv", None),
            ("/", "tv", None),
            ("/cam", "", Some(("cam", "/cam"))),
        ] {
            let expected = expected.map(|(path, forward)| (path.to_owned(), forward.to_owned()));
            assert_eq!(below(target, prefix), expected, "{target} below {prefix}");
        }
    }

    #[test]
    fn paths_have_one_form() {
        for (given, forwarded) in [
            ("/", "/"),
            ("//", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("//a///b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/%61%7e", "/a~"),
            ("/a%20b", "/a%20b"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a;b", "/a%3Bb"),
            ("/a%3fb", "/a%3Fb"),
            ("/100%25", "/100%25"),
            ("/...", "/..."),
        ] {
            assert_eq!(path(given).as_deref(), Ok(forwarded), "{given}");
        }
    }

    #[test]
    fn queries_keep_their_meaning() {
        for (given, forwarded) in [
            ("/a?", "/a?"),
            ("/a?x=1&&y", "/a?x=1&&y"),
            ("/a?x=a+b%2Bc", "/a?x=a+b%2Bc"),
            ("/a?x=%2b", "/a?x=%2B"),
            ("/a?u=http://h/p?q", "/a?u=http://h/p?q"),
            ("/a?x=1;token=2", "/a?x=1%3Btoken%3D2"),
            ("/a?token=a+b", "/a?token=a%2Bb"),
            ("/a?%74oken=x", "/a?token=x"),
            ("/a?x=1=2", "/a?x=1%3D2"),
            ("/a?token=good&title=100%", "/a?token=good&title=100%25"),
            ("/a?cb=%%MACRO%%&x=%4", "/a?cb=%25%25MACRO%25%25&x=%254"),
            ("/a?x=%g0+%", "/a?x=%25g0+%25"),
        ] {
            assert_eq!(path(given).as_deref(), Ok(forwarded), "{given}");
        }
        assert_eq!(token("/a?token=a%2Bb%3D"), Some("a+b=".to_owned()));
        assert_eq!(token("/a?token="), None);
        assert_eq!(token("/a?tokens=x"), None);
        let longest = "t".repeat(LONGEST_TOKEN);
        assert_eq!(token(&format!("/a?token={longest}")), Some(longest.clone()));
        assert_eq!(path(&format!("/a?token={longest}t")), Err("token is too long"));
    }

    #[test]
    fn a_segment_can_be_the_token() {
        for (given, forwarded, token) in [
            ("/token=t/cam/1.ts", "/cam/1.ts", Some("t")),
            ("/cam/token=a%2Bb/1.ts?x", "/cam/1.ts?x", Some("a+b")),
            ("/cam/%74oken=t/./token=t", "/cam", Some("t")),
            ("/cam/token=/1.ts", "/cam/1.ts", None),
            ("/token=t", "/", Some("t")),
            ("/cam/token=t/", "/cam/", Some("t")),
            ("/cam/tokens=t/token", "/cam/tokens=t/token", None),
            ("/cam/token=t/../1.ts", "/cam/1.ts", None),
        ] {
            let read = read_with_segment(given.as_bytes(), "token").unwrap();
            assert_eq!((read.forward().as_str(), read.path_token.as_deref()), (forwarded, token), "{given}");
        }
        let twice = read_with_segment(b"/token=a/cam/token=b/1.ts", "token");
        assert_eq!(twice, Err(Ambiguous("token is given twice")));
        assert_eq!(path("/token=t/cam"), Ok("/token=t/cam".to_owned()), "where it is not looked for");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for given in [
            "",
            "a",
            "*",
            "/%",
            "/%4",
            "/%zz",
            "/%2f",
            "/a%5cb",
            "/a\\b",
            "/%00",
            "/%0a",
            "/..",
            "/a/../..",
            "/%2e%2e",
            "/%252e",
            "/..;/a",
            "/a#b",
            "/%ff",
            "/a?token=1&token=2",
            "/a?token=1&%74oken=2",
            "/a?token&token",
            "/a?token=%0a",
            "/a?x=%00",
            "/a?token=%g0",
            "/a?%u0074oken=x",
            "/a?%=x",
            "/a b",
            "/caf\u{e9}",
        ] {
            assert!(path(given).is_err(), "{given}");
        }
    }
}
