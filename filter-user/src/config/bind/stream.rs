//! Streams, templates, and who judges them.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use super::{Binder, policy::PolicyDraft};
use crate::{
    config::{lexer::Word, source::Span, syntax::Statement, vocabulary::suggest},
    model::{
        Access, Authority, BackendRule, Listener, MaxSessions, Origin, PolicyId, Proto, ServiceKey, Stream,
    },
};

/// What `on_play` or `on_publish` names.
#[derive(Clone)]
pub(super) enum Judge {
    /// `auth://NAME`
    Named(Arc<str>, Span),
    /// A word alone: the name of a policy, in the way of older configurations.
    Bare(Word),
    /// An authority; the policy is implied.
    Implied(Authority, Word),
}

/// Who judges, as written.
#[derive(Clone, Default)]
pub(super) struct Judges {
    pub(super) on_play: Option<(Judge, Span)>,
    /// `auth`, the older name of `on_play`: an `on_play` of the template goes before it.
    pub(super) auth: Option<(Judge, Span)>,
    pub(super) on_publish: Option<(Judge, Span)>,
}

/// A stream, a location or a template that is being read.
pub(super) struct StreamDraft {
    name: Arc<str>,
    at: Span,
    origin: Origin,
    pub(super) judges: Judges,
    /// Whether it takes published input.
    pub(super) publishes: bool,
    /// Whether the media server does not run it: nobody is admitted.
    pub(super) disabled: bool,
    template: Option<(Arc<str>, Span)>,
    prefixes: Vec<(Arc<str>, Span)>,
    pub(super) srt_ports: Vec<u16>,
}

/// `source HOST { }`
pub(super) struct SourceDraft {
    name: Arc<str>,
    origin: Origin,
    pub(super) judges: Judges,
}

impl StreamDraft {
    /// `input URL;`
    pub(super) fn input(&mut self, statement: &Statement) {
        let published = |word: &Word| word.text.starts_with("publish://") || &*word.text == "publish";
        self.publishes |= statement.values().first().is_some_and(published);
    }
}

/// Who judges by a template or by default; `None` when it says nothing.
#[derive(Clone, Default)]
struct Inherited {
    on_play: Option<Access>,
    auth: Option<Access>,
    on_publish: Option<Access>,
}

/// The streams with who judges them.
pub(super) struct Resolved {
    /// The streams in file order, each with the SRT ports that it names.
    pub(super) list: Vec<(Stream, Vec<u16>)>,
    /// The SRT ports that every stream shares.
    pub(super) shared_srt: HashSet<u16>,
    /// Other servers whose streams appear here: the name, the place, and who judges playing.
    pub(super) other_servers: Vec<(Arc<str>, Origin, Option<PolicyId>)>,
}

/// The policies implied so far, by what they ask.
type Implied = HashMap<String, PolicyId>;

/// Whether the word is the path of a script that the media server runs itself.
fn is_script(word: &str) -> bool {
    !word.contains("://") && (word.ends_with(".lua") || word.starts_with('/'))
}

