//! From statements to the model.

mod authority;
mod directive;
mod directives;
mod lint;
mod player;
mod policy;
mod port;
mod service;
mod setting;
mod stream;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;

pub(super) use self::directives::reference;
use self::{
    directive::{Draft, Effect},
    directives::{Top, look_up},
    policy::PolicyDraft,
    service::ServiceDraft,
    stream::{Judges, SourceDraft, StreamDraft},
};
use super::{
    Files, LARGEST_LIST, Report,
    lexer::Word,
    parser,
    source::{Sources, Span},
    syntax::Statement,
    vocabulary::{did_you_mean, suggest},
};
use crate::model::{Config, Engine, Interface, Listener, Origin, PolicyBuilder, SessionSettings};

/// Files included deeper than this are refused.
const DEEPEST_INCLUDE: usize = 16;
/// More files than this are refused: a loop of links shows as new names for ever.
const MOST_FILES: usize = 1000;
/// A configuration file larger than this is refused; values by the million belong into list files.
const LARGEST_FILE: usize = 64 << 20;
/// How long a backend may take unless `backend_timeout` says otherwise.
const BACKEND_TIMEOUT: Duration = Duration::from_secs(3);

/// A list file that was read, shared by the rules that name it.
type Lists<T> = HashMap<PathBuf, Arc<Vec<(T, u32)>>>;

/// What has been understood so far.
struct Binder<'f> {
    files: &'f dyn Files,
    sources: Sources,
    /// The configuration files that are being read, outermost first.
    open_files: Vec<PathBuf>,
    config_files: Vec<PathBuf>,
    list_files: Vec<PathBuf>,
    prefix_lists: Lists<IpNet>,
    token_lists: Lists<Box<str>>,
    policies: Vec<PolicyDraft>,
    policy_names: HashMap<Arc<str>, usize>,
    streams: Vec<StreamDraft>,
    templates: Vec<StreamDraft>,
    other_servers: Vec<SourceDraft>,
    default_judges: Judges,
    services: Vec<ServiceDraft>,
    interfaces: Vec<(Interface, Span)>,
    never_drop: Vec<(IpNet, Origin)>,
    engine: Option<(Engine, Span)>,
    shadow: bool,
    list_guard: Option<(bool, Span)>,
    geoip: Option<(PathBuf, Span)>,
    auth_token: Option<(Arc<str>, Span)>,
    no_auto_token: bool,
    backend_timeout: Option<(Duration, Span)>,
    listeners: Vec<Listener>,
    /// The SRT ports that every stream shares.
    shared_srt: HashSet<u16>,
    passed_over: BTreeSet<Box<str>>,
    first_passed: Option<Span>,
    /// What restricts access and is not enforced: where it stands first, and how often it does.
    restrictions: BTreeMap<Box<str>, (Span, usize)>,
}

/// Reads a configuration with all that it includes.
pub(super) fn bind(path: &Path, files: &dyn Files) -> (Option<Config>, Report) {
    let mut binder = Binder {
        files,
        sources: Sources::default(),
        open_files: Vec::new(),
        config_files: Vec::new(),
        list_files: Vec::new(),
        prefix_lists: HashMap::new(),
        token_lists: HashMap::new(),
        policies: Vec::new(),
        policy_names: HashMap::new(),
        streams: Vec::new(),
        templates: Vec::new(),
        other_servers: Vec::new(),
        default_judges: Judges::default(),
        services: Vec::new(),
        interfaces: Vec::new(),
        never_drop: Vec::new(),
        engine: None,
        shadow: false,
        list_guard: None,
        geoip: None,
        auth_token: None,
        no_auto_token: false,
        backend_timeout: None,
        listeners: Vec::new(),
        shared_srt: HashSet::new(),
        passed_over: BTreeSet::new(),
        first_passed: None,
        restrictions: BTreeMap::new(),
    };
    match files.read(path) {
        Ok(bytes) => binder.file(path, &bytes, None),
        Err(error) => {
            let message = format!("cannot read the configuration: {error}");
            binder.sources.file_error(path.to_string_lossy().into(), "unreadable-file", message);
        }
    }
    binder.finish()
}

