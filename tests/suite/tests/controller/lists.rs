//! Lists and databases that cannot be used: their former contents stay in force, and all the rest is taken.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

use std::fs;

use kit::{
    edge::Edge,
    mmdb::{self, Layout},
    oracle::Prefix,
    rights,
};
use serde_json::json;

const GEOIP: &str = "geoip \"country.mmdb\";\n";

/// An edge that filters by two lists and a database of countries.
fn edge(name: &str) -> Edge {
    let edge = Edge::new(name);
    edge.site.write("country.mmdb", database("AQ"));
    edge.site.write("one", "192.0.2.0/25\n");
    edge.site.write("two", "192.0.2.128/26\n");
    edge.configure(&rules(""), GEOIP);
    edge
}

fn rules(more: &str) -> String {
    format!("deny ip file one;\ndeny ip file two;\ndeny country AQ;\nallow default;\n{more}")
}

/// A database that knows the country of the source that is dropped by it.
fn database(code: &str) -> Vec<u8> {
    let networks = [("198.51.100.0", 24), ("2001:db8:66::", 48)]
        .map(|(address, len)| (Prefix { address: address.parse().unwrap(), len }, mmdb::nested(code)));
    mmdb::write(Layout { record_bits: 24, ip_version: 6 }, &networks)
}

/// One list loses its form, the other is gone and so is the database; what else is new is right.
fn spoil(edge: &Edge) {
    edge.site.write("one", "192.0.2.0/25\nnonsense\n");
    fs::remove_file(edge.site.path("two")).unwrap();
    edge.site.write("country.mmdb", "nonsense");
    edge.configure(&rules("deny ip 203.0.113.10;\ndeny ip 2001:db8:10::/64;\n"), GEOIP);
}

fn prefixes(edge: &Edge) -> u64 {
    edge.status()["v4"]["installed"].as_u64().unwrap()
}

const PARTS: [&str; 3] = ["list-refused", "list-refused", "database-refused"];

#[test]
fn a_list_or_database_that_cannot_be_used_falls_back_alone() {
    rights::need_root();
    let edge = edge("fallback");
    let _controller = edge.start();
    assert_eq!(edge.alarms(), [""; 0]);
    assert!(edge.drops(&edge.banned), "by its country");

    spoil(&edge);
    let said = edge.nicgate(&["reload"]).with(1);
    for part in [
        "`one` is refused: 1 line of it cannot be read",
        "one:2:1",
        "`two` is refused: No such file",
        "country.mmdb is not a readable MMDB country database",
        "the one that was in use before still is",
        "parts were refused: their former contents stay in force, all else is new",
    ] {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    assert!(said.stdout.starts_with("loaded: 1 interface updated"), "{said:?}");
    assert_eq!(edge.alarms(), PARTS);
    let stats = edge.stats();
    let rows: Vec<_> = stats["rules"].as_array().unwrap().iter().map(|rule| &rule["text"]).collect();
    assert!(rows.contains(&&json!("deny ip file \"one\"")), "{rows:?}");
    assert!(rows.contains(&&json!("deny ip file \"two\"")), "{rows:?}");
    assert!(edge.drops(&edge.viewer), "the new rule is in force");
    assert!(edge.drops(&edge.banned), "the former database is in force");
    let json = edge.reload();
    assert_eq!((&json["ok"], &json["fault"]), (&json!(false), &json!("request")));
    assert_eq!(json["result"]["interfaces"].as_array().unwrap().len(), 1);
    let status = edge.nicgate(&["status"]).with(3).stdout;
    assert!(
        status.contains("ALARM list-refused: the list one (nicgate.conf:6) is refused: 1 line of it"),
        "{status}"
    );
}

#[test]
fn so_it_does_when_the_machine_starts_again() {
    rights::need_root();
    let edge = edge("fallbackboot");
    let controller = edge.start();
    spoil(&edge);
    let _ = edge.nicgate(&["reload"]).with(1);
    let before = prefixes(&edge);

    assert!(controller.end(libc::SIGTERM).unwrap().success());
    let _ = edge.nicgate(&["detach", "--all"]).with(0);
    let said = edge.nicgate(&["attach"]).with(0);
    assert!(said.stderr.contains("`two` is refused") && said.stderr.contains("`one` is refused"), "{said:?}");
    assert_eq!(prefixes(&edge), before);
    let _ = edge.nicgate(&["detach", "--all"]).with(0);
    let controller = edge.start();
    assert_eq!(edge.alarms(), PARTS);
    assert_eq!(prefixes(&edge), before);
    assert!(edge.drops(&edge.viewer) && edge.drops(&edge.banned));
    assert!(controller.log().contains("is refused"), "{}", controller.log());
}

#[test]
fn what_is_right_again_is_taken() {
    rights::need_root();
    let edge = edge("fallbackmended");
    let _controller = edge.start();
    spoil(&edge);
    let _ = edge.nicgate(&["reload"]).with(1);

    edge.site.write("one", "192.0.2.0/24\n");
    edge.site.write("two", "");
    edge.site.write("country.mmdb", database("BV"));
    let said = edge.nicgate(&["reload"]).with(1);
    assert!(said.stderr.contains("`two` is refused: it has no entry any more, and had 1"), "{said:?}");
    assert_eq!(edge.alarms(), ["list-refused"]);
    assert!(!edge.drops(&edge.banned), "the new database knows another country");
    edge.site.write("two", "192.0.2.128/26\n");
    let _ = edge.nicgate(&["reload"]).with(0);
    assert_eq!(edge.alarms(), [""; 0]);
}
