//! `auth_backend` blocks.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{
    Binder,
    lists::{ListUse, Of},
    restriction::Restrictions,
};
use crate::{
    config::{lexer::Word, prefix::parse_prefix, source::Span, syntax::Statement, vocabulary::did_you_mean},
    model::{Action, BackendRule, Matcher, MaxSessions, Origin, Purpose, Rule},
};

/// A policy that is being read.
pub(super) struct PolicyDraft {
    pub(super) name: Arc<str>,
    /// Its name.
    pub(super) at: Span,
    pub(super) origin: Origin,
    pub(super) rules: Vec<Rule>,
    /// Where the value of each rule stands.
    pub(super) places: Vec<Span>,
    /// The list files that rules name.
    pub(super) lists: Vec<ListUse>,
    pub(super) backends: Vec<BackendRule>,
    pub(super) default_allow: Option<Origin>,
    pub(super) max_sessions: MaxSessions,
    /// What its own block restricts beside the rules, until these are put among them.
    pub(super) restrictions: Restrictions,
    pub(super) purpose: Purpose,
    /// Its values so far, for as long as its block is read.
    pub(super) seen: Seen,
}

/// What a line's rules look at.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Ip,
    Token,
    Country,
    Ua,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Token => "token",
            Self::Country => "country",
            Self::Ua => "ua",
        }
    }
}

/// What a rule can look at.
const KINDS: &[&str] = &["country", "default", "ip", "token", "ua", "useragent"];

/// The values of a policy that were seen: each with its place.
pub(super) type Seen = HashMap<(Action, Kind, Box<str>), Span>;

impl PolicyDraft {
    /// A policy without rules.
    pub(super) fn new(name: Arc<str>, at: Span, origin: Origin) -> Self {
        Self {
            name,
            at,
            origin,
            rules: Vec::new(),
            places: Vec::new(),
            lists: Vec::new(),
            backends: Vec::new(),
            default_allow: None,
            max_sessions: MaxSessions::default(),
            restrictions: Restrictions::default(),
            purpose: Purpose::Judges,
            seen: HashMap::new(),
        }
    }

    /// Adds rules that its block does not say as such.
    pub(super) fn add(&mut self, rules: Vec<(Rule, Span)>) {
        let (rules, places): (Vec<Rule>, Vec<Span>) = rules.into_iter().unzip();
        self.rules.extend(rules);
        self.places.extend(places);
    }

    /// The same rules under another name.
    pub(super) fn restricted(&self, name: Arc<str>) -> Self {
        Self {
            rules: self.rules.clone(),
            places: self.places.clone(),
            lists: self.lists.clone(),
            backends: self.backends.clone(),
            default_allow: self.default_allow.clone(),
            max_sessions: self.max_sessions.clone(),
            ..Self::new(name, self.at, self.origin.clone())
        }
    }
}

