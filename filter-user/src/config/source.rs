//! The texts that were read, and places in them.

use std::{cell::Cell, path::PathBuf, sync::Arc};

use super::{
    diagnostic::{Diagnostic, Refused, Report, Severity},
    printable::printable,
};
use crate::model::Origin;

/// A part of a file that was read, in bytes of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Span {
    pub(super) source: u32,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    /// The bytes `range` of this span, for a caret on a part of a word.
    pub(super) fn part(self, range: &std::ops::Range<usize>) -> Self {
        let start = (self.start + range.start).min(self.end);
        Self { start, end: (self.start + range.end).clamp(start, self.end), ..self }
    }

    /// The place right behind the span.
    pub(super) fn behind(self) -> Self {
        Self { start: self.end, ..self }
    }
}

/// A file that was read.
#[derive(Debug)]
struct Source {
    file: Arc<str>,
    path: PathBuf,
    text: Arc<str>,
    line_starts: Vec<usize>,
    /// The last position whose column was counted: its line's start, its offset, its column. Values are asked
    /// for in file order, and a line can be as long as the file.
    counted: Cell<(usize, usize, usize)>,
}

impl Source {
    /// The number of the line on which a span begins, from 1.
    fn line_of(&self, span: Span) -> usize {
        self.line_starts.partition_point(|start| *start <= span.start)
    }
}

/// The files that were read, and what there is to say about them.
#[derive(Debug, Default)]
pub(super) struct Sources {
    files: Vec<Source>,
    report: Report,
    /// How many errors, and how many warnings and notes, there are in all.
    errors: usize,
    others: usize,
    /// Takes the message that the report has no room for.
    overflow: Option<Diagnostic>,
}

/// A line longer than this is cut around the caret when it is shown.
const LONGEST_LINE: usize = 400;
/// A message longer than this is cut.
const LONGEST_MESSAGE: usize = 1000;
/// How many characters of a long line are kept on each side of the caret's start.
const AROUND: usize = 100;

impl Sources {
    /// Keeps a file's text; a byte order mark must be off already.
    pub(super) fn add(&mut self, path: PathBuf, text: String) -> u32 {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let file = path.to_string_lossy().into();
        let text = text.into();
        self.files.push(Source { file, path, text, line_starts, counted: Cell::default() });
        (self.files.len() - 1) as u32
    }

    pub(super) fn text(&self, source: u32) -> Arc<str> {
        self.files[source as usize].text.clone()
    }

    pub(super) fn path(&self, source: u32) -> &std::path::Path {
        &self.files[source as usize].path
    }

    pub(super) fn origin(&self, span: Span) -> Origin {
        let source = &self.files[span.source as usize];
        let line = source.line_of(span);
        let line_start = source.line_starts[line - 1];
        let (of, offset, column) = source.counted.get();
        let (from, before) =
            if of == line_start && offset <= span.start { (offset, column) } else { (line_start, 0) };
        let column = before + source.text[from..span.start].chars().count();
        source.counted.set((line_start, span.start, column));
        Origin { file: source.file.clone(), line: line as u32, column: column as u32 + 1 }
    }

    /// `file:line`, for a message at another place.
    pub(super) fn place(&self, span: Span) -> String {
        let source = &self.files[span.source as usize];
        format!("{}:{}", source.file, source.line_of(span))
    }

    pub(super) fn error(
        &mut self,
        at: Span,
        code: &'static str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.say(Severity::Error, at, code, message.into())
    }

    pub(super) fn warning(
        &mut self,
        at: Span,
        code: &'static str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.say(Severity::Warning, at, code, message.into())
    }

    pub(super) fn note(
        &mut self,
        at: Span,
        code: &'static str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.say(Severity::Note, at, code, message.into())
    }

    /// The word at a place; `None` when no text that was read has it.
    pub(super) fn span_at(&self, place: &Origin) -> Option<Span> {
        let number = self.files.iter().position(|source| source.file == place.file)?;
        let Source { text, line_starts, .. } = &self.files[number];
        let line_start = *line_starts.get(place.line.checked_sub(1)? as usize)?;
        let line = text[line_start..].lines().next()?;
        let (at, _) = line.char_indices().nth(place.column.checked_sub(1)? as usize)?;
        let word = &line[at..];
        // A quote inside of quotes is behind a backslash; a caret that ends there shows enough.
        let length = match word.strip_prefix('"') {
            Some(quoted) => quoted.find('"').map(|end| end + 2),
            None => word.find(|c: char| c.is_whitespace() || matches!(c, ';' | '{' | '}')),
        };
        let start = line_start + at;
        Some(Span { source: number as u32, start, end: start + length.unwrap_or(word.len()) })
    }

