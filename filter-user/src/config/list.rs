//! List files: one value a line.

use std::{net::IpAddr, ops::Range, panic::resume_unwind, sync::Arc, thread};

use ipnet::IpNet;

use super::{
    diagnostic::Severity,
    prefix::{covers_mapped, fast_v4_line, parse_prefix},
    source::Sources,
};
use crate::address::{Address as _, canonical, range_prefixes};

/// How many bad lines of one file are shown; the rest is counted.
const SHOWN: usize = 10;

/// A thread is worth its start from about so many bytes on.
const FOR_A_THREAD: usize = 1 << 20;

/// A list file as it was read: its entries with their lines, and what there is to say of the others.
pub(super) struct ListText<T> {
    pub(super) entries: Vec<(T, u32)>,
    /// How many lines cannot be read.
    pub(super) bad_lines: usize,
    /// The first of them, with their numbers.
    bad: Vec<(u32, String, BadLine)>,
    masked: Count,
    mapped: Count,
}

/// A line that cannot be read.
struct BadLine {
    code: &'static str,
    message: String,
    help: Option<String>,
    /// In bytes of the line.
    part: Range<usize>,
}

/// Reads a file of addresses and prefixes.
pub(super) fn read_prefixes(bytes: &[u8]) -> ListText<IpNet> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    read_in_parts(bytes, (bytes.len() / FOR_A_THREAD).clamp(1, cores))
}

/// The same, on so many threads.
fn read_in_parts(bytes: &[u8], count: usize) -> ListText<IpNet> {
    let parts = match &split(without_bom(bytes), count)[..] {
        [all] => vec![Part::read(all)],
        parts => thread::scope(|scope| {
            let threads: Vec<_> = parts.iter().map(|part| scope.spawn(move || Part::read(part))).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|part| part.unwrap_or_else(|panic| resume_unwind(panic))).collect()
        }),
    };
    let mut all = ListText::default();
    let mut before = 0;
    for part in parts {
        if before == 0 {
            all.entries = part.entries;
        } else {
            all.entries.extend(part.entries.into_iter().map(|(net, line)| (net, before + line)));
        }
        for (number, line, bad) in part.bad {
            all.keep_bad(before + number, line, bad);
        }
        all.bad_lines += part.bad_lines;
        join(&mut all.masked, part.masked, before);
        join(&mut all.mapped, part.mapped, before);
        before += part.lines;
    }
    all.entries.shrink_to_fit();
    all
}

/// Cuts a text behind ends of lines into parts of about the same length, no more than `count`; at least one.
fn split(bytes: &[u8], count: usize) -> Vec<&[u8]> {
    let mut parts = Vec::with_capacity(count);
    let mut rest = bytes;
    for left in (2..=count).rev() {
        let at = rest.len() / left;
        let Some(end) = rest[at..].iter().position(|b| *b == b'\n') else { break };
        let (part, behind) = rest.split_at(at + end + 1);
        parts.push(part);
        rest = behind;
    }
    if parts.is_empty() || !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

/// What is in a part of a file. Lines are counted from the part's first.
#[derive(Default)]
struct Part<'a> {
    entries: Vec<(IpNet, u32)>,
    lines: u32,
    /// The first bad lines, as many as are shown of a file.
    bad: Vec<(u32, &'a [u8], BadLine)>,
    bad_lines: usize,
    masked: Count,
    mapped: Count,
}

impl<'a> Part<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let mut part = Self::default();
        // The most common line is some 15 bytes long.
        part.entries.reserve(bytes.len() / 15 + 1);
        let mut rest = bytes;
        while !rest.is_empty() {
            part.lines += 1;
            if let Some((net, next)) = fast_v4_line(rest) {
                part.entries.push((net, part.lines));
                rest = &rest[next..];
                continue;
            }
            let line;
            (line, rest) = next_line(rest);
            part.line(line);
        }
        part
    }

    /// Reads the last line counted.
    fn line(&mut self, line: &'a [u8]) {
        let number = self.lines;
        let value = trim(line, |_, b| matches!(b, b'#' | b';'));
        if value.is_empty() {
            return;
        }
        let text = std::str::from_utf8(&line[value.clone()]);
        if let Some(nets) = text.ok().and_then(parse_range) {
            self.entries.extend(nets.into_iter().map(|net| (net, number)));
            return;
        }
        let read = text.map_err(|_| BadLine::not_text(&value)).and_then(|text| {
            parse_prefix(text).map_err(|error| BadLine {
                code: error.code(),
                message: error.to_string(),
                help: error.help(),
                part: value.start + error.part().start..value.start + error.part().end,
            })
        });
        match read {
            Ok((net, host_bits)) => {
                self.entries.push((net, number));
                if host_bits {
                    count(&mut self.masked, number, line, &value);
                }
                if covers_mapped(&net) {
                    count(&mut self.mapped, number, line, &value);
                }
            }
            Err(bad) => {
                self.bad_lines += 1;
                if self.bad.len() < SHOWN {
                    self.bad.push((number, line, bad));
                }
            }
        }
    }
}

