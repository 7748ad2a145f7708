//! Who judges each stream: names become policies, and what a stream does not say comes from its template and from the
//! top of the file.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use super::{
    Binder,
    policy::PolicyDraft,
    restrict::Restricted,
    stream::{Judge, Judges, SourceDraft, StreamDraft},
};
use crate::{
    config::{lexer::Word, source::Span, vocabulary::suggest},
    model::{Access, BackendOptions, BackendRule, Origin, PolicyId, Stream},
};

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

/// The policies implied so far, by where what they ask stands: each is called by its own line.
type Implied = HashMap<Span, PolicyId>;

impl StreamDraft {
    /// Who judges playing and publishing: what the stream says itself, then its template, then the top of the file.
    fn resolve(
        &self,
        own: Inherited,
        base: Option<&(Inherited, &Self)>,
        defaults: &Inherited,
    ) -> (Access, Access) {
        let inherited = base.map(|(inherited, _)| inherited.clone()).unwrap_or_default();
        if self.disabled || base.is_some_and(|(_, base)| base.disabled) {
            return (Access::Closed, Access::Closed);
        }
        let on_play = own
            .on_play
            .or(inherited.on_play)
            .or(own.auth)
            .or(inherited.auth)
            .or_else(|| defaults.on_play.clone())
            .or_else(|| defaults.auth.clone())
            .unwrap_or(Access::Open);
        // The default is for what can be published; nothing else is opened by its absence.
        let publishes = self.publishes || base.is_some_and(|(_, base)| base.publishes);
        let otherwise = || match &defaults.on_publish {
            _ if !publishes => Access::Closed,
            Some(access) => access.clone(),
            None => Access::Open,
        };
        (on_play, own.on_publish.or(inherited.on_publish).unwrap_or_else(otherwise))
    }
}

impl Binder<'_> {
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
        if let Some(id) = implied.get(&word.span) {
            return Some(*id);
        }
        self.warn_of(authority, word);
        let text = self.sources.text(directive.source);
        let directive = text.get(directive.start..directive.end).unwrap_or("on_play");
        let origin = self.sources.origin(word.span);
        let options = BackendOptions::default();
        self.compare_options(authority, &options, word.span);
        let backend = BackendRule {
            authority: authority.clone(),
            options,
            text: format!("{directive} {}", word.as_written()).into(),
            origin: origin.clone(),
        };
        let id = PolicyId(self.policies.len() as u32);
        let name = format!("{directive} of {whose}").into();
        let draft = PolicyDraft { backends: vec![backend], ..PolicyDraft::new(name, word.span, origin) };
        self.policies.push(draft);
        implied.insert(word.span, id);
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
        let mut restricted = Restricted::new();
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
            let (on_play, on_publish) = draft.resolve(judges, base, &defaults);
            let base_draft = base.map(|(_, base)| *base);
            let (on_play, on_publish) =
                self.restrict_stream((draft, name, base_draft), (on_play, on_publish), &mut restricted);
            let most = draft.max_sessions.or_else(|| base.and_then(|(_, base)| base.max_sessions));
            let stream = Stream {
                name: name.clone(),
                on_play,
                on_publish,
                // Flussonic's way of no limit.
                max_sessions: most
                    .filter(|(most, _)| *most > 0)
                    .map(|(most, at)| (most, self.sources.origin(at))),
                origin: draft.origin.clone(),
            };
            let mut srt_ports = draft.srt_ports.clone();
            srt_ports.extend(base.iter().flat_map(|(_, base)| &base.srt_ports));
            list.push((stream, srt_ports));
        }
        let other_servers = self.resolve_other_servers(&defaults, &mut implied, &mut restricted);
        Resolved { list, shared_srt: std::mem::take(&mut self.shared_srt), other_servers }
    }

    /// Who judges playing and publishing where the stream or its template restricts that, given who judges otherwise.
    fn restrict_stream(
        &mut self,
        (draft, name, base): (&StreamDraft, &str, Option<&StreamDraft>),
        (on_play, on_publish): (Access, Access),
        restricted: &mut Restricted,
    ) -> (Access, Access) {
        // What a template restricts, streams have in common.
        let named = |own: bool| match base {
            Some(base) if !own || std::ptr::eq(base, draft) => format!("template {}", base.name),
            _ => name.to_owned(),
        };
        let own = &draft.restrictions;
        let restrictions = own.or(base.map(|base| &base.restrictions));
        let (player, publisher) = (named(own.of_play()), named(own.password.is_some()));
        let on_play = self.restrict_play(on_play, &restrictions, (&player, &draft.origin), restricted);
        let on_publish =
            self.restrict_publish(on_publish, &restrictions, (&publisher, &draft.origin), restricted);
        (on_play, on_publish)
    }

    /// Finds out who judges playing the streams of other servers.
    fn resolve_other_servers(
        &mut self,
        defaults: &Inherited,
        implied: &mut Implied,
        restricted: &mut Restricted,
    ) -> Vec<(Arc<str>, Origin, Option<PolicyId>)> {
        let mut other_servers = Vec::new();
        for SourceDraft { name, origin, judges, restrictions } in std::mem::take(&mut self.other_servers) {
            let own = self.access(&judges, &name, implied);
            let default = || defaults.on_play.clone().or_else(|| defaults.auth.clone());
            let judge = own.on_play.or(own.auth).or_else(default).unwrap_or(Access::Open);
            let judge = self.restrict_play(judge, &restrictions, (&name, &origin), restricted);
            let id = judge.policy();
            other_servers.push((name, origin, id));
        }
        other_servers
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
