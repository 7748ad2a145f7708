//! What no ban drops at the NIC.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::Scope;
use crate::model::Config;

/// What no ban drops at the NIC: anywhere, or on one port, where packets from a trusted proxy carry the requests of
/// others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exempt {
    never_drop: BTreeSet<IpNet>,
    /// The trusted proxies of each port that has any.
    proxies: BTreeMap<Scope, BTreeSet<IpNet>>,
    /// Every protected port.
    ports: BTreeSet<Scope>,
}

impl Exempt {
    /// What a configuration exempts.
    pub fn of(config: &Config) -> Self {
        let mut exempt = Self::never_drop(config.never_drop.iter().map(|(net, _)| *net));
        for service in &config.services {
            let port = Scope::Service { proto: service.key.proto, port: service.key.port };
            exempt = exempt.port(
                port,
                service.trust().into_iter().flat_map(|trust| trust.prefixes().map(|(net, _)| *net)),
            );
        }
        exempt
    }

    /// Prefixes that are exempt everywhere.
    pub fn never_drop(nets: impl IntoIterator<Item = IpNet>) -> Self {
        Self { never_drop: nets.into_iter().map(|net| net.trunc()).collect(), ..Self::default() }
    }

    /// And a protected port, with the trusted proxies in front of it.
    #[must_use]
    pub fn port(mut self, port: Scope, proxies: impl IntoIterator<Item = IpNet>) -> Self {
        self.ports.insert(port);
        let mut proxies = proxies.into_iter().map(|net| net.trunc()).peekable();
        if proxies.peek().is_some() {
            self.proxies.entry(port).or_default().extend(proxies);
        }
        self
    }

    /// Every protected port.
    pub(super) fn ports(&self) -> impl Iterator<Item = Scope> {
        self.ports.iter().copied()
    }

    /// The trusted proxies of all ports; none is there twice.
    pub(super) fn proxies(&self) -> BTreeSet<IpNet> {
        self.proxies.values().flatten().copied().collect()
    }

    /// What is exempt from the bans of a scope. A proxy of one port is exempt from the bans on every service: where it is
    /// none, it falls under them by entries of that port.
    pub(super) fn in_scope(&self, scope: Scope) -> BTreeSet<IpNet> {
        let proxies = match scope {
            Scope::Everywhere => self.proxies(),
            Scope::Service { .. } => self.proxies.get(&scope).cloned().unwrap_or_default(),
        };
        self.never_drop.iter().copied().chain(proxies).collect()
    }
}