    pub(super) fn say(
        &mut self,
        severity: Severity,
        at: Span,
        code: &'static str,
        message: String,
    ) -> &mut Diagnostic {
        if self.is_full(severity) {
            let file = self.files[at.source as usize].file.clone();
            return self.push(whole_file(severity, code, message, file));
        }
        let origin = self.origin(at);
        let source = &self.files[at.source as usize];
        let line_start = source.line_starts[origin.line as usize - 1];
        let line_end = source.text[line_start..].find('\n').map_or(source.text.len(), |end| line_start + end);
        let line = source.text[line_start..line_end].trim_end_matches('\r');
        // A span that runs over the line's end is underlined as far as its first line goes.
        let start = (at.start - line_start).min(line.len());
        let end = (at.end - line_start).clamp(start, line.len());
        self.push(excerpt(severity, code, message, origin, line, start..end))
    }

    /// Says something about a line of a file that is not kept here; `caret` is in bytes of the line.
    pub(super) fn say_line(
        &mut self,
        severity: Severity,
        code: &'static str,
        message: String,
        place: (Arc<str>, u32),
        line: &str,
        caret: std::ops::Range<usize>,
    ) -> &mut Diagnostic {
        let column = line[..caret.start].chars().count() as u32 + 1;
        let origin = Origin { file: place.0, line: place.1, column };
        self.push(excerpt(severity, code, message, origin, line, caret))
    }

    /// Says that a file as a whole is wrong.
    pub(super) fn file_error(
        &mut self,
        file: Arc<str>,
        code: &'static str,
        message: String,
    ) -> &mut Diagnostic {
        self.say_file(Severity::Error, file, code, message)
    }

    /// Says something of a file as a whole.
    pub(super) fn say_file(
        &mut self,
        severity: Severity,
        file: Arc<str>,
        code: &'static str,
        message: String,
    ) -> &mut Diagnostic {
        self.push(whole_file(severity, code, message, file))
    }

    /// Takes note of a part that was refused alone.
    pub(super) fn refused(&mut self, part: Refused) {
        self.report.refused.push(part);
    }

    fn is_full(&self, severity: Severity) -> bool {
        let said = if severity == Severity::Error { self.errors } else { self.others };
        said >= Report::LIMIT
    }

    fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        let full = self.is_full(diagnostic.severity);
        let Report { diagnostics, omitted_errors, omitted_warnings, refused: _ } = &mut self.report;
        let (said, omitted) = match diagnostic.severity {
            Severity::Error => (&mut self.errors, omitted_errors),
            Severity::Warning | Severity::Note => (&mut self.others, omitted_warnings),
        };
        *said += 1;
        if full {
            *omitted += 1;
            return self.overflow.insert(diagnostic);
        }
        diagnostics.push(diagnostic);
        diagnostics.last_mut().expect("one was pushed")
    }

    pub(super) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    pub(super) fn into_report(self) -> Report {
        self.report
    }
}

/// A message as it can be shown: words of the file that stand in it may be long or not printable.
fn readable(message: String) -> String {
    if message.len() <= LONGEST_MESSAGE && !message.contains(char::is_control) {
        return message;
    }
    let shown: String = printable(&message, &[]).chars().take(LONGEST_MESSAGE).collect();
    if message.len() > LONGEST_MESSAGE { shown + "…" } else { shown }
}

fn whole_file(severity: Severity, code: &'static str, message: String, file: Arc<str>) -> Diagnostic {
    Diagnostic {
        severity,
        code,
        message: readable(message),
        origin: Origin { file, line: 1, column: 1 },
        line_text: None,
        caret_start: 0,
        caret_len: 0,
        label: String::new(),
        help: None,
    }
}

fn excerpt(
    severity: Severity,
    code: &'static str,
    message: String,
    origin: Origin,
    line: &str,
    caret: std::ops::Range<usize>,
) -> Diagnostic {
    let (before, rest) = line.split_at(caret.start);
    let (marked, after) = rest.split_at(caret.len());
    let (line_text, caret_start, caret_len) = if line.len() <= LONGEST_LINE {
        (line.to_owned(), before.chars().count(), marked.chars().count())
    } else {
        let cut = before.char_indices().rev().nth(AROUND - 1).map_or(0, |(at, _)| at);
        let dots = if cut > 0 { "…" } else { "" };
        let shown: String = marked.chars().chain(after.chars()).take(AROUND).collect();
        let start = dots.chars().count() + before[cut..].chars().count();
        (format!("{dots}{}{shown}…", &before[cut..]), start, marked.chars().take(AROUND).count())
    };
    Diagnostic {
        severity,
        code,
        message: readable(message),
        origin,
        line_text: Some(line_text),
        caret_start,
        caret_len: caret_len.max(1),
        label: String::new(),
        help: None,
    }
}
