//! The configuration: text to syntax tree to model, and what to say when that fails. Pure: files come
//! through [`Files`].

mod bind;
mod country;
mod diagnostic;
mod files;
mod lexer;
mod list;
mod parser;
mod prefix;
mod quantity;
mod reference;
mod source;
mod syntax;
mod vocabulary;

#[cfg(test)]
mod tests;

use std::path::Path;

use crate::model::Config;

pub use diagnostic::{Diagnostic, Report, Severity};
pub use files::Files;
pub use prefix::{PrefixError, parse_prefix};
pub use reference::{DirectiveDoc, EffectWord, PlaceDoc, markdown};

/// A list file larger than this many bytes is refused: lines are numbered with 32 bits.
pub const LARGEST_LIST: usize = 1 << 30;

/// Reads a configuration with all that it includes.
///
/// The configuration is `None` exactly when the report has errors. As many errors as possible are found in
/// one run.
pub fn load(path: &Path, files: &dyn Files) -> (Option<Config>, Report) {
    bind::bind(path, files)
}

/// Every directive, by the block where it may stand: what nicgate's documentation of them is made from.
pub fn directives() -> Vec<PlaceDoc> {
    bind::reference()
}