impl Binder<'_> {
    /// `auth_backend NAME { … }`
    pub(super) fn policy(&mut self, statement: &Statement) {
        let Some(name) = self.first_value(statement, "a name") else { return };
        self.no_more(statement, 1);
        if statement.block.is_none() {
            self.sources
                .error(
                    statement.span(),
                    "missing-block",
                    format!("`auth_backend {}` has no block", name.text),
                )
                .help("write its rules between `{` and `}`");
            return;
        }
        let origin = self.sources.origin(statement.span());
        let mut draft = PolicyDraft::new((&*name.text).into(), name.span, origin);
        for line in statement.statements() {
            self.directive(line, &mut draft);
        }
        draft.seen = Seen::new();
        if let Some(earlier) = self.policy_names.get(&draft.name) {
            let earlier = self.policies[*earlier].at;
            self.duplicate(&format!("`auth_backend {}`", name.text), name.span, earlier);
            return;
        }
        self.policy_names.insert(draft.name.clone(), self.policies.len());
        self.policies.push(draft);
    }

    pub(super) fn unknown_rule(&mut self, line: &Statement, known: &[&str]) {
        let word = line.directive();
        let help = did_you_mean(&word.text, known)
            .unwrap_or_else(|| format!("an `auth_backend` is made of {}", known.join(", ")));
        self.sources
            .error(word.span, "unknown-word", format!("unknown word `{}` in an `auth_backend`", word.text))
            .help(help);
    }

    /// One `allow`, `deny` or `drop` line.
    pub(super) fn rules(&mut self, action: Action, line: &Statement, draft: &mut PolicyDraft) {
        let Some(kind) = self.kind(action, line, draft) else { return };
        let Some((file, values)) = self.rule_values(kind, line) else { return };
        let block = match file {
            Some(_) => Some(self.list_block(line)),
            None => {
                self.no_block(line);
                None
            }
        };
        for word in values {
            if !self.plainly_quoted(word) {
                continue;
            }
            let matcher = match (&block, kind) {
                (None, _) => {
                    let Some(matcher) = self.value(kind, word) else { continue };
                    matcher
                }
                (Some(block), kind) => {
                    let rule = draft.rules.len();
                    let of = if kind == Kind::Token { Of::Tokens } else { Of::Prefixes };
                    let (matcher, list) = self.list(word, of, action, block, rule);
                    draft.lists.push(list);
                    matcher
                }
            };
            self.warn_of_duplicate(action, kind, &matcher, word, &mut draft.seen);
            let value = match file {
                Some(_) => format!("file {}", quoted(word)),
                None => word.as_written(),
            };
            let text = format!("{} {} {value}", action.as_str(), kind.name()).into();
            draft.rules.push(Rule { action, matcher, text, origin: self.sources.origin(word.span) });
            draft.places.push(word.span);
        }
    }

    /// What the rules of a line look at; `None` when that is no list, or wrong.
    fn kind(&mut self, action: Action, line: &Statement, draft: &mut PolicyDraft) -> Option<Kind> {
        let directive = line.directive();
        let Some(word) = line.values().first() else {
            let verb = &directive.text;
            self.sources
                .error(directive.span, "missing-value", format!("`{verb}` without what it is about"))
                .help(format!("write it as `{verb} ip 192.0.2.0/24;`"));
            return None;
        };
        let kind = match &*word.text {
            "ip" => Kind::Ip,
            "token" => Kind::Token,
            "country" => Kind::Country,
            "ua" | "useragent" => Kind::Ua,
            "default" => {
                self.default_rule(action, line, word, draft);
                return None;
            }
            _ => {
                self.unknown_kind(line, word);
                return None;
            }
        };
        if action == Action::Drop && matches!(kind, Kind::Token | Kind::Ua) {
            let message = format!("`drop` cannot look at `{}`", word.text);
            self.sources
                .error(word.span, "drop-kind", message)
                .help("the NIC sees addresses only: use `drop ip` or `drop country`, or `deny` here");
            return None;
        }
        Some(kind)
    }

    /// The values of a line, and the word `file` if they are paths of lists.
    fn rule_values<'s>(&mut self, kind: Kind, line: &'s Statement) -> Option<(Option<&'s Word>, &'s [Word])> {
        let verb = &line.directive().text;
        let [kind_word, values @ ..] = line.values() else { return None };
        let Some(first) = values.first() else {
            let message = format!("`{verb} {}` without a value", kind_word.text);
            self.sources
                .error(kind_word.span, "missing-value", message)
                .help("write one or more values behind it");
            return None;
        };
        if !first.is("file") || kind == Kind::Ua {
            return Some((None, values));
        }
        if values.len() == 1 {
            let message = format!("`{verb} {} file` without a path", kind_word.text);
            self.sources
                .error(first.span, "missing-value", message)
                .help("write the path of the list behind it; a value `file` needs quotes");
            return None;
        }
        if kind == Kind::Country {
            self.sources
                .error(first.span, "country-file", "countries are not read from a file")
                .help("write the codes on the line: `deny country CN KP;`");
            return None;
        }
        Some((Some(first), &values[1..]))
    }

    /// What a rule looks at for one value.
    fn value(&mut self, kind: Kind, word: &Word) -> Option<Matcher> {
        match kind {
            Kind::Ip => self.prefix(word).map(Matcher::Ip),
            Kind::Token => self.non_empty(word).then(|| Matcher::Token(word.text.clone())),
            Kind::Ua => self.non_empty(word).then(|| Matcher::Ua(word.text.clone())),
            Kind::Country if word.text.eq_ignore_ascii_case("unknown") => Some(Matcher::Country(None)),
            Kind::Country => self.country(word).map(|country| Matcher::Country(Some(country))),
        }
    }

    fn default_rule(&mut self, action: Action, line: &Statement, word: &Word, draft: &mut PolicyDraft) {
        if action != Action::Allow {
            self.sources
                .error(word.span, "default-kind", format!("there is no `{} default`", line.directive().text))
                .help("without `allow default` everyone else is denied: remove the line");
        } else if self.bare_default(line) {
            if let Some(earlier) = &draft.default_allow {
                let message = format!("`allow default` is written already, at {earlier}");
                self.sources.warning(word.span, "duplicate-value", message);
            }
            draft.default_allow = Some(self.sources.origin(word.span));
        }
    }

    fn bare_default(&mut self, line: &Statement) -> bool {
        self.no_block(line);
        self.no_more(line, 1)
    }

    fn unknown_kind(&mut self, line: &Statement, word: &Word) {
        let verb = &line.directive().text;
        let help = if parse_prefix(&word.text).is_ok() {
            format!("did you mean `{verb} ip {}`?", word.text)
        } else {
            did_you_mean(&word.text, KINDS)
                .unwrap_or_else(|| "a rule is about ip, token, country or ua".to_owned())
        };
        self.sources
            .error(word.span, "unknown-word", format!("unknown word `{}` behind `{verb}`", word.text))
            .help(help);
    }

    fn warn_of_duplicate(
        &mut self,
        action: Action,
        kind: Kind,
        matcher: &Matcher,
        word: &Word,
        seen: &mut Seen,
    ) {
        let key: Box<str> = match matcher {
            Matcher::Ip(net) => net.to_string().into(),
            Matcher::Country(None) => "unknown".into(),
            Matcher::Country(Some(country)) => country.as_str().into(),
            Matcher::Token(text) | Matcher::Ua(text) => text.clone(),
            // No value can begin so.
            Matcher::IpFile(list) => format!("\0{}", list.path).into(),
            Matcher::TokenFile(list) => format!("\0{}", list.path).into(),
            Matcher::CountryOutside(_) | Matcher::PageElsewhere(_) | Matcher::OtherPassword(_) => {
                unreachable!("no `allow`, `deny` or `drop` is about such")
            }
        };
        match seen.entry((action, kind, key)) {
            Entry::Occupied(earlier) => {
                let message = format!(
                    "this value is on the same list already, at {}",
                    self.sources.place(*earlier.get())
                );
                self.sources.warning(word.span, "duplicate-value", message);
            }
            Entry::Vacant(place) => {
                place.insert(word.span);
            }
        }
    }
}

/// A path as it is shown: always in quotes.
fn quoted(word: &Word) -> String {
    let written = word.as_written();
    if written.starts_with('"') { written } else { format!("\"{written}\"") }
}
