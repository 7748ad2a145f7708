//! A whole configuration.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::{
    Engine, Interface, Limits, Origin, Policy, PolicyId, Service, ServiceKey, SessionSettings, Stream,
};

/// A port that the media server itself listens on, found in its own configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The directive's name: `http`, `rtmp`, `admin_http` …
    pub directive: Arc<str>,
    /// The port.
    pub key: ServiceKey,
    /// The directive.
    pub origin: Origin,
}

/// A whole configuration: everything that nicgate enforces.
#[derive(Clone, Debug)]
pub struct Config {
    /// Every `auth_backend`, and one implied policy for each `on_play` that names a URL; by [`PolicyId`].
    pub policies: Vec<Policy>,
    /// Every stream, by name; use [`Config::stream_for`] to find one.
    pub streams: HashMap<Arc<str>, Stream>,
    /// Every protected port, in file order.
    pub services: Vec<Service>,
    /// Where the program is attached, in file order.
    pub interfaces: Vec<Interface>,
    /// Addresses that nothing may drop at the NIC.
    pub never_drop: Vec<(IpNet, Origin)>,
    /// How the NIC's program looks up addresses.
    pub engine: Engine,
    /// Judge and count, drop nothing.
    pub shadow: bool,
    /// Refuse lists that would deny everybody, and reloads that empty a list of addresses to be denied.
    pub list_guard: bool,
    /// Refuse the whole configuration where a list or the database cannot be used, and not that part alone.
    pub all_or_nothing: bool,
    /// The country database.
    pub geoip: Option<(PathBuf, Origin)>,
    /// The query parameter that carries the token; `token` unless `auth_token` says otherwise.
    pub token_name: Arc<str>,
    /// Refuse requests without a token.
    pub no_auto_token: bool,
    /// How long a backend may take in all, connect included.
    pub backend_timeout: Duration,
    /// How sessions are kept.
    pub sessions: SessionSettings,
    /// Limits of nicgate's own, where they are set.
    pub limits: Limits,
    /// Ports of the media server itself.
    pub listeners: Vec<Listener>,
    /// Every file that was read, the main one first.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// The policy behind an id.
    pub fn policy(&self, id: PolicyId) -> &Policy {
        &self.policies[id.0 as usize]
    }

    /// Finds a policy by its name.
    pub fn policy_named(&self, name: &str) -> Option<PolicyId> {
        self.policies.iter().position(|policy| &**policy.name() == name).map(|i| PolicyId(i as u32))
    }

    /// The stream whose name is the longest prefix of `path` on a `/` boundary.
    ///
    /// `path` is normalised and has no leading `/`.
    pub fn stream_for(&self, path: &str) -> Option<&Stream> {
        let mut candidate = path;
        loop {
            if let Some(stream) = self.streams.get(candidate) {
                return Some(stream);
            }
            match candidate.rfind('/') {
                Some(slash) => candidate = &candidate[..slash],
                // `prefix "";` in a template: every name.
                None => return self.streams.get(""),
            }
        }
    }

    /// Whether any rule looks at countries.
    pub fn uses_countries(&self) -> bool {
        self.policies.iter().any(Policy::uses_countries)
    }
}
