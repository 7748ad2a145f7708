//! Policies: what an `auth_backend` block says.

use std::{collections::HashMap, fmt, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use url::Url;

use super::MaxSessions;
use crate::address::{Partition, net_range_v4, net_range_v6};

/// Where something stands in the operator's files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The file as the operator named it.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A country as an ISO 3166-1 alpha-2 code, in upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// Reads a code in either case; `None` unless it is two ASCII letters. `UK`, which some databases use and
    /// ISO 3166-1 reserves, is `GB`.
    pub fn new(code: &str) -> Option<Self> {
        let code: [u8; 2] = code.as_bytes().try_into().ok()?;
        let code = code.map(|c| c.to_ascii_uppercase());
        let code = if code == *b"UK" { *b"GB" } else { code };
        code.iter().all(u8::is_ascii_uppercase).then_some(Self(code))
    }

    /// The code, in upper case.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("two ASCII letters")
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::new(&code).ok_or_else(|| D::Error::custom("a country is two letters"))
    }
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The request is admitted.
    Allow,
    /// The request is refused.
    Deny,
    /// The source is refused before anything else is looked at; only for addresses and countries.
    Drop,
}

/// The step of the judgement that decided, in the order in which steps are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// A runtime ban, which no rule outranks.
    Ban,
    /// A `drop` rule.
    Drop,
    /// `allow token`, `deny token`.
    Token,
    /// `allow ip`, `deny ip`.
    Ip,
    /// `allow country`, `deny country`.
    Country,
    /// `allow ua`, `deny ua`.
    Ua,
    /// The backends.
    Backend,
    /// `allow default`, or its absence.
    Default,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ban => "ban",
            Self::Drop => "drop",
            Self::Token => "token",
            Self::Ip => "ip",
            Self::Country => "country",
            Self::Ua => "ua",
            Self::Backend => "backend",
            Self::Default => "default",
        })
    }
}

/// A list file that was read: its path as written, and its entries.
#[derive(Clone, PartialEq, Eq)]
pub struct List<T> {
    /// The path as the operator wrote it.
    pub path: Arc<str>,
    /// The entries with their lines (from 1), in file order.
    pub entries: Arc<Vec<(T, u32)>>,
}

impl<T> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "List({:?}, {} entries)", self.path, self.entries.len())
    }
}

/// What a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// The token, exactly.
    Token(Box<str>),
    /// Any token of a file.
    TokenFile(List<Box<str>>),
    /// A source address in the prefix. IPv4-mapped prefixes are given as IPv4.
    Ip(IpNet),
    /// A source address in any prefix of a file.
    IpFile(List<IpNet>),
    /// The country of the source address.
    Country(Country),
    /// A case-sensitive part of the User-Agent.
    Ua(Box<str>),
}

impl Matcher {
    /// The step at which a rule with this matcher is looked at, unless it is a `drop` rule.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Token(_) | Self::TokenFile(_) => Stage::Token,
            Self::Ip(_) | Self::IpFile(_) => Stage::Ip,
            Self::Country(_) => Stage::Country,
            Self::Ua(_) => Stage::Ua,
        }
    }
}

/// One value of one `allow`, `deny` or `drop` line; a list file is one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// What it looks at.
    pub matcher: Matcher,
    /// The rule with this one value, as the operator wrote it: `deny ip 10.10/16`.
    pub text: Arc<str>,
    /// Where its value stands.
    pub origin: Origin,
}

impl Rule {
    /// The step at which the rule is looked at.
    pub fn stage(&self) -> Stage {
        if self.action == Action::Drop { Stage::Drop } else { self.matcher.stage() }
    }
}

/// A rule's place in its policy: the rules of a policy are numbered from 0 in file order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// A policy's place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(pub u32);

/// Who is asked when the lists do not decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// An HTTP backend (`http` or `https`).
    Http(Url),
    /// Flussonic's own subscriber database, which nicgate cannot ask: it never responds.
    Iptv,
    /// A script that the media server runs itself, which nicgate cannot run: it never responds.
    Script(Arc<str>),
    /// `securetoken://KEY`: the token carries its own proof.
    SecureToken(Arc<str>),
}

