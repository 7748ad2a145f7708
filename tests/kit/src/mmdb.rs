//! Writes MMDB files, as <https://maxmind.github.io/MaxMind-DB/> describes them: small ones, for tests.

use std::net::IpAddr;

use crate::oracle::Prefix;

/// A value of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// UTF-8 text of less than 29 bytes.
    Text(String),
    /// A number.
    Number(u32),
    /// Names and values.
    Map(Vec<(&'static str, Self)>),
}

/// `{"country":{"iso_code":"US"}}`, as MaxMind writes it.
pub fn nested(code: &str) -> Value {
    let country = vec![("geoname_id", Value::Number(6)), ("iso_code", Value::Text(code.to_owned()))];
    Value::Map(vec![("continent", Value::Text("EU".to_owned())), ("country", Value::Map(country))])
}

/// `{"country_code":"US"}`, as the free databases write it.
pub fn flat(code: &str) -> Value {
    Value::Map(vec![("country_code", Value::Text(code.to_owned()))])
}

/// The size of a record in the search tree, and the address family.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// 24, 28 or 32.
    pub record_bits: u16,
    /// 4 or 6; with 6, IPv4 networks stand below `::/96`.
    pub ip_version: u16,
}

/// Where a branch of the search tree leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// To a node.
    Node(u32),
    /// To nothing.
    Empty,
    /// To the value with this number.
    Value(u32),
}

/// Writes disjoint networks, each with a value.
pub fn write(layout: Layout, networks: &[(Prefix, Value)]) -> Vec<u8> {
    let mut nodes = vec![[Branch::Empty; 2]];
    let mut values = Vec::new();
    for (prefix, value) in networks {
        let (bits, len) = match (prefix.address, layout.ip_version) {
            (IpAddr::V4(v4), 4) => (u128::from(v4.to_bits()) << 96, prefix.len),
            (IpAddr::V4(v4), _) => (u128::from(v4.to_bits()), prefix.len + 96),
            (IpAddr::V6(v6), _) => (v6.to_bits(), prefix.len),
        };
        let mut node = 0;
        for depth in 0..len {
            let side = (bits >> (127 - depth) & 1) as usize;
            if depth + 1 == len {
                nodes[node][side] = Branch::Value(values.len() as u32);
            } else if let Branch::Node(next) = nodes[node][side] {
                node = next as usize;
            } else {
                let next = nodes.len();
                nodes.push([Branch::Empty; 2]);
                nodes[node][side] = Branch::Node(next as u32);
                node = next;
            }
        }
        values.push(value.clone());
    }
    write_tree(layout, &nodes, &values)
}

/// Writes any search tree, sound or not.
pub fn write_tree(layout: Layout, nodes: &[[Branch; 2]], values: &[Value]) -> Vec<u8> {
    let mut data = Vec::new();
    let offsets: Vec<u32> = values
        .iter()
        .map(|value| {
            let offset = data.len() as u32;
            encode(value, &mut data);
            offset
        })
        .collect();
    let count = nodes.len() as u32;
    let mut file = Vec::new();
    for node in nodes {
        let [left, right] = node.map(|branch| match branch {
            Branch::Node(node) => node,
            Branch::Empty => count,
            // The separator of 16 bytes counts.
            Branch::Value(value) => count + 16 + offsets[value as usize],
        });
        let (l, r) = (left.to_be_bytes(), right.to_be_bytes());
        match layout.record_bits {
            24 => file.extend([&l[1..], &r[1..]].concat()),
            28 => file.extend([&l[1..], &[l[0] << 4 | r[0]], &r[1..]].concat()),
            _ => file.extend([l, r].concat()),
        }
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    // A map of nine: numbers of 16 and 32 bits, texts, an empty array (extended type 11) and an empty map.
    file.push(7 << 5 | 9);
    for (name, number) in [
        ("binary_format_major_version", 2),
        ("binary_format_minor_version", 0),
        ("record_size", layout.record_bits),
        ("ip_version", layout.ip_version),
    ] {
        encode(&Value::Text(name.to_owned()), &mut file);
        file.push(5 << 5 | 2);
        file.extend(number.to_be_bytes());
    }
    encode(&Value::Text("node_count".to_owned()), &mut file);
    encode(&Value::Number(count), &mut file);
    encode(&Value::Text("database_type".to_owned()), &mut file);
    encode(&Value::Text("Test-Country".to_owned()), &mut file);
    encode(&Value::Text("languages".to_owned()), &mut file);
    file.extend([0, 11 - 7]);
    encode(&Value::Text("description".to_owned()), &mut file);
    encode(&Value::Map(Vec::new()), &mut file);
    // A number of 64 bits (extended type 9).
    encode(&Value::Text("build_epoch".to_owned()), &mut file);
    file.extend([4, 9 - 7]);
    file.extend(1_700_000_000_u32.to_be_bytes());
    file
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            assert!(text.len() < 29, "longer texts need another form");
            out.push(2 << 5 | text.len() as u8);
            out.extend(text.as_bytes());
        }
        Value::Number(number) => {
            out.push(6 << 5 | 4);
            out.extend(number.to_be_bytes());
        }
        Value::Map(entries) => {
            out.push(7 << 5 | entries.len() as u8);
            for (name, value) in entries {
                encode(&Value::Text((*name).to_owned()), out);
                encode(value, out);
            }
        }
    }
}
