//! `check`: what is wrong, what runs where, and what to write instead.

use std::{path::Path, process::Command};

use kit::nicgate::{Site, binary};
use serde_json::json;

use super::{FIXTURES, MYAUTH, explain_json, site};

#[test]
fn check_says_what_stays_in_userspace_why_and_what_to_write() {
    let site = site(&format!("{MYAUTH}guard tcp 1935 auth://myauth1;\n"));
    let text = site.run(&["check"]).with(0);
    let mut lines = text.stdout.lines().skip_while(|line| !line.contains("deny ip 10.10/16"));
    let line = lines.next().unwrap();
    for part in ["line 9 ", "userspace", "`allow token test_token1` (line 7) outranks it"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let remedy = lines.next().unwrap();
    assert!(remedy.contains("instead: `drop ip 10.10/16;` drops it at the NIC"), "{remedy}");
    assert!(text.stderr.contains("no `geoip`"), "{text:?}");
    assert!(!text.stdout.contains("no `geoip`"), "messages go to stderr");
    let said = site.run(&["check", "--json"]).with(0);
    let json = said.json();
    let rule = json["rules"].as_array().unwrap().iter().find(|rule| rule["line"] == 9).unwrap();
    assert_eq!(rule["text"], "deny ip 10.10/16");
    assert_eq!(rule["runs"], "userspace");
    assert!(rule["reason"].as_str().unwrap().contains("(line 7) outranks it"), "{rule}");
    assert!(rule["remedy"].as_str().unwrap().starts_with("`drop ip 10.10/16;`"), "{rule}");
    assert_eq!(json["ok"], true);
    assert_eq!(json["diagnostics"][0]["code"], "no-geoip");
    assert_eq!(said.stderr, "");
}

#[test]
fn a_configuration_that_the_kernel_cannot_hold_is_wrong_already_when_checked() {
    let mut text = "auth_backend a { deny ip 10/8; allow default; }\n".to_owned();
    for port in 1..=5000 {
        text.push_str(&format!("guard tcp {port} auth://a;\n"));
    }
    let said = site(&text).run(&["check"]).with(1);
    assert!(said.stderr.contains("the kernel's tables cannot hold this configuration"), "{said:?}");
}

#[test]
fn what_operators_have_checks_as_it_is() {
    let site = Site::new();
    let copy = |name: &str| {
        let text = std::fs::read_to_string(Path::new(FIXTURES).join(name)).unwrap();
        let database = format!("{FIXTURES}/mmdb/GeoIP2-Country-Test.mmdb");
        let text = text
            .replace("/usr/share/GeoIP/country.mmdb", &database)
            .replace("/usr/share/GeoIP/GeoLite2-Country.mmdb", &database);
        site.write(name, text);
    };
    std::fs::create_dir(site.path("lists")).unwrap();
    copy("lists/drop.netset");
    copy("lists/tokens.txt");
    copy("flussonic.conf");
    for name in
        ["myauth1.conf", "multi_local.conf", "blacklist.conf", "myauth2.conf", "agents.conf", "nicgate.conf"]
    {
        copy(name);
        std::fs::copy(site.path(name), site.path("checked.conf")).unwrap();
        let output = Command::new(binary())
            .args(["check", "-c", "checked.conf"])
            .current_dir(site.path(""))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{name}: {stderr}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("the configuration is valid"), "{name}");
    }
    // The blacklist, as the examples have it.
    std::fs::copy(site.path("blacklist.conf"), site.path("nicgate.conf")).unwrap();
    for (ip, verdict) in [("10.10.3.4", "deny"), ("203.0.113.1", "deny"), ("192.0.2.1", "allow")] {
        assert_eq!(explain_json(&site, &["--auth", "blacklist", "--ip", ip])["verdict"], verdict);
    }
    // A whole server's file.
    std::fs::copy(site.path("flussonic.conf"), site.path("nicgate.conf")).unwrap();
    let said = site.run(&["check"]).with(0);
    assert!(said.stderr.contains("passed over") || said.stderr.contains("passed-over"), "{}", said.stderr);
}