/// One `backend` line, or the address given to `on_play` directly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendRule {
    /// Who is asked.
    pub authority: Authority,
    /// The line as written: `backend http://examplehost/auth`.
    pub text: Arc<str>,
    /// Where it stands.
    pub origin: Origin,
}

/// An `auth_backend` block, ready to judge.
#[derive(Clone, Debug)]
pub struct Policy {
    name: Arc<str>,
    origin: Origin,
    rules: Vec<Rule>,
    backends: Vec<BackendRule>,
    default_allow: Option<Origin>,
    max_sessions: MaxSessions,
    index: Index,
    /// What rules and backends are called without their secrets.
    rule_labels: Vec<Arc<str>>,
    backend_labels: Vec<Arc<str>>,
}

/// What a policy is made from.
#[derive(Clone, Debug)]
pub struct PolicyBuilder {
    /// The name after `auth_backend`.
    pub name: Arc<str>,
    /// Where the block begins.
    pub origin: Origin,
    /// The rules, in file order.
    pub rules: Vec<Rule>,
    /// The backends, in file order.
    pub backends: Vec<BackendRule>,
    /// Where `allow default` stands, if it does.
    pub default_allow: Option<Origin>,
    /// How many sessions there may be.
    pub max_sessions: MaxSessions,
}

/// A label in an address list: the first rule, in file order, that covers an address. Half as large as an
/// `Option<RuleId>`, because lists have labels by the million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RuleLabel(u32);

impl RuleLabel {
    /// No rule covers the address. It sorts last.
    pub(crate) const NONE: Self = Self(u32::MAX);

    /// The rule.
    pub(crate) fn rule(self) -> Option<RuleId> {
        (self != Self::NONE).then_some(RuleId(self.0))
    }
}

impl From<RuleId> for RuleLabel {
    fn from(rule: RuleId) -> Self {
        Self(rule.0)
    }
}

/// The rules that cover each address, for both families.
#[derive(Clone, Debug)]
pub(crate) struct AddressRules {
    pub(crate) v4: Partition<u32, RuleLabel>,
    pub(crate) v6: Partition<u128, RuleLabel>,
}

/// The rules of a policy by what they look at; each entry is the first such rule in file order.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) drop_ip: AddressRules,
    pub(crate) allow_ip: AddressRules,
    pub(crate) deny_ip: AddressRules,
    pub(crate) drop_country: HashMap<Country, RuleId>,
    pub(crate) allow_country: HashMap<Country, RuleId>,
    pub(crate) deny_country: HashMap<Country, RuleId>,
    pub(crate) allow_token: HashMap<Box<str>, RuleId>,
    pub(crate) deny_token: HashMap<Box<str>, RuleId>,
    pub(crate) allow_ua: Vec<(Box<str>, RuleId)>,
    pub(crate) deny_ua: Vec<(Box<str>, RuleId)>,
}

impl PolicyBuilder {
    /// Indexes the rules.
    pub fn build(self) -> Policy {
        let Self { name, origin, rules, backends, default_allow, max_sessions } = self;
        let index = Index::new(&rules);
        let label = |text: &Arc<str>, masked: Option<String>| masked.map_or_else(|| text.clone(), Into::into);
        let rule_labels = rules.iter().map(|rule| label(&rule.text, rule.masked())).collect();
        let backend_labels = backends.iter().map(|backend| label(&backend.text, backend.masked())).collect();
        Policy {
            name,
            origin,
            rules,
            backends,
            default_allow,
            max_sessions,
            index,
            rule_labels,
            backend_labels,
        }
    }
}