/// A range of addresses, `192.0.2.1-192.0.2.9` or, as in lists for file sharing, `some name:192.0.2.1-192.0.2.9`, as
/// the fewest prefixes; `None` for everything else, backward ranges among it.
pub fn parse_range(text: &str) -> Option<Vec<IpNet>> {
    let (from, to) = text.rsplit_once('-')?;
    let to: IpAddr = to.trim().parse().ok()?;
    let from = from.trim();
    // A name can hold colons and hyphens; an address of IPv6 holds colons.
    let from: IpAddr = match from.parse() {
        Ok(from) => from,
        Err(_) if to.is_ipv4() => from.rsplit_once(':')?.1.trim().parse().ok()?,
        Err(_) => return None,
    };
    match (canonical(from), canonical(to)) {
        (IpAddr::V4(from), IpAddr::V4(to)) if from <= to => {
            Some(range_prefixes(from.to_bits(), to.to_bits()).map(|(first, len)| first.net(len)).collect())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) if from <= to => {
            Some(range_prefixes(from.to_bits(), to.to_bits()).map(|(first, len)| first.net(len)).collect())
        }
        _ => None,
    }
}

/// Reads a file of tokens.
pub(super) fn read_tokens(bytes: &[u8]) -> ListText<Box<str>> {
    let mut read = ListText::default();
    let mut rest = without_bom(bytes);
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let line;
        (line, rest) = next_line(rest);
        // Both can be part of a token, as `#` can be part of a word of the configuration.
        let value = trim(line, |before, b| {
            matches!(b, b';' | b'#') && before.is_none_or(|b| b.is_ascii_whitespace())
        });
        if value.is_empty() {
            continue;
        }
        let text = std::str::from_utf8(&line[value.clone()]).map_err(|_| BadLine::not_text(&value));
        let token = text.and_then(|text| match text.find(char::is_whitespace) {
            None => Ok(text),
            Some(gap) => Err(BadLine {
                code: "list-line",
                message: "this line has more than one word".into(),
                help: Some("write one token a line; a comment begins with `#`".into()),
                part: value.start + gap..value.end,
            }),
        });
        match token {
            Ok(token) => read.entries.push((token.into(), number)),
            Err(bad) => {
                read.bad_lines += 1;
                read.keep_bad(number, line, bad);
            }
        }
    }
    read
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

impl<T> Default for ListText<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), bad_lines: 0, bad: Vec::new(), masked: None, mapped: None }
    }
}

impl<T> ListText<T> {
    fn keep_bad(&mut self, number: u32, line: &[u8], mut bad: BadLine) {
        if self.bad.len() < SHOWN {
            let (line, part) = shown(line, &bad.part);
            bad.part = part;
            self.bad.push((number, line, bad));
        }
    }

    /// Names the lines that cannot be read, the first ones of them.
    pub(super) fn say_bad(&self, file: &Arc<str>, severity: Severity, sources: &mut Sources) {
        for (number, line, bad) in &self.bad {
            let place = (file.clone(), *number);
            let message = bad.message.clone();
            sources.say_line(severity, bad.code, message, place, line, bad.part.clone()).help =
                bad.help.clone();
        }
        let rest = self.bad_lines - self.bad.len();
        if rest > 0 {
            let message = format!("{} of this file cannot be read either", plural(rest, "more line"));
            sources.say_file(severity, file.clone(), "list-lines", message);
        }
    }

