//! Arbitrary playlists and manifests: never a panic, nothing but the token is ever added, it goes nowhere else, and a
//! second time nothing changes.
//!
//! Short by default; `cargo bolero test` or BOLERO_RANDOM_TEST_TIME_MS makes it long.

use filter_user::{
    http::read_target,
    manifest::{Carrier, Form, Place, Places, Playlist, carry_mpd},
};

const TOKEN: &str = "token=Secret7";

/// The stream is everything below `/cam`.
struct Cam;

impl Places for Cam {
    fn place(&self, target: &str) -> Place {
        let Ok(read) = read_target(target.as_bytes(), "token") else { return Place::Elsewhere };
        let query = read.forward_query.as_deref().unwrap_or_default();
        if &*read.path != "cam" && !read.path.starts_with("cam/") {
            Place::Elsewhere
        } else if query.split('&').any(|one| one == "token" || one.starts_with("token=")) {
            Place::WithToken
        } else {
            Place::Bare
        }
    }
}

fn carrier() -> Carrier {
    let place = "/cam/hd/index.m3u8?x";
    Carrier::new(Some("tv.example"), place, ("token", "Secret7"), Form::Query, Box::new(Cam)).expect("a URL")
}

fn playlist(text: &[u8], size: usize) -> Vec<u8> {
    let mut playlist = Playlist::new(carrier());
    let mut out = Vec::new();
    for piece in text.chunks(size.max(1)) {
        playlist.push(piece, &mut out);
    }
    playlist.finish(&mut out);
    assert!(playlist.changed() || out == text, "what is not changed is the same");
    out
}

/// The text without the token, wherever it was added.
fn without(text: &[u8]) -> Vec<u8> {
    let mut left = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(TOKEN.len()).position(|window| window == TOKEN.as_bytes()) {
        left.extend_from_slice(&rest[..at]);
        rest = &rest[at + TOKEN.len()..];
    }
    left.extend_from_slice(rest);
    left
}

fn check_playlist(text: &[u8], size: usize) {
    if text.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()) {
        return;
    }
    let out = playlist(text, usize::MAX);
    assert_eq!(playlist(text, size), out, "however it arrives");
    assert_eq!(playlist(&out, size), out, "a second time");
    let signs =
        |text: &[u8]| -> Vec<u8> { text.iter().copied().filter(|byte| !b"?&".contains(byte)).collect() };
    assert_eq!(signs(&without(&out)), signs(text), "nothing but the token is added");
    for line in out.split(|byte| *byte == b'\n').filter(|line| without(line).len() < line.len()) {
        let line = String::from_utf8_lossy(line);
        let mut parts = line.split(|c| c == '"' && line.starts_with('#'));
        let url = parts.find(|part| part.contains(TOKEN)).expect("it stands in a reference");
        // Whoever reads references in another way gets to the same host.
        let base = url::Url::parse("http://tv.example/cam/hd/index.m3u8").expect("a URL");
        let led = base.join(url.trim()).expect("a URL");
        if !line.contains("{$") {
            assert_eq!(led.host_str(), Some("tv.example"), "{line}");
            assert_ne!(Cam.place(led.path()), Place::Elsewhere, "{line}");
        }
    }
}

/// Pieces that playlists are made of.
const PIECES: [&str; 40] = [
    "#EXTM3U\n",
    "\n",
    "\r\n",
    "\r",
    "#EXTINF:4,\n",
    "#EXT-X-KEY:METHOD=AES-128,URI=\"",
    "#EXT-X-MAP:URI=\"",
    "#EXT-X-PART:DURATION=1,URI=\"",
    "#EXT-X-DEFINE:NAME=\"v\",VALUE=\"",
    "#EXT-X-DEFINE:NAME=\"v\",VALUE=\"//cdn.example\"\n",
    "#EXT-X-STREAM-INF:BANDWIDTH=1\n",
    "\"",
    "\"\n",
    ",",
    "URI=",
    "=",
    "seg.ts",
    "../",
    "./",
    "/",
    "//",
    "\\",
    "cam",
    "/cam/",
    "?",
    "&",
    "#",
    "x=1",
    "token=",
    "%74oken=t",
    "http:",
    "https://tv.example",
    "http://tv.example/cam/",
    "//cdn.example/",
    "@cdn.example",
    ":80",
    "{$v}",
    "{$",
    " ",
    "\u{0}é",
];