impl AddressRules {
    fn new(rules: &[Rule], action: Action) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        let mut add = |net: IpNet, label: RuleLabel| match net {
            IpNet::V4(net) => {
                let (first, last) = net_range_v4(net);
                v4.push((first, last, label));
            }
            IpNet::V6(net) => {
                let (first, last) = net_range_v6(net);
                v6.push((first, last, label));
            }
        };
        for (label, rule) in (0..).map(RuleLabel).zip(rules).filter(|(_, rule)| rule.action == action) {
            match &rule.matcher {
                Matcher::Ip(net) => add(*net, label),
                Matcher::IpFile(list) => list.entries.iter().for_each(|(net, _)| add(*net, label)),
                Matcher::Token(_) | Matcher::TokenFile(_) | Matcher::Country(_) | Matcher::Ua(_) => {}
            }
        }
        Self {
            v4: Partition::from_nested(v4, RuleLabel::NONE),
            v6: Partition::from_nested(v6, RuleLabel::NONE),
        }
    }
}

impl Index {
    fn new(rules: &[Rule]) -> Self {
        let numbered = || (0..).map(RuleId).zip(rules);
        let countries = |action: Action| {
            let mut map = HashMap::new();
            for (id, rule) in numbered().filter(|(_, rule)| rule.action == action) {
                if let Matcher::Country(country) = rule.matcher {
                    map.entry(country).or_insert(id);
                }
            }
            map
        };
        let tokens = |action: Action| {
            let mut map: HashMap<Box<str>, RuleId> = HashMap::new();
            for (id, rule) in numbered().filter(|(_, rule)| rule.action == action) {
                match &rule.matcher {
                    Matcher::Token(token) => {
                        map.entry(token.clone()).or_insert(id);
                    }
                    Matcher::TokenFile(list) => {
                        for (token, _) in list.entries.iter() {
                            map.entry(token.clone()).or_insert(id);
                        }
                    }
                    Matcher::Ip(_) | Matcher::IpFile(_) | Matcher::Country(_) | Matcher::Ua(_) => {}
                }
            }
            map
        };
        let agents = |action: Action| {
            numbered()
                .filter(|(_, rule)| rule.action == action)
                .filter_map(|(id, rule)| match &rule.matcher {
                    Matcher::Ua(part) => Some((part.clone(), id)),
                    _ => None,
                })
                .collect()
        };
        Self {
            drop_ip: AddressRules::new(rules, Action::Drop),
            allow_ip: AddressRules::new(rules, Action::Allow),
            deny_ip: AddressRules::new(rules, Action::Deny),
            drop_country: countries(Action::Drop),
            allow_country: countries(Action::Allow),
            deny_country: countries(Action::Deny),
            allow_token: tokens(Action::Allow),
            deny_token: tokens(Action::Deny),
            allow_ua: agents(Action::Allow),
            deny_ua: agents(Action::Deny),
        }
    }
}

impl Policy {
    /// The name after `auth_backend`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where the block begins.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The rules, in file order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// One rule.
    pub fn rule(&self, id: RuleId) -> &Rule {
        &self.rules[id.0 as usize]
    }

    /// What a rule is called where others may read it: as written, but without its secret.
    pub fn label(&self, id: RuleId) -> &Arc<str> {
        &self.rule_labels[id.0 as usize]
    }

    /// What the rules are called, in file order.
    pub fn labels(&self) -> &[Arc<str>] {
        &self.rule_labels
    }

    /// The backends, in file order.
    pub fn backends(&self) -> &[BackendRule] {
        &self.backends
    }

    /// What the backends are called where others may read it, in file order.
    pub fn backend_labels(&self) -> &[Arc<str>] {
        &self.backend_labels
    }

    /// Where `allow default` stands, if it does.
    pub fn default_allow(&self) -> Option<&Origin> {
        self.default_allow.as_ref()
    }

    /// How many sessions there may be on the streams that it judges.
    pub fn max_sessions(&self) -> &MaxSessions {
        &self.max_sessions
    }

    /// The rules by what they look at.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Whether a rule looks at countries, so that a database is needed.
    pub fn uses_countries(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.matcher, Matcher::Country(_)))
    }
}
