//! What is said of a configuration, with its place.

use std::{
    fmt::{self, Write as _},
    path::PathBuf,
};

use annotate_snippets::{AnnotationKind, Element, Level, Renderer, Snippet};
use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::printable::printable;
use crate::model::Origin;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration can be used, but probably does not do what was meant.
    Warning,
    /// Something worth knowing.
    Note,
}

/// One thing to say about a place in the operator's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name for this kind of message, for programs: `octet-range`.
    pub code: &'static str,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where.
    pub origin: Origin,
    /// The line at `origin`; `None` when the message concerns a file as a whole. A very long line is cut to
    /// the part around the caret.
    pub line_text: Option<String>,
    /// Where in `line_text` the caret begins, in characters from 0.
    pub caret_start: usize,
    /// How many characters it underlines.
    pub caret_len: usize,
    /// What stands beside the caret; may be empty.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { severity, code, message, origin, line_text, caret_start, caret_len, label, help } = self;
        let mut object = serializer.serialize_struct("Diagnostic", 11)?;
        object.serialize_field("severity", severity)?;
        object.serialize_field("code", code)?;
        object.serialize_field("message", message)?;
        object.serialize_field("file", &origin.file)?;
        object.serialize_field("line", &origin.line)?;
        object.serialize_field("column", &origin.column)?;
        object.serialize_field("line_text", line_text)?;
        object.serialize_field("caret_start", caret_start)?;
        object.serialize_field("caret_len", caret_len)?;
        object.serialize_field("label", label)?;
        object.serialize_field("help", help)?;
        object.end()
    }
}

impl Diagnostic {
    /// Sets what stands beside the caret.
    pub(super) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = label.into();
        self
    }

    /// Sets the advice.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    fn render_into(&self, out: &mut String, renderer: &Renderer) {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let title = level.primary_title(self.message.as_str()).id(self.code);
        let file = printable(&self.origin.file, &[]);
        let label = printable(&self.label, &[]);
        let help = self.help.as_deref().map(|help| printable(help, &['\n']));
        let place: Element<'_> = match &self.line_text {
            Some(text) => {
                let byte = |chars: usize| text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
                let span = byte(self.caret_start)..byte(self.caret_start + self.caret_len);
                let label = (!label.is_empty()).then_some(&*label);
                Snippet::source(text.as_str())
                    .line_start(self.origin.line as usize)
                    .path(&*file)
                    .annotation(AnnotationKind::Primary.span(span).label(label))
                    .into()
            }
            None => annotate_snippets::Origin::path(&*file).into(),
        };
        let mut group = title.element(place);
        if let Some(help) = &help {
            group = group.element(Level::HELP.message(&**help));
        }
        let rendered = renderer.render(&[group]);
        // Of a line that is cut only its part is known there, and the column in that.
        let column = self.caret_start as u32 + 1;
        let place = |column| format!("{file}:{}:{column}", self.origin.line);
        if self.line_text.is_some() && column != self.origin.column {
            out.push_str(&rendered.replacen(&place(column), &place(self.origin.column), 1));
        } else {
            out.push_str(&rendered);
        }
        out.push('\n');
    }
}

/// Everything that loading a configuration has to say, in the order in which it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The messages; at most [`Report::LIMIT`] errors and as many warnings and notes.
    pub diagnostics: Vec<Diagnostic>,
    /// How many errors were left out.
    pub omitted_errors: usize,
    /// How many warnings and notes were left out.
    pub omitted_warnings: usize,
    /// Parts that were refused alone, with their former contents in their place.
    pub refused: Vec<Refused>,
}

/// A part of a configuration that cannot be used, so that what was enforced of it before still is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Which.
    pub part: Part,
    /// Its file.
    pub path: PathBuf,
    /// The place that names it.
    pub origin: Origin,
    /// Why it was refused, in half a sentence.
    pub why: String,
    /// When its former contents were read, in seconds since 1970.
    pub read_at: u64,
}

/// What can be refused alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// A list file.
    List,
    /// The country database.
    Database,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "list",
            Self::Database => "country database",
        })
    }
}

impl Report {
    /// How many errors, and how many warnings and notes, are kept; the rest is only counted.
    pub const LIMIT: usize = 100;

    /// Whether the configuration cannot be used.
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }

    /// The errors.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.of(Severity::Error)
    }

    /// The warnings.
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.of(Severity::Warning)
    }

    /// The notes.
    pub fn notes(&self) -> impl Iterator<Item = &Diagnostic> {
        self.of(Severity::Note)
    }

    fn of(&self, severity: Severity) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(move |diagnostic| diagnostic.severity == severity)
    }

    /// The report for people, without colours, and behind it warnings that no line of a file is the reason of.
    pub fn render_with(&self, warnings: &[String]) -> String {
        let report = self.render(false).trim_end().to_owned();
        let warnings = warnings.iter().map(|warning| format!("warning: {warning}"));
        let parts = Some(report).filter(|report| !report.is_empty()).into_iter().chain(warnings);
        parts.collect::<Vec<_>>().join("\n")
    }

    /// The report for people: each message with its file, line, column, the line and a caret.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for (number, diagnostic) in self.diagnostics.iter().enumerate() {
            if number > 0 {
                out.push('\n');
            }
            diagnostic.render_into(&mut out, &renderer);
        }
        for (omitted, what) in [(self.omitted_errors, "error"), (self.omitted_warnings, "warning")] {
            if omitted > 0 {
                let plural = if omitted == 1 { "" } else { "s" };
                writeln!(out, "\n… and {omitted} more {what}{plural}").expect("a String takes everything");
            }
        }
        out
    }
}
