//! What rules and authorities are called where others may read it: without their secrets.

use sha1::{Digest as _, Sha1};
use url::Url;

use super::{Action, Authority, BackendRule, Matcher, Rule};

/// Tells two secrets apart, and tells nothing else of them.
fn fingerprint(secret: &[u8]) -> String {
    Sha1::digest(secret).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

impl Rule {
    /// The rule for logs, counters and explanations: as written, but for a token.
    pub(super) fn masked(&self) -> String {
        match &self.matcher {
            Matcher::Token(token) => {
                let action = match self.action {
                    Action::Allow => "allow",
                    Action::Deny => "deny",
                    Action::Drop => "drop",
                };
                format!("{action} token *** (sha1 {})", fingerprint(token.as_bytes()))
            }
            _ => self.text.to_string(),
        }
    }
}

impl BackendRule {
    /// The line for logs, counters and explanations: as written, but for keys, passwords and the values of a query.
    pub(super) fn masked(&self) -> String {
        let directive = self.text.split(' ').next().unwrap_or_default();
        match &self.authority {
            Authority::Http(url) => match without_secrets(url) {
                Some(shown) => format!("{directive} {shown} (sha1 {})", fingerprint(url.as_str().as_bytes())),
                None => self.text.to_string(),
            },
            Authority::SecureToken(key) => {
                format!("{directive} securetoken://*** (sha1 {})", fingerprint(key.as_bytes()))
            }
            Authority::Iptv | Authority::Script(_) => self.text.to_string(),
        }
    }
}

/// The URL without its secrets; `None` when it has none.
fn without_secrets(url: &Url) -> Option<String> {
    if url.username().is_empty() && url.password().is_none() && url.query().is_none() {
        return None;
    }
    let mut shown = url.clone();
    if !url.username().is_empty() || url.password().is_some() {
        // Only a URL without a host has no place for them, and such a one is no backend.
        let _ = shown.set_username("***");
        let _ = shown.set_password(None);
    }
    if let Some(query) = url.query() {
        let name = |piece: &str| match piece.split_once('=') {
            Some((name, _)) => format!("{name}=***"),
            None => "***".to_owned(),
        };
        shown.set_query(Some(&query.split('&').map(name).collect::<Vec<_>>().join("&")));
    }
    Some(shown.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;

    #[test]
    fn secrets_are_shown_as_fingerprints() {
        let origin = || Origin { file: "f".into(), line: 1, column: 1 };
        let rule = |matcher, text: &str| Rule {
            action: Action::Allow,
            matcher,
            text: text.into(),
            origin: origin(),
        };
        let token = rule(Matcher::Token("hunter2".into()), "allow token hunter2");
        assert_eq!(token.masked(), "allow token *** (sha1 f3bbbd66)");
        let ip = rule(Matcher::Ip("10.0.0.0/8".parse().unwrap()), "allow ip 10/8");
        assert_eq!(ip.masked(), "allow ip 10/8");
        let backend = |authority, text: &str| BackendRule { authority, text: text.into(), origin: origin() };
        let http = |url: &str| {
            backend(Authority::Http(Url::parse(url).unwrap()), &format!("backend {url}")).masked()
        };
        assert_eq!(http("http://h/auth"), "backend http://h/auth");
        let shown = http("http://user:secret@h/auth?key=secret&secret");
        assert!(shown.starts_with("backend http://***@h/auth?key=***&*** (sha1 "), "{shown}");
        assert_ne!(http("http://h/a?k=1"), http("http://h/a?k=2"));
        let key = backend(Authority::SecureToken("secret".into()), "on_play securetoken://secret").masked();
        assert_eq!(key, "on_play securetoken://*** (sha1 e5e9fa1b)");
    }
}
