//! One reference: whether it gets the token, and where in it.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// The longest reference that is looked at, in bytes: no request with a longer target is served.
const LONGEST_REFERENCE: usize = 16 * 1024;

/// What a target of this server is to a player of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Another stream's, nobody's, or one that would not be served.
    Elsewhere,
    /// The stream's, without a token.
    Bare,
    /// The stream's, with a token.
    WithToken,
}

/// Knows what the targets of this server are.
pub trait Places: Send + Sync {
    /// What a target is: a path with its query, as it would stand in a request line.
    fn place(&self, target: &str) -> Place;
}

/// Where the token is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `?NAME=VALUE`
    Query,
    /// `NAME=VALUE/` before the last segment of the path.
    Segment,
}

/// Carries a token from a manifest into its references.
pub struct Carrier {
    /// The manifest's own URL, as the player asked for it.
    base: Url,
    /// Where the media servers are: some write their own address into what they answer.
    upstream: Vec<Url>,
    /// `NAME=VALUE`, encoded.
    parameter: String,
    form: Form,
    places: Box<dyn Places>,
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the parameter, which is a secret.
        f.debug_struct("Carrier").field("base", &self.base.path()).field("form", &self.form).finish()
    }
}

impl Carrier {
    /// For a manifest at `target` (as in the request line) of the server that the player calls `host`.
    ///
    /// `None` when these make no URL.
    pub fn new(
        host: Option<&str>,
        target: &str,
        (name, token): (&str, &str),
        form: Form,
        places: Box<dyn Places>,
    ) -> Option<Self> {
        // Without a name, no absolute reference is this server's.
        let host = host.unwrap_or("host.invalid");
        let server = Url::parse(&format!("http://{host}")).ok()?;
        let is_server = server.path() == "/" && server.username().is_empty() && server.query().is_none();
        let base = Url::parse(&format!("http://{host}{target}")).ok();
        let base =
            base.filter(|base| is_server && target.starts_with('/') && base.origin() == server.origin())?;
        let parameter = format!("{name}={}", utf8_percent_encode(token, NON_ALPHANUMERIC));
        Some(Self { base, upstream: Vec::new(), parameter, form, places })
    }

    /// References of the media server to itself become references to this server.
    #[must_use]
    pub fn in_front_of<'a>(mut self, upstream: impl IntoIterator<Item = &'a Url>) -> Self {
        self.upstream.extend(upstream.into_iter().cloned());
        self
    }

    /// The manifest's own URL.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// A reference that stands in the manifest itself, with the token; `None` when it stays as it is.
    pub fn carry(&self, reference: &str) -> Option<String> {
        self.carry_meant(reference, reference, std::slice::from_ref(&self.base))
    }

    /// The same for a reference that means something else than it says, because it has variables, and that is
    /// resolved against any of `bases`.
    pub(super) fn carry_meant(&self, written: &str, meant: &str, bases: &[Url]) -> Option<String> {
        let mut from_upstream = false;
        for base in bases {
            let url = resolve(base, meant)?;
            from_upstream = !self.is_own(&url);
            if self.place(&url) != Place::Bare {
                return None;
            }
            if has_authority(meant) {
                break;
            }
        }
        if bases.is_empty() { None } else { self.written(written, meant, from_upstream) }
    }

    /// A reference to a folder, which nobody asks for itself: without the media server's own address, if it has that.
    pub(super) fn lead_here(&self, folder: &str) -> Option<String> {
        let url = resolve(&self.base, folder)?;
        let ours = has_authority(folder) && !self.is_own(&url) && self.place(&url) != Place::Elsewhere;
        let path = &folder[authority_length(folder)..];
        (ours && path.starts_with('/')).then(|| path.to_owned())
    }

    /// What a URL is to a player of the stream.
    pub(super) fn place(&self, url: &Url) -> Place {
        let named = !url.username().is_empty() || url.password().is_some();
        if named || !(self.is_own(url) || self.is_upstream(url)) {
            return Place::Elsewhere;
        }
        self.places.place(&url[url::Position::BeforePath..url::Position::AfterQuery])
    }

    /// Whether the player reaches this server by it. Which scheme it came by is not known: TLS may end before.
    fn is_own(&self, url: &Url) -> bool {
        let port = match self.base.port() {
            Some(port) => url.port_or_known_default() == Some(port),
            None => url.port().is_none(),
        };
        port && url.host() == self.base.host()
    }

    fn is_upstream(&self, url: &Url) -> bool {
        self.upstream.iter().any(|upstream| upstream.origin() == url.origin())
    }

    /// Puts the token into a reference. `None` when variables hide where it belongs.
    fn written(&self, written: &str, meant: &str, from_upstream: bool) -> Option<String> {
        if ['#', '?'].iter().any(|mark| written.matches(*mark).count() != meant.matches(*mark).count()) {
            return None;
        }
        let server = |reference: &str| reference[..authority_length(reference)].to_owned();
        let hidden = server(written) != server(meant);
        let bare = meant.len() == server(meant).len();
        if hidden && (self.form == Form::Segment || from_upstream || bare) {
            return None;
        }
        let (rest, fragment) = written.split_at(written.find('#').unwrap_or(written.len()));
        let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let (authority, path) = path.split_at(authority_length(path));
        let root = if hidden || authority.is_empty() || !path.is_empty() { "" } else { "/" };
        let authority = if from_upstream { "" } else { authority };
        let parameter = &self.parameter;
        Some(match self.form {
            Form::Query => {
                let sign = match query {
                    "" => "?",
                    "?" => "",
                    _ if query.ends_with('&') => "",
                    _ => "&",
                };
                format!("{authority}{root}{path}{query}{sign}{parameter}{fragment}")
            }
            Form::Segment => {
                let (folder, file) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
                format!("{authority}{root}{folder}{parameter}/{file}{query}{fragment}")
            }
        })
    }
}

