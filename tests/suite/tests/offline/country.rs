//! The country database, against MaxMind's own test files, files that this test writes, and damaged ones.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use filter_user::{
    address::{Address, Partition},
    country::Database,
    model::{Countries as _, Country},
};
use kit::{
    mmdb::{self, Branch, Layout, Value},
    oracle::{CountryTable, Prefix},
    random::{self, pool},
};
use maxminddb::Reader;
use proptest::prelude::*;

fn fixture(name: &str) -> Vec<u8> {
    let path = kit::fixtures().join("mmdb").join(name);
    std::fs::read(path).unwrap()
}

fn open(bytes: Vec<u8>) -> anyhow::Result<Database> {
    Database::new(Path::new("test.mmdb"), bytes)
}

fn country(code: &str) -> Option<Country> {
    Some(Country::new(code).unwrap())
}

/// What the library answers for one address, in MaxMind's shape.
fn library_says(reader: &Reader<Vec<u8>>, address: IpAddr) -> Option<Country> {
    let found = reader.lookup(address.to_canonical()).unwrap();
    let path = maxminddb::path!["country", "iso_code"];
    found.decode_path::<&str>(&path).unwrap().and_then(Country::new)
}

/// Both sides of every point where the country changes.
fn edges(database: &Database) -> Vec<IpAddr> {
    fn of<A: Address>(map: &Partition<A, Option<Country>>) -> impl Iterator<Item = IpAddr> {
        map.iter().flat_map(|piece| [piece.first.ip(), piece.last.ip()])
    }
    of(&database.map().v4).chain(of(&database.map().v6)).collect()
}

#[test]
fn known_addresses_have_their_countries() {
    let database = open(fixture("GeoIP2-Country-Test.mmdb")).unwrap();
    for (address, code) in [
        ("2.125.160.216", "GB"),
        ("81.2.69.160", "GB"),
        ("216.160.83.56", "US"),
        ("89.160.20.112", "SE"),
        ("2001:218::1", "JP"),
        ("2001:220::1", "KR"),
        // The same as IPv4-mapped, 6to4 and Teredo.
        ("::ffff:216.160.83.56", "US"),
        ("2002:d8a0:5338::1", "US"),
        ("2001:0:d8a0:5338::1", "US"),
    ] {
        assert_eq!(database.country(address.parse().unwrap()), country(code), "{address}");
    }
    for address in ["10.1.2.3", "127.0.0.1", "::1", "fe80::1", "2001:db8::1", "255.255.255.255"] {
        assert_eq!(database.country(address.parse().unwrap()), None, "{address}");
    }
    assert_eq!(database.edition().0, "GeoIP2-Country");
    assert!(database.edition().1 > 1_500_000_000);
}

#[test]
fn every_edge_has_the_country_that_a_lookup_finds() {
    let bytes = fixture("GeoIP2-Country-Test.mmdb");
    let reader = Reader::from_source(bytes.clone()).unwrap();
    let database = open(bytes).unwrap();
    let edges = edges(&database);
    assert!(edges.len() > 1000, "{}", edges.len());
    for address in edges {
        assert_eq!(database.country(address), library_says(&reader, address), "{address}");
    }
    // Every network of the file, also where neighbours share a country.
    let mut networks = 0;
    let options = maxminddb::WithinOptions::default().include_aliased_networks();
    for found in reader.networks(options).unwrap() {
        let network = found.unwrap().network().unwrap();
        for address in [network.network(), network.broadcast()] {
            assert_eq!(database.country(address), library_says(&reader, address), "{address}");
        }
        networks += 1;
    }
    assert!(networks > 300, "{networks}");
}

