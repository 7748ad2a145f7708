//! What rules and authorities are called where others may read it: without their secrets.

use sha1::{Digest as _, Sha1};
use url::Url;

use super::{Authority, BackendRule, Matcher, Rule};

/// Tells two secrets apart, and tells nothing else of them.
fn fingerprint(secret: &[u8]) -> String {
    Sha1::digest(secret).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

impl Rule {
    /// The rule for logs, counters and explanations; `None` when it is as written, because it has no secret.
    pub(super) fn masked(&self) -> Option<String> {
        let (what, secret) = match &self.matcher {
            Matcher::Token(token) => (format!("{} token", self.action.as_str()), token),
            Matcher::OtherPassword(password) => ("password".to_owned(), password),
            _ => return None,
        };
        Some(format!("{what} *** (sha1 {})", fingerprint(secret.as_bytes())))
    }
}

impl BackendRule {
    /// The line for logs, counters and explanations, without keys, passwords and the values of a query; `None` when it is
    /// as written, because it has none.
    pub(super) fn masked(&self) -> Option<String> {
        let (shown, secret) = match &self.authority {
            Authority::Http(url) => (without_secrets(url)?, url.as_str()),
            Authority::SecureToken(key) => ("securetoken://***".to_owned(), &**key),
            Authority::Iptv | Authority::Script(_) => return None,
        };
        let directive = self.text.split(' ').next().unwrap_or_default();
        Some(format!("{directive} {shown} (sha1 {})", fingerprint(secret.as_bytes())))
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
    use crate::model::{Action, Origin};

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
        assert_eq!(token.masked().unwrap(), "allow token *** (sha1 f3bbbd66)");
        let mut password = rule(Matcher::OtherPassword("hunter2".into()), "password hunter2");
        password.action = Action::Deny;
        assert_eq!(password.masked().unwrap(), "password *** (sha1 f3bbbd66)");
        let ip = rule(Matcher::Ip("10.0.0.0/8".parse().unwrap()), "allow ip 10/8");
        assert_eq!(ip.masked(), None, "it is shown as written");
        let backend = |authority, text: &str| BackendRule {
            authority,
            options: Default::default(),
            text: text.into(),
            origin: origin(),
        };
        let http = |url: &str| {
            backend(Authority::Http(Url::parse(url).unwrap()), &format!("backend {url}")).masked()
        };
        assert_eq!(http("http://h/auth"), None, "it is shown as written");
        let shown = http("http://user:secret@h/auth?key=secret&secret").unwrap();
        assert!(shown.starts_with("backend http://***@h/auth?key=***&*** (sha1 "), "{shown}");
        assert_ne!(http("http://h/a?k=1"), http("http://h/a?k=2"));
        let key = backend(Authority::SecureToken("secret".into()), "on_play securetoken://secret").masked();
        assert_eq!(key.unwrap(), "on_play securetoken://*** (sha1 e5e9fa1b)");
    }
}
