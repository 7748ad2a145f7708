//! The files of a configuration: the main one, those that it includes, and the paths that they name.

use std::path::{Component, Path, PathBuf};

use super::{
    Binder,
    directives::{Top, look_up},
};
use crate::config::{Severity, lexer::Word, parser, source::Span, syntax::Statement};

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
        let erlang = erlang_term(&text);
        let source = self.sources.add(path.to_owned(), text);
        if let Some(start) = erlang {
            let at = Span { source, start, end: start + 1 };
            self.sources
                .error(at, "erlang-terms", "this is Flussonic's format of before 2013, made of Erlang terms")
                .label("a term such as {rtmp,1935}.")
                .help("a newer Flussonic has `rtmp 1935;` in its place; write the rules as `auth_backend NAME { … }`");
            return;
        }
        self.files_beside(path, source);
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

    /// Takes note of the folder in which a package puts further files of this one, as of `flussonic.conf.d`.
    fn files_beside(&mut self, path: &Path, source: u32) {
        let mut folder = path.as_os_str().to_owned();
        folder.push(".d");
        let pattern = Path::new(&folder).join("*.conf");
        // A folder that cannot be read is no folder of this file.
        let files = self.files.matching(&pattern).unwrap_or_default();
        if !files.is_empty() {
            self.folders.push(ConfFolder { pattern, files, at: Span { source, start: 0, end: 0 } });
        }
    }

    /// Warns of folders of which nothing is included.
    pub(super) fn warn_of_folders(&mut self) {
        for ConfFolder { pattern, files, at } in std::mem::take(&mut self.folders) {
            let read = |path: &PathBuf| self.config_files.iter().any(|read| plain(read) == plain(path));
            if files.iter().any(read) {
                continue;
            }
            let (s, them) = if files.len() == 1 { ("", "it") } else { ("s", "them") };
            let message = format!(
                "{} file{s} of the folder beside this file {} not read: nothing includes {them}",
                files.len(),
                if s.is_empty() { "is" } else { "are" }
            );
            let file = self.sources.path(at.source).to_string_lossy().into();
            self.sources
                .say_file(Severity::Warning, file, "folder-not-included", message)
                .help(format!("nicgate reads what is named: `include \"{}\";`", pattern.display()));
        }
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

/// A folder beside a configuration file with further files of it.
pub(super) struct ConfFolder {
    pattern: PathBuf,
    files: Vec<PathBuf>,
    /// The start of the file.
    at: Span,
}

/// Where the first Erlang term of a text begins, if the text is made of such: `{http,80}.`
fn erlang_term(text: &str) -> Option<usize> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let words = line.trim_start();
        // `%` begins a comment there, and is the beginning of no directive.
        if !words.is_empty() && !words.starts_with('%') {
            let start = at + line.len() - words.len();
            let inside = words.trim_start_matches(['[', '{', ' ']);
            let (name, behind) = inside.split_at(inside.find(|c: char| !is_atom(c)).unwrap_or(inside.len()));
            let term = words.starts_with(['{', '[']) && inside.len() < words.len();
            return (term && !name.is_empty() && behind.trim_start().starts_with(',')).then_some(start);
        }
        at += line.len();
    }
    None
}

fn is_atom(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
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
