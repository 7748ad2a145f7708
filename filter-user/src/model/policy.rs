//! Policies: what an `auth_backend` block says.

use std::{net::IpAddr, sync::Arc};

use super::{
    MaxSessions,
    index::Index,
    rule::{Action, BackendRule, Matcher, Origin, Rule, RuleId},
};

/// A policy's place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(pub u32);

/// An `auth_backend` block, ready to judge.
#[derive(Clone, Debug)]
pub struct Policy {
    name: Arc<str>,
    origin: Origin,
    rules: Vec<Rule>,
    backends: Vec<BackendRule>,
    default_allow: Option<Origin>,
    max_sessions: MaxSessions,
    purpose: Purpose,
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
    /// What it is for.
    pub purpose: Purpose,
}

/// What a policy is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// It is written, or implied by an `on_play` that names a backend.
    #[default]
    Judges,
    /// It has the rules of this policy, if any, and restrictions of a stream.
    Restricts(Option<PolicyId>),
}

impl PolicyBuilder {
    /// Indexes the rules.
    pub fn build(self) -> Policy {
        let Self { name, origin, rules, backends, default_allow, max_sessions, purpose } = self;
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
            purpose,
            index,
            rule_labels,
            backend_labels,
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

    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The rules by what they look at.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// The first rule of an action that names the address or a network of it. IPv4-mapped IPv6 addresses are IPv6 here.
    pub fn address_rule(&self, action: Action, address: IpAddr) -> Option<RuleId> {
        let rules = match action {
            Action::Allow => &self.index.allow_ip,
            Action::Deny => &self.index.deny_ip,
            Action::Drop => &self.index.drop_ip,
        };
        match address {
            IpAddr::V4(v4) => rules.v4.get(v4.to_bits()).rule(),
            IpAddr::V6(v6) => rules.v6.get(v6.to_bits()).rule(),
        }
    }

    /// Whether a rule looks at countries, so that a database is needed.
    pub fn uses_countries(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.matcher, Matcher::Country(_) | Matcher::CountryOutside(_)))
    }
}