/// Whether a reference names its server.
fn has_authority(reference: &str) -> bool {
    authority_length(reference) > 0
}

/// How long `scheme://server` or `//server` is at the beginning of a reference.
fn authority_length(reference: &str) -> usize {
    let from = match scheme(reference) {
        Some(scheme) => scheme.len() + 1,
        None => 0,
    };
    match reference[from..].strip_prefix("//") {
        Some(rest) => from + 2 + rest.find(['/', '?', '#']).unwrap_or(rest.len()),
        None => 0,
    }
}

fn scheme(reference: &str) -> Option<&str> {
    let (scheme, _) = reference.split_once(':')?;
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(inner)).then_some(scheme)
}

/// What a reference leads to, when RFC 3986 and the URL standard, by which browsers go, agree.
pub(super) fn resolve(base: &Url, reference: &str) -> Option<Url> {
    let strange = |c: char| c.is_control() || c == '\\';
    if reference.is_empty() || reference.len() > LONGEST_REFERENCE || reference.contains(strange) {
        return None;
    }
    if reference.trim_matches(' ').len() != reference.len() {
        return None;
    }
    let mut rest = reference;
    if let Some(scheme) = scheme(reference) {
        // To a browser, `http:a` and `http:/a` are relative.
        rest = &reference[scheme.len() + 1..];
        let http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        if !http || !rest.starts_with("//") {
            return None;
        }
    }
    // To a browser, more slashes are two.
    if rest.starts_with("///") {
        return None;
    }
    base.join(reference).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The stream is everything below `/cam`, and the parameter is `token`.
    pub(in super::super) struct Cam;

    impl Places for Cam {
        fn place(&self, target: &str) -> Place {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            if path != "/cam" && !path.starts_with("/cam/") {
                Place::Elsewhere
            } else if path.contains("/token=") || query.split('&').any(|piece| piece.starts_with("token=")) {
                Place::WithToken
            } else {
                Place::Bare
            }
        }
    }

    pub(in super::super) fn carrier(form: Form) -> Carrier {
        let upstream = Url::parse("http://127.0.0.1:8080").unwrap();
        let token = ("token", "a b");
        Carrier::new(Some("tv.example"), "/cam/hd/index.m3u8?x=1", token, form, Box::new(Cam))
            .unwrap()
            .in_front_of([&upstream])
    }

    #[test]
    fn references_to_the_stream_get_the_token() {
        let carrier = carrier(Form::Query);
        for (reference, expected) in [
            ("seg.ts", "seg.ts?token=a%20b"),
            ("a b.ts", "a b.ts?token=a%20b"),
            ("é.ts", "é.ts?token=a%20b"),
            ("../seg.ts?x=1", "../seg.ts?x=1&token=a%20b"),
            ("seg.ts?", "seg.ts?token=a%20b"),
            ("seg.ts?x&", "seg.ts?x&token=a%20b"),
            ("seg.ts?x=1#t=3", "seg.ts?x=1&token=a%20b#t=3"),
            ("?x=2", "?x=2&token=a%20b"),
            ("/cam/seg.ts", "/cam/seg.ts?token=a%20b"),
            ("//tv.example/cam/seg.ts", "//tv.example/cam/seg.ts?token=a%20b"),
            ("http://TV.example/cam/seg.ts", "http://TV.example/cam/seg.ts?token=a%20b"),
            ("https://tv.example/cam/seg.ts", "https://tv.example/cam/seg.ts?token=a%20b"),
            ("http://tv.example:80/cam", "http://tv.example:80/cam?token=a%20b"),
            ("http://127.0.0.1:8080/cam/seg.ts", "/cam/seg.ts?token=a%20b"),
            ("seg.ts?tokens=1", "seg.ts?tokens=1&token=a%20b"),
        ] {
            assert_eq!(carrier.carry(reference).as_deref(), Some(expected), "{reference}");
        }
    }

    #[test]
    fn nothing_else_does() {
        let carrier = carrier(Form::Query);
        for reference in [
            "",
            "seg.ts?token=own",
            "seg.ts?token=",
            "http://127.0.0.1:8080/cam/seg.ts?token=own",
            "/other/seg.ts",
            "../../other/seg.ts",
            "/camera/seg.ts",
            "//cdn.example/cam/seg.ts",
            "http://cdn.example/cam/seg.ts",
            "http://tv.example:8080/cam/seg.ts",
            "http://tv.example.cdn.example/cam/seg.ts",
            "http://tv.example@cdn.example/cam/seg.ts",
            "http://user@tv.example/cam/seg.ts",
            "https://127.0.0.1:8080/cam/seg.ts",
            "ftp://tv.example/cam/seg.ts",
            "data:text/plain,a",
            "skd://tv.example/cam",
            "urn:uuid:1",
            "a:b.ts",
            "http:seg.ts",
            "http:/cam/seg.ts",
            "http:///cdn.example/cam/seg.ts",
            "///cdn.example/cam/seg.ts",
            "/\\cdn.example/cam/seg.ts",
            "\\\\cdn.example\\cam",
            "http:\\\\cdn.example/cam",
            "\t//cdn.example/cam",
            "seg\0.ts",
            " seg.ts",
            "http://[/",
        ] {
            assert_eq!(carrier.carry(reference), None, "{reference}");
        }
    }

    #[test]
    fn a_token_can_be_a_segment() {
        let carrier = carrier(Form::Segment);
        for (reference, expected) in [
            ("seg.ts", "token=a%20b/seg.ts"),
            ("../seg.ts?x=/1", "../token=a%20b/seg.ts?x=/1"),
            ("/cam/hd/", "/cam/hd/token=a%20b/"),
            ("http://tv.example/cam/seg.ts#a/b", "http://tv.example/cam/token=a%20b/seg.ts#a/b"),
            ("http://127.0.0.1:8080/cam/seg.ts", "/cam/token=a%20b/seg.ts"),
        ] {
            assert_eq!(carrier.carry(reference).as_deref(), Some(expected), "{reference}");
        }
        assert_eq!(carrier.carry("/cam/token=x/seg.ts"), None);
    }

    #[test]
    fn another_port_of_the_server_is_another_server() {
        let at = |host: Option<&str>, reference: &str| {
            let carrier = Carrier::new(host, "/cam/i.m3u8", ("token", "t"), Form::Query, Box::new(Cam));
            carrier.and_then(|carrier| carrier.carry(reference)).is_some()
        };
        assert!(at(Some("tv.example:8000"), "http://tv.example:8000/cam/1"));
        assert!(at(Some("tv.example:443"), "https://tv.example/cam/1"));
        assert!(!at(Some("tv.example:8000"), "http://tv.example/cam/1"));
        assert!(at(Some("[2001:db8::1]:8000"), "//[2001:DB8::1]:8000/cam/1"));
        assert!(at(None, "1.ts"));
        assert!(!at(None, "http://tv.example/cam/1"));
        assert!(!at(Some("a/b"), "1.ts") && !at(Some("a@b"), "//a/cam/1"));
    }
}
