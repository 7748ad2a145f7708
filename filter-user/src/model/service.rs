//! Protected ports.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Gate, Origin, PolicyId, Trust};

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A protected port, shown as `80/tcp`, or `192.0.2.1:80/tcp` when only one local address is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The transport protocol.
    pub proto: Proto,
    /// The local port.
    pub port: u16,
    /// The local address; `None` for every address that no other service on this port names.
    pub address: Option<IpAddr>,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => write!(f, "{}/{}", self.port, self.proto),
            Some(address) => write!(f, "{}/{}", SocketAddr::new(address, self.port), self.proto),
        }
    }
}

/// A text that is no `PORT/PROTO` or `ADDRESS:PORT/PROTO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAService(pub(crate) String);

impl fmt::Display for NotAService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no service: write it as 80/tcp, 9998/udp or 5000/sctp", self.0.escape_debug())
    }
}

impl std::error::Error for NotAService {}

/// Reads what [`fmt::Display`] writes.
impl FromStr for ServiceKey {
    type Err = NotAService;

    fn from_str(text: &str) -> Result<Self, NotAService> {
        let wrong = || NotAService(text.to_owned());
        let (place, proto) = text.rsplit_once('/').ok_or_else(wrong)?;
        let proto = match proto {
            "tcp" => Proto::Tcp,
            "udp" => Proto::Udp,
            "sctp" => Proto::Sctp,
            _ => return Err(wrong()),
        };
        // `parse` would take a sign.
        if !place.bytes().all(|byte| byte.is_ascii_digit()) {
            let place: SocketAddr = place.parse().map_err(|_| wrong())?;
            return Ok(Self { proto, port: place.port(), address: Some(place.ip()) });
        }
        let port = place.parse().map_err(|_| wrong())?;
        Ok(Self { proto, port, address: None })
    }
}

impl Serialize for ServiceKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServiceKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Why a port admits requests that no policy judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenReason {
    /// This stream can be played without a policy.
    PlayWithoutPolicy(Arc<str>, Origin),
    /// This stream can be published to without a policy.
    PublishWithoutPolicy(Arc<str>, Origin),
    /// Streams of this other server (`source HOST { }`) appear here under any name, without a policy.
    OtherServer(Arc<str>, Origin),
    /// The port serves the streams of the configuration, and there are none.
    NoStreams,
}

/// Who serves a protected port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// nicgate's own HTTP listener.
    Gate(Gate),
    /// Another server; nicgate protects it at the NIC only.
    Guard,
}

/// A protected port and the policies that its requests can meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The port.
    pub key: ServiceKey,
    /// Who serves it.
    pub kind: ServiceKind,
    /// P(S): every policy that a request to the port can be judged by; sorted, without duplicates.
    pub policies: Vec<PolicyId>,
    /// Set when a request to the port can meet no policy at all, so that nothing may be dropped.
    pub open: Option<OpenReason>,
    /// The directive.
    pub origin: Origin,
}

impl Service {
    /// Proxies in front of it, whose packets carry the requests of others; `None` where there are none.
    pub fn trust(&self) -> Option<&Trust> {
        match &self.kind {
            ServiceKind::Gate(gate) => Some(&gate.trust).filter(|trust| !trust.is_empty()),
            ServiceKind::Guard => None,
        }
    }

    /// The trusted proxy that an address is on this port, by the prefix that lists it.
    pub fn proxy(&self, peer: IpAddr) -> Option<&(IpNet, Origin)> {
        self.trust()?.of(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read_as_they_are_written() {
        for text in ["80/tcp", "0/tcp", "9998/udp", "65535/sctp", "192.0.2.1:80/tcp", "[2001:db8::1]:80/tcp"]
        {
            assert_eq!(text.parse::<ServiceKey>().unwrap().to_string(), text);
        }
        for wrong in ["", "80", "tcp/80", "+80/tcp", "65536/tcp", "80/icmp", "80/TCP", "host:80/tcp", "/tcp"]
        {
            assert!(wrong.parse::<ServiceKey>().is_err(), "{wrong}");
        }
    }
}
