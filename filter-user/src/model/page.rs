//! Restrictions of a stream beside its policy: the pages that may show it, and the password of who publishes.

use url::Url;

/// Hosts of pages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// This one: `example.com`.
    Exactly(Box<str>),
    /// Every one below it, but not itself: `*.example.com`; kept with its first dot.
    Below(Box<str>),
}

impl Host {
    /// Reads a host, with `*.` for all below it; `None` when it is none. Names of other scripts are read as browsers
    /// send them.
    pub fn new(text: &str) -> Option<Self> {
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let name = match url::Host::parse(name.strip_suffix('.').unwrap_or(name)).ok()? {
            url::Host::Domain(name) if name.contains('*') => return None,
            // There is nothing below an address.
            url::Host::Ipv4(_) | url::Host::Ipv6(_) if below => return None,
            host => host.to_string(),
        };
        Some(if below { Self::Below(format!(".{name}").into()) } else { Self::Exactly(name.into()) })
    }

    fn is(&self, host: &str) -> bool {
        match self {
            Self::Exactly(name) => **name == *host,
            Self::Below(ending) => host.len() > ending.len() && host.ends_with(&**ending),
        }
    }
}

/// Whether a page, given by its URL, lies on one of these hosts. What is no URL of a page lies nowhere.
pub(crate) fn shown_on(hosts: &[Host], page: &str) -> bool {
    let Ok(url) = Url::parse(page) else { return false };
    let web = matches!(url.scheme(), "http" | "https");
    let Some(host) = url.host_str().filter(|_| web) else { return false };
    let host = host.strip_suffix('.').unwrap_or(host);
    hosts.iter().any(|known| known.is(host))
}

/// Whether a query shows this password, and no other one.
pub(crate) fn shows_password(query: Option<&str>, password: &str) -> bool {
    let mut shown = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .filter(|(name, _)| name == "password")
        .map(|(_, value)| value)
        .peekable();
    shown.peek().is_some() && shown.all(|value| value == password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_known_by_their_host() {
        let hosts: Vec<Host> =
            ["Example.com", "*.example.org.", "192.0.2.1", "[2001:db8::1]", "кино.example"]
                .map(|text| Host::new(text).unwrap())
                .into();
        for page in [
            "https://example.com/",
            "https://example.com",
            "HTTP://EXAMPLE.COM:8080/a?b#c",
            "https://example.com./",
            "https://user@example.com/",
            "https://a.example.org/",
            "https://b.a.example.org/",
            "http://192.0.2.1/",
            "http://[2001:db8::1]:80/",
            "https://xn--h1adke.example/",
        ] {
            assert!(shown_on(&hosts, page), "{page}");
        }
        for page in [
            "",
            "null",
            "example.com",
            "about:client",
            "https://www.example.com/",
            "https://example.org/",
            "https://notexample.org/",
            "https://.example.org/",
            "https://example.com.evil.example/",
            "https://example.com@evil.example/",
            "https://evil.example/?https://example.com/",
            "https://evil.example#https://example.com/",
            "android-app://example.com/",
            "ftp://example.com/",
        ] {
            assert!(!shown_on(&hosts, page), "{page}");
        }
        for wrong in [
            "",
            "*",
            "*.",
            "a.*.example.com",
            "https://example.com",
            "example.com:80",
            "example.com/a",
            "*.192.0.2.1",
            "a b",
        ] {
            assert_eq!(Host::new(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_password_is_shown_once_or_alike() {
        assert!(shows_password(Some("token=a&password=s%20e+c"), "s e c"));
        assert!(shows_password(Some("password=x&password=x"), "x"));
        for query in [
            None,
            Some(""),
            Some("password"),
            Some("password="),
            Some("password=X"),
            Some("password=x&password=y"),
            Some("Password=x"),
            Some("token=x"),
        ] {
            assert!(!shows_password(query, "x"), "{query:?}");
        }
    }
}
