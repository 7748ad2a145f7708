//! Random addresses, most of them at the edges of what a configuration names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::{collection::vec, prelude::*, sample::Index};

use crate::oracle::{Config, Policy, Prefix, Value, mapped_to_v4};

fn next_to(address: IpAddr, up: bool) -> IpAddr {
    let step = |bits: u128| if up { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(step(v4.to_bits().into()) as u32).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(step(v6.to_bits())).into(),
    }
}

fn prefixes(policy: &Policy) -> Vec<Prefix> {
    let of_rule = |value: &Value| match value {
        Value::Ip(prefix) => vec![*prefix],
        Value::IpFile(_, prefixes) => prefixes.clone(),
        _ => Vec::new(),
    };
    policy.rules.iter().flat_map(|rule| of_rule(&rule.value)).collect()
}

/// The addresses on both sides of every edge of every prefix, ends of the spaces included. An IPv6
/// address in `::ffff:0:0/96` is left out: it is an IPv4 address.
pub fn edges(config: &Config) -> Vec<IpAddr> {
    let countries = config.countries.0.iter().map(|(prefix, _)| *prefix);
    let proxies = config.services.iter().flat_map(|service| service.proxies.iter().copied());
    let all =
        config.policies.iter().flat_map(prefixes).chain(config.never_drop.iter().copied()).chain(proxies);
    let ends = [
        IpAddr::V4(Ipv4Addr::from_bits(0)),
        IpAddr::V4(Ipv4Addr::from_bits(u32::MAX)),
        IpAddr::V6(Ipv6Addr::from_bits(0)),
        IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
    ];
    let mut edges: Vec<IpAddr> = all
        .chain(countries)
        .flat_map(|prefix| {
            let (first, last) = (prefix.first(), prefix.last());
            [next_to(first, false), first, last, next_to(last, true)]
        })
        .chain(ends)
        .filter(|address| mapped_to_v4(*address) == *address)
        .collect();
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// An address to try a configuration with; separate from the configuration, so that both shrink.
#[derive(Clone, Debug)]
pub enum Pick {
    /// One of its edges.
    Edge(Index),
    /// One of its edges, in the IPv4-mapped form when it is IPv4.
    Mapped(Index),
    /// Any address.
    Random(IpAddr),
}

impl Pick {
    /// The address in a configuration with these edges.
    pub fn of(&self, edges: &[IpAddr]) -> IpAddr {
        match self {
            Self::Edge(index) => *index.get(edges),
            Self::Mapped(index) => match *index.get(edges) {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
                v6 => v6,
            },
            Self::Random(address) => *address,
        }
    }
}

/// Edges for the most part, some of them IPv4-mapped, and random addresses.
pub fn picks(count: usize) -> impl Strategy<Value = Vec<Pick>> {
    let pick = prop_oneof![
        8 => any::<Index>().prop_map(Pick::Edge),
        1 => any::<Index>().prop_map(Pick::Mapped),
        2 => any::<IpAddr>().prop_map(Pick::Random),
    ];
    vec(pick, count)
}
