//! From statements to the model.

mod authority;
mod backend;
mod directive;
mod directives;
mod gate;
mod include;
mod limit;
mod lint;
mod lists;
mod player;
mod policy;
mod port;
mod resolve;
mod service;
mod session;
mod setting;
mod stream;
mod trust;
mod upstream;
mod value;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use url::Url;

pub(super) use self::directives::reference;
use self::{
    directive::{Draft, Effect},
    lists::{NamedLists, OnError},
    policy::PolicyDraft,
    service::ServiceDraft,
    stream::{Judges, SourceDraft, StreamDraft},
    upstream::NamedUpstream,
};
use super::{
    Files, LARGEST_LIST, Texts,
    lexer::Word,
    source::{Sources, Span},
    syntax::Statement,
    vocabulary::{did_you_mean, suggest},
};
use crate::model::{
    BackendOptions, Config, Engine, Follows, Interface, Limit, Limits, Listener, Origin, PolicyBuilder,
    RealIp, SessionSettings,
};

/// How long a backend may take unless `backend_timeout` says otherwise.
const BACKEND_TIMEOUT: Duration = Duration::from_secs(3);

/// What has been understood so far.
struct Binder<'f> {
    files: &'f dyn Files,
    sources: Sources,
    /// The configuration files that are being read, outermost first.
    open_files: Vec<PathBuf>,
    config_files: Vec<PathBuf>,
    list_files: Vec<PathBuf>,
    lists: NamedLists,
    policies: Vec<PolicyDraft>,
    policy_names: HashMap<Arc<str>, usize>,
    streams: Vec<StreamDraft>,
    templates: Vec<StreamDraft>,
    other_servers: Vec<SourceDraft>,
    default_judges: Judges,
    services: Vec<ServiceDraft>,
    interfaces: Vec<(Interface, Span)>,
    never_drop: Vec<(IpNet, Origin)>,
    real_ip: Vec<RealIp>,
    upstreams: Vec<NamedUpstream>,
    engine: Option<(Engine, Span)>,
    shadow: bool,
    list_guard: Option<(bool, Span)>,
    on_error: Option<(OnError, Span)>,
    geoip: Option<(PathBuf, Span)>,
    auth_token: Option<(Arc<str>, Span)>,
    no_auto_token: bool,
    backend_timeout: Option<(Duration, Span)>,
    session_follows: Option<(Follows, Span)>,
    session_idle: Option<(Duration, Span)>,
    /// Where the number of sessions is limited.
    session_limits: Vec<Span>,
    /// How each backend is asked where it stands first, and where that is.
    backend_options: HashMap<Url, (BackendOptions, Span)>,
    limits: Limits,
    limits_at: HashMap<Limit, Span>,
    listeners: Vec<Listener>,
    /// The SRT ports that every stream shares.
    shared_srt: HashSet<u16>,
    passed_over: BTreeSet<Box<str>>,
    first_passed: Option<Span>,
    /// What restricts access and is not enforced: where it stands first, and how often it does.
    restrictions: BTreeMap<Box<str>, (Span, usize)>,
}

/// Reads a configuration with all that it includes.
pub(super) fn bind(path: &Path, files: &dyn Files) -> (Option<Config>, Texts) {
    let mut binder = Binder {
        files,
        sources: Sources::default(),
        open_files: Vec::new(),
        config_files: Vec::new(),
        list_files: Vec::new(),
        lists: NamedLists::default(),
        policies: Vec::new(),
        policy_names: HashMap::new(),
        streams: Vec::new(),
        templates: Vec::new(),
        other_servers: Vec::new(),
        default_judges: Judges::default(),
        services: Vec::new(),
        interfaces: Vec::new(),
        never_drop: Vec::new(),
        real_ip: Vec::new(),
        upstreams: Vec::new(),
        engine: None,
        shadow: false,
        list_guard: None,
        on_error: None,
        geoip: None,
        auth_token: None,
        no_auto_token: false,
        backend_timeout: None,
        session_follows: None,
        session_idle: None,
        session_limits: Vec::new(),
        backend_options: HashMap::new(),
        limits: Limits::default(),
        limits_at: HashMap::new(),
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
    fn finish(mut self) -> (Option<Config>, Texts) {
        let streams = self.resolve_streams();
        let services = self.resolve_services(&streams);
        self.name_unused_upstreams();
        self.fill_lists();
        self.lint(&services);
        self.warn_of_session_limits(&services);
        self.warn_of_restrictions();
        self.name_passed_over();
        if self.sources.has_errors() {
            return (None, Texts::new(self.sources));
        }
        let build = |draft: PolicyDraft| {
            let PolicyDraft { name, origin, rules, backends, default_allow, max_sessions, .. } = draft;
            PolicyBuilder { name, origin, rules, backends, default_allow, max_sessions }.build()
        };
        let all_or_nothing = self.aborts();
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
            all_or_nothing,
            geoip,
            token_name: self.auth_token.map_or_else(|| "token".into(), |(name, _)| name),
            no_auto_token: self.no_auto_token,
            backend_timeout: self.backend_timeout.map_or(BACKEND_TIMEOUT, |(timeout, _)| timeout),
            sessions: SessionSettings {
                follows: self.session_follows.map_or_else(Follows::default, |(follows, _)| follows),
                idle: self.session_idle.map(|(idle, _)| idle),
            },
            limits: self.limits,
            listeners: self.listeners,
            files,
        };
        (Some(config), Texts::new(self.sources))
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
