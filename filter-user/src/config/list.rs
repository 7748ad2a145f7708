//! List files: one value a line.

use std::{ops::Range, sync::Arc};

use ipnet::IpNet;

use super::{
    diagnostic::Severity,
    prefix::{covers_mapped, fast_v4_line, parse_prefix},
    source::Sources,
};

/// How many bad lines of one file are shown; the rest is counted.
const SHOWN: usize = 10;

/// A line that cannot be read.
struct BadLine {
    code: &'static str,
    message: String,
    help: Option<String>,
    /// In bytes of the line.
    part: Range<usize>,
}

/// Reads a file of addresses and prefixes. Bad lines go into `sources`.
pub(super) fn read_prefixes(file: &Arc<str>, bytes: &[u8], sources: &mut Sources) -> Vec<(IpNet, u32)> {
    // The most common line is some 15 bytes long.
    let mut entries = Vec::with_capacity(bytes.len() / 15 + 1);
    let mut faults = Faults::new(file);
    let mut masked: Count = None;
    let mut mapped: Count = None;
    let mut rest = without_bom(bytes);
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        if let Some((net, next)) = fast_v4_line(rest) {
            entries.push((net, number));
            rest = &rest[next..];
            continue;
        }
        let line;
        (line, rest) = next_line(rest);
        let value = trim(line, |_, b| matches!(b, b'#' | b';'));
        if value.is_empty() {
            continue;
        }
        let read = std::str::from_utf8(&line[value.clone()]).map_err(|_| BadLine::not_text(&value)).and_then(
            |text| {
                parse_prefix(text).map_err(|error| BadLine {
                    code: error.code(),
                    message: error.to_string(),
                    help: error.help(),
                    part: value.start + error.part().start..value.start + error.part().end,
                })
            },
        );
        match read {
            Ok((net, host_bits)) => {
                entries.push((net, number));
                if host_bits {
                    count(&mut masked, number, line, &value);
                }
                if covers_mapped(&net) {
                    count(&mut mapped, number, line, &value);
                }
            }
            Err(bad) => faults.add(sources, number, line, bad),
        }
    }
    faults.finish(sources);
    if let Some((lines, number, line, part)) = masked {
        let message = format!("host bits below the mask are set, and are masked ({})", plural(lines, "line"));
        sources.say_line(Severity::Warning, "host-bits", message, (file.clone(), number), &line, part);
    }
    if let Some((lines, number, line, part)) = mapped {
        let message = format!(
            "this IPv6 prefix includes the IPv4-mapped addresses, but does not match IPv4 clients ({})",
            plural(lines, "line")
        );
        sources
            .say_line(Severity::Warning, "mapped-not-covered", message, (file.clone(), number), &line, part)
            .help("add the IPv4 prefix that is meant; all of IPv4 is 0/0");
    }
    entries.shrink_to_fit();
    entries
}

/// Reads a file of tokens. Bad lines go into `sources`.
pub(super) fn read_tokens(file: &Arc<str>, bytes: &[u8], sources: &mut Sources) -> Vec<(Box<str>, u32)> {
    let mut entries = Vec::new();
    let mut faults = Faults::new(file);
    let mut rest = without_bom(bytes);
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let line;
        (line, rest) = next_line(rest);
        // `#` can be part of a token, as it can be part of a word of the configuration.
        let value = trim(line, |before, b| {
            b == b';' || (b == b'#' && before.is_none_or(|b| b.is_ascii_whitespace()))
        });
        if value.is_empty() {
            continue;
        }
        match std::str::from_utf8(&line[value.clone()]) {
            Err(_) => faults.add(sources, number, line, BadLine::not_text(&value)),
            Ok(text) => match text.find(char::is_whitespace) {
                None => entries.push((text.into(), number)),
                Some(gap) => {
                    let bad = BadLine {
                        code: "list-line",
                        message: "this line has more than one word".into(),
                        help: Some("write one token a line; a comment begins with `#`".into()),
                        part: value.start + gap..value.end,
                    };
                    faults.add(sources, number, line, bad);
                }
            },
        }
    }
    faults.finish(sources);
    entries
}

impl BadLine {
    fn not_text(part: &Range<usize>) -> Self {
        Self {
            code: "not-utf8",
            message: "this line is not UTF-8 text".into(),
            help: Some("a list file is text with one value a line".into()),
            part: part.clone(),
        }
    }
}

/// The bad lines of one file.
struct Faults<'a> {
    file: &'a Arc<str>,
    lines: usize,
}

impl<'a> Faults<'a> {
    fn new(file: &'a Arc<str>) -> Self {
        Self { file, lines: 0 }
    }

    fn add(&mut self, sources: &mut Sources, number: u32, line: &[u8], bad: BadLine) {
        self.lines += 1;
        if self.lines > SHOWN {
            return;
        }
        let BadLine { code, message, help, part } = bad;
        let (line, part) = shown(line, &part);
        let place = (self.file.clone(), number);
        let diagnostic = sources.say_line(Severity::Error, code, message, place, &line, part);
        diagnostic.help = help;
    }

    fn finish(self, sources: &mut Sources) {
        let rest = self.lines.saturating_sub(SHOWN);
        if rest > 0 {
            let message = format!("{} of this file cannot be read either", plural(rest, "more line"));
            sources.file_error(self.file.clone(), "list-lines", message);
        }
    }
}

/// How many lines something holds for, and the first of them: its number, its text, the part to show.
type Count = Option<(usize, u32, String, Range<usize>)>;

fn count(of: &mut Count, number: u32, line: &[u8], part: &Range<usize>) {
    match of {
        Some((lines, ..)) => *lines += 1,
        None => {
            let (line, part) = shown(line, part);
            *of = Some((1, number, line, part));
        }
    }
}

/// The line as text, and the part's place in it.
fn shown(line: &[u8], part: &Range<usize>) -> (String, Range<usize>) {
    let mut text = String::from_utf8_lossy(&line[..part.start]).into_owned();
    let start = text.len();
    text.push_str(&String::from_utf8_lossy(&line[part.clone()]));
    let end = text.len();
    text.push_str(&String::from_utf8_lossy(&line[part.end..]));
    (text, start..end)
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// The first line without its end, and what follows.
fn next_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|b| *b == b'\n');
    let (line, rest) = end.map_or((bytes, &[][..]), |end| (&bytes[..end], &bytes[end + 1..]));
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

/// The part of a line before its comment, without the blanks around it. `comment` is asked for each byte with
/// the byte before it.
fn trim(line: &[u8], comment: impl Fn(Option<u8>, u8) -> bool) -> Range<usize> {
    let mut before = None;
    let end = line.iter().position(|b| comment(before.replace(*b), *b)).unwrap_or(line.len());
    let start = line[..end].iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(end);
    let end = line[..end].iter().rposition(|b| !b.is_ascii_whitespace()).map_or(start, |last| last + 1);
    start..end
}
