//! The table of directives and the page that is printed from it.

use std::fs;

use super::*;

#[test]
fn every_example_is_a_configuration_without_errors_and_warnings() {
    let examples: Vec<_> = directives().into_iter().flat_map(|place| place.directives).collect();
    let examples: Vec<_> = examples.iter().map(|doc| doc.example).filter(|text| !text.is_empty()).collect();
    assert!(examples.len() > 40, "{}", examples.len());
    let made = rcgen::generate_simple_self_signed(["portal.example.com".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    for example in examples {
        let files = memory(example)
            .with("/etc/flussonic/flussonic.conf", "")
            .with("/etc/nicgate/portal.pem", &certificate)
            .with("/etc/nicgate/edge.pem", &certificate)
            .with("/etc/nicgate/edge.key", &key)
            .with("blocked.txt", "198.51.100.0/24\n");
        let (config, report) = files.load();
        assert!(config.is_some(), "{example}\n{}", report.render(false));
        assert_eq!(report.warnings().count(), 0, "{example}\n{}", report.render(false));
        let passed = report.notes().any(|note| note.code == "passed-over");
        assert!(!passed, "{example}\n{}", report.render(false));
    }
}

#[test]
fn every_word_is_known_where_the_table_has_it() {
    let around = |place: &str, word: &str| match place {
        "At the top of a file" => format!("{word} x;"),
        "In an `auth_backend`" => format!("auth_backend a {{ {word} x; }}"),
        "In a `source`" => format!("source a {{ {word} x; }}"),
        "In a `backend`" => format!("auth_backend a {{ backend http://h/ {{ {word} x; }} }}"),
        "As the name of a `limit`" => format!("limit {word} x;"),
        "In a `gate`" => format!("gate 80 {{ {word} x; }}"),
        "In a `real_ip`" => format!("real_ip from 192.0.2.1 {{ {word} x; }}"),
        "In an `upstream`" => format!("upstream a {{ {word} x; }}"),
        "In an `interface`" => format!("interface a {{ {word} x; }}"),
        "Behind the path of a list" => format!("auth_backend a {{ deny ip file l {{ {word} x; }} }}"),
        _ => format!("stream a {{ {word} x; }}"),
    };
    for PlaceDoc { place, directives, .. } in directives() {
        for doc in directives {
            for word in doc.names {
                let text = around(place, word);
                let (_, report) = memory(&text).load();
                let codes: Vec<_> = report.diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
                let unknown = ["unknown-directive", "unknown-option"].iter().any(|code| codes.contains(code));
                assert!(!unknown, "{text}\n{}", report.render(false));
                let (passed, warned) = (codes.contains(&"passed-over"), codes.contains(&"not-enforced"));
                assert_eq!(passed, doc.effect == EffectWord::PassedOver, "{text}\n{}", report.render(false));
                assert_eq!(warned, doc.effect == EffectWord::NotEnforced, "{text}\n{}", report.render(false));
            }
        }
    }
}

#[test]
fn what_would_be_missed_is_an_error_when_it_is_misspelt() {
    for wrong in [
        "shadw;",
        "never_dorp 10.0.0.0/8;",
        "stream s { on_ply http://h/; }",
        "source h { on_ply http://h/; }",
    ] {
        let (_, report) = memory(wrong).load();
        let codes: Vec<_> = report.errors().map(|error| error.code).collect();
        assert_eq!(codes, ["unknown-directive"], "{wrong}\n{}", report.render(false));
    }
}

#[test]
fn the_page_of_directives_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/directives.md");
    let page = markdown(&directives());
    if std::env::var_os("NICGATE_UPDATE_DOCS").is_some() {
        fs::write(path, &page).unwrap();
    }
    let kept = fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == page,
        "docs/directives.md is stale; NICGATE_UPDATE_DOCS=1 cargo test -p filter-user page_of_directives"
    );
}
