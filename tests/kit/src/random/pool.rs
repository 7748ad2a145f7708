//! What rules are made from. Few values, so that random rules meet the same request.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::{prelude::*, sample::select};

use crate::oracle::{CountryTable, Prefix};

const TOKENS: [&str; 5] = ["t1", "t2", "test_token1", "with space", "T1"];
const UAS: [&str; 5] = ["MAG", "AG", "mag", "TVIP/1", "Mozilla/5.0 (Windows; U; \"rv:\\"];
const COUNTRIES: [&str; 6] = ["US", "RU", "GB", "us", "Ru", "unknown"];

/// Prefixes that belong to a country, when they belong to one. Disjoint, and with edges in common with
/// the prefixes of rules.
const NETWORKS: [&str; 14] = [
    "0.0.0.0/32",
    "10.10.0.0/17",
    "10.10.128.0/17",
    "10.11.0.0/16",
    "128.0.0.0/2",
    "192.0.2.128/25",
    "255.255.255.255/32",
    "::/128",
    "2001:db8::/48",
    "2001:db8:1::/48",
    "2001:db8:2::/64",
    "2001:db8:2:1::/64",
    "2002::/16",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
];

/// One of the few tokens.
pub fn token() -> impl Strategy<Value = String> {
    select(&TOKENS[..]).prop_map(str::to_owned)
}

/// One of the few tokens that can stand in a list file.
pub fn listed_token() -> impl Strategy<Value = String> {
    token().prop_map(|token| token.replace(' ', "#"))
}

/// One of the few parts of User-Agents.
pub fn ua() -> impl Strategy<Value = String> {
    select(&UAS[..]).prop_map(str::to_owned)
}

/// One of the few countries, in either case, or none.
pub fn country() -> impl Strategy<Value = String> {
    select(&COUNTRIES[..]).prop_map(str::to_owned)
}

/// A prefix: nested in, next to, equal to or far from others.
pub fn prefix() -> impl Strategy<Value = Prefix> {
    let v4 = select(vec![
        0u32,
        0x0a00_0000,
        0x0a0a_0000,
        0x0a0a_0001,
        0x0a0a_0a80,
        0x0a0a_8000,
        0x0a0b_0000,
        0x7fff_ffff,
        0x8000_0000,
        0xac10_0000,
        0xc000_0280,
        u32::MAX,
    ]);
    let v4 = (prop_oneof![9 => v4, 1 => any::<u32>()], len(&[0, 1, 7, 8, 15, 16, 17, 24, 25, 31, 32]));
    let v4 = v4.prop_map(|(bits, len)| Prefix { address: Ipv4Addr::from_bits(bits).into(), len });
    let v6 = select(vec![
        0u128,
        1,
        0x2001_0db8 << 96,
        0x2001_0db8_0001 << 80,
        0x2001_0db8_0002 << 80,
        0x2001_0db8_0002_0001 << 64,
        0x2002_0a0a << 96,
        1 << 127,
        u128::MAX,
    ]);
    let v6 = (prop_oneof![9 => v6, 1 => any::<u128>()], len(&[0, 1, 16, 32, 47, 48, 63, 64, 65, 127, 128]));
    let v6 = v6.prop_map(|(bits, len)| Prefix { address: Ipv6Addr::from_bits(bits).into(), len });
    prop_oneof![3 => v4, 2 => v6]
}

fn len(usual: &[usize]) -> impl Strategy<Value = usize> + use<> {
    let longest = usual[usual.len() - 1];
    // The whole space is one length of eleven already; more would hide all other rules.
    prop_oneof![4 => select(usual.to_vec()), 1 => 1..=longest]
}

/// Some of the networks, each with a country.
pub fn country_table() -> impl Strategy<Value = CountryTable> {
    let code = proptest::option::weighted(0.8, select(vec!["US", "RU", "GB"]));
    proptest::collection::vec(code, NETWORKS.len()).prop_map(|codes| {
        let known = NETWORKS.iter().zip(codes).filter_map(|(network, code)| {
            let (address, len) = network.split_once('/').expect("written above");
            let prefix = Prefix {
                address: address.parse().expect("written above"),
                len: len.parse().expect("written above"),
            };
            Some((prefix, code?.to_owned()))
        });
        CountryTable(known.collect())
    })
}

/// A host of pages, or all below one.
pub fn host() -> impl Strategy<Value = String> {
    select(vec!["a.example", "b.a.example", "*.a.example", "*.b.example"]).prop_map(str::to_owned)
}
