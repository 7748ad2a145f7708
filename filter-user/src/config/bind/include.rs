//! The files of a configuration: the main one, those that it includes, and the paths that they name.

use std::path::{Component, Path, PathBuf};

use super::{
    Binder,
    directives::{Top, look_up},
};
use crate::config::{lexer::Word, parser, source::Span, syntax::Statement};

/// Files included deeper than this are refused.
const DEEPEST_INCLUDE: usize = 16;
/// More files than this are refused: a loop of links shows as new names for ever.
const MOST_FILES: usize = 1000;
/// A configuration file larger than this is refused; values by the million belong into list files.
const LARGEST_FILE: usize = 64 << 20;

impl Binder<'_> {
    /// Reads one configuration file; `from` is the path in the `include` that names it.
    pub(super) fn file(&mut self, path: &Path, bytes: &[u8], from: Option<Span>) {
        if bytes.len() > LARGEST_FILE {
            let message = format!("the file is larger than {} MiB", LARGEST_FILE >> 20);
            let diagnostic = match from {
                Some(at) => self.sources.error(at, "file-too-large", message),
                None => self.sources.file_error(path.to_string_lossy().into(), "file-too-large", message),
            };
            diagnostic.help("put long lists into files of their own: `deny ip file \"PATH\";`");
            return;
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") || bytes.contains(&0) {
            // A caret in such a text would point at nothing that an editor shows.
            self.sources
                .file_error(
                    path.to_string_lossy().into(),
                    "not-utf8",
                    "this is not UTF-8 text: it holds NUL bytes, as UTF-16 does".into(),
                )
                .help("save the file as UTF-8");
            return;
        }
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.config_files.push(path.to_owned());
        let source = self.sources.add(path.to_owned(), text);
        if let Err(error) = std::str::from_utf8(bytes) {
            let start = error.valid_up_to();
            let at = Span { source, start, end: start + char::REPLACEMENT_CHARACTER.len_utf8() };
            self.sources
                .error(at, "not-utf8", format!("the byte 0x{:02x} is not UTF-8 text", bytes[start]))
                .help("save the file as UTF-8");
        }
        self.open_files.push(plain(path));
        for statement in parser::parse(source, &mut self.sources, look_up) {
            self.directive(&statement, &mut Top);
        }
        self.open_files.pop();
    }

    pub(super) fn include(&mut self, statement: &Statement) {
        let Some(word) = self.only_value(statement, "the path of a file") else { return };
        let path = self.relative(word);
        if word.text.contains(['*', '?', '[']) {
            match self.files.matching(&path) {
                Ok(paths) if paths.is_empty() => {
                    self.sources
                        .warning(word.span, "include-nothing", "no file has a name of this pattern")
                        .help("relative paths are relative to the file that names them");
                }
                Ok(paths) => paths.iter().for_each(|path| self.include_file(word, path)),
                Err(error) => {
                    let message = format!("cannot read the folder of `{}`: {error}", path.display());
                    self.sources.error(word.span, "unreadable-file", message);
                }
            }
        } else {
            self.include_file(word, &path);
        }
    }

    fn include_file(&mut self, word: &Word, path: &Path) {
        if self.open_files.contains(&plain(path)) {
            self.sources
                .error(word.span, "include-cycle", format!("`{}` includes itself", path.display()))
                .help("remove one `include` of the cycle");
        } else if self.open_files.len() >= DEEPEST_INCLUDE {
            let message = format!("files are included more than {DEEPEST_INCLUDE} deep");
            self.sources.error(word.span, "include-depth", message);
        } else if self.config_files.len() >= MOST_FILES {
            let message = format!("more than {MOST_FILES} files are included");
            self.sources.error(word.span, "include-count", message);
        } else if self.config_files.iter().any(|read| plain(read) == plain(path)) {
            self.sources.warning(
                word.span,
                "included-twice",
                format!("`{}` is included already, and is not read again", path.display()),
            );
        } else if let Some(bytes) = self.read(word, path) {
            self.file(path, &bytes, Some(word.span));
        }
    }

    /// Reads the file that a word names.
    pub(super) fn read(&mut self, word: &Word, path: &Path) -> Option<Vec<u8>> {
        match self.files.read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let message = format!("cannot read `{}`: {error}", path.display());
                self.sources
                    .error(word.span, "unreadable-file", message)
                    .help("relative paths are relative to the file that names them");
                None
            }
        }
    }

    /// The path in a word; relative paths are relative to the file that names them.
    pub(super) fn relative(&self, word: &Word) -> PathBuf {
        match self.sources.path(word.span.source).parent() {
            Some(folder) => folder.join(&*word.text),
            None => PathBuf::from(&*word.text),
        }
    }
}

/// A path without `.` and, where that is sure, without `..`: to see that two names are one file.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}
