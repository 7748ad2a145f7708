//! Streams, templates, and who judges them.

use std::sync::Arc;

use super::{Binder, restriction::Restrictions};
use crate::{
    config::{lexer::Word, source::Span, syntax::Statement},
    model::{Authority, Listener, Origin, Proto, Service, ServiceKey, ServiceKind},
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
    pub(super) name: Arc<str>,
    pub(super) at: Span,
    pub(super) origin: Origin,
    pub(super) judges: Judges,
    /// What restricts who may play or publish beside them.
    pub(super) restrictions: Restrictions,
    /// Whether it takes published input.
    pub(super) publishes: bool,
    /// Whether the media server does not run it: nobody is admitted.
    pub(super) disabled: bool,
    pub(super) template: Option<(Arc<str>, Span)>,
    pub(super) prefixes: Vec<(Arc<str>, Span)>,
    pub(super) srt_ports: Vec<u16>,
    pub(super) max_sessions: Option<(u32, Span)>,
}

/// `source HOST { }`
pub(super) struct SourceDraft {
    pub(super) name: Arc<str>,
    pub(super) origin: Origin,
    pub(super) judges: Judges,
    pub(super) restrictions: Restrictions,
}

impl StreamDraft {
    /// `input URL;`
    pub(super) fn input(&mut self, statement: &Statement) {
        let published = |word: &Word| word.text.starts_with("publish://") || &*word.text == "publish";
        self.publishes |= statement.values().first().is_some_and(published);
    }
}

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
        if draft.name.contains('*') {
            let what = format!("streams of the pattern `{}`, which nicgate reads as a name", draft.name);
            self.unnamed_streams.push((what, draft.at));
        }
        self.streams.push(draft);
    }

    /// `aliaser SCRIPT;`: further names of streams, which only the media server knows.
    pub(super) fn aliaser(&mut self, statement: &Statement) {
        self.unnamed_streams.push(("the names that this `aliaser` makes up".to_owned(), statement.span()));
    }

    /// Warns of streams that are nowhere named, where a gate answers 404 to names that it does not know. `every_name`
    /// says that a template has an empty prefix, so that there are none.
    pub(super) fn warn_of_unnamed_streams(&mut self, services: &[Service], every_name: bool) {
        let unnamed = std::mem::take(&mut self.unnamed_streams);
        let Some(gate) = services.iter().find(|service| matches!(service.kind, ServiceKind::Gate(_))) else {
            return;
        };
        if every_name {
            return;
        }
        for (what, at) in unnamed {
            let message = format!("a gate answers 404 to {what} ({} is one, {})", gate.key, gate.origin);
            self.sources.warning(at, "streams-without-names", message).help(
                "name them: `stream NAME { … }`, or all below a path with `template NAME { prefix PATH; … }`; \
                 `prefix \"\";` means every name",
            );
        }
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
        self.unnamed_streams.push((format!("the streams of `source {}`", name.text), statement.span()));
        let mut draft = SourceDraft {
            name: (&*name.text).into(),
            origin,
            judges: Judges::default(),
            restrictions: Restrictions::default(),
        };
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
            restrictions: Restrictions::default(),
            publishes: false,
            disabled: false,
            template: None,
            prefixes: Vec::new(),
            srt_ports: Vec::new(),
            max_sessions: None,
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
}
