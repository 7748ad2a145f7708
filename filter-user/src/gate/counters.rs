//! What a gate has counted.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    judge::{Decision, Ground, Verdict},
    model::{Config, Origin, PolicyId, ServiceKey, Stage},
    session::{Admission, Snapshot},
};

/// What stays the same when a reload moves a rule to another line.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RuleKey {
    policy: Arc<str>,
    verdict: Verdict,
    stage: Stage,
    rule: Option<Arc<str>>,
}

/// How often a rule, the backends, or the default decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    /// The policy's name.
    pub policy: Arc<str>,
    /// What was decided.
    pub verdict: Verdict,
    /// The step that decided.
    pub stage: Stage,
    /// The rule as written; `None` for the backends and the default.
    pub rule: Option<Arc<str>>,
    /// Where the rule, or else the policy, stands.
    pub origin: Origin,
    /// Requests.
    pub count: u64,
}

/// Defines a gate's counters, once: as they count, as they are read, and by their names.
macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// One gate: its key, and what it has counted since the process started. Reloads do not reset it.
        #[derive(Debug)]
        pub(super) struct GateState {
            pub(super) key: ServiceKey,
            $(pub(super) $name: AtomicU64,)*
            rules: Mutex<HashMap<RuleKey, (Origin, u64)>>,
        }

        /// What a gate has counted since the process started.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct GateCounters {
            /// The gate.
            pub service: ServiceKey,
            /// Where it listens.
            pub address: SocketAddr,
            $($(#[$meta])* pub $name: u64,)*
            /// What decided, the most frequent first.
            pub rules: Vec<RuleCount>,
        }

        impl GateState {
            pub(super) fn new(key: ServiceKey) -> Self {
                Self { key, $($name: AtomicU64::new(0),)* rules: Mutex::default() }
            }

            fn read(&self, address: SocketAddr, rules: Vec<RuleCount>) -> GateCounters {
                GateCounters {
                    service: self.key,
                    address,
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    rules,
                }
            }
        }

        impl GateCounters {
            /// Every figure with its name, for people.
            pub fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Connections that are open now.
    connections_open,
    /// Connections ever accepted.
    connections,
    /// Connections answered 503 and closed at once because their address, or all together, had too many.
    connections_refused,
    /// Connections closed while they waited for a request, to make room for others.
    #[serde(default)]
    connections_closed_idle,
    /// Requests, ambiguous ones included.
    requests,
    /// Requests that were admitted.
    allowed,
    /// Requests that were denied; in shadow mode they were forwarded nevertheless.
    denied,
    /// Those of them that came from a banned address.
    banned,
    /// Requests that a limit of nicgate's own kept from being judged: 503. `limits` says which.
    #[serde(default)]
    limited,
    /// Requests for a path that no stream has.
    not_found,
    /// Requests that were malformed, ambiguous, too large or too slow.
    bad_requests,
    /// Requests whose address a trusted proxy named or announced.
    #[serde(default)]
    proxied,
    /// Requests and connections refused on account of what a proxy said of its client: malformed, missing or ambiguous, or
    /// from a proxy that is not trusted.
    #[serde(default)]
    proxies_refused,
    /// Requests whose client went away before its answer began, or broke its body off.
    #[serde(default)]
    client_gone,
    /// Requests that the upstream did not answer: 502 and 504.
    upstream_faults,
    /// Answers with a status from 500 on, the upstream's own included.
    server_errors,
    /// Live transfers that were cut.
    cut,
    /// Playlists and manifests that the player's token was written into.
    #[serde(default)]
    manifests,
    /// Those that passed as they were because they were compressed, too long, or could not be read.
    #[serde(default)]
    manifests_unread,
    /// Bytes of request bodies and upgraded connections.
    bytes_received,
    /// Bytes of response bodies and upgraded connections.
    bytes_sent,
}

pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl GateState {
    /// Counts what became of a request that was judged.
    pub(super) fn judged(&self, snapshot: &Snapshot, admission: &Admission) {
        match admission.judgement.ground {
            Ground::NoStream => add(&self.not_found, 1),
            Ground::Open => add(&self.allowed, 1),
            Ground::Closed | Ground::NoToken | Ground::Refused(_) => add(&self.denied, 1),
            // Nobody was denied: it was not judged.
            Ground::Limited(_) => add(&self.limited, 1),
            Ground::Banned => {
                add(&self.denied, 1);
                add(&self.banned, 1);
                if let Some(ban) = &admission.judgement.ban {
                    add(&ban.refused, 1);
                }
            }
            Ground::Judged(id, decision) => {
                add(if decision.verdict == Verdict::Allow { &self.allowed } else { &self.denied }, 1);
                self.decided(&snapshot.config, id, decision);
            }
        }
    }

    fn decided(&self, config: &Config, policy: PolicyId, decision: Decision) {
        let policy = config.policy(policy);
        let rule = decision.rule.map(|id| policy.rule(id));
        let key = RuleKey {
            policy: policy.name().clone(),
            verdict: decision.verdict,
            stage: decision.stage,
            rule: decision.rule.map(|id| policy.label(id).clone()),
        };
        let origin = rule.map_or(policy.origin(), |rule| &rule.origin);
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let count = rules.entry(key).or_insert_with(|| (origin.clone(), 0));
        count.1 += 1;
        if count.0 != *origin {
            count.0 = origin.clone();
        }
    }

    /// Forgets rules that the configuration no longer has.
    pub(super) fn retain(&self, config: &Config) {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.retain(|key, _| {
            config.policy_named(&key.policy).is_some_and(|id| {
                key.rule.as_ref().is_none_or(|rule| config.policy(id).labels().contains(rule))
            })
        });
    }

    pub(super) fn snapshot(&self, address: SocketAddr) -> GateCounters {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rules: Vec<RuleCount> = rules
            .iter()
            .map(|(key, (origin, count))| RuleCount {
                policy: key.policy.clone(),
                verdict: key.verdict,
                stage: key.stage,
                rule: key.rule.clone(),
                origin: origin.clone(),
                count: *count,
            })
            .collect();
        rules.sort_by(|a, b| {
            (b.count, &a.policy, a.stage, &a.rule).cmp(&(a.count, &b.policy, b.stage, &b.rule))
        });
        self.read(address, rules)
    }
}