impl Binder<'_> {
    /// `stream NAME { … }` and the locations.
    pub(super) fn stream(&mut self, statement: &Statement) {
        let Some(mut draft) = self.stream_draft(statement) else { return };
        draft.publishes |= &*statement.directive().text == "live";
        let inputs = statement.values().iter().skip(1);
        draft.publishes |= inputs.filter(|word| word.text.starts_with("publish://")).count() > 0;
        if draft.name.is_empty() {
            self.sources.error(draft.at, "empty-value", "this name is empty").help("give the stream a name");
            return;
        }
        self.streams.push(draft);
    }

    /// `template NAME { … }`
    pub(super) fn template(&mut self, statement: &Statement) {
        let Some(draft) = self.stream_draft(statement) else { return };
        if let Some(earlier) = self.templates.iter().find(|known| known.name == draft.name) {
            let earlier = earlier.at;
            self.duplicate(&format!("`template {}`", draft.name), draft.at, earlier);
            return;
        }
        self.templates.push(draft);
    }

    /// `source HOST { … }`: streams of another server, under any name.
    pub(super) fn other_server(&mut self, statement: &Statement) {
        let Some(name) = self.first_value(statement, "a host") else { return };
        let origin = self.sources.origin(statement.span());
        let mut draft = SourceDraft { name: (&*name.text).into(), origin, judges: Judges::default() };
        for inner in statement.statements() {
            self.directive(inner, &mut draft);
        }
        self.other_servers.push(draft);
    }

    /// `on_play`, `auth` and `on_publish` at the top of a file: for every stream that has none of its own.
    pub(super) fn default_judge(
        &mut self,
        statement: &Statement,
        which: fn(&mut Judges) -> &mut Option<(Judge, Span)>,
    ) {
        let mut judges = std::mem::take(&mut self.default_judges);
        self.judge(statement, which(&mut judges));
        self.default_judges = judges;
    }

    fn stream_draft(&mut self, statement: &Statement) -> Option<StreamDraft> {
        let name = self.first_value(statement, "a name")?;
        let mut draft = StreamDraft {
            name: name.text.trim_matches('/').into(),
            at: name.span,
            origin: self.sources.origin(statement.span()),
            judges: Judges::default(),
            publishes: false,
            disabled: false,
            template: None,
            prefixes: Vec::new(),
            srt_ports: Vec::new(),
        };
        for inner in statement.statements() {
            self.directive(inner, &mut draft);
        }
        Some(draft)
    }

    /// `template NAME;` in a stream.
    pub(super) fn stream_template(&mut self, inner: &Statement, draft: &mut StreamDraft) {
        if let Some(word) = self.first_value(inner, "the name of a template") {
            draft.template = Some(((&*word.text).into(), word.span));
        }
    }

    /// `prefix PATH;` in a template.
    pub(super) fn stream_prefix(&mut self, inner: &Statement, draft: &mut StreamDraft) {
        if let Some(word) = self.first_value(inner, "a prefix of stream names") {
            draft.prefixes.push((word.text.trim_matches('/').into(), word.span));
        }
    }

    /// `srt [ADDR:]PORT;` in a stream.
    pub(super) fn stream_srt(&mut self, inner: &Statement, draft: &mut StreamDraft) {
        let first = inner.values().first();
        let Some((address, port)) = first.and_then(|word| self.server_endpoint(word)) else { return };
        let key = ServiceKey { proto: Proto::Udp, port, address };
        let origin = self.sources.origin(inner.span());
        self.listeners.push(Listener { directive: "srt".into(), key, origin });
        draft.srt_ports.push(port);
    }

    /// Reads who judges. Words after the first, and a block, are options of the media server.
    pub(super) fn judge(&mut self, statement: &Statement, place: &mut Option<(Judge, Span)>) {
        let directive = statement.directive();
        if let Some((_, earlier)) = place {
            let earlier = self.sources.place(*earlier);
            let message = format!("`{}` is set already, at {earlier}", directive.text);
            self.sources
                .error(directive.span, "duplicate-directive", message)
                .help("put both backends into one `auth_backend`, and name that");
            return;
        }
        let Some(word) = self.first_value(statement, "auth://NAME or http://HOST/PATH") else { return };
        let option = statement.values().get(1).map(|word| word.span);
        let option = option.or_else(|| statement.statements().first().map(Statement::span));
        if let Some(at) = option {
            self.restricts(&format!("options of `{}`", directive.text), at);
        }
        let judge = match word.text.strip_prefix("auth://") {
            Some(name) if !name.trim_end_matches('/').is_empty() => {
                Some(Judge::Named(name.trim_end_matches('/').into(), word.span))
            }
            Some(_) => {
                self.sources
                    .error(word.span, "bad-url", "this names no `auth_backend`")
                    .help("write its name behind it: auth://NAME");
                None
            }
            None if is_script(&word.text) => {
                Some(Judge::Implied(Authority::Script((&*word.text).into()), word.clone()))
            }
            None if !word.text.contains("://") => Some(Judge::Bare(word.clone())),
            None => self.authority(word).map(|authority| Judge::Implied(authority, word.clone())),
        };
        *place = judge.map(|judge| (judge, directive.span));
    }

    /// The policy of a name; reports when there is none.
    pub(super) fn named_policy(&mut self, name: &str, at: Span) -> Option<PolicyId> {
        if let Some(index) = self.policy_names.get(name) {
            return Some(PolicyId(*index as u32));
        }
        let names: Vec<_> = self.policy_names.keys().map(|name| &**name).collect();
        let help = suggest(name, &names).map_or_else(
            || format!("define it: `auth_backend {name} {{ … }}`"),
            |meant| format!("did you mean `auth://{meant}`?"),
        );
        self.sources.error(at, "unknown-policy", format!("there is no `auth_backend {name}`")).help(help);
        None
    }

    fn policy_of(&mut self, judge: &(Judge, Span), whose: &str, implied: &mut Implied) -> Option<PolicyId> {
        let (authority, word, directive) = match judge {
            (Judge::Named(name, at), _) => return self.named_policy(name, *at),
            (Judge::Bare(word), directive) => return self.bare_policy(word, *directive),
            (Judge::Implied(authority, word), directive) => (authority, word, *directive),
        };
        let key = format!("{authority:?}");
        if let Some(id) = implied.get(&key) {
            return Some(*id);
        }
        self.warn_of(authority, word);
        let text = self.sources.text(directive.source);
        let directive = text.get(directive.start..directive.end).unwrap_or("on_play");
        let origin = self.sources.origin(word.span);
        let backend = BackendRule {
            authority: authority.clone(),
            text: format!("{directive} {}", word.as_written()).into(),
            origin: origin.clone(),
        };
        let id = PolicyId(self.policies.len() as u32);
        self.policies.push(PolicyDraft {
            name: format!("{directive} of {whose}").into(),
            at: word.span,
            origin,
            rules: Vec::new(),
            places: Vec::new(),
            backends: vec![backend],
            default_allow: None,
            max_sessions: MaxSessions::default(),
            seen: HashMap::new(),
        });
        implied.insert(key, id);
        Some(id)
    }

    /// Who judges, with the names found.
    fn access(&mut self, judges: &Judges, whose: &str, implied: &mut Implied) -> Inherited {
        let mut find = |judge: &Option<(Judge, Span)>| {
            // An unknown name has been reported; what the access is then does not matter.
            judge.as_ref().map(|j| self.policy_of(j, whose, implied).map_or(Access::Closed, Access::Policy))
        };
        let on_play = find(&judges.on_play);
        Inherited { on_play, auth: find(&judges.auth), on_publish: find(&judges.on_publish) }
    }

    /// The policy that `auth NAME;` means.
    fn bare_policy(&mut self, word: &Word, directive: Span) -> Option<PolicyId> {
        let text = self.sources.text(directive.source);
        let directive = text.get(directive.start..directive.end).unwrap_or("on_play");
        if let Some(index) = self.policy_names.get(&*word.text) {
            let id = PolicyId(*index as u32);
            let message = format!("`{}` is read as the `auth_backend` of that name", word.as_written());
            self.sources
                .note(word.span, "bare-name", message)
                .help(format!("write `{directive} auth://{};` to say so", word.text));
            return Some(id);
        }
        let message = format!("`{}` is neither an `auth_backend` nor a URL", word.as_written());
        self.sources.error(word.span, "bad-url", message).help(format!(
            "name a policy (`{directive} auth://NAME;`) or a backend (`{directive} http://HOST/PATH;`); \
             without the line everyone is admitted"
        ));
        None
    }

    /// Finds out who judges each stream.
    pub(super) fn resolve_streams(&mut self) -> Resolved {
        let mut implied = Implied::new();
        let defaults = std::mem::take(&mut self.default_judges);
        let defaults = self.access(&defaults, "every stream", &mut implied);
        let templates = std::mem::take(&mut self.templates);
        let streams = std::mem::take(&mut self.streams);
        let mut bases: HashMap<Arc<str>, (Inherited, &StreamDraft)> = HashMap::new();
        for draft in &templates {
            let judges = self.access(&draft.judges, &format!("template {}", draft.name), &mut implied);
            bases.insert(draft.name.clone(), (judges, draft));
        }

        let mut seen: HashMap<Arc<str>, Span> = HashMap::new();
        let mut list = Vec::new();
        // A template with a prefix is a stream under that prefix, and inherits all of itself.
        let own =
            streams.iter().map(|draft| (draft, &draft.name, draft.at, draft.template.clone(), &draft.judges));
        let nothing = Judges::default();
        let prefixes = templates.iter().flat_map(|draft| {
            let inherit = |at| Some((draft.name.clone(), at));
            let nothing = &nothing;
            draft.prefixes.iter().map(move |(prefix, at)| (draft, prefix, *at, inherit(*at), nothing))
        });
        for (draft, name, at, template, judges) in own.chain(prefixes) {
            match seen.entry(name.clone()) {
                Entry::Occupied(earlier) => {
                    self.duplicate(&format!("the stream `{name}`"), at, *earlier.get());
                }
                Entry::Vacant(place) => {
                    place.insert(at);
                }
            }
            let base = template.and_then(|(template, at)| {
                let base = bases.get(&template);
                if base.is_none() {
                    self.unknown_template(&template, at, &templates);
                }
                base
            });
            let judges = self.access(judges, name, &mut implied);
            let inherited = base.map(|(inherited, _)| inherited.clone()).unwrap_or_default();
            let publishes = draft.publishes || base.is_some_and(|(_, base)| base.publishes);
            let on_play = judges
                .on_play
                .or(inherited.on_play)
                .or(judges.auth)
                .or(inherited.auth)
                .or_else(|| defaults.on_play.clone())
                .or_else(|| defaults.auth.clone());
            let on_publish = judges.on_publish.or(inherited.on_publish);
            let disabled = draft.disabled || base.is_some_and(|(_, base)| base.disabled);
            // The default is for what can be published; nothing else is opened by its absence.
            let otherwise = || match &defaults.on_publish {
                _ if !publishes => Access::Closed,
                Some(access) => access.clone(),
                None => Access::Open,
            };
            let (on_play, on_publish) = match disabled {
                true => (Access::Closed, Access::Closed),
                false => (on_play.unwrap_or(Access::Open), on_publish.unwrap_or_else(otherwise)),
            };
            let stream = Stream { name: name.clone(), on_play, on_publish, origin: draft.origin.clone() };
            let mut srt_ports = draft.srt_ports.clone();
            srt_ports.extend(base.iter().flat_map(|(_, base)| &base.srt_ports));
            list.push((stream, srt_ports));
        }

        let mut other_servers = Vec::new();
        for SourceDraft { name, origin, judges } in std::mem::take(&mut self.other_servers) {
            let own = self.access(&judges, &name, &mut implied);
            let default = || defaults.on_play.clone().or_else(|| defaults.auth.clone());
            let id = match own.on_play.or(own.auth).or_else(default) {
                Some(Access::Policy(id)) => Some(id),
                _ => None,
            };
            other_servers.push((name, origin, id));
        }
        Resolved { list, shared_srt: std::mem::take(&mut self.shared_srt), other_servers }
    }

    fn unknown_template(&mut self, name: &str, at: Span, templates: &[StreamDraft]) {
        let names: Vec<_> = templates.iter().map(|draft| &*draft.name).collect();
        let help = suggest(name, &names).map_or_else(
            || format!("define it: `template {name} {{ … }}`"),
            |meant| format!("did you mean `{meant}`?"),
        );
        self.sources.error(at, "unknown-template", format!("there is no `template {name}`")).help(help);
    }
}
