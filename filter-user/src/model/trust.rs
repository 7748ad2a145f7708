//! Proxies in front of a gate, and what they are believed.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::Origin;
use crate::address::canonical;

/// The header in which a proxy names the address of its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressHeader {
    /// A list of addresses, to whose end each proxy adds the one that it saw.
    #[default]
    XForwardedFor,
    /// One address.
    XRealIp,
    /// The same list as a standard (RFC 7239): `for=192.0.2.1;proto=https, …`.
    Forwarded,
    /// One address, as Cloudflare sets it.
    CfConnectingIp,
}

impl AddressHeader {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::XForwardedFor, Self::XRealIp, Self::Forwarded, Self::CfConnectingIp];

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::XRealIp => "x-real-ip",
            Self::Forwarded => "forwarded",
            Self::CfConnectingIp => "cf-connecting-ip",
        }
    }

    /// Its name as people write it.
    pub fn written(self) -> &'static str {
        match self {
            Self::XForwardedFor => "X-Forwarded-For",
            Self::XRealIp => "X-Real-IP",
            Self::Forwarded => "Forwarded",
            Self::CfConnectingIp => "CF-Connecting-IP",
        }
    }
}

impl fmt::Display for AddressHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.written())
    }
}

/// Proxies that name the address of their client in a header: `real_ip`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealIp {
    /// The proxies, each prefix with where it stands.
    pub from: Vec<(IpNet, Origin)>,
    /// The header that they set.
    pub header: AddressHeader,
}

/// Whom a gate believes what it says of the address of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Those who name it in a header of every request.
    pub real_ip: Vec<RealIp>,
    /// Those who announce it once, at the start of a connection (the PROXY protocol).
    pub proxy_protocol: Vec<(IpNet, Origin)>,
}

impl Trust {
    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.prefixes().next().is_none()
    }

    /// Every trusted prefix, and where it stands.
    pub fn prefixes(&self) -> impl Iterator<Item = &(IpNet, Origin)> {
        self.real_ip.iter().flat_map(|proxies| &proxies.from).chain(&self.proxy_protocol)
    }

    /// The prefix by which an address is trusted: one connection from it carries many clients.
    ///
    /// What is counted or limited for each address is not counted for such a peer, and the NIC never drops it.
    pub fn of(&self, peer: IpAddr) -> Option<&(IpNet, Origin)> {
        let peer = canonical(peer);
        self.prefixes().find(|(net, _)| net.contains(&peer))
    }

    /// Whether an address is that of a trusted proxy.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.of(peer).is_some()
    }

    /// Whether a connection from this peer begins with a header of the PROXY protocol.
    pub fn announces(&self, peer: IpAddr) -> bool {
        let peer = canonical(peer);
        self.proxy_protocol.iter().any(|(net, _)| net.contains(&peer))
    }

    /// The header in which this peer names the address of its client.
    pub fn header_of(&self, peer: IpAddr) -> Option<AddressHeader> {
        let peer = canonical(peer);
        let names = |proxies: &&RealIp| proxies.from.iter().any(|(net, _)| net.contains(&peer));
        self.real_ip.iter().find(names).map(|proxies| proxies.header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_trusted_for_what_it_is_listed_for() {
        let nets = |nets: &[&str]| {
            let origin = |line| Origin { file: "f".into(), line, column: 1 };
            nets.iter().zip(1..).map(|(net, line)| (net.parse().unwrap(), origin(line))).collect()
        };
        let trust = Trust {
            real_ip: vec![
                RealIp { from: nets(&["192.0.2.0/28"]), header: AddressHeader::XRealIp },
                RealIp { from: nets(&["192.0.2.0/24", "2001:db8::/64"]), header: AddressHeader::Forwarded },
            ],
            proxy_protocol: nets(&["203.0.113.1/32", "192.0.2.200/32"]),
        };
        let header = |peer: &str| trust.header_of(peer.parse().unwrap());
        assert_eq!(header("192.0.2.1"), Some(AddressHeader::XRealIp), "the first that lists it");
        assert_eq!(header("::ffff:192.0.2.100"), Some(AddressHeader::Forwarded));
        assert_eq!(header("2001:db8::5"), Some(AddressHeader::Forwarded));
        assert_eq!(header("203.0.113.1"), None);
        let announces = |peer: &str| trust.announces(peer.parse().unwrap());
        assert!(announces("203.0.113.1") && announces("192.0.2.200") && !announces("192.0.2.1"));
        let of =
            |peer: &str| trust.of(peer.parse().unwrap()).map(|(net, origin)| (net.to_string(), origin.line));
        assert_eq!(of("192.0.2.1"), Some(("192.0.2.0/28".into(), 1)));
        assert_eq!(of("203.0.113.1"), Some(("203.0.113.1/32".into(), 1)));
        assert_eq!(of("203.0.113.2"), None);
        assert!(Trust::default().is_empty() && !trust.is_empty());
    }
}
