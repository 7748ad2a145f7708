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
    judge::{Decision, Verdict},
    model::{Config, Origin, PolicyId, ServiceKey, Stage},
};

/// One gate: its key, and what it has counted since the process started. Reloads do not reset it.
#[derive(Debug)]
pub(super) struct GateState {
    pub(super) key: ServiceKey,
    pub(super) connections_open: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) allowed: AtomicU64,
    pub(super) denied: AtomicU64,
    pub(super) banned: AtomicU64,
    pub(super) not_found: AtomicU64,
    pub(super) bad_requests: AtomicU64,
    pub(super) client_gone: AtomicU64,
    pub(super) upstream_faults: AtomicU64,
    pub(super) server_errors: AtomicU64,
    pub(super) cut: AtomicU64,
    pub(super) bytes_received: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    rules: Mutex<HashMap<RuleKey, (Origin, u64)>>,
}

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

/// What a gate has counted since the process started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateCounters {
    /// The gate.
    pub service: ServiceKey,
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections that are open now.
    pub connections_open: u64,
    /// Connections ever accepted.
    pub connections: u64,
    /// Connections closed at once because their address, or all together, had too many.
    pub connections_refused: u64,
    /// Requests, ambiguous ones included.
    pub requests: u64,
    /// Requests that were admitted.
    pub allowed: u64,
    /// Requests that were denied; in shadow mode they were forwarded nevertheless.
    pub denied: u64,
    /// Those of them that came from a banned address.
    pub banned: u64,
    /// Requests for a path that no stream has.
    pub not_found: u64,
    /// Requests that were malformed, ambiguous, too large or too slow.
    pub bad_requests: u64,
    /// Requests whose client went away before its answer began, or broke its body off.
    #[serde(default)]
    pub client_gone: u64,
    /// Requests that the upstream did not answer: 502 and 504.
    pub upstream_faults: u64,
    /// Answers with a status from 500 on, the upstream's own included.
    pub server_errors: u64,
    /// Live transfers that were cut.
    pub cut: u64,
    /// Bytes of request bodies and upgraded connections.
    pub bytes_received: u64,
    /// Bytes of response bodies and upgraded connections.
    pub bytes_sent: u64,
    /// What decided, the most frequent first.
    pub rules: Vec<RuleCount>,
}

impl GateCounters {
    /// Every figure with its name, for people.
    pub fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("connections_open", self.connections_open),
            ("connections", self.connections),
            ("connections_refused", self.connections_refused),
            ("requests", self.requests),
            ("allowed", self.allowed),
            ("denied", self.denied),
            ("banned", self.banned),
            ("not_found", self.not_found),
            ("bad_requests", self.bad_requests),
            ("client_gone", self.client_gone),
            ("upstream_faults", self.upstream_faults),
            ("server_errors", self.server_errors),
            ("cut", self.cut),
            ("bytes_received", self.bytes_received),
            ("bytes_sent", self.bytes_sent),
        ]
        .into_iter()
    }
}

pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl GateState {
    pub(super) fn new(key: ServiceKey) -> Self {
        Self {
            key,
            connections_open: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            allowed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            banned: AtomicU64::new(0),
            not_found: AtomicU64::new(0),
            bad_requests: AtomicU64::new(0),
            client_gone: AtomicU64::new(0),
            upstream_faults: AtomicU64::new(0),
            server_errors: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            rules: Mutex::default(),
        }
    }

    pub(super) fn decided(&self, config: &Config, policy: PolicyId, decision: Decision) {
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
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
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
        GateCounters {
            service: self.key,
            address,
            connections_open: get(&self.connections_open),
            connections: get(&self.connections),
            connections_refused: get(&self.connections_refused),
            requests: get(&self.requests),
            allowed: get(&self.allowed),
            denied: get(&self.denied),
            banned: get(&self.banned),
            not_found: get(&self.not_found),
            bad_requests: get(&self.bad_requests),
            client_gone: get(&self.client_gone),
            upstream_faults: get(&self.upstream_faults),
            server_errors: get(&self.server_errors),
            cut: get(&self.cut),
            bytes_received: get(&self.bytes_received),
            bytes_sent: get(&self.bytes_sent),
            rules,
        }
    }
}
