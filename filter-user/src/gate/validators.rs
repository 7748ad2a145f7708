//! Headers of an answer whose body is changed on its way: what identifies it, and who may keep it.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::model::TokenFrom;

/// What says something of the bytes that the upstream sent, and would be wrong of others.
const OF_THE_BYTES: [&str; 6] =
    ["accept-ranges", "content-digest", "content-md5", "content-range", "digest", "repr-digest"];

/// Conditions that only the upstream's own bytes could meet.
const CONDITIONS: [HeaderName; 5] = [
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
];

/// What tells caches in front, which know neither token nor player, how long they may keep an answer.
const FOR_CACHES: [&str; 3] = ["cdn-cache-control", "surrogate-control", "x-accel-expires"];

/// Takes the conditions off a request whose answer is changed; those of `If-None-Match` are translated by
/// [`ask_by_tag`].
pub(super) fn ask_for_all(headers: &mut HeaderMap) {
    for name in CONDITIONS {
        headers.remove(name);
    }
}

/// Translates the tags of `If-None-Match` that [`changed`] made with this mark into the upstream's own. Others are left
/// out if `only`. Whether any was translated.
pub(super) fn ask_by_tag(headers: &mut HeaderMap, mark: &str, only: bool) -> bool {
    let tags: Vec<String> = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(tags)
        .map(str::to_owned)
        .collect();
    headers.remove(header::IF_NONE_MATCH);
    let end = format!("-{mark}\"");
    let mut any = false;
    for tag in tags {
        let own = tag.strip_suffix(&end).map(|tag| format!("{tag}\""));
        any |= own.is_some();
        if let Some(tag) = own.or(if only { None } else { Some(tag) })
            && let Ok(value) = HeaderValue::try_from(tag)
        {
            headers.append(header::IF_NONE_MATCH, value);
        }
    }
    any
}

/// The entity tags of a list; a comma can be a part of one.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let pieces = list.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    pieces.map(str::trim).filter(|tag| !tag.is_empty())
}

/// Makes the headers of an answer those of one that was changed for one player. `mark` stands for the token: the same
/// bytes of the upstream are another answer for another player. `from` says which headers it can have come by: a browser
/// keeps an answer by its address, and by the headers that it is told.
pub(super) fn changed(headers: &mut HeaderMap, mark: &str, from: TokenFrom) {
    for name in OF_THE_BYTES {
        headers.remove(name);
    }
    headers.remove(header::CONTENT_LENGTH);
    let tag = headers.remove(header::ETAG);
    if let Some(tag) = tag.as_ref().and_then(|tag| tag.to_str().ok()?.strip_suffix('"'))
        && let Ok(tag) = HeaderValue::try_from(format!("{tag}-{mark}\""))
    {
        headers.insert(header::ETAG, tag);
    }
    for (counts, name) in [(from.header, "Authorization"), (from.cookie, "Cookie")] {
        if counts {
            headers.append(header::VARY, HeaderValue::from_static(name));
        }
    }
    for_one(headers);
}

/// Says that only the player itself may keep an answer.
pub(super) fn for_one(headers: &mut HeaderMap) {
    for name in FOR_CACHES {
        headers.remove(name);
    }
    let shared = |directive: &str| {
        let name = directive.split('=').next().unwrap_or_default().trim();
        ["public", "private", "s-maxage", "proxy-revalidate"].iter().any(|one| one.eq_ignore_ascii_case(name))
    };
    let mut directives = vec!["private"];
    let all: Vec<HeaderValue> = headers.get_all(header::CACHE_CONTROL).iter().cloned().collect();
    for value in &all {
        let value = value.to_str().unwrap_or_default();
        directives.extend(
            value.split(',').map(str::trim).filter(|directive| !directive.is_empty() && !shared(directive)),
        );
    }
    if let Ok(value) = HeaderValue::try_from(directives.join(", ")) {
        headers.insert(header::CACHE_CONTROL, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_changed_answer_is_the_players_alone_and_has_another_tag() {
        let mut answer = headers(&[
            ("etag", "\"abc\""),
            ("content-length", "5"),
            ("accept-ranges", "bytes"),
            ("cache-control", "public, max-age=3, s-maxage=9"),
            ("cache-control", "stale-while-revalidate=1"),
            ("surrogate-control", "max-age=9"),
            ("last-modified", "x"),
        ]);
        changed(&mut answer, "m", TokenFrom { cookie: true, ..TokenFrom::default() });
        let left = [
            ("etag", "\"abc-m\""),
            ("cache-control", "private, max-age=3, stale-while-revalidate=1"),
            ("last-modified", "x"),
            ("vary", "Cookie"),
        ];
        assert_eq!(answer, headers(&left));
        for (tag, expected) in [("W/\"a\"", Some("W/\"a-m\"")), ("a", None), ("\"\"", Some("\"-m\""))] {
            let mut answer = headers(&[("etag", tag)]);
            changed(&mut answer, "m", TokenFrom::default());
            assert_eq!(answer.get("etag").map(|tag| tag.to_str().unwrap()), expected, "{tag}");
        }
    }

    #[test]
    fn only_tags_of_this_player_are_asked_by() {
        let given = [("if-none-match", "\"a-m\", W/\"b,-m\" ,\"c\""), ("if-none-match", "\"d-n\", *")];
        let asked = |only| {
            let mut request = headers(&given);
            assert!(ask_by_tag(&mut request, "m", only));
            let all = request.get_all("if-none-match").iter().map(|tag| tag.to_str().unwrap().to_owned());
            all.collect::<Vec<_>>()
        };
        assert_eq!(asked(true), ["\"a\"", "W/\"b,\""]);
        assert_eq!(asked(false), ["\"a\"", "W/\"b,\"", "\"c\"", "\"d-n\"", "*"]);
        let mut none = headers(&[("if-none-match", "\"c\"")]);
        assert!(!ask_by_tag(&mut none, "m", true) && none.is_empty());
    }

    #[test]
    fn nothing_but_the_whole_is_asked_for() {
        let mut request = headers(&[("range", "bytes=0-"), ("if-range", "\"a\""), ("accept", "*/*")]);
        ask_for_all(&mut request);
        assert_eq!(request, headers(&[("accept", "*/*")]));
    }
}
