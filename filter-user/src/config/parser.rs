//! From words to statements.

use super::{
    lexer::{Lexer, Token, Word},
    source::{Sources, Span},
    syntax::{Block, Statement},
    vocabulary::{Context, LookUp},
};

/// Blocks nested deeper than this are refused; Flussonic's own go three deep.
const DEEPEST: usize = 64;

/// Reads a file into statements. What is wrong goes into `sources`, and reading goes on behind it. A word that `look_up`
/// knows, first on its line, shows that a `;` or a `}` is missing before it.
pub(super) fn parse(source: u32, sources: &mut Sources, look_up: LookUp) -> Vec<Statement> {
    let text = sources.text(source);
    let mut lexer = Lexer::new(source, text);
    let ahead = lexer.next(sources);
    let mut parser = Parser { lexer, sources, look_up, ahead, unclosed: false };
    let mut statements = Vec::new();
    loop {
        statements.append(&mut parser.statements(Context::Top, 0));
        match parser.advance() {
            Token::Close(span) => {
                parser
                    .sources
                    .error(span, "unmatched-brace", "this `}` closes nothing")
                    .help("remove it, or look for a `{` that is missing above");
            }
            _ => return statements,
        }
    }
}

struct Parser<'a> {
    lexer: Lexer,
    sources: &'a mut Sources,
    look_up: LookUp,
    ahead: Token,
    /// One unclosed block leaves all around it unclosed: only the innermost is reported.
    unclosed: bool,
}

impl Parser<'_> {
    fn advance(&mut self) -> Token {
        let next = self.lexer.next(self.sources);
        std::mem::replace(&mut self.ahead, next)
    }

    /// Whether the word is a directive here.
    fn knows(&self, context: Context, word: &str) -> bool {
        (self.look_up)(context, word).is_some()
    }

    /// Whether the word can begin a statement of a file but not of this block, so that this block must have been
    /// left open.
    fn ends_before(&self, context: Context, word: &str) -> bool {
        !matches!(context, Context::Top | Context::Other)
            && (self.look_up)(Context::Top, word).is_some_and(|known| known.top_only)
            && !self.knows(context, word)
    }

    /// Reads statements up to a `}` or the end, which stays ahead.
    fn statements(&mut self, context: Context, depth: usize) -> Vec<Statement> {
        let mut statements = Vec::new();
        let mut words: Vec<Word> = Vec::new();
        loop {
            match &self.ahead {
                Token::Word(word) => {
                    let begins = word.first && !word.quoted;
                    if begins
                        && !words.is_empty()
                        && (self.knows(context, &word.text) || self.ends_before(context, &word.text))
                    {
                        self.missing_semicolon(&words);
                        statements.extend(Statement::new(std::mem::take(&mut words), None));
                        continue;
                    }
                    if begins && words.is_empty() && self.ends_before(context, &word.text) {
                        return statements;
                    }
                    let Token::Word(word) = self.advance() else { continue };
                    words.push(word);
                }
                Token::Semicolon => {
                    self.advance();
                    statements.extend(Statement::new(std::mem::take(&mut words), None));
                }
                Token::Open(open) => {
                    let open = *open;
                    self.advance();
                    statements.extend(self.block(std::mem::take(&mut words), open, context, depth));
                }
                Token::Close(_) | Token::End => {
                    if !words.is_empty() {
                        self.missing_semicolon(&words);
                    }
                    statements.extend(Statement::new(words, None));
                    return statements;
                }
            }
        }
    }

    fn block(&mut self, words: Vec<Word>, open: Span, context: Context, depth: usize) -> Option<Statement> {
        if depth == DEEPEST {
            self.sources
                .error(open, "too-deep", format!("blocks are nested more than {DEEPEST} deep"))
                .help("is a `}` missing above?");
            self.skip_block();
            return None;
        }
        let known = words.first().and_then(|word| (self.look_up)(context, &word.text));
        let inner = known.map_or(Context::Other, |known| known.block);
        if words.is_empty() {
            self.sources
                .error(open, "nameless-block", "this block has no directive before it")
                .help("a block is written as `auth_backend NAME { … }`");
        }
        let statements = self.statements(inner, depth + 1);
        if let Token::Close(_) = self.ahead {
            self.advance();
        } else if !std::mem::replace(&mut self.unclosed, true) {
            let what = words.first().map_or("block", |word| &*word.text);
            let message = format!("the block of this `{what}` is not closed");
            let at_end = matches!(self.ahead, Token::End);
            let diagnostic = self.sources.error(open, "unclosed-block", message);
            diagnostic.label("opened here").help("put a `}` where it ends");
            // The statement ahead shows where the block ends: others may be unclosed too.
            self.unclosed = at_end;
        }
        Statement::new(words, Some(Block { statements }))
    }

    /// Passes over the rest of a block without looking into it.
    fn skip_block(&mut self) {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.advance() {
                Token::Open(_) => depth += 1,
                Token::Close(_) => depth -= 1,
                Token::End => return,
                Token::Word(_) | Token::Semicolon => {}
            }
        }
    }

    fn missing_semicolon(&mut self, words: &[Word]) {
        let Some(last) = words.last() else { return };
        self.sources
            .error(last.span.behind(), "missing-semicolon", "a `;` is missing here")
            .help("every statement ends with `;`");
    }
}
