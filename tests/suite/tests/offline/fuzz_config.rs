//! No text is a panic, and there is a configuration exactly when there are no errors.
//!
//! Short by default; BOLERO_RANDOM_TEST_TIME_MS makes it long.

use std::{
    io,
    path::{Path, PathBuf},
};

use bolero::check;
use filter_user::config::{Files, load, parse_prefix};

const SAMPLES: [&str; 4] = [
    include_str!("../../../fixtures/flussonic.conf"),
    include_str!("../../../fixtures/nicgate.conf"),
    include_str!("../../../fixtures/myauth1.conf"),
    include_str!("../../../fixtures/multi_local.conf"),
];

/// Pieces that mean something, to be put where they do not belong.
const PIECES: [&str; 40] = [
    "auth_backend a {",
    "}",
    "{",
    ";",
    "\n",
    "\r\n",
    "\"",
    "\\",
    "#",
    " ",
    "allow ",
    "deny ",
    "drop ",
    "backend ",
    "ip ",
    "token ",
    "country ",
    "ua ",
    "file ",
    "default;",
    "10.10/16 ",
    "::/0 ",
    "::ffff:1.2.3.4/96 ",
    "RU ",
    "http://h:1/ ",
    "auth://a ",
    "stream s {",
    "template t {",
    "template t;",
    "prefix ",
    "on_play ",
    "on_publish ",
    "input publish://;",
    "gate 80 {",
    "upstream ",
    "guard udp [::1]:9 streams;",
    "include \"list\";",
    "include \"main\";",
    "never_drop ",
    "source x {",
];

/// The main file, and one other that is a list and an included file at once.
struct Two<'a> {
    main: &'a [u8],
    other: &'a [u8],
}

impl Files for Two<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("main") => Ok(self.main.to_vec()),
            Some(name) if name.contains("list") => Ok(self.other.to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn matching(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(vec!["list".into()])
    }
}

fn holds(main: &[u8], other: &[u8]) {
    let (config, report) = load(Path::new("main"), &Two { main, other });
    assert_eq!(config.is_none(), report.has_errors());
    let text = report.render(false);
    assert_eq!(text.is_empty(), report.diagnostics.is_empty());
    for diagnostic in &report.diagnostics {
        let length = diagnostic.line_text.as_ref().map_or(0, |line| line.chars().count());
        assert!(diagnostic.caret_start <= length, "{diagnostic:?}");
        assert!(diagnostic.origin.line > 0 && diagnostic.origin.column > 0);
    }
}

/// Changes a sample as the bytes say: each four are a place and what happens there.
fn mutated(bytes: &[u8]) -> Vec<u8> {
    let Some((first, changes)) = bytes.split_first() else { return Vec::new() };
    let mut text = SAMPLES[*first as usize % SAMPLES.len()].as_bytes().to_vec();
    for change in changes.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % (text.len() + 1);
        let piece = PIECES[change[3] as usize % PIECES.len()].as_bytes();
        match change[2] % 4 {
            0 => drop(text.splice(at..at, piece.iter().copied())),
            1 => drop(text.drain(at..(at + change[3] as usize).min(text.len()))),
            2 => text.insert(at, change[3]),
            _ => text.truncate(at.max(1)),
        }
    }
    text
}

#[test]
fn any_bytes() {
    check!().for_each(|bytes: &[u8]| {
        let (main, other) = bytes.split_at(bytes.len() / 2);
        holds(main, other);
        let _ = parse_prefix(&String::from_utf8_lossy(bytes));
    });
}

#[test]
fn pieces_in_any_order() {
    check!().with_max_len(400).for_each(|bytes: &[u8]| {
        let text: String = bytes.iter().map(|byte| PIECES[*byte as usize % PIECES.len()]).collect();
        holds(text.as_bytes(), b"10.0.0.0/8\n300.0.0.1\n::/0\n1.2.3.4/8 ; x\n\xff\n");
        holds(text.as_bytes(), text.as_bytes());
    });
}

#[test]
fn changed_samples() {
    check!().with_max_len(200).for_each(|bytes: &[u8]| {
        let text = mutated(bytes);
        holds(&text, &text);
    });
}
