//! From text to words, `;`, `{` and `}`.

use std::{iter::Peekable, str::CharIndices, sync::Arc};

use super::source::{Sources, Span};

/// Whether a value begins or ends with a quote that is none here, so that it was probably meant as one.
pub(super) fn foreign_quote(text: &str) -> bool {
    const FOREIGN: &[char] =
        &['\'', '`', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{201e}', '\u{ab}', '\u{bb}'];
    text.starts_with(FOREIGN) || text.ends_with(FOREIGN)
}

/// A word of a statement: bare, or in double quotes.
#[derive(Clone, Debug)]
pub(super) struct Word {
    /// What it says, without quotes and escapes.
    pub(super) text: Box<str>,
    /// Where it stands, quotes included.
    pub(super) span: Span,
    /// Whether it began with a quote; then it is never a keyword.
    pub(super) quoted: bool,
    /// Whether a quote opened after a `=` inside of it, as in the media server's `key="two words"`.
    pub(super) option: bool,
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
        let bare = !self.text.is_empty() && !self.text.starts_with('#') && !foreign_quote(&self.text);
        if bare && !self.text.contains(special) {
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
        let mut option = false;
        let mut value = String::new();
        let mut chars = text[start..].char_indices().peekable();
        while let Some(&(at, c)) = chars.peek() {
            match c {
                '"' if at == 0 || (!quoted && value.ends_with('=')) => {
                    chars.next();
                    option |= at > 0;
                    if read_quoted(&mut chars, &mut value) {
                        if let Some(&(at, c)) = chars.peek()
                            && !is_end(c)
                        {
                            self.stray(sources, start + at, c, "this stands right after a closing quote");
                        }
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
                        let span = self.span(start, self.at);
                        return Word { text: value.into(), span, quoted, option, first };
                    }
                }
                _ if is_end(c) => break,
                _ => {
                    // What follows a closing quote has been reported, whatever it is.
                    if c == '"' && !quoted {
                        self.stray(sources, start + at, c, "a quote inside a word");
                    }
                    value.push(c);
                    chars.next();
                }
            }
        }
        self.at = chars.peek().map_or(text.len(), |(at, _)| start + at);
        Word { text: value.into(), span: self.span(start, self.at), quoted, option, first }
    }

    /// Reports a character that leaves open where a value begins or ends. Read as a shell reads it, a single
    /// stray quote would swallow the statements up to the next one.
    fn stray(&self, sources: &mut Sources, at: usize, c: char, message: &str) {
        sources
            .error(self.span(at, at + c.len_utf8()), "stray-quote", message)
            .help("put the whole value into double quotes, with \\\" for a quote inside of it");
    }
}

/// Whether a word ends before the character.
fn is_end(c: char) -> bool {
    matches!(c, ';' | '{' | '}') || c.is_whitespace()
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
