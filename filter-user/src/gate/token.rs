//! Where a request's token stands.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use percent_encoding::percent_decode;

use crate::{
    http::{Ambiguous, LONGEST_TOKEN, Target},
    model::TokenFrom,
};

/// What was found of a token in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) token: Option<Arc<str>>,
    /// Whether it stood in the query, a header or the path: a player may leave it out of its next request.
    pub(super) may_be_lost: bool,
    /// Whether it stood in a cookie.
    pub(super) in_cookie: bool,
}

/// Looks for the token in every place where it may stand.
///
/// # Errors
///
/// When two places disagree.
pub(super) fn find(
    headers: &HeaderMap,
    target: &Target,
    name: &str,
    from: TokenFrom,
) -> Result<Found, Ambiguous> {
    let mut found = Found::default();
    if from.query {
        found.note(target.token.clone())?;
    }
    if from.path {
        found.note(target.path_token.clone())?;
    }
    if from.header {
        for value in headers.get_all(header::AUTHORIZATION) {
            found.note(bearer(value)?)?;
        }
    }
    found.may_be_lost = found.token.is_some();
    if from.cookie {
        for value in headers.get_all(header::COOKIE) {
            for pair in value.as_bytes().split(|byte| *byte == b';') {
                let token = cookie(pair, name)?;
                found.in_cookie |= token.is_some();
                found.note(token)?;
            }
        }
    }
    Ok(found)
}

impl Found {
    fn note(&mut self, token: Option<Arc<str>>) -> Result<(), Ambiguous> {
        match (&self.token, token) {
            (Some(former), Some(token)) if **former != *token => {
                Err(Ambiguous("two tokens that are not the same"))
            }
            (None, Some(token)) => {
                self.token = Some(token);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The token of `Bearer TOKEN`; another scheme is not nicgate's to read.
fn bearer(value: &HeaderValue) -> Result<Option<Arc<str>>, Ambiguous> {
    let value = value.as_bytes();
    let (scheme, rest) = value.split_at(value.iter().position(|byte| *byte == b' ').unwrap_or(value.len()));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(None);
    }
    let token = rest.trim_ascii();
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(Ambiguous("bearer token has spaces or letters beyond ASCII"));
    }
    text(token.to_vec())
}

/// The token of a cookie `NAME=VALUE`, whose value may be quoted and percent-encoded.
fn cookie(pair: &[u8], name: &str) -> Result<Option<Arc<str>>, Ambiguous> {
    let pair = pair.trim_ascii();
    let Some(value) = pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) else {
        return Ok(None);
    };
    let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    text(percent_decode(value).collect())
}

fn text(token: Vec<u8>) -> Result<Option<Arc<str>>, Ambiguous> {
    if token.len() > LONGEST_TOKEN {
        return Err(Ambiguous("token is too long"));
    }
    let token = String::from_utf8(token).map_err(|_| Ambiguous("token is not UTF-8"))?;
    if token.chars().any(char::is_control) {
        return Err(Ambiguous("token has a control character"));
    }
    Ok((!token.is_empty()).then(|| token.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::read_target_with_segment;

    const EVERYWHERE: TokenFrom = TokenFrom { query: true, header: true, cookie: true, path: true };

    fn found(target: &str, lines: &[(&'static str, &str)], from: TokenFrom) -> Result<Found, &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let target = read_target_with_segment(target.as_bytes(), "token").unwrap();
        find(&headers, &target, "token", from).map_err(|Ambiguous(why)| why)
    }

    #[test]
    fn a_token_is_found_wherever_it_may_stand() {
        let only = TokenFrom { query: false, header: false, cookie: false, path: false };
        for (target, lines, from) in [
            ("/cam?token=a+b", &[][..], TokenFrom { query: true, ..only }),
            ("/token=a+b/cam", &[], TokenFrom { path: true, ..only }),
            ("/cam", &[("authorization", "Bearer a+b")], TokenFrom { header: true, ..only }),
            ("/cam", &[("authorization", "bearer   a+b")], TokenFrom { header: true, ..only }),
            ("/cam", &[("cookie", "x=1; token=a%2Bb;y")], TokenFrom { cookie: true, ..only }),
            (
                "/cam",
                &[("cookie", "xtoken=1"), ("cookie", "token=\"a+b\"")],
                TokenFrom { cookie: true, ..only },
            ),
        ] {
            for from in [from, EVERYWHERE] {
                let found = found(target, lines, from).unwrap();
                assert_eq!(found.token.as_deref(), Some("a+b"), "{target} {lines:?}");
                assert_ne!(found.may_be_lost, found.in_cookie, "{target} {lines:?}");
            }
            assert_eq!(found(target, lines, only), Ok(Found::default()), "{target} {lines:?}");
        }
    }

    #[test]
    fn two_places_agree_or_the_request_is_refused() {
        let same = [("authorization", "Bearer t"), ("cookie", "token=t; token=t")];
        let all = found("/token=t/cam?token=t", &same, EVERYWHERE).unwrap();
        assert!(all.may_be_lost && all.in_cookie);
        for (target, lines) in [
            ("/token=t/cam?token=u", &[][..]),
            ("/cam?token=t", &[("authorization", "Bearer u")]),
            ("/cam?token=t", &[("cookie", "token=u")]),
            ("/token=t/cam", &[("cookie", "token=u")]),
            ("/cam", &[("authorization", "Bearer t"), ("authorization", "Bearer u")]),
            ("/cam", &[("cookie", "token=t; token=u")]),
            ("/cam", &[("cookie", "token=t"), ("cookie", "token=u")]),
            ("/cam", &[("authorization", "Bearer t"), ("cookie", "token=u")]),
        ] {
            let found = found(target, lines, EVERYWHERE);
            assert_eq!(found, Err("two tokens that are not the same"), "{target} {lines:?}");
        }
    }

    #[test]
    fn what_is_no_token_is_none_or_refused() {
        let header = |value: &'static str| found("/cam", &[("authorization", value)], EVERYWHERE);
        for none in ["Basic dDp0", "Bearer", "Bearer ", "Bearert", "t"] {
            assert_eq!(header(none), Ok(Found::default()), "{none}");
        }
        for wrong in ["Bearer a b", "Bearer é"] {
            assert!(header(wrong).is_err(), "{wrong}");
        }
        for wrong in ["token=%00", "token=%ff"] {
            assert!(found("/cam", &[("cookie", wrong)], EVERYWHERE).is_err(), "{wrong}");
        }
        let long = format!("token={}", "t".repeat(LONGEST_TOKEN + 1));
        assert!(found("/cam", &[("cookie", &long)], EVERYWHERE).is_err());
    }
}