proptest! {
    #![proptest_config(random::cases(5000))]

    #[test]
    fn random_addresses_have_the_country_that_a_lookup_finds(
        v4: u32,
        v6: u128,
        known in prop::sample::select(vec![0x027d_a0d8_u32, 0x5102_45a0, 0xd8a0_5338, 0x59a0_1470]),
        low: u64,
    ) {
        thread_local! {
            static BOTH: (Reader<Vec<u8>>, Database) = {
                let bytes = fixture("GeoIP2-Country-Test.mmdb");
                (Reader::from_source(bytes.clone()).unwrap(), open(bytes).unwrap())
            };
        }
        let near = known ^ (v4 & 0xff);
        let addresses = [
            Ipv4Addr::from_bits(v4).into(),
            Ipv4Addr::from_bits(near).into(),
            Ipv4Addr::from_bits(near).to_ipv6_mapped().into(),
            Ipv6Addr::from_bits(v6).into(),
            Ipv6Addr::from_bits((v6 >> 16) | 0x2001_u128 << 112).into(),
            // 6to4 and Teredo.
            Ipv6Addr::from_bits(0x2002_u128 << 112 | u128::from(near) << 80 | u128::from(low)).into(),
            Ipv6Addr::from_bits(0x2001_u128 << 112 | u128::from(near) << 64 | u128::from(low)).into(),
        ];
        BOTH.with(|(reader, database)| {
            for address in addresses {
                prop_assert_eq!(database.country(address), library_says(reader, address), "{}", address);
            }
            Ok(())
        })?;
    }
}

fn layout() -> impl Strategy<Value = Layout> {
    (prop::sample::select(vec![24, 28, 32]), prop::sample::select(vec![4, 6]))
        .prop_map(|(record_bits, ip_version)| Layout { record_bits, ip_version })
}

/// Writes the networks of a table that the layout can hold, and gives the table of those.
fn written(layout: Layout, table: &CountryTable, shape: fn(&str) -> Value) -> (Vec<u8>, CountryTable) {
    let fits = |prefix: &Prefix| layout.ip_version == 6 || prefix.address.is_ipv4();
    // `::/128` and 0.0.0.0/32 are one place of the tree.
    let only = |prefix: &Prefix| prefix.address != IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let networks: Vec<_> =
        table.0.iter().filter(|(prefix, _)| fits(prefix) && only(prefix)).cloned().collect();
    let values: Vec<_> = networks.iter().map(|(prefix, code)| (*prefix, shape(code))).collect();
    (mmdb::write(layout, &values), CountryTable(networks))
}

proptest! {
    #![proptest_config(random::cases(500))]

    /// Both shapes of records, all sizes of tree records, both families: what was written is found.
    #[test]
    fn what_is_written_is_found(
        layout in layout(),
        table in pool::country_table(),
        shape in prop::sample::select(vec![mmdb::nested as fn(&str) -> Value, mmdb::flat]),
    ) {
        let (bytes, table) = written(layout, &table, shape);
        let database = open(bytes);
        if table.0.is_empty() {
            prop_assert!(database.is_err());
            return Ok(());
        }
        let database = database.map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
        let near = |prefix: &Prefix| {
            let outside = |address: IpAddr, up: bool| match address {
                IpAddr::V4(v4) if up => v4.to_bits().checked_add(1).map(|bits| bits.ip()),
                IpAddr::V4(v4) => v4.to_bits().checked_sub(1).map(|bits| bits.ip()),
                IpAddr::V6(v6) if up => v6.to_bits().checked_add(1).map(|bits| bits.ip()),
                IpAddr::V6(v6) => v6.to_bits().checked_sub(1).map(|bits| bits.ip()),
            };
            let (first, last) = (prefix.first(), prefix.last());
            [Some(first), Some(last), outside(first, false), outside(last, true)].into_iter().flatten()
        };
        for address in table.0.iter().flat_map(|(prefix, _)| near(prefix)) {
            let expected = table.country(address).and_then(Country::new);
            prop_assert_eq!(database.country(address), expected, "{}", address);
        }
    }
}

const V6_24: Layout = Layout { record_bits: 24, ip_version: 6 };

fn one_network(value: Value) -> anyhow::Result<Database> {
    let prefix = Prefix { address: "192.0.2.0".parse().unwrap(), len: 24 };
    open(mmdb::write(V6_24, &[(prefix, value)]))
}

