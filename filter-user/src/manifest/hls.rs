//! HLS playlists, line by line, however they arrive.

use std::{collections::HashMap, ops::Range};

use super::Carrier;

/// The longest line that is looked at, in bytes; a longer one passes as it is.
const LONGEST_LINE: usize = 32 * 1024;
/// The most variables that are remembered, and the longest, in bytes. A reference with another one passes as it is.
const MOST_VARIABLES: usize = 256;
const LONGEST_VARIABLE: usize = 1024;

/// The tags that refer to something, and the attributes in which they do.
const TAGS: [(&str, &[&str]); 12] = [
    ("EXT-X-CONTENT-STEERING", &["SERVER-URI"]),
    ("EXT-X-DATERANGE", &["X-ASSET-URI", "X-ASSET-LIST"]),
    ("EXT-X-I-FRAME-STREAM-INF", &["URI"]),
    ("EXT-X-IMAGE-STREAM-INF", &["URI"]),
    ("EXT-X-KEY", &["URI"]),
    ("EXT-X-MAP", &["URI"]),
    ("EXT-X-MEDIA", &["URI"]),
    ("EXT-X-PART", &["URI"]),
    ("EXT-X-PRELOAD-HINT", &["URI"]),
    ("EXT-X-RENDITION-REPORT", &["URI"]),
    ("EXT-X-SESSION-DATA", &["URI"]),
    ("EXT-X-SESSION-KEY", &["URI"]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// The first line, which says whether it is a playlist.
    First,
    Lines,
    /// The rest of a line that is too long.
    LongLine,
    /// It is no playlist.
    Passing,
}

/// A playlist on its way to a player.
#[derive(Debug)]
pub struct Playlist {
    carrier: Carrier,
    reading: Reading,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    /// `EXT-X-DEFINE`; `None` for a variable whose value is not known here.
    variables: HashMap<String, Option<String>>,
    changed: bool,
    multivariant: bool,
}

impl Playlist {
    /// Nothing of it has come yet.
    pub fn new(carrier: Carrier) -> Self {
        Self {
            carrier,
            reading: Reading::First,
            partial: Vec::new(),
            variables: HashMap::new(),
            changed: false,
            multivariant: false,
        }
    }

    /// Whether the token was written into any line so far.
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// Whether it began as no playlist does, and passes as it is.
    pub fn is_none(&self) -> bool {
        self.reading == Reading::Passing
    }

    /// Whether it lists other playlists.
    pub fn is_multivariant(&self) -> bool {
        self.multivariant
    }

    /// Takes what has arrived and appends what can go on to `out`.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() && self.reading != Reading::Passing {
            let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            bytes = rest;
            if self.reading == Reading::LongLine {
                out.extend_from_slice(piece);
                if end.is_some() {
                    self.reading = Reading::Lines;
                }
            } else if self.partial.len() + piece.len() > LONGEST_LINE {
                out.append(&mut self.partial);
                out.extend_from_slice(piece);
                self.reading = match (self.reading, end) {
                    (Reading::First, _) => Reading::Passing,
                    (_, Some(_)) => Reading::Lines,
                    (_, None) => Reading::LongLine,
                };
            } else if end.is_none() {
                self.partial.extend_from_slice(piece);
            } else if self.partial.is_empty() {
                self.line(piece, out);
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(piece);
                self.line(&line, out);
                line.clear();
                self.partial = line;
            }
        }
        out.extend_from_slice(bytes);
    }

    /// Nothing more comes: appends what was held back.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let last = std::mem::take(&mut self.partial);
        if !last.is_empty() {
            self.line(&last, out);
        }
    }

    /// A whole line with its end.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if self.reading == Reading::First {
            let begins = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii_end() == b"#EXTM3U";
            self.reading = if begins { Reading::Lines } else { Reading::Passing };
        } else if let Ok(text) = std::str::from_utf8(text)
            && let Some(new) = self.rewritten(text)
        {
            self.changed = true;
            out.extend_from_slice(new.as_bytes());
            out.extend_from_slice(&line[text.len()..]);
            return;
        }
        out.extend_from_slice(line);
    }

    /// The line with the token; `None` when it stays as it is.
    fn rewritten(&mut self, line: &str) -> Option<String> {
        let Some(tag) = line.strip_prefix('#') else {
            let reference = line.trim_end_matches([' ', '\t']);
            let new = self.carried(reference)?;
            return Some(format!("{new}{}", &line[reference.len()..]));
        };
        let (name, list) = tag.split_once(':')?;
        match name {
            "EXT-X-STREAM-INF" => self.multivariant = true,
            "EXT-X-DEFINE" => self.define(list),
            _ => {}
        }
        let (_, referring) = TAGS.iter().find(|(known, _)| *known == name)?;
        let mut new = String::new();
        let mut done = 0;
        for (attribute, value) in attributes(list) {
            if referring.contains(&attribute)
                && let Some(value) = value
                && let Some(carried) = self.carried(&list[value.clone()])
            {
                new.push_str(&list[done..value.start]);
                new.push_str(&carried);
                done = value.end;
            }
        }
        (done > 0).then(|| format!("#{name}:{new}{}", &list[done..]))
    }

    fn carried(&self, reference: &str) -> Option<String> {
        if !reference.contains("{$") {
            return self.carrier.carry(reference);
        }
        let meant = self.expanded(reference)?;
        self.carrier.carry_meant(reference, &meant, std::slice::from_ref(self.carrier.base()))
    }

    /// A reference with the values of its variables; `None` when one of them is not known.
    fn expanded(&self, reference: &str) -> Option<String> {
        let mut meant = String::new();
        let mut rest = reference;
        while let Some(start) = rest.find("{$") {
            let length = rest[start..].find('}')?;
            meant.push_str(&rest[..start]);
            meant.push_str(self.variables.get(&rest[start + 2..start + length])?.as_deref()?);
            rest = &rest[start + length + 1..];
        }
        meant.push_str(rest);
        Some(meant)
    }

    /// `EXT-X-DEFINE:NAME="…",VALUE="…"`. What is imported or comes from the query is not known here.
    fn define(&mut self, list: &str) {
        let (mut name, mut given) = (None, None);
        for (attribute, value) in attributes(list) {
            let text = value.map(|value| &list[value]);
            match attribute {
                "NAME" | "IMPORT" | "QUERYPARAM" => name = text,
                "VALUE" => given = text,
                _ => {}
            }
        }
        let Some(name) = name else { return };
        if let Some(known) = self.variables.get_mut(name) {
            // Which of two definitions counts is for the player to know.
            *known = None;
        } else if self.variables.len() < MOST_VARIABLES && name.len() <= LONGEST_VARIABLE {
            let given = given.filter(|given| given.len() <= LONGEST_VARIABLE);
            self.variables.insert(name.to_owned(), given.map(str::to_owned));
        }
    }
}

