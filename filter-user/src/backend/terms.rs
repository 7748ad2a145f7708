//! On what terms a backend admits: the headers of its answer.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;

/// How long a verdict holds when the backend does not say.
pub const DEFAULT_AUTH_DURATION: Duration = Duration::from_secs(180);
/// The longest that a backend can make a verdict hold; the shortest is one second.
pub const MAX_AUTH_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);

/// The terms of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) auth_duration: Duration,
    pub(super) user_id: Option<Arc<str>>,
    pub(super) max_sessions: Option<u32>,
    pub(super) unique: bool,
    /// Headers that cannot be read, and are as if they were not there.
    pub(super) unread: Vec<&'static str>,
}

impl Default for Terms {
    fn default() -> Self {
        let (user_id, max_sessions, unique, unread) = (None, None, false, Vec::new());
        Self { auth_duration: DEFAULT_AUTH_DURATION, user_id, max_sessions, unique, unread }
    }
}

impl Terms {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut unread = Vec::new();
        let seconds = number(headers, "x-authduration", "X-AuthDuration", &mut unread);
        let max_sessions = number(headers, "x-max-sessions", "X-Max-Sessions", &mut unread);
        Self {
            auth_duration: seconds.map_or(DEFAULT_AUTH_DURATION, |seconds| {
                Duration::from_secs(seconds).clamp(Duration::from_secs(1), MAX_AUTH_DURATION)
            }),
            user_id: text(headers, "x-userid").map(Into::into),
            max_sessions: max_sessions.map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
            unique: text(headers, "x-unique").is_some_and(|text| text.eq_ignore_ascii_case("true")),
            unread,
        }
    }
}

/// The header's text; an empty one is as none.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
}

/// A whole number that is not negative. Digits alone: one too large for us is the largest.
fn number(
    headers: &HeaderMap,
    name: &str,
    shown: &'static str,
    unread: &mut Vec<&'static str>,
) -> Option<u64> {
    let given = headers.get(name)?.as_bytes().trim_ascii();
    if given.is_empty() {
        return None;
    }
    if !given.iter().all(u8::is_ascii_digit) {
        unread.push(shown);
        return None;
    }
    let digits = std::str::from_utf8(given).ok()?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &'static [u8]) -> Terms {
        let mut headers = HeaderMap::new();
        headers.insert(name, http::HeaderValue::from_bytes(value).unwrap());
        Terms::of(&headers)
    }

    #[test]
    fn durations_are_whole_seconds_within_bounds() {
        for (value, seconds, unread) in [
            (&b"36000"[..], 36000, false),
            (b"0", 1, false),
            (b" 60 ", 60, false),
            (b"99999999999999999999999", 7 * 24 * 3600, false),
            (b"", 180, false),
            (b"-1", 180, true),
            (b"1e99", 180, true),
            (b"+5", 180, true),
            (b"1.5", 180, true),
            (b"soon", 180, true),
            (b"\xff", 180, true),
            (b"60, 60", 180, true),
        ] {
            let terms = of("x-authduration", value);
            assert_eq!(terms.auth_duration, Duration::from_secs(seconds), "{value:?}");
            assert_eq!(terms.unread == ["X-AuthDuration"], unread, "{value:?}");
        }
        assert_eq!(Terms::of(&HeaderMap::new()), Terms::default());
    }

    #[test]
    fn other_terms() {
        assert_eq!(of("x-max-sessions", b"3").max_sessions, Some(3));
        assert_eq!(of("x-max-sessions", b"99999999999").max_sessions, Some(u32::MAX));
        let many = of("x-max-sessions", b"many");
        assert_eq!((many.max_sessions, many.unread), (None, vec!["X-Max-Sessions"]));
        assert!(of("x-unique", b"True").unique && !of("x-unique", b"1").unique);
        assert_eq!(of("x-userid", b" 42 ").user_id.as_deref(), Some("42"));
        assert_eq!(of("x-userid", b"").user_id, None);
    }
}
