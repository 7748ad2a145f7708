use std::{iter::Peekable, str::CharIndices, sync::Arc};

use super::source::{Sources, Span};

/// A word of a statement: bare, or in double quotes.
#[derive(Clone, Debug)]
pub(super) struct Word {
    /// What it says, without quotes and escapes.
    pub(super) text: Box<str>,
    /// Where it stands, quotes included.
    pub(super) span: Span,
    /// Whether it began with a quote; then it is never a keyword.
    pub(super) quoted: bool,
    /// Whether it is the first thing on its line.
    pub(super) first: bool,
}

impl Word {
    /// The span of the bytes `range` of the text. The whole word when escapes make that unknowable.
    pub(super) fn part(&self, range: &std::ops::Range<usize>) -> Span {
        let exact = self.span.end - self.span.start == self.text.len();
        if exact { self.span.part(range) } else { self.span }
    }

    /// Whether the word is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        !self.quoted && *self.text == *keyword
    }

    /// The word as it has to be written: with quotes where it needs them.
    pub(super) fn as_written(&self) -> String {
        let special =
            |c: char| c.is_whitespace() || c.is_control() || matches!(c, ';' | '{' | '}' | '"' | '\\');
        if !self.text.is_empty() && !self.text.starts_with('#') && !self.text.contains(special) {
            return self.text.to_string();
        }
        let mut out = String::with_capacity(self.text.len() + 2);
        out.push('"');
        for c in self.text.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                _ => out.push(c),
            }
        }
        out.push('"');
        out
    }
}

/// What the text is made of.
#[derive(Clone, Debug)]
pub(super) enum Token {
    Word(Word),
    /// `;`
    Semicolon,
    /// `{`
    Open(Span),
    /// `}`
    Close(Span),
    /// Behind the last character.
    End,
}

/// Cuts a text into tokens.
pub(super) struct Lexer {
    source: u32,
    text: Arc<str>,
    at: usize,
    first: bool,
}

impl Lexer {
    pub(super) fn new(source: u32, text: Arc<str>) -> Self {
        Self { source, text, at: 0, first: true }
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span { source: self.source, start, end }
    }

    /// The next token. After `End` comes `End` again.
    pub(super) fn next(&mut self, sources: &mut Sources) -> Token {
        let text = self.text.clone();
        loop {
            let Some(c) = text[self.at..].chars().next() else {
                return Token::End;
            };
            let start = self.at;
            match c {
                '\n' => self.first = true,
                '#' => {
                    self.at += text[start..].find('\n').unwrap_or(text.len() - start);
                    continue;
                }
                ';' | '{' | '}' => {
                    self.at += 1;
                    self.first = false;
                    let span = self.span(start, self.at);
                    return match c {
                        ';' => Token::Semicolon,
                        '{' => Token::Open(span),
                        _ => Token::Close(span),
                    };
                }
                _ if c.is_whitespace() => {}
                _ => return Token::Word(self.word(sources, &text)),
            }
            self.at += c.len_utf8();
        }
    }

    fn word(&mut self, sources: &mut Sources, text: &str) -> Word {
        let start = self.at;
        let first = std::mem::replace(&mut self.first, false);
        let quoted = text[start..].starts_with('"');
        let mut value = String::new();
        let mut chars = text[start..].char_indices().peekable();
        while let Some(&(at, c)) = chars.peek() {
            match c {
                '"' => {
                    chars.next();
                    if read_quoted(&mut chars, &mut value) {
                        continue;
                    }
                    let opening = self.span(start + at, start + at + 1);
                    sources
                        .error(opening, "unclosed-quote", "this quote is not closed")
                        .label("opened here")
                        .help("close it on the same line; \\n stands for a line break and \\\" for a quote");
                    // What ends the statement was probably meant to stand behind the quote.
                    if value.trim_end().ends_with(';') {
                        value.truncate(value.trim_end().len() - 1);
                        let end = chars.peek().map_or(text.len(), |(at, _)| start + at);
                        let line = text[start..end].trim_end();
                        self.at = start + line.len() - 1;
                        return Word { text: value.into(), span: self.span(start, self.at), quoted, first };
                    }
                }
                ';' | '{' | '}' => break,
                _ if c.is_whitespace() => break,
                _ => {
                    value.push(c);
                    chars.next();
                }
            }
        }
        self.at = chars.peek().map_or(text.len(), |(at, _)| start + at);
        Word { text: value.into(), span: self.span(start, self.at), quoted, first }
    }
}

/// Reads up to the closing quote. False when the line ends before it.
fn read_quoted(chars: &mut Peekable<CharIndices<'_>>, value: &mut String) -> bool {
    while let Some(&(_, c)) = chars.peek() {
        if c == '\n' {
            return false;
        }
        chars.next();
        match c {
            '"' => return true,
            '\\' => match chars.peek() {
                Some(&(_, escaped)) if escaped != '\n' => {
                    chars.next();
                    value.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        other => other,
                    });
                }
                _ => return false,
            },
            _ => value.push(c),
        }
    }
    false
}
