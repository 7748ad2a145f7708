//! The addresses of this host, as the kernel tells them in `/proc`.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The addresses of this host, without those that no other host can reach. Where the kernel does not tell, none.
pub fn own_addresses() -> Vec<IpAddr> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (trie, interfaces) = (read("/proc/net/fib_trie"), read("/proc/net/if_inet6"));
    let v4 = local_v4(&trie).map(IpAddr::V4);
    let v6 = local_v6(&interfaces).map(IpAddr::V6);
    let mut addresses: Vec<IpAddr> = v4.chain(v6).filter(|address| reachable(*address)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

/// An address, on the next line what it is.
fn local_v4(trie: &str) -> impl Iterator<Item = Ipv4Addr> {
    let mut address = None;
    trie.lines().filter_map(move |line| match line.trim_start().split_once(' ') {
        Some(("|--", text)) => {
            address = text.trim().parse().ok();
            None
        }
        Some(("/32", what)) if what.trim() == "host LOCAL" => address,
        _ => None,
    })
}

/// An address in 32 digits, and what belongs to it.
fn local_v6(interfaces: &str) -> impl Iterator<Item = Ipv6Addr> {
    let digits = interfaces.lines().filter_map(|line| line.split_whitespace().next());
    digits.filter(|digits| digits.len() == 32).filter_map(|digits| {
        let bits = u128::from_str_radix(digits, 16).ok()?;
        Some(Ipv6Addr::from_bits(bits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_found_in_what_the_kernel_tells() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 192.0.2.0/24 2 0 2\n        \
                    |-- 192.0.2.0\n           /24 link UNICAST\n        |-- 192.0.2.2\n           /32 host LOCAL\n        \
                    |-- 192.0.2.255\n           /32 link BROADCAST\nLocal:\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        let found: Vec<_> = local_v4(trie).collect();
        assert_eq!(found, [Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::LOCALHOST]);
        let interfaces = "20010db8000000000000000000000001 02 40 00 80     eth0\n\
                          00000000000000000000000000000001 01 80 10 80       lo\nnonsense\n";
        let found: Vec<_> = local_v6(interfaces).collect();
        assert_eq!(found, ["2001:db8::1", "::1"].map(|text| text.parse::<Ipv6Addr>().unwrap()));
    }

    #[test]
    fn only_what_others_can_reach_counts() {
        assert!(own_addresses().into_iter().all(reachable));
        assert!(!reachable("fe80::1".parse().unwrap()) && !reachable("127.0.0.2".parse().unwrap()));
        assert!(reachable("10.0.0.1".parse().unwrap()));
    }
}
