//! A configuration as the oracle sees it: streams, services, and which policies meet on a port.

use std::net::IpAddr;

use super::{CountryTable, Policy, Prefix, nic_may_drop};

/// A stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// The policy that judges its viewers, by its place; `None` when everyone may play it.
    pub on_play: Option<usize>,
    /// Whether it can be published to, and the policy that judges who does.
    pub publish: Option<Option<usize>>,
}

/// Who serves a port, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// nicgate itself, for all streams.
    Gate,
    /// Another server, for all streams.
    GuardStreams,
    /// Another server, for these policies.
    GuardPolicies(Vec<usize>),
}

/// A protected port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `tcp`, `udp` or `sctp`.
    pub proto: &'static str,
    /// The port.
    pub port: u16,
    /// Who serves it.
    pub kind: ServiceKind,
    /// The proxies in front of a gate, which name the addresses of others.
    pub proxies: Vec<Prefix>,
}

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The policies, in file order.
    pub policies: Vec<Policy>,
    /// The streams.
    pub streams: Vec<Stream>,
    /// The protected ports.
    pub services: Vec<Service>,
    /// What nothing may drop.
    pub never_drop: Vec<Prefix>,
    /// Judge and count only.
    pub shadow: bool,
    /// The country of each address.
    pub countries: CountryTable,
}

impl Config {
    /// The policies that a request to a service can meet, and whether it can meet none.
    pub fn behind(&self, service: &Service) -> (Vec<&Policy>, bool) {
        let mut policies = Vec::new();
        let mut open = false;
        match &service.kind {
            ServiceKind::GuardPolicies(places) => policies = places.clone(),
            ServiceKind::Gate | ServiceKind::GuardStreams => {
                open = self.streams.is_empty();
                for stream in &self.streams {
                    match stream.on_play {
                        Some(policy) => policies.push(policy),
                        None => open = true,
                    }
                    match stream.publish {
                        Some(Some(policy)) => policies.push(policy),
                        // nicgate itself lets nobody publish without a policy; another server may.
                        Some(None) => open |= service.kind == ServiceKind::GuardStreams,
                        None => {}
                    }
                }
            }
        }
        (policies.into_iter().map(|place| &self.policies[place]).collect(), open)
    }

    /// Whether the NIC drops an address on a service.
    pub fn drops(&self, service: &Service, address: IpAddr) -> bool {
        // A proxy's packets carry requests from any address.
        if service.proxies.iter().any(|proxy| proxy.contains(address)) {
            return false;
        }
        let (policies, open) = self.behind(service);
        nic_may_drop(&policies, open, &self.never_drop, address, self.countries.country(address))
    }

    /// Whether the NIC drops a packet that does not show which service it is for: when all drop it.
    pub fn drops_hidden(&self, address: IpAddr) -> bool {
        !self.services.is_empty() && self.services.iter().all(|service| self.drops(service, address))
    }
}
