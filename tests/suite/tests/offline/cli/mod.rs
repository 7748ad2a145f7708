//! `check`, `explain` and `compile`: no root, no daemon, no interface.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

mod check;
mod compile;
mod explain;
mod files;
mod output;

use kit::nicgate::{Said, Site};
use serde_json::{Value, json};

pub(super) const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures");

/// The rules of the documentation, with a token that outranks the address rules.
pub(super) const MYAUTH: &str = r#"auth_backend myauth1 {
  allow ip 192.0.2.10;
  allow ip 172.16/24;
  deny ip 203.0.113.7;
  allow country RU US;
  deny country GB;
  allow token test_token1;
  deny ua "Mozilla/5.0 (Windows; U";
  deny ip 10.10/16;
  deny token bad_token;
}
"#;

pub(super) fn database() -> String {
    format!("geoip \"{FIXTURES}/mmdb/GeoIP2-Country-Test.mmdb\";\n")
}

/// A site with a configuration.
pub(super) fn site(text: &str) -> Site {
    let site = Site::new();
    site.configure(text);
    site
}

#[track_caller]
pub(super) fn explain(site: &Site, arguments: &[&str]) -> Said {
    site.run(&[&["explain"], arguments].concat())
}

#[track_caller]
pub(super) fn explain_json(site: &Site, arguments: &[&str]) -> Value {
    explain(site, &[arguments, &["--json"]].concat()).with(0).json()
}

#[track_caller]
pub(super) fn compile(text: &str) -> Value {
    site(text).run(&["compile", "--json"]).with(0).json()
}

pub(super) fn rule(text: &str, line: u32) -> Value {
    json!({"text": text, "file": "nicgate.conf", "line": line})
}
