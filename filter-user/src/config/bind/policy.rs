//! `auth_backend` blocks.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use ipnet::IpNet;

use super::{Binder, LARGEST_LIST};
use crate::{
    config::{
        country,
        lexer::{Word, foreign_quote},
        list,
        prefix::{covers_mapped, parse_prefix},
        source::Span,
        syntax::Statement,
        vocabulary::did_you_mean,
    },
    model::{Action, BackendRule, Country, List, Matcher, MaxSessions, Origin, Rule},
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
    pub(super) backends: Vec<BackendRule>,
    pub(super) default_allow: Option<Origin>,
    pub(super) max_sessions: MaxSessions,
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
        let mut draft = PolicyDraft {
            name: (&*name.text).into(),
            at: name.span,
            origin: self.sources.origin(statement.span()),
            rules: Vec::new(),
            places: Vec::new(),
            backends: Vec::new(),
            default_allow: None,
            max_sessions: MaxSessions::default(),
            seen: Seen::new(),
        };
        for line in statement.statements() {
            self.no_block(line);
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

    /// `backend URL;`
    pub(super) fn backend(&mut self, line: &Statement, draft: &mut PolicyDraft) {
        let Some(word) = self.first_value(line, "its URL") else { return };
        self.no_more(line, 1);
        let Some(authority) = self.authority(word) else { return };
        self.warn_of(&authority, word);
        let origin = self.sources.origin(word.span);
        if let Some(same) = draft.backends.iter().find(|backend| backend.authority == authority) {
            let message = format!("this backend is asked already, at {}", same.origin);
            self.sources.warning(word.span, "duplicate-value", message);
        }
        let text = format!("backend {}", word.as_written()).into();
        draft.backends.push(BackendRule { authority, text, origin });
    }

    /// One `allow`, `deny` or `drop` line.
    pub(super) fn rules(&mut self, action: Action, line: &Statement, draft: &mut PolicyDraft) {
        let directive = line.directive();
        let verb = &directive.text;
        let Some(kind_word) = line.values().first() else {
            self.sources
                .error(directive.span, "missing-value", format!("`{verb}` without what it is about"))
                .help(format!("write it as `{verb} ip 192.0.2.0/24;`"));
            return;
        };
        let kind = match &*kind_word.text {
            "ip" => Kind::Ip,
            "token" => Kind::Token,
            "country" => Kind::Country,
            "ua" | "useragent" => Kind::Ua,
            "default" => return self.default_rule(action, line, kind_word, draft),
            _ => return self.unknown_kind(line, kind_word),
        };
        if action == Action::Drop && matches!(kind, Kind::Token | Kind::Ua) {
            let message = format!("`drop` cannot look at `{}`", kind_word.text);
            self.sources
                .error(kind_word.span, "drop-kind", message)
                .help("the NIC sees addresses only: use `drop ip` or `drop country`, or `deny` here");
            return;
        }
        let values = &line.values()[1..];
        if values.is_empty() {
            self.sources
                .error(
                    kind_word.span,
                    "missing-value",
                    format!("`{verb} {}` without a value", kind_word.text),
                )
                .help("write one or more values behind it");
            return;
        }
        let from_file = values[0].is("file") && kind != Kind::Ua;
        let values = if from_file { &values[1..] } else { values };
        if from_file && values.is_empty() {
            let message = format!("`{verb} {} file` without a path", kind_word.text);
            self.sources
                .error(line.values()[1].span, "missing-value", message)
                .help("write the path of the list behind it; a value `file` needs quotes");
            return;
        }
        for word in values {
            if !self.plainly_quoted(word) {
                continue;
            }
            let matcher = match (kind, from_file) {
                (Kind::Ip, false) => self.prefix(word).map(Matcher::Ip),
                (Kind::Token, false) => self.non_empty(word).then(|| Matcher::Token(word.text.clone())),
                (Kind::Ua, _) => self.non_empty(word).then(|| Matcher::Ua(word.text.clone())),
                (Kind::Country, false) => self.country(word).map(Matcher::Country),
                (Kind::Ip, true) => self.prefix_list(word).map(Matcher::IpFile),
                (Kind::Token, true) => self.token_list(word).map(Matcher::TokenFile),
                (Kind::Country, true) => {
                    self.sources
                        .error(line.values()[1].span, "country-file", "countries are not read from a file")
                        .help("write the codes on the line: `deny country CN KP;`");
                    return;
                }
            };
            let Some(matcher) = matcher else { continue };
            self.warn_of_duplicate(action, kind, &matcher, word, &mut draft.seen);
            let file = if from_file { "file " } else { "" };
            let value = if from_file { quoted(word) } else { word.as_written() };
            let text = format!("{verb} {} {file}{value}", kind.name()).into();
            draft.rules.push(Rule { action, matcher, text, origin: self.sources.origin(word.span) });
            draft.places.push(word.span);
        }
    }

    fn default_rule(&mut self, action: Action, line: &Statement, word: &Word, draft: &mut PolicyDraft) {
        if action != Action::Allow {
            self.sources
                .error(word.span, "default-kind", format!("there is no `{} default`", line.directive().text))
                .help("without `allow default` everyone else is denied: remove the line");
        } else if self.no_more(line, 1) {
            if let Some(earlier) = &draft.default_allow {
                let message = format!("`allow default` is written already, at {earlier}");
                self.sources.warning(word.span, "duplicate-value", message);
            }
            draft.default_allow = Some(self.sources.origin(word.span));
        }
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

    /// A prefix with its warnings.
    pub(super) fn prefix(&mut self, word: &Word) -> Option<IpNet> {
        match parse_prefix(&word.text) {
            Ok((net, masked)) => {
                if masked {
                    self.sources
                        .warning(word.span, "host-bits", "host bits below the mask are set, and are masked")
                        .label(format!("read as {net}"));
                }
                if covers_mapped(&net) {
                    let message = "this IPv6 prefix includes the IPv4-mapped addresses, \
                                   but does not match IPv4 clients";
                    self.sources
                        .warning(word.span, "mapped-not-covered", message)
                        .help("add the IPv4 prefix that is meant; all of IPv4 is 0/0");
                }
                Some(net)
            }
            Err(error) => {
                let part = word.part(&error.part());
                self.sources.error(part, error.code(), error.to_string()).help = error.help();
                None
            }
        }
    }

    /// Reports a value whose quotes are not what nicgate reads as quotes, or that opens them in its middle.
    fn plainly_quoted(&mut self, word: &Word) -> bool {
        let message = if word.option {
            "a quote inside a word"
        } else if !word.quoted && foreign_quote(&word.text) {
            "values are quoted with double quotes only"
        } else if word.text.contains('\0') {
            "this value holds a NUL, which no request can"
        } else {
            return true;
        };
        self.sources
            .error(word.span, "stray-quote", message)
            .help("put the whole value into double quotes, with \\\" for a quote inside of it");
        false
    }

    fn non_empty(&mut self, word: &Word) -> bool {
        if word.text.is_empty() {
            self.sources
                .error(word.span, "empty-value", "this value is empty")
                .help("an empty User-Agent part would match everyone, an empty token nobody");
        }
        !word.text.is_empty()
    }

    fn country(&mut self, word: &Word) -> Option<Country> {
        let Some(country) = Country::new(&word.text) else {
            self.sources
                .error(word.span, "country-form", format!("`{}` is no country code", word.as_written()))
                .help("a country is two letters, as in ISO 3166-1: RU, US, GB");
            return None;
        };
        if !country::exists(country) {
            let message = format!(
                "`{country}` is not in ISO 3166-1: no address matches unless the country database uses it"
            );
            let diagnostic = self.sources.warning(word.span, "unknown-country", message);
            if let Some((code, name)) = country::meant(country) {
                diagnostic.help(format!("the code of {name} is {code}"));
            }
        }
        Some(country)
    }

    fn prefix_list(&mut self, word: &Word) -> Option<List<IpNet>> {
        let path = self.relative(word);
        let entries = match self.prefix_lists.get(&path) {
            Some(entries) => entries.clone(),
            None => {
                let bytes = self.list_bytes(word, &path)?;
                let file = path.to_string_lossy().into();
                let entries = Arc::new(list::read_prefixes(&file, &bytes, &mut self.sources));
                self.prefix_lists.insert(path, entries.clone());
                entries
            }
        };
        Some(List { path: (&*word.text).into(), entries })
    }

    fn token_list(&mut self, word: &Word) -> Option<List<Box<str>>> {
        let path = self.relative(word);
        let entries = match self.token_lists.get(&path) {
            Some(entries) => entries.clone(),
            None => {
                let bytes = self.list_bytes(word, &path)?;
                let file = path.to_string_lossy().into();
                let entries = Arc::new(list::read_tokens(&file, &bytes, &mut self.sources));
                self.token_lists.insert(path, entries.clone());
                entries
            }
        };
        Some(List { path: (&*word.text).into(), entries })
    }

    fn list_bytes(&mut self, word: &Word, path: &std::path::Path) -> Option<Vec<u8>> {
        let bytes = self.read(word, path)?;
        if bytes.len() > LARGEST_LIST {
            let message = format!("the list is larger than {} MiB", LARGEST_LIST >> 20);
            self.sources.error(word.span, "file-too-large", message);
            return None;
        }
        if !self.list_files.iter().any(|read| read == path) {
            self.list_files.push(path.to_owned());
        }
        Some(bytes)
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
            Matcher::Country(country) => country.as_str().into(),
            Matcher::Token(text) | Matcher::Ua(text) => text.clone(),
            // No value can begin so.
            Matcher::IpFile(list) => format!("\0{}", list.path).into(),
            Matcher::TokenFile(list) => format!("\0{}", list.path).into(),
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