impl Binder<'_> {
    fn finish(mut self) -> (Option<Config>, Report) {
        let streams = self.resolve_streams();
        let services = self.resolve_services(&streams);
        self.lint();
        self.warn_of_restrictions();
        self.name_passed_over();
        if self.sources.has_errors() {
            return (None, self.sources.into_report());
        }
        let build = |draft: PolicyDraft| {
            let PolicyDraft {
                name,
                at: _,
                origin,
                rules,
                places: _,
                backends,
                default_allow,
                max_sessions,
                seen: _,
            } = draft;
            PolicyBuilder { name, origin, rules, backends, default_allow, max_sessions }.build()
        };
        let geoip = self.geoip.map(|(path, at)| (path, self.sources.origin(at)));
        let mut files = self.config_files;
        files.append(&mut self.list_files);
        let config = Config {
            policies: self.policies.into_iter().map(build).collect(),
            streams: streams.list.into_iter().map(|(stream, _)| (stream.name.clone(), stream)).collect(),
            services,
            interfaces: self.interfaces.into_iter().map(|(interface, _)| interface).collect(),
            never_drop: self.never_drop,
            engine: self.engine.map_or_else(Engine::default, |(engine, _)| engine),
            shadow: self.shadow,
            list_guard: self.list_guard.is_none_or(|(on, _)| on),
            geoip,
            token_name: self.auth_token.map_or_else(|| "token".into(), |(name, _)| name),
            no_auto_token: self.no_auto_token,
            backend_timeout: self.backend_timeout.map_or(BACKEND_TIMEOUT, |(timeout, _)| timeout),
            sessions: SessionSettings::default(),
            listeners: self.listeners,
            files,
        };
        (Some(config), self.sources.into_report())
    }

    /// Reads one configuration file; `from` is the path in the `include` that names it.
    fn file(&mut self, path: &Path, bytes: &[u8], from: Option<Span>) {
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

    fn include(&mut self, statement: &Statement) {
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
    fn read(&mut self, word: &Word, path: &Path) -> Option<Vec<u8>> {
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
    fn relative(&self, word: &Word) -> PathBuf {
        match self.sources.path(word.span.source).parent() {
            Some(folder) => folder.join(&*word.text),
            None => PathBuf::from(&*word.text),
        }
    }

    /// Reads a statement of a block as the block's part of the table says.
    fn directive<D: Draft>(&mut self, statement: &Statement, draft: &mut D) {
        let word = statement.directive();
        match D::find(&word.text).map(|directive| &directive.effect) {
            Some(Effect::Enforced(read) | Effect::Read(read, _)) => read(self, statement, draft),
            Some(Effect::NotEnforced(_)) => self.restricts(&format!("`{}`", word.text), word.span),
            Some(Effect::PassedOver(_)) => self.pass_over(word),
            None => D::unknown(self, statement),
        }
    }

    fn outside_policy(&mut self, statement: &Statement) {
        let word = statement.directive();
        self.sources
            .error(word.span, "outside-auth-backend", format!("`{}` outside of an `auth_backend`", word.text))
            .help("rules stand in a block: `auth_backend NAME { … }`");
    }

    /// Passes over a word that is no directive, unless it looks like a misspelling of one that would be missed.
    fn pass_over_unless_misspelt(&mut self, statement: &Statement, missed: &[&str]) {
        let word = statement.directive();
        match suggest(&word.text, missed) {
            Some(meant) => {
                self.sources
                    .error(word.span, "unknown-directive", format!("unknown directive `{}`", word.text))
                    .help(format!("did you mean `{meant}`?"));
            }
            None => self.pass_over(word),
        }
    }

    /// Keeps in mind what does not concern access.
    fn pass_over(&mut self, word: &Word) {
        self.first_passed.get_or_insert(word.span);
        // What the note shows stays readable, whatever the file holds.
        self.passed_over.insert(word.text.chars().take(40).collect::<String>().into());
    }

    /// Keeps in mind something that restricts access although nicgate does not enforce it.
    fn restricts(&mut self, what: &str, at: Span) {
        self.restrictions.entry(what.into()).or_insert((at, 0)).1 += 1;
    }

    /// One warning for each directive, however many streams have it.
    fn warn_of_restrictions(&mut self) {
        for (what, (at, count)) in std::mem::take(&mut self.restrictions) {
            let times = match count - 1 {
                0 => String::new(),
                1 => " (here and at one more place)".to_owned(),
                more => format!(" (here and at {more} more places)"),
            };
            self.sources.warning(at, "not-enforced", format!("nicgate does not enforce {what}{times}")).help(
                "what it restricts is restricted by the media server alone, for requests that nicgate admits",
            );
        }
    }

    fn name_passed_over(&mut self) {
        let Some(at) = self.first_passed else { return };
        let names: Vec<_> = self.passed_over.iter().take(60).map(|name| &**name).collect();
        let more = self.passed_over.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message = format!("passed over: {}{more}", names.join(", "));
        self.sources
            .note(at, "passed-over", message)
            .label("the first of them")
            .help("these directives do not concern access; nicgate leaves them to the media server");
    }

    /// The one value of a directive without a block.
    fn only_value<'s>(&mut self, statement: &'s Statement, what: &str) -> Option<&'s Word> {
        self.no_block(statement);
        let word = self.first_value(statement, what)?;
        self.no_more(statement, 1).then_some(word)
    }

    /// The first value of a directive.
    fn first_value<'s>(&mut self, statement: &'s Statement, what: &str) -> Option<&'s Word> {
        let directive = statement.directive();
        let value = statement.values().first();
        if value.is_none() {
            self.sources
                .error(directive.span, "missing-value", format!("`{}` without a value", directive.text))
                .help(format!("write {what} behind it"));
        }
        value
    }

    /// Reports values behind the first `count`. False when there are any.
    fn no_more(&mut self, statement: &Statement, count: usize) -> bool {
        let extra = statement.values().get(count);
        if let Some(extra) = extra {
            let message = format!("`{}` takes no further value", statement.directive().text);
            self.sources.error(extra.span, "unexpected-word", message).help("is a `;` missing before it?");
        }
        extra.is_none()
    }

    /// Reports a block where none belongs.
    fn no_block(&mut self, statement: &Statement) {
        if statement.block.is_some() {
            let message = format!("`{}` takes no block", statement.directive().text);
            self.sources.error(statement.span(), "unexpected-block", message).help("end it with `;`");
        }
    }

    /// A directive that is a word alone.
    fn bare(&mut self, statement: &Statement) -> bool {
        self.no_block(statement);
        self.no_more(statement, 0)
    }

    /// Reports an option that a block of nicgate's own does not have.
    fn unknown_option(&mut self, statement: &Statement, block: &str, options: &[&str]) {
        let word = statement.directive();
        let message = format!("unknown option `{}` in `{block}`", word.text);
        let help = did_you_mean(&word.text, options)
            .unwrap_or_else(|| format!("known here: {}", options.join(", ")));
        self.sources.error(word.span, "unknown-option", message).help(help);
    }

    /// Reports a name that is taken.
    fn duplicate(&mut self, what: &str, at: Span, earlier: Span) {
        let place = self.sources.place(earlier);
        self.sources
            .error(at, "duplicate-name", format!("{what} is defined already, at {place}"))
            .help("remove or rename one of the two");
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
