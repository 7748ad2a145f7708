//! Who is asked: the address behind `backend`, `on_play` and `on_publish`.

use percent_encoding::percent_decode_str;
use url::Url;

use super::Binder;
use crate::{config::lexer::Word, model::Authority};

/// What an address can be.
const KNOWN: &str = "http://HOST/PATH, https://HOST/PATH, http+unix://SOCKET/PATH, securetoken://KEY and iptv://HOST are read";

impl Binder<'_> {
    /// Reads the address of an authority.
    pub(super) fn authority(&mut self, word: &Word) -> Option<Authority> {
        let Some((scheme, rest)) = word.text.split_once("://") else {
            self.sources
                .error(word.span, "bad-url", format!("`{}` is no address of a backend", word.as_written()))
                .help(KNOWN);
            return None;
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => self.http_url(word).map(Authority::Http),
            "http+unix" => self.socket_url(word).map(Authority::Http),
            "iptv" => Some(Authority::Iptv),
            "securetoken" if rest.is_empty() => {
                self.sources
                    .error(word.span, "bad-url", "this securetoken has no key")
                    .help("write the key behind it: securetoken://KEY");
                None
            }
            "securetoken" => Some(Authority::SecureToken(rest.into())),
            "auth" => {
                self.sources
                    .error(word.span, "bad-url", "a backend cannot be another `auth_backend`")
                    .help("copy its rules here, or name the other one in `on_play`");
                None
            }
            _ => {
                let scheme = &word.text[..scheme.len()];
                let part = word.part(&(0..scheme.len()));
                self.sources.error(part, "bad-url", format!("nicgate cannot ask `{scheme}://`")).help(KNOWN);
                None
            }
        }
    }

    /// Reads an `http` or `https` URL.
    pub(super) fn http_url(&mut self, word: &Word) -> Option<Url> {
        let reason = match Url::parse(&word.text) {
            Err(error) => error.to_string(),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                "it begins neither with http:// nor with https://".into()
            }
            Ok(url) if url.port() == Some(0) => "port 0 does not exist".into(),
            Ok(url) => return Some(url),
        };
        self.sources
            .error(word.span, "bad-url", format!("this is no URL: {reason}"))
            .help("write it as http://HOST:PORT/PATH");
        None
    }

    /// Reads the URL of a Unix socket: its path stands in the place of the host, percent-encoded.
    fn socket_url(&mut self, word: &Word) -> Option<Url> {
        let url = Url::parse(&word.text).ok();
        let socket = url.as_ref().and_then(Url::host_str).map(|host| percent_decode_str(host).decode_utf8());
        if let Some(Ok(path)) = socket
            && path.starts_with('/')
            && !path.contains('\0')
        {
            return url;
        }
        // `http+unix:///run/auth.sock` is what one would write first.
        let path = word.text.split_once(":///").map_or("run/auth.sock", |(_, path)| path);
        self.sources.error(word.span, "bad-url", "this names no Unix socket").help(format!(
            "its path stands percent-encoded in the place of the host: http+unix://%2F{}/PATH",
            path.replace('/', "%2F")
        ));
        None
    }

    /// Warns of an authority that nicgate does not ask as Flussonic would.
    pub(super) fn warn_of(&mut self, authority: &Authority, word: &Word) {
        match authority {
            Authority::Http(_) => {}
            Authority::Script(_) => {
                self.sources
                    .warning(word.span, "script-backend", "nicgate does not run the media server's scripts")
                    .help("it counts as not responding; use an HTTP backend that decides the same");
            }
            Authority::Iptv => {
                self.sources
                    .warning(
                        word.span,
                        "iptv-backend",
                        "nicgate cannot ask Flussonic's own subscriber database",
                    )
                    .help("it counts as not responding; use an HTTP backend that knows the subscribers");
            }
            Authority::SecureToken(_) => {
                self.sources
                    .note(word.span, "securetoken", "a securetoken is judged in userspace only")
                    .help("the NIC sees no tokens: no address is dropped there because of it");
            }
        }
    }
}