    /// Warns of lines that can be read, but probably do not mean what they say.
    pub(super) fn say_odd(&self, file: &Arc<str>, sources: &mut Sources) {
        if let Some((lines, number, line, part)) = &self.masked {
            let lines = plural(*lines, "line");
            let message = format!("host bits below the mask are set, and are masked ({lines})");
            let place = (file.clone(), *number);
            sources.say_line(Severity::Warning, "host-bits", message, place, line, part.clone());
        }
        if let Some((lines, number, line, part)) = &self.mapped {
            let message = format!(
                "this IPv6 prefix includes the IPv4-mapped addresses, but does not match IPv4 clients ({})",
                plural(*lines, "line")
            );
            let place = (file.clone(), *number);
            sources
                .say_line(Severity::Warning, "mapped-not-covered", message, place, line, part.clone())
                .help("add the IPv4 prefix that is meant; all of IPv4 is 0/0");
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

/// Adds what holds for a later part of the file, which has so many lines before it.
fn join(of: &mut Count, more: Count, before: u32) {
    let Some((lines, number, line, part)) = more else { return };
    match of {
        Some((sum, ..)) => *sum += lines,
        None => *of = Some((lines, before + number, line, part)),
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

pub(super) fn plural(count: usize, what: &str) -> String {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Report;

    fn read(bytes: &[u8], parts: usize) -> (Vec<(IpNet, u32)>, Report) {
        let mut sources = Sources::default();
        let read = read_in_parts(bytes, parts);
        read.say_bad(&"list.txt".into(), Severity::Error, &mut sources);
        read.say_odd(&"list.txt".into(), &mut sources);
        (read.entries, sources.into_report())
    }

    /// Lines of all kinds, with all kinds of ends, and bytes that are none.
    fn list() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            4 => (any::<[u8; 4]>(), 0..=32u8).prop_map(|([a, b, c, d], len)| format!("{a}.{b}.{c}.{d}/{len}").into()),
            2 => any::<[u8; 4]>().prop_map(|[a, b, c, d]| format!("{a}.{b}.{c}.{d}").into()),
            1 => any::<u16>().prop_map(|n| format!("2001:db8:{n:x}::/48 # some").into()),
            1 => Just(b"::/0".to_vec()),
            1 => Just(b"\xef\xbb\xbf1.2.3.4".to_vec()),
            1 => Just(Vec::new()),
            1 => Just(b"# a comment".to_vec()),
            1 => "[0-9./:a;# ]{0,12}".prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 0..8),
        ];
        let end = prop_oneof![4 => Just(&b"\n"[..]), 1 => Just(&b"\r\n"[..]), 1 => Just(&b" \n\n"[..])];
        (proptest::collection::vec((line, end), 0..40), any::<bool>()).prop_map(|(lines, open)| {
            let mut bytes: Vec<u8> = lines.iter().flat_map(|(line, end)| [line, *end].concat()).collect();
            if open {
                // The last line has no end.
                bytes.pop();
            }
            bytes
        })
    }

    #[test]
    fn ranges_are_read_as_the_prefixes_that_they_are() {
        for (text, nets) in [
            ("192.0.2.0-192.0.2.255", &["192.0.2.0/24"][..]),
            ("192.0.2.1 - 192.0.2.4", &["192.0.2.1/32", "192.0.2.2/31", "192.0.2.4/32"]),
            ("Some-Name: inc:192.0.2.9-192.0.2.9", &["192.0.2.9/32"]),
            ("0.0.0.0-255.255.255.255", &["0.0.0.0/0"]),
            ("2001:db8::-2001:db8::1", &["2001:db8::/127"]),
            ("::ffff:192.0.2.0-::ffff:192.0.2.1", &["192.0.2.0/31"]),
        ] {
            let read: Vec<String> = parse_range(text).unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(read, nets, "{text}");
        }
        for text in [
            "192.0.2.2-192.0.2.1",
            "192.0.2.1-2001:db8::1",
            "192.0.2.1-",
            "-",
            "a-b",
            "192.0.2.0/24-192.0.3.0",
            "",
        ] {
            assert!(parse_range(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_number_of_parts_is_read_like_the_whole(bytes in list(), parts in 2..60usize) {
            let (entries, report) = read(&bytes, 1);
            let (in_parts, of_parts) = read(&bytes, parts);
            prop_assert_eq!(in_parts, entries);
            prop_assert_eq!(format!("{of_parts:?}"), format!("{report:?}"));
        }

        #[test]
        fn parts_are_the_whole_and_end_where_lines_end(bytes in list(), count in 1..60usize) {
            let parts = split(&bytes, count);
            prop_assert!((1..=count).contains(&parts.len()));
            prop_assert_eq!(parts.concat(), &bytes[..]);
            let (_, others) = parts.split_last().unwrap();
            prop_assert!(others.iter().all(|part| part.ends_with(b"\n")));
        }
    }

    #[test]
    fn lines_are_numbered_through_all_parts() {
        let text: String =
            (0..200_000u32).map(|n| format!("10.{}.{}.{}\n", n >> 16, n >> 8 & 255, n & 255)).collect();
        let (entries, _) = read(text.as_bytes(), 7);
        assert!(entries.iter().map(|(_, line)| *line).eq(1..=200_000));
        let bad = text.replacen("10.1.134.160\n", "10.1.134.256\n", 1);
        let (entries, report) = read(bad.as_bytes(), 7);
        assert_eq!(entries.len(), 199_999);
        let origin = &report.diagnostics[0].origin;
        assert_eq!((origin.line, origin.column), ((1 << 16) + (134 << 8) + 160 + 1, 10));
    }
}
