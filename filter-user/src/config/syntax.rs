//! The syntax tree.

use super::{lexer::Word, source::Span};

/// A statement: words, then `;` or a block.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    /// At least one word.
    words: Vec<Word>,
    /// The block, when the statement has one.
    pub(super) block: Option<Block>,
}

/// What stands between `{` and `}`.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) statements: Vec<Statement>,
}

impl Statement {
    /// A statement of these words; `None` when there are none.
    pub(super) fn new(words: Vec<Word>, block: Option<Block>) -> Option<Self> {
        (!words.is_empty()).then_some(Self { words, block })
    }

    /// The first word: which directive it is.
    pub(super) fn directive(&self) -> &Word {
        &self.words[0]
    }

    /// The words behind the first.
    pub(super) fn values(&self) -> &[Word] {
        &self.words[1..]
    }

    /// From the first word to the last.
    pub(super) fn span(&self) -> Span {
        let last = self.words.last().unwrap_or(&self.words[0]);
        Span { end: last.span.end, ..self.words[0].span }
    }

    /// The statements of the block; none when there is no block.
    pub(super) fn statements(&self) -> &[Statement] {
        self.block.as_ref().map_or(&[], |block| &block.statements)
    }
}
