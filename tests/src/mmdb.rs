//! Writing country databases, so that documentation addresses can have countries.
//!
//! The format is MaxMind DB 2.0: a binary tree over the bits of an IPv6 address (IPv4 under `::/96`), then the
//! records, then what the file is.

use std::collections::BTreeMap;

use ipnet::IpNet;

const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// The two shapes that country databases come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"country":{"iso_code":"SE"}}`, as MaxMind writes it.
    Nested,
    /// `{"country_code":"SE"}`, as the free databases do.
    Flat,
}

/// A child of a tree's node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Child {
    Nothing,
    Node(usize),
    /// An offset into the data section.
    Record(usize),
}

/// A database in which each prefix has its country. A prefix inside another must come after it.
///
/// # Panics
///
/// When a code is longer than 28 bytes, or the tree needs more than 2^24 nodes.
pub fn countries(entries: &[(IpNet, &str)], shape: Shape) -> Vec<u8> {
    let mut data = Vec::new();
    let mut offsets = BTreeMap::new();
    let mut tree = vec![[Child::Nothing; 2]];
    for (network, code) in entries {
        let offset = *offsets.entry(*code).or_insert_with(|| {
            let offset = data.len();
            data.extend(record(code, shape));
            offset
        });
        let (bits, length) = match network {
            IpNet::V4(v4) => (u128::from(v4.network().to_bits()), 96 + v4.prefix_len()),
            IpNet::V6(v6) => (v6.network().to_bits(), v6.prefix_len()),
        };
        insert(&mut tree, bits, length, Child::Record(offset));
    }
    let mut file = Vec::new();
    for child in tree.iter().flatten() {
        let value = match child {
            Child::Nothing => tree.len(),
            Child::Node(node) => *node,
            Child::Record(offset) => tree.len() + 16 + offset,
        };
        let value = u32::try_from(value).ok().filter(|value| *value < 1 << 24).expect("a small database");
        file.extend(&value.to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(MARKER);
    file.extend(metadata(tree.len()));
    file
}

fn insert(tree: &mut Vec<[Child; 2]>, bits: u128, length: u8, record: Child) {
    let mut node = 0;
    for depth in 0..length {
        let side = (bits >> (127 - depth)) as usize & 1;
        if depth + 1 == length {
            tree[node][side] = record;
            return;
        }
        node = match tree[node][side] {
            Child::Node(next) => next,
            // What a shorter prefix says goes on to hold for all of the new node but the longer prefix.
            above => {
                tree.push([above; 2]);
                let next = tree.len() - 1;
                tree[node][side] = Child::Node(next);
                next
            }
        };
    }
    tree[node] = [record; 2];
}

fn record(code: &str, shape: Shape) -> Vec<u8> {
    match shape {
        Shape::Nested => [map(1), text("country"), map(1), text("iso_code"), text(code)].concat(),
        Shape::Flat => [map(1), text("country_code"), text(code)].concat(),
    }
}

fn metadata(nodes: usize) -> Vec<u8> {
    let nodes = nodes as u32;
    [
        map(9),
        text("binary_format_major_version"),
        number(5, &2_u16.to_be_bytes()),
        text("binary_format_minor_version"),
        number(5, &0_u16.to_be_bytes()),
        text("build_epoch"),
        // Type 9, which is an extended one: 7 + 2.
        vec![8, 2, 0, 0, 0, 0, 0x67, 0, 0, 0],
        text("database_type"),
        text("nicgate-Test-Country"),
        text("description"),
        map(1),
        text("en"),
        text("made for a test"),
        text("ip_version"),
        number(5, &6_u16.to_be_bytes()),
        text("languages"),
        // An array of one: type 11, 7 + 4.
        vec![1, 4],
        text("en"),
        text("node_count"),
        number(6, &nodes.to_be_bytes()),
        text("record_size"),
        number(5, &24_u16.to_be_bytes()),
    ]
    .concat()
}

fn map(size: u8) -> Vec<u8> {
    vec![7 << 5 | size]
}

fn text(text: &str) -> Vec<u8> {
    assert!(text.len() < 29, "longer texts have another form");
    [&[2 << 5 | text.len() as u8], text.as_bytes()].concat()
}

fn number(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind << 5 | bytes.len() as u8], bytes].concat()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr};

    use super::{Shape, countries};

    #[test]
    fn what_is_written_is_read_back() {
        let entries = [
            ("203.0.113.0/24", "SE"),
            ("203.0.113.128/25", "GB"),
            ("198.51.100.7/32", "US"),
            ("2001:db8:5e::/48", "SE"),
        ];
        let entries = entries.map(|(network, code)| (network.parse().unwrap(), code));
        let reader = maxminddb::Reader::from_source(countries(&entries, Shape::Flat)).unwrap();
        reader.verify().unwrap();
        let country = |address: &str| {
            let found = reader.lookup(address.parse::<IpAddr>().unwrap()).unwrap();
            found.decode::<BTreeMap<String, String>>().unwrap().map(|record| record["country_code"].clone())
        };
        for (address, code) in [
            ("203.0.113.0", Some("SE")),
            ("203.0.113.127", Some("SE")),
            ("203.0.113.128", Some("GB")),
            ("203.0.113.255", Some("GB")),
            ("203.0.114.0", None),
            ("198.51.100.7", Some("US")),
            ("198.51.100.6", None),
            ("2001:db8:5e:1::1", Some("SE")),
            ("2001:db8:5f::", None),
        ] {
            assert_eq!(country(address).as_deref(), code, "{address}");
        }
    }

    #[test]
    fn the_nested_shape_is_that_of_the_country_databases() {
        let database = countries(&[("203.0.113.0/24".parse().unwrap(), "SE")], Shape::Nested);
        let reader = maxminddb::Reader::from_source(database).unwrap();
        let found = reader.lookup("203.0.113.9".parse::<IpAddr>().unwrap()).unwrap();
        let country: maxminddb::geoip2::Country<'_> = found.decode().unwrap().unwrap();
        assert_eq!(country.country.iso_code, Some("SE"));
    }
}
