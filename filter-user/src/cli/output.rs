//! How results and messages are shown.

use std::{
    borrow::Cow,
    io::{self, BufWriter, IsTerminal as _, StdoutLock, Write},
};

use serde::Serialize;

use crate::config::{Report, printable};

/// How results and messages are shown: text or JSON on stdout, messages on stderr, colours only on a
/// terminal.
#[derive(Debug)]
pub(crate) struct Output {
    /// Results are JSON.
    pub(crate) json: bool,
    colour: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, colour }
    }

    /// What loading had to say, on stderr.
    pub(crate) fn report(&self, report: &Report) {
        if !report.diagnostics.is_empty() {
            self.write(report.render(self.colour).trim_end());
        }
    }

    pub(crate) fn error(&self, error: &anyhow::Error) {
        let (on, off) = if self.colour { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        self.write(&format!("{on}error{off}: {}", shown(&format!("{error:#}"))));
    }

    pub(crate) fn warning(&self, message: &str) {
        let (on, off) = if self.colour { ("\x1b[1;33m", "\x1b[0m") } else { ("", "") };
        self.write(&format!("{on}warning{off}: {}", shown(message)));
    }

    /// A message on stderr.
    pub(crate) fn say(&self, message: &str) {
        self.write(&shown(message));
    }

    /// Writes what is printable but for colours. Where stderr is closed there is nobody to tell.
    fn write(&self, message: &str) {
        let _ = writeln!(io::stderr(), "{message}");
    }

    /// Prints one JSON document.
    pub(crate) fn print_json(&self, value: &impl Serialize) -> io::Result<()> {
        let mut out = json_stdout();
        serde_json::to_writer_pretty(&mut out, value)?;
        writeln!(out)?;
        out.flush()
    }
}

/// A message of several lines as a terminal can be given it.
fn shown(message: &str) -> Cow<'_, str> {
    printable(message, &['\n', '\t'])
}

/// Stdout for text, with a buffer: a million prefixes are a million short writes.
pub(crate) fn stdout() -> BufWriter<Printable<StdoutLock<'static>>> {
    BufWriter::with_capacity(1 << 16, Printable::new(io::stdout().lock(), Instead::Replacement))
}

/// Stdout for JSON, with a buffer.
pub(crate) fn json_stdout() -> BufWriter<Printable<StdoutLock<'static>>> {
    BufWriter::with_capacity(1 << 16, Printable::new(io::stdout().lock(), Instead::JsonEscape))
}

/// What is written in place of a character that a terminal obeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    /// U+FFFD.
    Replacement,
    /// `\u009b`: in JSON such a character can only stand in a string, and there this is the same.
    JsonEscape,
}

/// Writes text without what a terminal obeys, wherever in a result it comes from; line ends and tabs stay.
#[derive(Debug)]
pub(crate) struct Printable<W> {
    inner: W,
    instead: Instead,
    /// The first byte of a character whose second has not been written yet.
    held: bool,
}

/// The first byte, in UTF-8, of U+0080 to U+00BF, among which are the control characters of one byte in Latin-1.
const LEAD: u8 = 0xc2;

impl<W: Write> Printable<W> {
    fn new(inner: W, instead: Instead) -> Self {
        Self { inner, instead, held: false }
    }

    fn replace(&mut self, control: u8) -> io::Result<()> {
        match self.instead {
            Instead::Replacement => self.inner.write_all("\u{fffd}".as_bytes()),
            Instead::JsonEscape => write!(self.inner, "\\u{control:04x}"),
        }
    }
}

impl<W: Write> Write for Printable<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut plain = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let held = std::mem::take(&mut self.held);
            let control = match byte {
                b'\n' | b'\t' => false,
                0x80..=0x9f => held,
                _ => byte.is_ascii_control(),
            };
            if held && !control {
                self.inner.write_all(&[LEAD])?;
            }
            if control || *byte == LEAD {
                self.inner.write_all(&bytes[plain..at])?;
                plain = at + 1;
            }
            if control {
                self.replace(*byte)?;
            }
            self.held = *byte == LEAD;
        }
        self.inner.write_all(&bytes[plain..])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Says on a terminal what takes long, on one line that the next step replaces.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { shown: io::stderr().is_terminal() }
    }

    pub(crate) fn step(&self, what: &str) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K{} …", printable(what, &[]));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// The longest cell, in characters; of what is longer the end is cut off.
const LONGEST_CELL: usize = 400;

/// A cell as it can be shown: what a configuration holds can be long, or move the terminal's cursor.
fn cell(text: &str) -> Cow<'_, str> {
    let text = printable(text, &[]);
    if text.len() <= LONGEST_CELL {
        return text;
    }
    let mut shown: String = text.chars().take(LONGEST_CELL).collect();
    if text.chars().nth(LONGEST_CELL).is_some() {
        shown.pop();
        shown.push('…');
    }
    Cow::Owned(shown)
}

/// Prints rows in columns that are as wide as their widest cell; the last one runs free.
pub(crate) fn table(out: &mut impl Write, indent: &str, rows: &[Vec<String>]) -> io::Result<()> {
    let rows: Vec<Vec<Cow<'_, str>>> =
        rows.iter().map(|row| row.iter().map(|text| cell(text)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        let mut line = indent.to_owned();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A count with its digits in groups of three.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut result = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            result.push(',');
        }
        result.push(digit);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_cut_and_hold_nothing_that_a_terminal_obeys() {
        let mut out = Vec::new();
        let rows =
            [vec!["x".repeat(70_000), "b\x1b[2J".to_owned()], vec!["é".repeat(LONGEST_CELL), String::new()]];
        table(&mut out, "", &rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        let cut = format!("{}…  b\u{fffd}[2J", "x".repeat(LONGEST_CELL - 1));
        assert_eq!(text, format!("{cut}\n{}\n", "é".repeat(LONGEST_CELL)));
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_written_wherever_a_write_is_cut() {
        let text = "é\u{c2}\tn\x1b[2J\u{9b}31m\u{a0}\x7f\r\nend\u{bf}";
        let written = |instead: Instead, size: usize| {
            let mut out = Printable::new(Vec::new(), instead);
            text.as_bytes().chunks(size).for_each(|chunk| out.write_all(chunk).unwrap());
            String::from_utf8(out.inner).unwrap()
        };
        for size in 1..=text.len() {
            let replaced = "é\u{c2}\tn\u{fffd}[2J\u{fffd}31m\u{a0}\u{fffd}\u{fffd}\nend\u{bf}";
            assert_eq!(written(Instead::Replacement, size), replaced, "{size} bytes at once");
            let escaped = "é\u{c2}\tn\\u001b[2J\\u009b31m\u{a0}\\u007f\\u000d\nend\u{bf}";
            assert_eq!(written(Instead::JsonEscape, size), escaped, "{size} bytes at once");
        }
    }

    #[test]
    fn digits_are_grouped_from_the_right() {
        assert_eq!(
            ["0", "999", "1,000", "12,345,678"],
            [0, 999, 1000, 12_345_678].map(grouped).each_ref().map(|s| &**s)
        );
    }
}
