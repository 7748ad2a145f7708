//! Which answers are manifests: by their type, and by their name where the type says nothing.

use http::{HeaderMap, HeaderValue, header};

use crate::session::Protocol;

/// A kind of manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hls,
    Dash,
}

/// What a path's ending says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Manifest(Kind),
    /// It has no ending.
    Unknown,
    /// Something else.
    Other,
}

/// What the path says.
pub(super) fn named(path: &str) -> Named {
    let file = path.rsplit('/').next().unwrap_or_default();
    match file.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("m3u8" | "m3u") => Named::Manifest(Kind::Hls),
        Some("mpd") => Named::Manifest(Kind::Dash),
        Some(_) => Named::Other,
        None => Named::Unknown,
    }
}

/// The protocol of a manifest, and `None` for whatever else an answer is.
pub(super) fn protocol(headers: &HeaderMap, path: &str) -> Option<Protocol> {
    Some(match kind(headers.get(header::CONTENT_TYPE), named(path))? {
        Kind::Hls => Protocol::named("hls"),
        Kind::Dash => Protocol::named("dash"),
    })
}

/// What an answer is by its type, and by its name where the type says nothing.
pub(super) fn kind(content_type: Option<&HeaderValue>, named: Named) -> Option<Kind> {
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match &*essence {
        "application/vnd.apple.mpegurl"
        | "application/x-mpegurl"
        | "application/mpegurl"
        | "audio/mpegurl"
        | "audio/x-mpegurl"
        | "vnd.apple.mpegurl" => Some(Kind::Hls),
        "application/dash+xml" => Some(Kind::Dash),
        ""
        | "application/octet-stream"
        | "application/xml"
        | "binary/octet-stream"
        | "text/plain"
        | "text/xml" => match named {
            Named::Manifest(kind) => Some(kind),
            Named::Unknown | Named::Other => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_manifest_by_its_type_or_by_its_name() {
        for (path, content_type, expected) in [
            ("cam/a.m3u8", Some("application/vnd.apple.mpegurl"), Some(Kind::Hls)),
            ("cam/play", Some("Audio/MpegURL; charset=utf-8"), Some(Kind::Hls)),
            ("cam/a.M3U8", Some("text/plain"), Some(Kind::Hls)),
            ("cam/a.mpd", Some("application/octet-stream"), Some(Kind::Dash)),
            ("cam/a.mpd", None, Some(Kind::Dash)),
            ("cam/a.php", Some("application/dash+xml"), Some(Kind::Dash)),
            ("cam/a.m3u8", Some("text/html"), None),
            ("cam/a.ts", Some("application/octet-stream"), None),
            ("cam/play", Some("text/plain"), None),
        ] {
            let content_type = content_type.map(HeaderValue::from_static);
            assert_eq!(kind(content_type.as_ref(), named(path)), expected, "{path} {content_type:?}");
        }
    }
}