#[test]
fn check_warns_the_operator_who_would_be_dropped() {
    let site =
        site("auth_backend a { deny ip 192.0.2/24; allow default; }\nguard tcp 22 auth://a;\ninterface x;\n");
    let check = |from: &str| {
        let output = site.command(&["check"]).env("SSH_CONNECTION", from).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = check("192.0.2.9 50000 198.51.100.1 22");
    assert!(said.contains("your own address 192.0.2.9"), "{said}");
    assert!(said.contains("dropped on 22/tcp by `deny ip 192.0.2/24` (nicgate.conf:1)"), "{said}");
    assert!(said.contains("`never_drop 192.0.2.9;` keeps it in"), "{said}");
    assert!(!check("198.51.100.9 50000 198.51.100.1 22").contains("your own address"));
}

#[test]
fn check_shows_what_is_alike_once_and_ends_with_the_summary() {
    let tokens: String = (0..5000).map(|n| format!("deny token t{n};\n")).collect();
    let addresses: String =
        (0..4000u32).map(|n| format!("deny ip {};\n", std::net::Ipv4Addr::from(n << 8))).collect();
    let site = site(&format!(
        "auth_backend p {{\n{tokens}{addresses}allow default;\n}}\nguard tcp 1935 auth://p;\ninterface x;\n"
    ));
    let said = site.run(&["check"]).with(0);
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert!(lines.len() < 40, "{} lines", lines.len());
    assert!(
        said.stdout.contains("… and 4,995 more like `deny token …`, userspace: the NIC cannot see tokens"),
        "{said:?}"
    );
    assert!(said.stdout.contains("… and 3,995 more like `deny ip …`, NIC"), "{said:?}");
    assert!(
        lines.last().unwrap().contains("the NIC drops 4,000 IPv4 prefixes"),
        "the summary is last: {lines:?}"
    );
    let all = site.run(&["check", "--all"]).with(0);
    assert!(all.stdout.lines().count() > 9000);
    let quiet = site.run(&["check", "--quiet"]).with(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let _ = site.run(&["check", "--quiet", "--all"]).with(2);
}

#[test]
fn many_policies_of_one_port_are_counted_and_not_listed() {
    let policies: String = (0..1000)
        .map(|n| format!("auth_backend p{n} {{ deny ip 10.0.{}.{}; allow default; }}\n", n / 256, n % 256))
        .collect();
    let streams: String =
        (0..1000).map(|n| format!("stream s{n} {{ input fake://; on_play auth://p{n}; }}\n")).collect();
    let site =
        site(&format!("{policies}{streams}gate 80 {{ upstream http://127.0.0.1:8080; }}\ninterface x;\n"));
    let said = site.run(&["check"]).with(0);
    assert!(said.stdout.len() < 100_000, "{} bytes", said.stdout.len());
    assert!(said.stdout.contains("996 more policies"), "{}", said.stdout);
    assert!(said.stdout.contains("980 more policies: `nicgate check --all` lists them"), "{}", said.stdout);
    let json = site.run(&["check", "--json"]).with(0);
    assert!(json.stdout.len() < 4_000_000, "{} bytes", json.stdout.len());
}

#[test]
fn interfaces_that_are_not_here_are_told() {
    let site = site(
        "interface lo;\ninterface nosuch0;\nauth_backend a { allow default; }\nguard tcp 80 auth://a;\n",
    );
    let said = site.run(&["check"]).with(0).stdout;
    assert!(said.contains("interface nosuch0 (mode auto): not on this machine"), "{said}");
    assert!(said.contains("interface lo (mode auto)\n"), "{said}");
    let interfaces = &site.run(&["check", "--json"]).with(0).json()["interfaces"];
    assert_eq!(interfaces[0], json!({"name": "lo", "mode": "auto", "present": true}));
    assert_eq!(interfaces[1]["present"], false);
}
