//! The configuration: text to syntax tree to model, and what to say when that fails. Pure: files come
//! through [`Files`].

mod bind;
mod country;
mod diagnostic;
mod lexer;
mod list;
mod model;
mod parser;
mod prefix;
mod source;
mod syntax;
mod vocabulary;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use diagnostic::{Diagnostic, Report, Severity};
pub use model::{
    Access, Config, Engine, Files, Gate, Interface, InterfaceMode, Listener, OpenReason, Proto, Service,
    ServiceKey, ServiceKind, Stream,
};
pub use prefix::{PrefixError, parse_prefix};

/// A list file larger than this many bytes is refused: lines are numbered with 32 bits.
pub const LARGEST_LIST: usize = 1 << 30;

/// Reads a configuration with all that it includes.
///
/// The configuration is `None` exactly when the report has errors. As many errors as possible are found in
/// one run.
pub fn load(path: &Path, files: &dyn Files) -> (Option<Config>, Report) {
    bind::bind(path, files)
}