#[test]
fn other_records_beside_the_country_are_no_damage() {
    let text = |text: &str| Value::Text(text.to_owned());
    let address = "192.0.2.1".parse().unwrap();
    // As ipinfo.io writes it: the name at `country`, the code beside it.
    let record = Value::Map(vec![("country", text("Sweden")), ("country_code", text("SE"))]);
    assert_eq!(one_network(record).unwrap().country(address), country("SE"));
    let record = Value::Map(vec![("country", Value::Map(vec![])), ("country_code", text("se"))]);
    assert_eq!(one_network(record).unwrap().country(address), country("SE"));
    for record in [
        Value::Map(vec![]),
        text("Sweden"),
        Value::Map(vec![("asn", Value::Number(64496))]),
        Value::Map(vec![("country_code", Value::Number(46))]),
        Value::Map(vec![("country_code", text("SWE"))]),
        Value::Map(vec![("country", Value::Map(vec![("iso_code", Value::Number(46))]))]),
    ] {
        let error = format!("{:#}", one_network(record.clone()).unwrap_err());
        assert!(error.contains("test.mmdb (Test-Country) names no country"), "{record:?}: {error}");
    }
}

#[test]
fn one_country_for_all_addresses_is_a_country() {
    let all = Prefix { address: "::".parse().unwrap(), len: 1 };
    let rest = Prefix { address: "8000::".parse().unwrap(), len: 1 };
    let database = open(mmdb::write(V6_24, &[(all, mmdb::flat("US")), (rest, mmdb::flat("US"))])).unwrap();
    assert_eq!(database.map().v6.pieces(), 1);
    for address in ["::", "1.2.3.4", "ffff::1"] {
        assert_eq!(database.country(address.parse().unwrap()), country("US"), "{address}");
    }
}

#[test]
fn an_ipv4_database_knows_no_ipv6() {
    let prefix = Prefix { address: "192.0.2.0".parse().unwrap(), len: 24 };
    let layout = Layout { record_bits: 28, ip_version: 4 };
    let database = open(mmdb::write(layout, &[(prefix, mmdb::flat("US"))])).unwrap();
    assert_eq!(database.country("192.0.2.255".parse().unwrap()), country("US"));
    assert_eq!(database.country("::ffff:192.0.2.255".parse().unwrap()), country("US"));
    for address in ["::192.0.2.1", "::", "2001:db8::1"] {
        assert_eq!(database.country(address.parse().unwrap()), None, "{address}");
    }
}

#[test]
fn damaged_files_are_refused_with_their_name() {
    for name in [
        "MaxMind-DB-test-broken-pointers-24.mmdb",
        "MaxMind-DB-test-broken-search-tree-24.mmdb",
        "GeoIP2-City-Test-Invalid-Node-Count.mmdb",
        "libmaxminddb-metadata-marker-only.mmdb",
        "libmaxminddb-offset-integer-overflow.mmdb",
        "invalid-data-record-offset.mmdb",
        "invalid-string-length.mmdb",
    ] {
        let error = format!("{:#}", open(fixture(name)).unwrap_err());
        assert!(error.starts_with("test.mmdb "), "{name}: {error}");
        assert!(error.contains("damaged") || error.contains("not a readable MMDB"), "{name}: {error}");
    }
    for bytes in [vec![], b"\xab\xcd\xefMaxMind.com".to_vec(), vec![0; 4096]] {
        let error = format!("{:#}", open(bytes).unwrap_err());
        assert!(error.contains("not a readable MMDB country database"), "{error}");
    }
}

#[test]
fn files_about_something_else_are_refused() {
    let error = format!("{:#}", open(fixture("MaxMind-DB-no-ipv4-search-tree.mmdb")).unwrap_err());
    assert!(error.contains("names no country in any record"), "{error}");
    // Autonomous systems, as in GeoLite2-ASN.
    let network = Prefix { address: "1.0.0.0".parse().unwrap(), len: 8 };
    let system = Value::Map(vec![("autonomous_system_number", Value::Number(64496))]);
    let asn = mmdb::write(Layout { record_bits: 24, ip_version: 4 }, &[(network, system)]);
    let error = format!("{:#}", open(asn).unwrap_err());
    assert!(error.contains("names no country in any record: a country database is needed"), "{error}");
}

/// Files made to exhaust a reader: refused, whatever is said of them, and without exhausting it.
#[test]
fn hostile_files_are_refused() {
    for name in [
        "MaxMind-DB-test-pointer-decoder-dos.mmdb",
        "MaxMind-DB-test-pointer-decoder-dos-ipv6.mmdb",
        "libmaxminddb-corrupt-search-tree.mmdb",
        "libmaxminddb-deep-nesting.mmdb",
        "libmaxminddb-oversized-map.mmdb",
        "libmaxminddb-uint64-max-epoch.mmdb",
        "cyclic-data-structure.mmdb",
        "bad-unicode-in-map-key.mmdb",
    ] {
        assert!(open(fixture(name)).is_err(), "{name}");
    }
}

