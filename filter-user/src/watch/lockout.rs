//! Whom a table would shut out by mistake: the operator, and neighbours with open connections.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use procfs::net::TcpState;

use crate::{
    address::canonical,
    model::{Proto, ServiceKey},
    offload::Compiled,
};

/// How many addresses a warning names.
const NAMED: usize = 5;

/// The address that the SSH connection of this process comes from, if it belongs to one.
pub fn ssh_client() -> Option<IpAddr> {
    let connection = std::env::var("SSH_CONNECTION").ok()?;
    Some(canonical(connection.split_whitespace().next()?.parse().ok()?))
}

/// Warnings for an operator whose connection comes from `operator`, and for every private address with an open TCP
/// connection to a protected port: whoever they are, `compiled` drops them. Reads the connections of this network
/// namespace from /proc/net; what cannot be read is not warned of.
pub fn lockouts(compiled: &Compiled, operator: Option<IpAddr>) -> Vec<String> {
    if compiled.shadow {
        return Vec::new();
    }
    let tcp = [procfs::net::tcp(), procfs::net::tcp6()].into_iter().flatten().flatten();
    let open = tcp.filter(|entry| entry.state == TcpState::Established);
    let open = open.map(|entry| (entry.local_address, entry.remote_address));
    operator
        .and_then(|address| of_operator(compiled, address))
        .into_iter()
        .chain(of_neighbours(compiled, open))
        .collect()
}

fn of_operator(compiled: &Compiled, address: IpAddr) -> Option<String> {
    let dropped = |(index, service)| Some((service, compiled.verdict(address, index)?));
    let (service, rule) = compiled.services.iter().enumerate().find_map(dropped)?;
    let rule = compiled.rule(rule);
    Some(format!(
        "your own address {address} (SSH_CONNECTION) is dropped on {} by `{}` ({}); `never_drop {address};` keeps it in",
        service.key, rule.text, rule.origin
    ))
}

/// `open` are connections by their local and remote ends.
fn of_neighbours(
    compiled: &Compiled,
    open: impl Iterator<Item = (SocketAddr, SocketAddr)>,
) -> Option<String> {
    let mut dropped: BTreeMap<IpAddr, String> = BTreeMap::new();
    for (local, remote) in open {
        let remote = canonical(remote.ip());
        if !is_private(remote) || dropped.contains_key(&remote) {
            continue;
        }
        let Some(index) = service(compiled, canonical(local.ip()), local.port()) else { continue };
        if let Some(rule) = compiled.verdict(remote, index) {
            let rule = compiled.rule(rule);
            let by =
                format!("{remote} to {} by `{}` ({})", compiled.services[index].key, rule.text, rule.origin);
            dropped.insert(remote, by);
        }
    }
    let (count, named) = (dropped.len(), dropped.into_values().take(NAMED).collect::<Vec<_>>());
    let more = if count > NAMED { format!(", and {} more", count - NAMED) } else { String::new() };
    (count > 0).then(|| {
        format!(
            "private addresses with open connections to protected ports are dropped: {}{more}; `never_drop` keeps \
             them in",
            named.join(", ")
        )
    })
}

/// The service that packets to this local address and port are judged by.
fn service(compiled: &Compiled, address: IpAddr, port: u16) -> Option<usize> {
    let of = |address| {
        let key = ServiceKey { proto: Proto::Tcp, port, address };
        compiled.services.iter().position(|service| service.key == key)
    };
    of(Some(address)).or_else(|| of(None))
}

/// Whether an address is of a network that is not routed on the internet: RFC 1918, RFC 4193, link-local.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        address::Partition,
        model::{Origin, PolicyId},
        offload::{ClassId, Column, ColumnId, CompiledService, DropRule, DropRuleId},
    };

    /// 10.0.0.0/8, fd00::/8 and 203.0.113.9 are dropped on port 80, and on port 81 of 192.0.2.1.
    fn compiled() -> Compiled {
        let v4 = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
        let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().to_bits();
        let key = |port, address| ServiceKey { proto: Proto::Tcp, port, address };
        let services = [key(80, None), key(81, Some("192.0.2.1".parse().unwrap()))];
        let dropped_v4 = [
            (v4("10.0.0.0"), v4("10.255.255.255"), ClassId(1)),
            (v4("203.0.113.9"), v4("203.0.113.9"), ClassId(1)),
        ];
        let dropped_v6 = [(v6("fd00::"), v6("fd00::") | u128::MAX >> 8, ClassId(1))];
        Compiled {
            v4: Partition::from_sorted(dropped_v4, ClassId(0)).unwrap(),
            v6: Partition::from_sorted(dropped_v6, ClassId(0)).unwrap(),
            services: services.map(|key| CompiledService { key, column: ColumnId(0) }).to_vec(),
            columns: vec![Column { policies: Vec::new(), proxies: Vec::new(), open: None }],
            cells: vec![None, None, Some(DropRuleId(0)), Some(DropRuleId(0))],
            rules: vec![DropRule {
                policy: PolicyId(0),
                policy_name: Arc::from("viewers"),
                rule: None,
                text: Arc::from("default deny"),
                origin: Origin { file: "nicgate.conf".into(), line: 3, column: 1 },
                identity: 1,
            }],
            shadow: false,
        }
    }

    fn said(entries: &[(&str, &str)]) -> Option<String> {
        let open = entries.iter().map(|(local, remote)| (local.parse().unwrap(), remote.parse().unwrap()));
        of_neighbours(&compiled(), open)
    }

    #[test]
    fn neighbours_with_open_connections_are_named_once_and_strangers_not() {
        let two = said(&[
            ("192.0.2.7:80", "10.1.2.3:4000"),
            ("192.0.2.7:80", "10.1.2.3:4001"),
            ("[::ffff:192.0.2.7]:80", "[::ffff:10.1.2.4]:4000"),
            ("192.0.2.7:80", "203.0.113.9:4000"),
            ("192.0.2.7:80", "192.168.0.1:4000"),
            ("192.0.2.7:22", "10.1.2.5:4000"),
            ("192.0.2.7:81", "10.1.2.6:4000"),
        ]);
        let expected = "private addresses with open connections to protected ports are dropped: 10.1.2.3 to 80/tcp by \
                        `default deny` (nicgate.conf:3), 10.1.2.4 to 80/tcp by `default deny` (nicgate.conf:3); \
                        `never_drop` keeps them in";
        assert_eq!(two.as_deref(), Some(expected));
        let bound = said(&[("192.0.2.1:81", "10.1.2.6:4000")]);
        assert!(bound.is_some_and(|said| said.contains("192.0.2.1:81/tcp")));
        assert!(said(&[("[2001:db8::1]:80", "[fd00::9]:4000")]).is_some());
        assert_eq!(said(&[("192.0.2.7:80", "172.16.0.1:4000")]), None);
        let many: Vec<_> = (0..9).map(|i| format!("10.0.0.{i}:4000")).collect();
        let many: Vec<_> = many.iter().map(|remote| ("192.0.2.7:80", &**remote)).collect();
        assert!(said(&many).is_some_and(|said| said.contains(", and 4 more")));
    }

    #[test]
    fn the_operator_is_warned_unless_nothing_is_dropped() {
        let operator = Some("203.0.113.9".parse().unwrap());
        let mut compiled = compiled();
        assert!(lockouts(&compiled, operator)[0].contains("`never_drop 203.0.113.9;` keeps it in"));
        assert!(of_operator(&compiled, "203.0.113.8".parse().unwrap()).is_none());
        compiled.shadow = true;
        assert_eq!(lockouts(&compiled, operator), [""; 0]);
    }
}
