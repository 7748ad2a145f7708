//! The configuration: text to syntax tree to model, and what to say when that fails. Pure: files come
//! through [`Files`].

mod bind;
mod country;
mod database;
mod diagnostic;
mod files;
mod lexer;
mod list;
mod own;
mod parser;
mod prefix;
mod printable;
mod quantity;
mod reference;
mod source;
mod syntax;
mod texts;
mod vocabulary;

#[cfg(test)]
pub(crate) mod tests;

use std::path::Path;

use crate::model::Config;

pub use database::compare_countries;
pub use diagnostic::{Diagnostic, Part, Refused, Report, Severity};
pub use files::{Files, Former};
pub use list::parse_range;
pub use own::covers_own;
pub use prefix::{PrefixError, is_large_network, parse_prefix};
pub use printable::printable;
pub use reference::{DirectiveDoc, EffectWord, PlaceDoc, markdown};
pub use texts::Texts;

/// A list file larger than this many bytes is refused: lines are numbered with 32 bits.
pub const LARGEST_LIST: usize = 1 << 30;

/// Reads a configuration with all that it includes.
///
/// The configuration is `None` exactly when the report has errors. As many errors as possible are found in
/// one run.
pub fn load(path: &Path, files: &dyn Files) -> (Option<Config>, Report) {
    let (config, texts) = read(path, files);
    (config, texts.into_report())
}

/// As [`load`], with the texts that were read: for what can be said only when more is known than they say.
pub fn read(path: &Path, files: &dyn Files) -> (Option<Config>, Texts) {
    bind::bind(path, files)
}

/// Every directive, by the block where it may stand: what nicgate's documentation of them is made from.
pub fn directives() -> Vec<PlaceDoc> {
    bind::reference()
}