#[test]
fn playlists_of_any_bytes() {
    bolero::check!().for_each(|bytes: &[u8]| {
        check_playlist(bytes, 3);
        check_playlist(&[b"#EXTM3U\n", bytes].concat(), 1);
    });
}

#[test]
fn playlists_of_interesting_pieces() {
    bolero::check!().with_type::<Vec<u8>>().for_each(|choices| {
        let text: String = choices.iter().map(|choice| PIECES[usize::from(*choice) % PIECES.len()]).collect();
        check_playlist(text.as_bytes(), 5);
        check_playlist(format!("#EXTM3U\n{text}").as_bytes(), choices.len());
    });
}

fn check_mpd(text: &[u8]) {
    if text.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()) {
        return;
    }
    let Ok(Some(out)) = carry_mpd(&carrier(), text) else { return };
    assert_ne!(out.as_bytes(), text, "what changes is another text");
    assert_eq!(carry_mpd(&carrier(), out.as_bytes()), Ok(None), "a second time: {out}");
    for part in out.split(['"', '\'', '<', '>']).filter(|part| part.contains(TOKEN)) {
        // Where it is absolute, there is no base that could lead elsewhere.
        if let Ok(url) = url::Url::parse(part.trim()) {
            assert_eq!(url.host_str(), Some("tv.example"), "{out}");
        }
    }
}

/// Pieces that manifests are made of.
const MARKUP: [&str; 40] = [
    "<MPD>",
    "</MPD>",
    "<Period>",
    "</Period>",
    "<AdaptationSet>",
    "</AdaptationSet>",
    "<Representation id=\"1\">",
    "<Representation id=\"../x\">",
    "</Representation>",
    "<BaseURL>",
    "</BaseURL>",
    "<Location>",
    "</Location>",
    "<SegmentTemplate media=\"",
    "<SegmentTemplate initialization='",
    "<SegmentURL media=\"",
    "\"/>",
    "'/>",
    "\">",
    "<![CDATA[",
    "]]>",
    "<!-- -->",
    "<!DOCTYPE MPD [<!ENTITY a \"b\">]>",
    "<?xml version=\"1.0\"?>",
    "&amp;",
    "&a;",
    "&#47;",
    "&#x23;",
    "$Number$",
    "$RepresentationID$",
    "$Number%05d$",
    "$",
    "a.m4s",
    "folder/",
    "http://cdn.example/",
    "//tv.example/cam/",
    "../",
    "?x=1",
    "#",
    " \n",
];

#[test]
fn manifests_of_any_bytes() {
    bolero::check!().for_each(|bytes: &[u8]| {
        check_mpd(bytes);
        check_mpd(&[b"<MPD><BaseURL>", bytes, b"</BaseURL></MPD>"].concat());
        check_mpd(&[b"<MPD><SegmentURL media=\"", bytes, b"\"/></MPD>"].concat());
    });
}

#[test]
fn manifests_of_interesting_pieces() {
    bolero::check!().with_type::<Vec<u8>>().for_each(|choices| {
        let text: String = choices.iter().map(|choice| MARKUP[usize::from(*choice) % MARKUP.len()]).collect();
        check_mpd(text.as_bytes());
        check_mpd(format!("<MPD><Period>{text}</Period></MPD>").as_bytes());
        // Well-formed in most cases.
        let (bases, media) = choices.split_at(choices.len() / 2);
        let words = |list: &[u8]| -> String {
            list.iter().map(|choice| MARKUP[24 + usize::from(*choice) % 16]).collect()
        };
        check_mpd(
            format!(
                "<MPD><Period><BaseURL>{}</BaseURL><SegmentTemplate media=\"{}\"/></Period></MPD>",
                words(bases),
                words(media)
            )
            .as_bytes(),
        );
    });
}
