//! How often a player asks for something at least: its playlist says so.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header, response::Parts};

use super::kind::protocol;
use crate::session::Transfer;

/// How much of a manifest is looked at, in bytes: it is said at its beginning.
const BEGINNING: usize = 4096;

/// Looks at a manifest that passes.
#[derive(Debug, Default)]
pub(super) struct Pace(Vec<u8>);

impl Pace {
    /// For an answer that is a manifest, and can be read; the session learns its protocol.
    pub(super) fn of(parts: &Parts, path: &str, transfer: &Transfer) -> Option<Self> {
        let whole = matches!(parts.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
        let protocol = protocol(&parts.headers, path).filter(|_| whole)?;
        transfer.learn(Some(protocol), None);
        is_plain(&parts.headers).then(Self::default)
    }

    /// Looks at what comes next of it. True when there is nothing more to be learnt.
    pub(super) fn see(&mut self, data: &[u8], transfer: &Transfer) -> bool {
        let rest = BEGINNING - self.0.len();
        self.0.extend_from_slice(&data[..data.len().min(rest)]);
        let said = said(&String::from_utf8_lossy(&self.0));
        if said.is_some() {
            transfer.learn(None, said);
        }
        said.is_some() || self.0.len() >= BEGINNING
    }
}

fn is_plain(headers: &HeaderMap) -> bool {
    let plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    headers.get_all(header::CONTENT_ENCODING).iter().all(plain)
}

/// What a manifest's beginning says: a playlist's target duration, or the longer one of how often a DASH manifest changes
/// and how long its segments are at most.
fn said(beginning: &str) -> Option<Duration> {
    if let Some((_, rest)) = beginning.split_once("#EXT-X-TARGETDURATION:") {
        let (number, _) = rest.split_once(['\r', '\n'])?;
        return seconds(number.trim());
    }
    let (_, rest) = beginning.split_once("<MPD")?;
    let (attributes, _) = rest.split_once('>')?;
    let of = |name: &str| {
        let (_, rest) = attributes.split_once(name)?;
        let quoted = rest.trim_start().strip_prefix('=')?.trim_start();
        let value = quoted.strip_prefix(['"', '\''])?;
        iso8601(&value[..value.find(['"', '\''])?])
    };
    [of("minimumUpdatePeriod"), of("maxSegmentDuration")].into_iter().flatten().max()
}

/// A number of seconds that can be meant.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    let meant = (0.0..=3600.0).contains(&seconds);
    meant.then(|| Duration::from_secs_f64(seconds))
}

/// A duration such as `PT1M2.5S`; years, months and days are longer than anything that can be meant.
fn iso8601(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix("PT")?;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = match rest.as_bytes()[end] {
            b'H' => 3600.0,
            b'M' => 60.0,
            b'S' => 1.0,
            _ => return None,
        };
        sum += number * unit;
        rest = &rest[end + 1..];
    }
    seconds(&sum.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_say_how_often_they_are_asked_for() {
        let mpd = |attributes: &str| format!("<?xml version=\"1.0\"?>\n<MPD {attributes}>");
        for (text, milliseconds) in [
            ("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n", Some(6000)),
            ("#EXTM3U\r\n#EXT-X-TARGETDURATION: 10 \r\n", Some(10_000)),
            ("#EXTM3U\n#EXT-X-TARGETDURATION:1.5\n", Some(1500)),
            // Its number may have been cut.
            ("#EXTM3U\n#EXT-X-TARGETDURATION:1", None),
            ("#EXTM3U\n#EXT-X-TARGETDURATION:-4\n", None),
            ("#EXTM3U\n#EXT-X-TARGETDURATION:1e9\n", None),
            ("#EXTM3U\n#EXT-X-TARGETDURATION:inf\n", None),
            ("#EXTM3U\n#EXT-X-TARGETDURATION:nan\n", None),
            ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n", None),
            (&mpd("type=\"dynamic\" minimumUpdatePeriod=\"PT2S\" maxSegmentDuration='PT6.4S'"), Some(6400)),
            (&mpd("minimumUpdatePeriod = \"PT1M1S\""), Some(61_000)),
            (&mpd("mediaPresentationDuration=\"PT1H\""), None),
            (&mpd("maxSegmentDuration=\"P1D\""), None),
            (&mpd("maxSegmentDuration=\"PT\u{e9}S\""), None),
            (&mpd("maxSegmentDuration=\"PT9999H\""), None),
            ("<MPD maxSegmentDuration=\"PT2S\"", None),
            ("<html>", None),
        ] {
            assert_eq!(said(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }
}
