//! What requests are judged by.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use serde::{Deserialize, Serialize};

use crate::model::{Authority, Config, Countries, Policy};

/// Everything that a judgement needs, as one value that a reload replaces whole.
pub struct Snapshot {
    /// The configuration.
    pub config: Config,
    /// The country database, or `()`.
    pub countries: Box<dyn Countries>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What a cached verdict of the backends depends on. A verdict is used only while this stays the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of(policy: &Policy) -> Self {
        let mut hasher = DefaultHasher::new();
        policy.name().hash(&mut hasher);
        policy.default_allow().is_some().hash(&mut hasher);
        for backend in policy.backends() {
            match &backend.authority {
                Authority::Http(url) => (0, url.as_str(), &backend.options.headers).hash(&mut hasher),
                Authority::Iptv => 1.hash(&mut hasher),
                Authority::Script(path) => (3, &**path).hash(&mut hasher),
                Authority::SecureToken(key) => (2, &**key).hash(&mut hasher),
            }
        }
        Self(hasher.finish())
    }
}
