//! The lines of an `auth_backend` block: rules and backends, each with its place in the file.

use std::{fmt, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{backend::BackendOptions, country::Country, page::Host};

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

impl Action {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Drop => "drop",
        }
    }
}

/// The step of the judgement that decided, in the order in which steps are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// A runtime ban, which no rule outranks.
    Ban,
    /// A `drop` rule.
    Drop,
    /// `domains`: the page that shows the stream.
    Page,
    /// `password` of who publishes.
    Password,
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
            Self::Page => "page",
            Self::Password => "password",
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
    /// The country of the source address; `None` for an address whose country the database does not know.
    Country(Option<Country>),
    /// A case-sensitive part of the User-Agent.
    Ua(Box<str>),
    /// A country that is none of these: `allowed_countries`.
    CountryOutside(Arc<[Option<Country>]>),
    /// A page on none of these hosts, or no page at all: `domains`.
    PageElsewhere(Arc<[Host]>),
    /// Another password than this, or none.
    OtherPassword(Box<str>),
}

impl Matcher {
    /// The step at which a rule with this matcher is looked at, unless it is a `drop` rule.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Token(_) | Self::TokenFile(_) => Stage::Token,
            Self::Ip(_) | Self::IpFile(_) => Stage::Ip,
            Self::Country(_) | Self::CountryOutside(_) => Stage::Country,
            Self::Ua(_) => Stage::Ua,
            Self::PageElsewhere(_) => Stage::Page,
            Self::OtherPassword(_) => Stage::Password,
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

/// Who is asked when the lists do not decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// An HTTP backend (`http`, `https` or `http+unix`).
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
    /// How.
    pub options: BackendOptions,
    /// The line as written: `backend http://examplehost/auth`.
    pub text: Arc<str>,
    /// Where it stands.
    pub origin: Origin,
}