/// A tree whose every node leads both ways to the next one holds 2^100 networks in 600 bytes.
#[test]
fn a_tree_of_shared_branches_is_refused() {
    for leaf in [Branch::Empty, Branch::Value(0)] {
        for ip_version in [4, 6] {
            let depth = if ip_version == 4 { 31 } else { 100 };
            let mut nodes: Vec<_> = (1..depth).map(|next| [Branch::Node(next); 2]).collect();
            nodes.push([leaf; 2]);
            let layout = Layout { record_bits: 24, ip_version };
            let error =
                format!("{:#}", open(mmdb::write_tree(layout, &nodes, &[mmdb::flat("US")])).unwrap_err());
            assert!(error.contains("holds more than"), "{error}");
        }
    }
}

#[test]
fn a_tree_with_a_loop_is_refused() {
    for nodes in [
        [[Branch::Node(0), Branch::Node(0)], [Branch::Empty; 2]],
        [[Branch::Node(1), Branch::Value(0)], [Branch::Node(0), Branch::Empty]],
        [[Branch::Empty, Branch::Node(1)], [Branch::Value(0), Branch::Node(1)]],
    ] {
        for record_bits in [24, 28, 32] {
            let layout = Layout { record_bits, ip_version: 6 };
            assert!(open(mmdb::write_tree(layout, &nodes, &[mmdb::flat("US")])).is_err(), "{nodes:?}");
        }
    }
}

/// A change to a file: what, and where from its end (the metadata are there).
type Change = (bool, prop::sample::Index, u8);

fn changed(mut bytes: Vec<u8>, changes: &[Change], cut: Option<prop::sample::Index>) -> Vec<u8> {
    for (near_the_end, at, byte) in changes {
        let window = if *near_the_end { bytes.len().min(300) } else { bytes.len() };
        let at = bytes.len() - 1 - at.index(window);
        bytes[at] = *byte;
    }
    if let Some(cut) = cut {
        let at = cut.index(bytes.len());
        bytes.drain(..at);
    }
    bytes
}

/// Whatever the bytes are: an answer without a panic, and one that can be used.
fn is_harmless(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    if let Ok(database) = open(bytes) {
        prop_assert!(database.map().v4.pieces() + database.map().v6.pieces() > 1);
        for address in ["0.0.0.0", "192.0.2.1", "255.255.255.255", "::", "2001:db8::1", "::ffff:1.2.3.4"] {
            database.country(address.parse().expect("an address"));
        }
    }
    Ok(())
}

fn changes() -> impl Strategy<Value = (Vec<Change>, Option<prop::sample::Index>)> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(vec![0, 1, 0x1f, 0x20, 0x7f, 0x80, 0xff])];
    let change = (any::<bool>(), any::<prop::sample::Index>(), byte);
    (prop::collection::vec(change, 0..6), prop::option::weighted(0.1, any::<prop::sample::Index>()))
}

proptest! {
    #![proptest_config(random::cases(2000))]

    #[test]
    fn changed_files_never_panic((changes, cut) in changes()) {
        is_harmless(changed(fixture("GeoIP2-Country-Test.mmdb"), &changes, cut))?;
    }

    #[test]
    fn changed_small_files_never_panic(
        layout in layout(),
        table in pool::country_table(),
        (changes, cut) in changes(),
    ) {
        let (bytes, _) = written(layout, &table, mmdb::nested);
        is_harmless(changed(bytes, &changes, cut))?;
    }

    #[test]
    fn random_trees_never_panic(
        layout in layout(),
        nodes in prop::collection::vec([any::<u8>(), any::<u8>()], 1..40),
    ) {
        let count = nodes.len() as u32;
        let branch = |byte: u8| match byte {
            0..60 => Branch::Empty,
            60..120 => Branch::Value(0),
            byte => Branch::Node(u32::from(byte) % count),
        };
        let nodes: Vec<_> = nodes.into_iter().map(|pair| pair.map(branch)).collect();
        is_harmless(mmdb::write_tree(layout, &nodes, &[mmdb::flat("US")]))?;
    }
}
