//! What the maps take of the kernel's memory: a size, not a time, so it is the same on every machine.

use std::net::Ipv4Addr;

use filter_user::{
    kernel::Unattached,
    model::{Engine, Proto},
    offload::Compiled,
};
use ipnet::{IpNet, Ipv4Net};
use kit::tables::Table;
use kit::{objects, rights};

/// What each processor adds: counters of its own.
const PER_PROCESSOR: u64 = 260 << 10;

/// For a million IPv4 prefixes, both generations, without what each processor adds: 64 MB with two of them.
const MILLION: u64 = 64_000_000 - 2 * PER_PROCESSOR;

/// For a policy of a hundred rules, the same: 2 MB with two processors.
const HUNDRED: u64 = 2_000_000 - 2 * PER_PROCESSOR;

/// As many rules, each of which denies as many prefixes, scattered over all of IPv4.
fn scattered(rules: u32, prefixes: u32) -> Compiled {
    let mut table = Table::new(1).service(Proto::Tcp, 80, None, 0).service(Proto::Tcp, 443, None, 0);
    let mut nets = Vec::new();
    for rule in 0..rules {
        let text = table.rule(&format!("deny ip file \"{rule}\""), rule + 1);
        let class = table.class(vec![Some(text)]);
        nets.extend((rule * prefixes..(rule + 1) * prefixes).map(|n| {
            // An odd factor: no address comes twice. What makes /24s of three in eight, as blocklists have.
            let address = Ipv4Addr::from_bits(n.wrapping_mul(2_654_435_761));
            let len = [24, 32, 32, 24, 28, 32, 24, 32][n as usize % 8];
            (IpNet::from(Ipv4Net::new(address, len).expect("no length is over 32").trunc()), class)
        }));
    }
    table.nets(nets).compiled()
}

/// The maps' bytes once both generations hold the table.
fn bytes(compiled: &Compiled) -> u64 {
    rights::need_root();
    let mut bench = Unattached::new(Engine::Flat).expect("the program loads");
    for generation in 1..=2 {
        assert_eq!(bench.publish(compiled).expect("the table fits").generation, generation);
    }
    let status = bench.status().expect("the maps can be read");
    assert!(status.v4.complete() && status.v4.installed > 0, "{status:?}");
    objects::memory(&bench.maps().expect("the kernel tells")).expect("the kernel tells")
}

fn check(what: &str, bytes: u64, bound: u64) {
    let processors = aya::util::nr_cpus().expect("the kernel tells") as u64;
    let bound = bound + processors * PER_PROCESSOR;
    println!("{what}: {bytes} bytes of {bound}, with {processors} processors");
    assert!(bytes <= bound, "{what} take {bytes} bytes of the kernel's memory, over {bound}");
}

#[test]
fn a_million_prefixes_fit() {
    let compiled = scattered(1, 1_000_000);
    let bytes = bytes(&compiled);
    // They really are that many, and every one needs at least its start, twice.
    assert!(bytes > 8 * compiled.v4.pieces() as u64, "{bytes}");
    check("a million prefixes", bytes, MILLION);
}

#[test]
fn a_policy_of_a_hundred_rules_is_small() {
    let bytes = bytes(&scattered(100, 2));
    check("a hundred rules", bytes, HUNDRED);
}