/// The names in an attribute list, and where their values stand when they are quoted. It ends where it is broken.
fn attributes(list: &str) -> impl Iterator<Item = (&str, Option<Range<usize>>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let name_length = list[at..].find('=')?;
        let name = list[at..at + name_length].trim_matches([' ', '\t']);
        let value = at + name_length + 1;
        let (range, end) = match list[value..].strip_prefix('"') {
            Some(quoted) => {
                let end = value + 1 + quoted.find('"')?;
                (Some(value + 1..end), end + 1)
            }
            None => (None, value),
        };
        at = list[end..].find(',').map_or(list.len(), |comma| end + comma + 1);
        Some((name, range))
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::reference::{Form, tests::carrier},
        *,
    };

    /// The playlist as it comes out, and whether it was changed.
    fn rewritten(text: &[u8]) -> (Vec<u8>, bool) {
        let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut playlist = Playlist::new(carrier(Form::Query));
            let mut out = Vec::new();
            for piece in pieces {
                playlist.push(piece, &mut out);
            }
            playlist.finish(&mut out);
            (out, playlist.changed())
        };
        let whole = run(&mut std::iter::once(text));
        for size in [1, 2, 7, 4096] {
            assert_eq!(run(&mut text.chunks(size)), whole, "in pieces of {size}");
        }
        whole
    }

    fn text(playlist: &str) -> String {
        String::from_utf8(rewritten(playlist.as_bytes()).0).unwrap()
    }

    #[test]
    fn every_reference_of_a_playlist_gets_the_token() {
        let before = concat!(
            "#EXTM3U\r\n",
            "#EXT-X-VERSION:9\n",
            "#EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"key\"\n",
            "#EXT-X-SESSION-DATA:DATA-ID=\"a,b\",URI=\"data.json\"\n",
            "#EXT-X-CONTENT-STEERING:SERVER-URI=\"steering?a=b\"\n",
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"URI=\",URI=\"audio.m3u8\",DEFAULT=YES\n",
            "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"iframe.m3u8\"\n",
            "#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=1,URI=\"image.m3u8\"\n",
            "#EXT-X-STREAM-INF:BANDWIDTH=1\n",
            "hd.m3u8\n",
            "\n",
            "#EXT-X-KEY:METHOD=AES-128,URI=\"/cam/key?id=1\",IV=0x1\n",
            "#EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"1@0\"\n",
            "#EXT-X-PART:DURATION=0.3,URI=\"part.m4s\",INDEPENDENT=YES\n",
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"next.m4s\"\n",
            "#EXT-X-RENDITION-REPORT:URI=\"../sd/index.m3u8\",LAST-MSN=1\n",
            "#EXT-X-DATERANGE:ID=\"ad\",X-ASSET-URI=\"ad.m3u8\"\n",
            "#EXTINF:4.0,a title, with URI=\"x\"\n",
            "seg 1.ts \r\n",
            "#a comment\n",
            "#EXT-X-NEW:URI=\"a\"\n",
            "last.ts",
        );
        let after = before
            .replace("\"key\"", "\"key?token=a%20b\"")
            .replace("data.json", "data.json?token=a%20b")
            .replace("steering?a=b", "steering?a=b&token=a%20b")
            .replace("audio.m3u8", "audio.m3u8?token=a%20b")
            .replace("iframe.m3u8", "iframe.m3u8?token=a%20b")
            .replace("image.m3u8", "image.m3u8?token=a%20b")
            .replace("hd.m3u8", "hd.m3u8?token=a%20b")
            .replace("key?id=1", "key?id=1&token=a%20b")
            .replace("init.mp4", "init.mp4?token=a%20b")
            .replace("part.m4s", "part.m4s?token=a%20b")
            .replace("next.m4s", "next.m4s?token=a%20b")
            .replace("sd/index.m3u8", "sd/index.m3u8?token=a%20b")
            .replace("ad.m3u8", "ad.m3u8?token=a%20b")
            .replace("seg 1.ts", "seg 1.ts?token=a%20b")
            .replace("last.ts", "last.ts?token=a%20b");
        assert_eq!(text(before), after);
        assert_eq!(rewritten(after.as_bytes()), (after.clone().into_bytes(), false), "and only once");
    }

    #[test]
    fn what_needs_no_token_passes_byte_for_byte() {
        let own = "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k?token=x\"\n#EXTINF:4,\r\n1.ts?token=x\n\n";
        for playlist in [
            own.as_bytes(),
            b"#EXTM3U\n#EXTINF:1,\nhttp://cdn.example/1.ts\n#EXT-X-KEY:METHOD=NONE\n/other/1.ts\n",
            b"#EXTM3U\n\xff\xfe.ts\n1\0.ts\n1\r2.ts\n",
            b"#EXTM3U\n#EXT-X-MAP:URI=\"broken\n#EXT-X-KEY:URI=bare\n#EXT-X-MAP:=,\"\"\n#EXT-X-KEY:\n#:\n#\n",
            b"#EXTM3U8\nseg.ts\n",
            b"seg.ts\n#EXTM3U\nseg.ts\n",
            b"\n#EXTM3U\nseg.ts\n",
            b"<html>",
            b"#EXTM3U",
            b"",
        ] {
            let (out, changed) = rewritten(playlist);
            assert_eq!(out.escape_ascii().to_string(), playlist.escape_ascii().to_string());
            assert!(!changed);
        }
    }

    #[test]
    fn a_variable_can_lead_to_another_host() {
        let before = "#EXTM3U\n\
            #EXT-X-DEFINE:NAME=\"cdn\",VALUE=\"http://cdn.example\"\n\
            #EXT-X-DEFINE:NAME=\"own\",VALUE=\"/cam/x?a=b\"\n\
            #EXT-X-DEFINE:NAME=\"dir\",VALUE=\"hd\"\n\
            #EXT-X-DEFINE:NAME=\"mark\",VALUE=\"1.ts#\"\n\
            #EXT-X-DEFINE:QUERYPARAM=\"q\"\n\
            #EXT-X-DEFINE:NAME=\"two\",VALUE=\"a\"\n\
            #EXT-X-DEFINE:NAME=\"two\",VALUE=\"http://cdn.example\"\n\
            {$cdn}/cam/1.ts\n{$dir}/1.ts\n{$own}\n{$mark}#x\n{$q}/1.ts\n{$two}/1.ts\n{$none}/1.ts\n{$dir/1.ts\n";
        assert_eq!(text(before), before.replace("{$dir}/1.ts", "{$dir}/1.ts?token=a%20b"));
    }

    #[test]
    fn a_long_line_passes_and_the_next_is_read() {
        let long = "x".repeat(3 * LONGEST_LINE);
        let before = format!("#EXTM3U\n{long}\n1.ts\n#{long}\n2.ts");
        let after = before.replace("1.ts", "1.ts?token=a%20b").replace("2.ts", "2.ts?token=a%20b");
        assert_eq!(text(&before), after);
        // No more than a line is ever kept.
        let mut playlist = Playlist::new(carrier(Form::Query));
        let mut out = Vec::new();
        playlist.push(b"#EXTM3U\n", &mut out);
        for _ in 0..1000 {
            playlist.push(&[b'y'; 4096], &mut out);
            assert!(playlist.partial.capacity() <= 2 * LONGEST_LINE);
        }
        let no_playlist = "x".repeat(3 * LONGEST_LINE) + "\n1.ts\n";
        assert_eq!(text(&no_playlist), no_playlist);
    }

    #[test]
    fn a_playlist_of_playlists_is_known_as_one() {
        for (list, multivariant) in [
            ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n", true),
            ("#EXTM3U\n#EXTINF:1,\na.ts\n", false),
        ] {
            let mut playlist = Playlist::new(carrier(Form::Query));
            playlist.push(list.as_bytes(), &mut Vec::new());
            assert_eq!(playlist.is_multivariant(), multivariant);
        }
    }
}
