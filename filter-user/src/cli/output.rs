//! How results and messages are shown.

use std::{
    borrow::Cow,
    io::{self, BufWriter, IsTerminal as _, StdoutLock, Write},
};

use serde::Serialize;

use crate::config::Report;

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
            self.say(report.render(self.colour).trim_end());
        }
    }

    pub(crate) fn error(&self, error: &anyhow::Error) {
        let (on, off) = if self.colour { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        self.say(&format!("{on}error{off}: {error:#}"));
    }

    pub(crate) fn warning(&self, message: &str) {
        let (on, off) = if self.colour { ("\x1b[1;33m", "\x1b[0m") } else { ("", "") };
        self.say(&format!("{on}warning{off}: {message}"));
    }

    /// A message on stderr. Where stderr is closed there is nobody to tell.
    pub(crate) fn say(&self, message: &str) {
        let _ = writeln!(io::stderr(), "{message}");
    }

    /// Prints one JSON document.
    pub(crate) fn print_json(&self, value: &impl Serialize) -> io::Result<()> {
        let mut out = stdout();
        serde_json::to_writer_pretty(&mut out, value)?;
        writeln!(out)?;
        out.flush()
    }
}

/// Stdout with a buffer: a million prefixes are a million short writes.
pub(crate) fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(1 << 16, io::stdout().lock())
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
            let _ = write!(io::stderr(), "\r\x1b[K{what} …");
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
    if text.len() <= LONGEST_CELL && !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut shown: String = text.chars().map(printable).take(LONGEST_CELL).collect();
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
    fn digits_are_grouped_from_the_right() {
        assert_eq!(
            ["0", "999", "1,000", "12,345,678"],
            [0, 999, 1000, 12_345_678].map(grouped).each_ref().map(|s| &**s)
        );
    }
}
