//! Whom a table would shut out by mistake: the operator, and neighbours with open connections.

use std::{collections::BTreeMap, net::IpAddr};

use procfs::net::{TcpNetEntry, TcpState};

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
    connection.split_whitespace().next()?.parse().ok()
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
    operator
        .and_then(|address| of_operator(compiled, address))
        .into_iter()
        .chain(of_neighbours(compiled, open))
        .collect()
}

fn of_operator(compiled: &Compiled, address: IpAddr) -> Option<String> {
    let dropped = |(index, _): &(usize, _)| compiled.verdict(address, *index).is_some();
    let (index, service) = compiled.services.iter().enumerate().find(dropped)?;
    let rule = compiled.rule(compiled.verdict(address, index)?);
    Some(format!(
        "your own address {address} (SSH_CONNECTION) is dropped on {} by `{}` ({}); `never_drop {address};` keeps it in",
        service.key, rule.text, rule.origin
    ))
}

fn of_neighbours(compiled: &Compiled, open: impl Iterator<Item = TcpNetEntry>) -> Option<String> {
    let mut dropped: BTreeMap<IpAddr, String> = BTreeMap::new();
    for entry in open {
        let (local, remote) = (entry.local_address, canonical(entry.remote_address.ip()));
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
