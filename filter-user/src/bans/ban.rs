//! A ban, and where it holds.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, atomic::AtomicU64},
};

use ipnet::IpNet;

use super::Boottime;
use crate::model::{NotAService, Proto, ServiceKey};

/// Where a ban holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// On every protected port.
    Everywhere,
    /// On one, whatever the local address.
    Service {
        /// The transport protocol.
        proto: Proto,
        /// The local port.
        port: u16,
    },
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere => f.write_str("every service"),
            Self::Service { proto, port } => write!(f, "{port}/{proto}"),
        }
    }
}

impl Scope {
    /// The service as `80/tcp`; `None` for every one.
    pub fn service(self) -> Option<String> {
        match self {
            Self::Everywhere => None,
            Self::Service { .. } => Some(self.to_string()),
        }
    }

    /// From what [`Self::service`] gives.
    ///
    /// # Errors
    ///
    /// The text is no service.
    pub fn of_service(service: Option<&str>) -> Result<Self, NotAService> {
        service.map_or(Ok(Self::Everywhere), str::parse)
    }
}

impl FromStr for Scope {
    type Err = NotAService;

    fn from_str(text: &str) -> Result<Self, NotAService> {
        match text.parse()? {
            ServiceKey { proto, port: port @ 1.., address: None } => Ok(Self::Service { proto, port }),
            _ => Err(NotAService(text.to_owned())),
        }
    }
}

/// What makes a ban this one: there is at most one for a prefix in a scope.
pub type Place = (Scope, IpNet);

/// A ban.
#[derive(Clone, Debug)]
pub struct Ban {
    /// Its number, by which the kernel counts; never 0, and no other ban's while this one is in force.
    pub id: u32,
    /// The addresses; without host bits.
    pub net: IpNet,
    /// Where it holds.
    pub scope: Scope,
    /// When it ends; `None` for never.
    pub until: Option<Boottime>,
    /// Why, in the operator's words.
    pub reason: Option<Arc<str>>,
    /// When it was made, in seconds since 1970; 0 when nobody knows any more.
    pub made_at: u64,
    /// Requests that gates refused on account of it, since the process started.
    pub refused: Arc<AtomicU64>,
}

impl Ban {
    /// What makes it this one.
    pub fn place(&self) -> Place {
        (self.scope, self.net)
    }

    /// Whether it is in force.
    pub fn holds(&self, now: Boottime) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    /// Whether it ends later than that.
    pub(super) fn outlasts(&self, until: Option<Boottime>) -> bool {
        match (self.until, until) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(own), Some(other)) => own > other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_a_port_and_a_protocol() {
        for text in ["80/tcp", "9998/udp", "65535/sctp"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for wrong in
            ["", "80", "tcp/80", "0/tcp", "+80/tcp", "65536/tcp", "80/icmp", "192.0.2.1:80/tcp", "80/TCP"]
        {
            assert!(wrong.parse::<Scope>().is_err(), "{wrong}");
        }
    }
}
