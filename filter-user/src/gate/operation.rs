//! What a request wants, by its method and path.

use http::Method;

use crate::model::Operation;

/// What a request wants: publishing, unless it only reads, or talks WHEP, which plays with POST.
///
/// Under WHEP, POST goes to `…/whep`; PATCH and DELETE go there or to the resource below it.
pub fn operation(method: &Method, path: &str) -> Operation {
    let mut last = path.rsplit('/').skip_while(|segment| segment.is_empty());
    let whep = match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => true,
        Method::POST => last.next() == Some("whep"),
        Method::PATCH | Method::DELETE => last.take(2).any(|segment| segment == "whep"),
        _ => false,
    };
    if whep { Operation::Play } else { Operation::Publish }
}

/// The media protocol, guessed from the last part of the path; `http` when nothing is known.
///
/// Parts that HLS and DASH share count as HLS.
pub fn proto(path: &str) -> &'static str {
    let mut segments = path.rsplit('/').skip_while(|segment| segment.is_empty());
    let last = segments.next().unwrap_or_default();
    let above = segments.next().unwrap_or_default();
    if [last, above].iter().any(|segment| matches!(*segment, "whep" | "whip")) {
        return "webrtc";
    }
    if last.eq_ignore_ascii_case("manifest") || last.starts_with("QualityLevels") {
        return "mss";
    }
    let extension = last.rsplit_once('.').map_or(last, |(_, extension)| extension).to_ascii_lowercase();
    match extension.as_str() {
        "m3u8" | "ts" | "m4s" | "mp4" | "m4a" | "m4v" | "aac" | "vtt" | "key" => "hls",
        "mpd" => "dash",
        "mpegts" => "mpegts",
        "m4f" => "m4f",
        "flv" => "flv",
        "ism" | "isml" => "mss",
        "mse_ld" | "mse" => "mse",
        _ => "http",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whep_plays_and_everything_else_that_writes_publishes() {
        for (method, path, expected) in [
            (Method::GET, "cam/whip", Operation::Play),
            (Method::POST, "cam/whep", Operation::Play),
            (Method::POST, "cam/whep/", Operation::Play),
            (Method::POST, "cam/whep/mpegts", Operation::Publish),
            (Method::POST, "cam/whip", Operation::Publish),
            (Method::DELETE, "cam/whep/1", Operation::Play),
            (Method::DELETE, "cam/whip/1", Operation::Publish),
            (Method::PUT, "cam/whep", Operation::Publish),
            (Method::from_bytes(b"PROPFIND").unwrap(), "cam", Operation::Publish),
        ] {
            assert_eq!(operation(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn the_protocol_is_in_the_name() {
        for (path, expected) in [
            ("cam/index.m3u8", "hls"),
            ("cam/tracks-v1a1/2026/11/01/seg.TS", "hls"),
            ("cam/index.mpd", "dash"),
            ("cam/mpegts", "mpegts"),
            ("cam/whep/7", "webrtc"),
            ("cam.isml/manifest", "mss"),
            ("cam/", "http"),
            ("", "http"),
        ] {
            assert_eq!(proto(path), expected, "{path}");
        }
    }
}
