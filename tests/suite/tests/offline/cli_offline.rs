//! `check`, `explain` and `compile`: no root, no daemon, no interface.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

use std::{
    path::Path,
    process::{Command, Stdio},
};

use kit::{
    mmdb::{self, Layout},
    nicgate::{Said, Site, binary},
    oracle::Prefix,
};
use serde_json::{Value, json};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures");

/// The rules of the documentation, with a token that outranks the address rules.
const MYAUTH: &str = r#"auth_backend myauth1 {
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

fn database() -> String {
    format!("geoip \"{FIXTURES}/mmdb/GeoIP2-Country-Test.mmdb\";\n")
}

/// A site with a configuration.
fn site(text: &str) -> Site {
    let site = Site::new();
    site.configure(text);
    site
}

#[track_caller]
fn explain(site: &Site, arguments: &[&str]) -> Said {
    site.run(&[&["explain"], arguments].concat())
}

#[track_caller]
fn explain_json(site: &Site, arguments: &[&str]) -> Value {
    explain(site, &[arguments, &["--json"]].concat()).with(0).json()
}

#[track_caller]
fn compile(text: &str) -> Value {
    site(text).run(&["compile", "--json"]).with(0).json()
}

fn rule(text: &str, line: u32) -> Value {
    json!({"text": text, "file": "nicgate.conf", "line": line})
}

#[test]
fn explain_prints_one_object_with_every_step() {
    let site = site(&format!(
        "{MYAUTH}{}gate 80 {{ upstream http://127.0.0.1:8080; }}\nguard udp 9998 auth://myauth1;\n\
         guard tcp 1935 auth://other;\nauth_backend other {{ deny ip 10.10/16; allow default; }}\n\
         stream live/news {{ input fake://; on_play auth://myauth1; }}\n",
        database()
    ));
    let said = explain_json(&site, &["--auth", "myauth1", "--ip", "10.10.3.4"]);
    let step = |step: &str, result: &str| json!({"step": step, "result": result, "rule": null});
    let mut deciding = step("deny ip", "matches");
    deciding["rule"] = rule("deny ip 10.10/16", 9);
    assert_eq!(
        said,
        json!({
            "policy": "myauth1",
            "verdict": "deny",
            "stage": "ip",
            "rule": rule("deny ip 10.10/16", 9),
            "ban": null,
            "bans_known": true,
            "country": null,
            "kernel": {"80/tcp": "pass", "9998/udp": "pass"},
            "kernel_rules": {},
            "kernel_bans": {},
            "kernel_proxies": {},
            "via": null,
            "shadow": false,
            "steps": [
                step("drop", "no rule"),
                step("allow token", "no match"),
                step("deny token", "no match"),
                step("allow ip", "no match"),
                deciding,
            ],
            "session": {"limits": [], "follows": "off"},
        })
    );
    // The stream of a longer path is judged by its policy, and an IPv4-mapped address as the IPv4 one.
    let by_stream = ["--stream", "/live/news/index.m3u8", "--ip", "::ffff:10.10.3.4"];
    assert_eq!(explain_json(&site, &by_stream), said);
    let other = explain_json(&site, &["--auth", "other", "--ip", "10.10.3.4"]);
    assert_eq!(other["kernel"], json!({"1935/tcp": "drop"}));
    assert_eq!(other["kernel_rules"], json!({"1935/tcp": rule("deny ip 10.10/16", 16)}));
}

#[test]
fn what_comes_through_a_proxy_is_explained_and_checked() {
    let site = site(
        "auth_backend p { deny ip 203.0.113.0/24; deny ip 192.0.2.0/24; allow default; }\n\
         stream s { on_play auth://p; }\n\
         gate 80 { upstream http://127.0.0.1:8080; real_ip from 192.0.2.10; }\n\
         gate 81 { upstream http://127.0.0.1:8080; }\nguard tcp 1935 streams;\n",
    );
    let through =
        |ip: &str, via: &str| explain(&site, &["--stream", "s", "--ip", ip, "--via", via, "--json"]);
    // The NIC sees the proxy, and the gate judges the viewer.
    let said = through("203.0.113.7", "192.0.2.10").with(0).json();
    assert_eq!((&said["verdict"], &said["rule"]["text"]), (&json!("deny"), &json!("deny ip 203.0.113.0/24")));
    assert_eq!(said["via"], "192.0.2.10");
    assert_eq!(said["kernel"], json!({"80/tcp": "pass", "81/tcp": "drop", "1935/tcp": "drop"}));
    assert_eq!(said["kernel_proxies"], json!({"80/tcp": rule("192.0.2.10/32", 3)}));
    assert_eq!(through("198.51.100.7", "192.0.2.10").with(0).json()["verdict"], "allow");
    // Itself it is denied, though not at the NIC; and who comes directly is dropped there as before.
    let own = explain_json(&site, &["--stream", "s", "--ip", "192.0.2.10"]);
    assert_eq!((&own["verdict"], &own["kernel"]["80/tcp"]), (&json!("deny"), &json!("pass")));
    let direct = explain_json(&site, &["--stream", "s", "--ip", "203.0.113.7"]);
    assert_eq!((&direct["kernel"]["80/tcp"], &direct["kernel_proxies"]), (&json!("drop"), &json!({})));
    let stranger = through("203.0.113.7", "192.0.2.11").with(1);
    assert!(stranger.stderr.contains("no gate trusts 192.0.2.11"), "{}", stranger.stderr);
    let text =
        explain(&site, &["--stream", "s", "--ip", "203.0.113.7", "--via", "192.0.2.10"]).with(0).stdout;
    assert!(text.contains("through the proxy 192.0.2.10"), "{text}");
    assert!(text.contains("192.0.2.10/32 (nicgate.conf:3) is a trusted proxy"), "{text}");

    let checked = site.run(&["check", "--json"]).with(0).json();
    let services = checked["services"].as_array().unwrap();
    let proxies: Vec<_> = services.iter().map(|service| &service["proxies"]).collect();
    assert_eq!(proxies, [&json!(["192.0.2.10/32"]), &json!([]), &json!([])]);
    let held_back = &checked["rules"][1]["services"][0];
    let reason = held_back["reason"].as_str().unwrap();
    assert!(reason.contains("192.0.2.10/32 (nicgate.conf:3) is a trusted proxy"), "{reason}");
    assert_eq!(held_back["dropped"]["v4"], 255);
    let text = site.run(&["check"]).with(0);
    assert!(text.stdout.contains("trusted proxies 192.0.2.10/32 are never dropped there"), "{}", text.stdout);
    assert!(
        text.stderr.contains("meets 192.0.2.10/32 (nicgate.conf:3), a trusted proxy of 80/tcp"),
        "{}",
        text.stderr
    );
}

#[test]
fn every_stage_names_itself_its_rule_and_the_country() {
    let site = site(&format!("{MYAUTH}{}", database()));
    for (arguments, verdict, stage, decided, country) in [
        (&["--ip", "10.10.3.4", "--token", "test_token1"][..], "allow", "token", 7, Value::Null),
        (&["--ip", "192.0.2.10", "--token", "bad_token"], "deny", "token", 10, Value::Null),
        (&["--ip", "172.16.0.9"], "allow", "ip", 3, Value::Null),
        (&["--ip", "203.0.113.7"], "deny", "ip", 4, Value::Null),
        (&["--ip", "216.160.83.56"], "allow", "country", 5, json!("US")),
        (&["--ip", "2002:d8a0:5338::1"], "allow", "country", 5, json!("US")),
        (&["--ip", "81.2.69.160"], "deny", "country", 6, json!("GB")),
        (&["--ip", "89.160.20.112", "--ua", "Mozilla/5.0 (Windows; U; x"], "deny", "ua", 8, json!("SE")),
        (&["--ip", "89.160.20.112", "--ua", "mozilla/5.0 (windows; u"], "deny", "default", 0, json!("SE")),
    ] {
        let said = explain_json(&site, &[&["--auth", "myauth1"], arguments].concat());
        let line = if decided == 0 { Value::Null } else { json!(decided) };
        assert_eq!(said["verdict"], verdict, "{arguments:?}");
        assert_eq!(said["stage"], stage, "{arguments:?}");
        assert_eq!(said["rule"]["line"], line, "{arguments:?}");
        assert_eq!(said["country"], country, "{arguments:?}");
    }
}

#[test]
fn backends_are_supposed_one_word_each_in_file_order() {
    let site = site(
        "auth_backend b {\n backend http://192.0.2.1/a;\n backend http://192.0.2.2/b;\n allow default;\n \
         drop ip 10.0.0.1;\n}\n",
    );
    let ask = ["--auth", "b", "--ip", "192.0.2.9"];
    let said = explain_json(&site, &ask);
    assert_eq!((&said["verdict"], &said["stage"]), (&json!("ask"), &json!("backend")));
    assert_eq!(said["rule"], Value::Null);
    let text = explain(&site, &ask).with(0).stdout;
    assert!(text.starts_with("ASK: "), "{text}");
    for (words, verdict, stage, line) in [
        ("allow,deny", "allow", "backend", 2),
        ("down,allow", "allow", "backend", 3),
        ("deny,down", "deny", "backend", 2),
        ("down,deny", "deny", "backend", 3),
        ("down,down", "allow", "default", 4),
    ] {
        let said = explain_json(&site, &[&ask[..], &["--assume-backends", words]].concat());
        assert_eq!(said["verdict"], verdict, "{words}");
        assert_eq!(said["stage"], stage, "{words}");
        assert_eq!(said["rule"]["line"], line, "{words}");
    }
    // One word too few or too many is wrong, also where no backend would be asked.
    for ip in ["192.0.2.9", "10.0.0.1"] {
        for words in ["allow", "allow,deny,down"] {
            let said = explain(&site, &["--auth", "b", "--ip", ip, "--assume-backends", words]).with(1);
            assert!(said.stderr.contains("`b` has 2 backends"), "{said:?}");
            assert_eq!(said.stdout, "");
        }
    }
    let dropped = explain_json(&site, &["--auth", "b", "--ip", "10.0.0.1"]);
    assert_eq!((&dropped["verdict"], &dropped["stage"]), (&json!("deny"), &json!("drop")));
}

#[test]
fn a_stream_says_who_judges_it() {
    let site = site(
        "no_auto_token;\nauth_backend a { allow default; }\nstream open { input fake://; }\n\
         stream shut { input fake://; on_play auth://a; }\n",
    );
    let open = explain_json(&site, &["--stream", "open", "--ip", "192.0.2.1"]);
    assert_eq!((&open["verdict"], &open["policy"]), (&json!("allow"), &Value::Null));
    // What the gate answers 403 to, `no_auto_token` being set.
    let shut = explain_json(&site, &["--stream", "shut", "--ip", "192.0.2.1"]);
    assert_eq!((&shut["verdict"], &shut["stage"]), (&json!("deny"), &json!("token")));
    assert_eq!(shut["steps"][0]["step"], "no_auto_token");
    let shown = explain_json(&site, &["--stream", "shut", "--ip", "192.0.2.1", "--token", "t"]);
    assert_eq!((&shown["verdict"], &shown["stage"]), (&json!("allow"), &json!("default")));
    let said = explain(&site, &["--stream", "shutt", "--ip", "192.0.2.1"]).with(1);
    assert!(said.stderr.contains("no stream `shutt`; there are open, shut"), "{said:?}");
}

#[test]
fn wrong_usage_exits_2_and_a_wrong_request_exits_1() {
    let site = site(MYAUTH);
    for arguments in [
        &["explain", "--auth", "myauth1"][..],
        &["explain", "--ip", "10.0.0.1"],
        &["explain", "--auth", "myauth1", "--stream", "s", "--ip", "10.0.0.1"],
        &["explain", "--auth", "myauth1", "--ip", "10.0.0"],
        &["explain", "--auth", "myauth1", "--ip", "10.0.0.1", "--assume-backends", "maybe"],
        &["explain", "--auth", "myauth1", "--ip", "10.0.0.1", "--assume-backends", ""],
        &["compile", "--services"],
        &["monitor", "--sample", "0"],
        &["detach", "--all", "eth0"],
        &["chek"],
    ] {
        let said = site.run(arguments).with(2);
        assert!(said.stdout.is_empty() && said.stderr.contains("try '--help'"), "{arguments:?}: {said:?}");
    }
    for (arguments, message) in [
        (
            &["explain", "--auth", "myauth", "--ip", "10.0.0.1"][..],
            "no `auth_backend myauth`; there are myauth1",
        ),
        (&["compile", "--service", "80/tcp"], "no `gate` or `guard` protects 80/tcp; protected: nothing"),
        (&["detach"], "name the interfaces"),
        (&["detach", "eth9"], "nicgate is not attached to eth9"),
        (&["stats", "eth9"], "nicgate is not attached to eth9"),
        (&["attach"], "there is no `interface` to attach to"),
        (&["attach", "eth9"], "there is no `interface eth9`"),
        (&["directives", "gaurd"], "nicgate knows no directive `gaurd`"),
    ] {
        let said = site.run(arguments).with(1);
        assert!(said.stdout.is_empty() && said.stderr.contains(message), "{arguments:?}: {said:?}");
    }
    for command in ["reload", "sessions", "monitor", "bans"] {
        let said = site.run(&[command]).with(3);
        assert!(said.stderr.contains("no controller answers at"), "{said:?}");
    }
}

#[test]
fn directives_prints_the_page_and_each_place_of_a_word() {
    // No configuration is needed.
    let site = Site::new();
    let page = site.run(&["directives"]).with(0).stdout;
    assert_eq!(page, include_str!("../../../../docs/directives.md"));
    let guard = site.run(&["directives", "guard"]).with(0).stdout;
    assert!(guard.starts_with("## At the top of a file\n\n### `guard`\n\n`guard tcp|udp|sctp "), "{guard}");
    let places: Value = site.run(&["directives", "on_play", "--json"]).with(0).json();
    let places: Vec<&str> = places.as_array().unwrap().iter().map(|p| p["place"].as_str().unwrap()).collect();
    assert_eq!(
        places,
        ["At the top of a file", "In a `stream`, a `template` or a location", "In a `source`"]
    );
    let effect = |name: &str| {
        let places = site.run(&["directives", name, "--json"]).with(0).json();
        places[0]["directives"][0]["effect"].as_str().unwrap().to_owned()
    };
    let words = ["guard", "view_auth", "total_clients", "dvr"];
    assert_eq!(words.map(effect), ["enforced", "read", "not_enforced", "passed_over"]);
}

#[test]
fn a_missing_file_is_named() {
    let site = Site::new();
    for arguments in [&["check"][..], &["compile"], &["explain", "--auth", "a", "--ip", "::1"], &["run"]] {
        let said = site.run(arguments).with(1);
        assert!(said.stdout.is_empty() && said.stderr.contains("nicgate.conf"), "{said:?}");
    }
}

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
fn compile_aggregates_sorts_and_intersects() {
    let text = "auth_backend one {\n  deny ip 10.10/16 10.11/16 10.10.5.0/24 192.0.2.7 192.0.2.6;\n  \
                deny ip 2001:db8::/33 2001:db8:8000::/33 2001:db9::5;\n  allow ip 10.10.128.0/17;\n  \
                allow default;\n}\nauth_backend two { deny ip 10.11/16 2001:db8:1::/48; allow default; }\n\
                never_drop 192.0.2.6 10.11.0.0/24;\n\
                guard tcp 1935 auth://one;\nguard udp 9998 auth://one auth://two;\nguard sctp 5000 streams;\n";
    let rule = |policy: &str, text: &str, line: u32| json!({"policy": policy, "text": text, "file": "nicgate.conf", "line": line});
    assert_eq!(
        compile(text),
        json!({"services": [
            {
                "service": "1935/tcp",
                "policies": ["one"],
                "drop": {
                    "v4": [
                        "10.10.0.0/17", "10.11.1.0/24", "10.11.2.0/23", "10.11.4.0/22", "10.11.8.0/21",
                        "10.11.16.0/20", "10.11.32.0/19", "10.11.64.0/18", "10.11.128.0/17", "192.0.2.7/32",
                    ],
                    "v6": ["2001:db8::/32", "2001:db9::5/128"],
                },
                "rules": [
                    rule("one", "deny ip 10.10/16", 2),
                    rule("one", "deny ip 10.11/16", 2),
                    rule("one", "deny ip 192.0.2.7", 2),
                    rule("one", "deny ip 2001:db8::/33", 3),
                    rule("one", "deny ip 2001:db8:8000::/33", 3),
                    rule("one", "deny ip 2001:db9::5", 3),
                ],
            },
            {
                "service": "9998/udp",
                "policies": ["one", "two"],
                "drop": {
                    "v4": [
                        "10.11.1.0/24", "10.11.2.0/23", "10.11.4.0/22", "10.11.8.0/21", "10.11.16.0/20",
                        "10.11.32.0/19", "10.11.64.0/18", "10.11.128.0/17",
                    ],
                    "v6": ["2001:db8:1::/48"],
                },
                "rules": [rule("one", "deny ip 10.11/16", 2), rule("one", "deny ip 2001:db8::/33", 3)],
            },
            {"service": "5000/sctp", "policies": [], "drop": {"v4": [], "v6": []}, "rules": []},
        ]})
    );
    let one = site(text).run(&["compile", "--service", "9998/udp", "--json"]).with(0).json();
    assert_eq!(one["services"].as_array().unwrap().len(), 1);
    let listed = site(text).run(&["compile", "--service", "9998/udp"]).with(0).stdout;
    let prefixes: Vec<&str> = listed.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(prefixes.first().zip(prefixes.last()), Some((&"10.11.1.0/24", &"2001:db8:1::/48")));
    assert_eq!(prefixes.len(), 9);
}

#[test]
fn everything_and_nothing_are_single_prefixes() {
    let services = |text: &str| compile(text)["services"][0]["drop"].clone();
    assert_eq!(
        services("auth_backend a { }\nguard tcp 1 auth://a;\n"),
        json!({"v4": ["0.0.0.0/0"], "v6": ["::/0"]})
    );
    assert_eq!(
        services("auth_backend a { allow default; }\nguard tcp 1 auth://a;\n"),
        json!({"v4": [], "v6": []})
    );
    assert_eq!(
        services("auth_backend a { drop ip ::ffff:10.0.0.0/104; allow token t; }\nguard tcp 1 auth://a;\n"),
        json!({"v4": ["10.0.0.0/8"], "v6": []})
    );
    // What would be dropped is shown with `shadow` too; nothing else says what it would do.
    assert_eq!(
        services("shadow;\nauth_backend a { deny ip 10/8; allow default; }\nguard tcp 1 auth://a;\n"),
        json!({"v4": ["10.0.0.0/8"], "v6": []})
    );
}

#[test]
fn shadow_is_said_and_passes_in_explain() {
    let site = site("shadow;\nauth_backend a { deny ip 10/8; allow default; }\nguard tcp 1935 auth://a;\n");
    let said = explain_json(&site, &["--auth", "a", "--ip", "10.1.1.1"]);
    assert_eq!(said["kernel"], json!({"1935/tcp": "pass"}));
    assert_eq!(said["shadow"], true);
    assert_eq!(said["verdict"], "deny");
    assert_eq!(site.run(&["check", "--json"]).with(0).json()["shadow"], true);
    assert!(site.run(&["check"]).with(0).stdout.contains("shadow: "));
}

#[test]
fn countries_become_prefixes() {
    let text = format!(
        "{}auth_backend a {{ deny country GB; allow default; }}\nguard tcp 1 auth://a;\n",
        database()
    );
    let drop = &compile(&text)["services"][0]["drop"];
    let v4: Vec<&str> = drop["v4"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let v6 = drop["v6"].as_array().unwrap();
    assert!(v4.contains(&"2.125.160.216/29"), "{v4:?}");
    assert!(!v6.is_empty());
    // Each of them is in GB, and so is no neighbour that would make it longer.
    let site = site(&text);
    for prefix in v4.iter().take(5) {
        let address = prefix.split('/').next().unwrap();
        let said = explain_json(&site, &["--auth", "a", "--ip", address]);
        assert_eq!((&said["country"], &said["kernel"]["1/tcp"]), (&json!("GB"), &json!("drop")), "{prefix}");
    }
    let unknown = explain_json(&site, &["--auth", "a", "--ip", "192.0.2.1"]);
    assert_eq!((&unknown["country"], &unknown["kernel"]["1/tcp"]), (&Value::Null, &json!("pass")));
}

#[test]
fn list_files_are_compiled_and_their_bad_lines_named() {
    let site = site(
        "auth_backend a { drop ip file \"lists/drop.netset\"; allow token file \"tokens\"; allow default; }\n\
         guard tcp 1935 auth://a;\n",
    );
    std::fs::create_dir(site.path("lists")).unwrap();
    std::fs::copy(Path::new(FIXTURES).join("lists/drop.netset"), site.path("lists/drop.netset")).unwrap();
    site.write("tokens", "good\n");
    let said = site.run(&["compile", "--json"]).with(0).json();
    assert_eq!(
        said["services"][0]["drop"],
        json!({
            "v4": ["198.51.100.0/24", "203.0.113.5/32", "233.252.0.0/24"],
            "v6": ["2001:db8:ffff::/48"],
        })
    );
    assert_eq!(explain_json(&site, &["--auth", "a", "--ip", "::1", "--token", "good"])["stage"], "token");

    site.write("lists/drop.netset", "# fine\n192.0.2.0/24\n10.0.0.256\n192.0.2.0/33\n");
    for arguments in [&["check"][..], &["compile"], &["explain", "--auth", "a", "--ip", "::1"]] {
        let said = site.run(arguments).with(1);
        assert_eq!(said.stdout, "");
        assert!(said.stderr.contains("lists/drop.netset:3:"), "{}", said.stderr);
        assert!(said.stderr.contains("10.0.0.256"), "{}", said.stderr);
        assert!(said.stderr.contains("lists/drop.netset:4:"), "several errors in one run: {}", said.stderr);
    }
    let json = site.run(&["check", "--json"]).with(1).json();
    assert_eq!(json["ok"], false);
    assert_eq!(json["diagnostics"][0]["line"], 3);
    std::fs::remove_file(site.path("lists/drop.netset")).unwrap();
    let said = site.run(&["check"]).with(1);
    assert!(said.stderr.contains("lists/drop.netset") && said.stderr.contains("nicgate.conf:1:"), "{said:?}");
}

#[test]
fn a_database_that_cannot_be_used_is_named_with_its_line() {
    let site = Site::new();
    site.write("garbage.mmdb", "not a database");
    for (path, reason) in [
        ("garbage.mmdb".to_owned(), "not a readable MMDB"),
        ("missing.mmdb".to_owned(), "No such file"),
        ("/dev/zero".to_owned(), "not a regular file"),
        (format!("{FIXTURES}/mmdb/MaxMind-DB-test-broken-search-tree-24.mmdb"), "is damaged"),
    ] {
        site.configure(&format!("auth_backend a {{ deny country GB; }}\ngeoip \"{path}\";\n"));
        for arguments in [&["check"][..], &["compile"], &["explain", "--auth", "a", "--ip", "::1"]] {
            let said = site.run(arguments).with(1);
            assert_eq!(said.stdout, "");
            assert!(said.stderr.contains("nicgate.conf:2"), "{said:?}");
            assert!(said.stderr.contains(&path) && said.stderr.contains(reason), "{reason}: {said:?}");
        }
        // Whoever names it wants it, also without a rule that looks at countries.
        site.configure(&format!("auth_backend a {{ allow default; }}\ngeoip \"{path}\";\n"));
        assert!(site.run(&["check"]).with(1).stderr.contains(reason));
    }
    site.configure("geoip RU;\nauth_backend a { allow country RU; }\n");
    let said = site.run(&["check"]).with(1).stderr;
    assert!(said.contains("RU is a country; nicgate needs the path of an MMDB file"), "{said}");
    site.configure(&format!("{}auth_backend a {{ allow default; }}\n", database()));
    let explained = explain_json(&site, &["--auth", "a", "--ip", "81.2.69.160"]);
    assert_eq!(explained["country"], "GB");
}

#[test]
fn what_is_no_regular_file_is_refused_at_once_wherever_it_is_named() {
    let site = Site::new();
    let made = Command::new("mkfifo").arg(site.path("pipe")).status().unwrap();
    assert!(made.success());
    std::fs::create_dir(site.path("folder")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(site.path("socket")).unwrap();
    for path in ["pipe", "folder", "socket", "/dev/zero"] {
        for text in [
            format!("include \"{path}\";\n"),
            format!("geoip \"{path}\";\n"),
            format!("auth_backend a {{ deny ip file \"{path}\"; }}\n"),
            format!("auth_backend a {{ deny token file \"{path}\"; }}\n"),
        ] {
            site.configure(&text);
            let before = std::time::Instant::now();
            let said = site.run(&["check"]).with(1);
            assert!(before.elapsed().as_secs() < 5, "{text}");
            let named = said.stderr.contains(path) && said.stderr.contains("nicgate.conf:1:");
            // A socket cannot even be opened.
            let why = ["it is not a regular file", "No such device or address"];
            assert!(named && why.iter().any(|why| said.stderr.contains(why)), "{text}: {said:?}");
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one database and one message after the other")]
#[test]
fn what_a_database_does_not_know_is_told_with_numbers_at_the_rule() {
    let site = Site::new();
    let prefix = |address: &str, len| Prefix { address: address.parse().unwrap(), len };
    let registered = mmdb::Value::Map(vec![(
        "registered_country",
        mmdb::Value::Map(vec![("iso_code", mmdb::Value::Text("FR".to_owned()))]),
    )]);
    let v4 = [
        (prefix("1.0.0.0", 8), mmdb::flat("UK")),
        (prefix("2.0.0.0", 8), mmdb::flat("AN")),
        (prefix("4.0.0.0", 8), registered),
    ];
    site.write("v4.mmdb", mmdb::write(Layout { record_bits: 24, ip_version: 4 }, &v4));
    let v6 = [(prefix("2001:db8::", 32), mmdb::flat("US")), (prefix("2400::", 16), mmdb::flat("GB"))];
    site.write("v6.mmdb", mmdb::write(Layout { record_bits: 24, ip_version: 6 }, &v6));
    let check = |database: &str, rules: &str| {
        site.configure(&format!(
            "auth_backend p {{\n{rules}\n}}\nguard tcp 80 auth://p;\ninterface x;\ngeoip {database};\n"
        ));
        let said = site.run(&["check", "--json"]).with(0).json();
        let told = said["diagnostics"].as_array().unwrap().iter();
        told.map(|d| {
            format!("{} {} {}", d["line"], d["code"].as_str().unwrap(), d["message"].as_str().unwrap())
        })
        .collect::<Vec<_>>()
    };
    let share = "2 database-share 99.1 % of the public IPv4 addresses have no country in the database: of the \
                 country rules only `country unknown` matches them";
    let only = "2 database-registered of 1 IPv4 networks the database says only where they are registered \
                (`registered_country`): nicgate takes that for no country";
    let family = |rule: &str, shut: &str| {
        format!(
            "2 database-family the country database has 2 IPv4 networks and no IPv6 network: `{rule}` and the other \
             country rules match no IPv6 address{shut}"
        )
    };
    let shut = ", and `p` denies all of them";
    assert_eq!(check("v4.mmdb", "allow country GB;"), [&*family("allow country GB", shut), share, only]);
    assert_eq!(
        check("v4.mmdb", "deny country AN uk;\nallow default;"),
        [&*family("deny country AN", ""), share, only],
        "AN and UK are codes that the database uses"
    );
    assert_eq!(check("v4.mmdb", "deny country GB unknown;\nallow default;"), [share, only]);
    let said = check("v6.mmdb", "deny country ZZ el US;\nallow default;");
    assert_eq!(
        said,
        [
            "2 unknown-country the country database has no network of `ZZ`: no address matches",
            "2 unknown-country the country database has no network of `EL`: no address matches",
            "2 database-family the country database has 2 IPv6 networks and no IPv4 network: `deny country ZZ` and the \
             other country rules match no IPv4 address",
        ]
    );
    assert_eq!(check("v6.mmdb", "allow default;"), [""; 0], "no rule looks at countries");
    // A list of those who may come leaves out everybody without a country.
    let outside = "2 database-family the country database has 2 IPv6 networks and no IPv4 network: `allowed_countries US` \
                   denies every IPv4 address";
    assert_eq!(check("v6.mmdb", "allowed_countries US;\nallow default;"), [outside]);
    assert_eq!(check("v6.mmdb", "allowed_countries US unknown;\nallow default;"), [""; 0]);
    assert_eq!(
        check("v6.mmdb", "allowed_countries US ZZ unknown;\nallow default;"),
        ["2 unknown-country the country database has no network of `ZZ`: no address matches"]
    );
}

#[test]
fn addresses_without_a_country_can_be_named() {
    let site = Site::new();
    let rules = |rules: &str| {
        site.configure(&format!(
            "{}auth_backend a {{ {rules} }}\nguard tcp 80 auth://a;\ninterface x;\n",
            database()
        ));
    };
    let said = |ip: &str| {
        let said = explain_json(&site, &["--auth", "a", "--ip", ip]);
        let rule = said["rule"]["text"].as_str().unwrap_or("-").to_owned();
        format!("{} {rule} {}", said["verdict"].as_str().unwrap(), said["kernel"]["80/tcp"].as_str().unwrap())
    };
    rules("deny country unknown; allow default;");
    for unknown in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"] {
        assert_eq!(said(unknown), "deny deny country unknown drop", "{unknown}");
    }
    assert_eq!(said("81.2.69.160"), "allow allow default pass");
    rules("allow country UNKNOWN gb;");
    assert_eq!(said("192.0.2.1"), "allow allow country UNKNOWN pass");
    assert_eq!(said("81.2.69.160"), "allow allow country gb pass");
    assert_eq!(said("216.160.83.56"), "deny - drop");
    rules("drop country unknown; allow token t;");
    assert_eq!(said("192.0.2.1"), "deny drop country unknown drop");
}

#[test]
fn json_is_json_whatever_happens() {
    let site = Site::new();
    site.write("wrong.conf", "auth_backend a { deny ip 10.256/16; }\nauth_backend b { alow default; }\n");
    site.write("right.conf", "auth_backend a { allow default; }\n");
    site.write("country.conf", "auth_backend a { deny country GB; }\ngeoip missing.mmdb;\n");
    for (arguments, status) in [
        (&["check", "-c", "wrong.conf"][..], 1),
        (&["check", "-c", "missing.conf"], 1),
        (&["check", "-c", "country.conf"], 1),
        (&["compile", "-c", "wrong.conf"], 1),
        (&["compile", "-c", "right.conf", "--service", "80/tcp"], 1),
        (&["explain", "-c", "wrong.conf", "--auth", "a", "--ip", "::1"], 1),
        (&["explain", "-c", "right.conf", "--auth", "b", "--ip", "::1"], 1),
        (&["attach", "-c", "right.conf"], 1),
        (&["detach", "eth9"], 1),
        (&["reload"], 3),
        (&["sessions"], 3),
    ] {
        let output = Command::new(binary())
            .args(arguments)
            .args(["--json", "--control"])
            .arg(site.socket())
            .current_dir(site.path(""))
            .env("NICGATE_BPFFS", site.bpffs())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"));
        assert_eq!(json["ok"], false, "{arguments:?}");
        assert!(json["error"].is_string(), "{arguments:?}: {json}");
        assert!(!output.stderr.is_empty(), "people are told too");
    }
}

/// Runs a command whose stdout or stderr is a pipe that nobody reads.
fn into_nobody(site: &Site, arguments: &[&str], stderr: bool) -> (Option<i32>, Vec<u8>) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = site.command(arguments);
    if stderr {
        command.stdout(Stdio::null()).stderr(writer);
    } else {
        command.stdout(writer).stderr(Stdio::piped());
    }
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    (output.status.code(), output.stderr)
}

#[test]
fn nobody_reading_is_no_error() {
    let many: String =
        (0..60_000).map(|i| format!("{}.{}.{}.0/32\n", i % 200 + 1, i / 256, i % 256)).collect();
    let site =
        site("auth_backend a { drop ip file \"many\"; alow; allow default; }\nguard tcp 1935 auth://a;\n");
    site.write("many", many);
    let right = std::fs::read_to_string(site.path("nicgate.conf")).unwrap().replace(" alow;", "");
    // With an error, so that there is something on stderr.
    assert_eq!(into_nobody(&site, &["check"], true).0, Some(1));
    site.configure(&right);
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["compile"],
        &["compile", "--json"],
        &["explain", "--auth", "a", "--ip", "1.0.0.0"],
        &["explain", "--auth", "a", "--ip", "1.0.0.0", "--json"],
        &["--help"],
    ] {
        let (status, stderr) = into_nobody(&site, arguments, false);
        assert_eq!(status, Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        assert!(!String::from_utf8_lossy(&stderr).contains("panicked"), "{arguments:?}");
        assert_eq!(into_nobody(&site, arguments, true).0, Some(0), "{arguments:?}");
    }
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
    // The blacklist, as the issue's examples have it.
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
fn explain_knows_bans_and_publishing() {
    let site = site(
        "auth_backend p { allow default; }\nauth_backend q { deny token t; allow default; }\n\
         gate 80 { upstream http://127.0.0.1:8080; }\nnever_drop 198.51.100.9;\n\
         stream cam { input publish://; on_play auth://p; on_publish auth://q; }\n\
         stream file { input fake://; on_play auth://p; }\n",
    );
    let explain = |more: &[&str]| explain_json(&site, &[&["--ip", "198.51.100.7"], more].concat());
    let verdict =
        |said: &Value| json!([said["verdict"], said["stage"], said["policy"], said["kernel"]["80/tcp"]]);
    assert_eq!(verdict(&explain(&["--stream", "cam"])), json!(["allow", "default", "p", "pass"]));
    let publish = explain(&["--stream", "cam", "--publish", "--token", "t"]);
    assert_eq!(verdict(&publish), json!(["deny", "token", "q", "pass"]));
    let closed = explain(&["--stream", "file", "--publish"]);
    assert_eq!(json!([closed["verdict"], closed["policy"]]), json!(["deny", null]));
    assert!(closed["steps"][0]["result"].as_str().unwrap().contains("takes no published input"), "{closed}");

    let bans = json!({"version": 1, "boot_id": null, "bans": [
        {"id": 1, "prefix": "198.51.100.0/24", "service": null, "reason": "restreams", "made_at": 1,
         "expires_at": null, "until_boottime": null},
    ]});
    std::fs::write(site.state().join("bans.json"), bans.to_string()).unwrap();
    let banned = explain(&["--stream", "cam"]);
    assert_eq!(verdict(&banned), json!(["deny", "ban", "p", "drop"]));
    let ban = json!({"prefix": "198.51.100.0/24", "service": null, "reason": "restreams"});
    assert_eq!(json!([banned["ban"], banned["kernel_bans"]["80/tcp"]]), json!([ban, ban]));
    let exempt = explain_json(&site, &["--ip", "198.51.100.9", "--stream", "cam"]);
    assert_eq!(
        verdict(&exempt),
        json!(["deny", "ban", "p", "pass"]),
        "the gate refuses what the NIC may not drop"
    );
    let said = site.run(&["explain", "--stream", "cam", "--ip", "198.51.100.7"]).with(0);
    assert!(said.stdout.contains("is banned on every service: restreams"), "{said:?}");

    std::fs::write(site.state().join("bans.json"), "{").unwrap();
    assert_eq!(explain(&["--stream", "cam"])["bans_known"], false);
    let said = site.run(&["explain", "--stream", "cam", "--ip", "198.51.100.7"]).with(0);
    assert!(said.stdout.contains("bans are not known"), "{said:?}");
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
fn lists_that_are_valid_and_absurd_are_told_or_refused() {
    let site = site(
        "auth_backend p { deny ip file list; allow default; }\nguard tcp 1935 auth://p;\ninterface x;\n",
    );
    let check = |list: &str, status| {
        site.write("list", list);
        site.run(&["check"]).with(status).stderr
    };
    assert!(
        check("192.0.2.1\n0.0.0.0/0\n", 1)
            .contains("denies everybody: line 2 is 0.0.0.0/0, every IPv4 address")
    );
    assert!(check("::/0\n", 1).contains("every IPv6 address"));
    assert!(check("0.0.0.0-255.255.255.255\n", 1).contains("denies everybody"));
    assert!(check("# nothing\n", 0).contains("has no entry: nobody is denied by it"));
    let large = check("192.0.2.1\n10.0.0.0/7\n2001::/15\n", 0);
    assert!(large.contains("10.0.0.0/7 on line 2, a very large network, and 1 more"), "{large}");
    assert_eq!(check("name:203.0.113.1-203.0.113.9\n203.0.113.32 - 203.0.113.63\n", 0), "");
    let compiled = site.run(&["compile", "--json"]).with(0).json();
    let drop = &compiled["services"][0]["drop"]["v4"];
    assert_eq!(
        *drop,
        json!(["203.0.113.1/32", "203.0.113.2/31", "203.0.113.4/30", "203.0.113.8/31", "203.0.113.32/27"])
    );
    // Who means it says so; and an `allow` list may hold everybody.
    site.write("list", "0.0.0.0/0\n");
    site.configure("list_guard off;\nauth_backend p { deny ip file list; allow default; }\nguard tcp 1935 auth://p;\ninterface x;\n");
    assert!(site.run(&["check"]).with(0).stderr.contains("denies everybody"));
    site.configure("auth_backend p { allow ip file list; }\nguard tcp 1935 auth://p;\ninterface x;\n");
    assert_eq!(site.run(&["check"]).with(0).stderr, "");
    site.configure("list_guard maybe;\n");
    assert!(site.run(&["check"]).with(1).stderr.contains("neither on nor off"));
}

#[test]
fn explain_names_the_limits_of_sessions() {
    let site = site(
        "session_follows token;\nauth_backend p {\n  allow default;\n  max_sessions 2 per token;\n}\n\
         stream cam { input publish://; max_sessions 50; on_play auth://p; on_publish auth://p; }\n\
         gate 80 { upstream http://127.0.0.1:8080; }\n",
    );
    let cam = ["--stream", "cam", "--ip", "192.0.2.1"];
    let session = explain_json(&site, &cam)["session"].clone();
    let limits = json!([rule("max_sessions 2 per token", 4), rule("max_sessions 50", 6)]);
    assert_eq!(session, json!({"limits": limits, "follows": "token"}));
    let publishing = explain_json(&site, &[&cam[..], &["--publish"]].concat())["session"].clone();
    assert_eq!(publishing["limits"], json!([rule("max_sessions 2 per token", 4)]));
    let said = site.run(&[&["explain"], &cam[..]].concat()).with(0).stdout;
    assert!(said.contains("at a gate: max_sessions 50 (nicgate.conf:6)\n"), "{said}");
    assert!(said.contains("at a gate: a session follows its player (token)\n"), "{said}");
}

/// Names that move a terminal's cursor, in C0, C1 and DEL.
const HOSTILE: &str = "auth_backend \"n\x1b[2J\" { deny ip 192.0.2.1; deny token \"a\u{9b}2J\"; deny ua \"x\x07\"; \
                       allow default; }\nguard tcp 1935 \"auth://n\x1b[2J\";\n\
                       stream \"s\x1b]0;x\x07\" { on_play \"auth://n\x1b[2J\"; }\n\
                       gate 80 { upstream http://127.0.0.1:8080; }\n";

#[test]
fn names_that_a_terminal_would_obey_reach_no_output() {
    let right = site(HOSTILE);
    let wrong = site(&format!(
        "{HOSTILE}stream \"t\x1b[2J\" {{ on_play \"auth://o\x1b[2J\"; }}\ninclude \"\x1b[2J.conf\";\n"
    ));
    let mut seen = 0;
    for (site, arguments) in [
        (&right, &["check"][..]),
        (&right, &["check", "--all"]),
        (&right, &["compile"]),
        (&right, &["explain", "--auth", "n\x1b[2J", "--ip", "192.0.2.1"]),
        (&right, &["explain", "--stream", "nothing", "--ip", "192.0.2.1"]),
        (&right, &["explain", "--auth", "m\x1b[2J", "--ip", "192.0.2.1"]),
        (&wrong, &["check"]),
    ] {
        for json in [&[][..], &["--json"]] {
            let said = site.run(&[arguments, json].concat());
            for text in [&said.stdout, &said.stderr] {
                let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
                assert!(!text.contains(obeyed), "{arguments:?}: {text:?}");
                seen += usize::from(text.contains("[2J"));
            }
        }
    }
    assert!(seen > 10, "the names are shown: {seen}");
    // What programs read is what was written.
    let checked = right.run(&["check", "--json"]).with(0).json();
    assert_eq!(checked["rules"][0]["policy"], "n\x1b[2J");
    assert_eq!(checked["rules"][1]["text"], "deny token \"a\u{9b}2J\"");
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

#[test]
fn the_column_of_a_long_line_is_true() {
    let site = site(&format!(
        "auth_backend a {{ deny ip{} 10.300.0.1; allow default; }}\n",
        " 192.0.2.1".repeat(60)
    ));
    let said = site.run(&["check"]).with(1).stderr;
    assert!(said.contains(" nicgate.conf:1:629\n"), "{said}");
    let said = site.run(&["check", "--json"]).with(1).json();
    let columns: Vec<&Value> = said["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|said| said["severity"] == "error")
        .map(|said| &said["column"])
        .collect();
    assert_eq!(columns, [629]);
}

#[test]
fn explain_and_check_know_what_restricts_a_stream() {
    let site = site(&format!(
        "{}auth_backend p {{ allow token good; allow default; }}\n\
         stream cam {{ input publish://; allowed_countries US; domains shown.example; password secret; on_play auth://p; }}\n\
         gate 80 {{ upstream http://127.0.0.1:8080; }}\nguard tcp 1935 auth://p;\n",
        database()
    ));
    // 2.125.160.216 is in GB, 216.160.83.56 in US.
    let cam = |ip: &'static str| vec!["--stream", "cam", "--ip", ip, "--token", "good"];
    let page = ["--page", "https://shown.example/live"];
    let said = |arguments: &[&str]| {
        let said = explain_json(&site, arguments);
        (said["verdict"].clone(), said["stage"].clone(), said["rule"]["text"].clone())
    };
    let all = |one: Vec<&'static str>, more: &[&'static str]| [one, more.to_vec()].concat();
    assert_eq!(
        said(&all(cam("216.160.83.56"), &page)),
        (json!("allow"), json!("token"), json!("allow token *** (sha1 fc19318d)"))
    );
    assert_eq!(said(&cam("216.160.83.56")), (json!("deny"), json!("page"), json!("domains shown.example")));
    assert_eq!(
        said(&all(cam("2.125.160.216"), &page)),
        (json!("deny"), json!("drop"), json!("allowed_countries US"))
    );
    let publish = all(cam("2.125.160.216"), &["--publish", "--password"]);
    assert_eq!(said(&all(publish.clone(), &["secret"])).0, "allow");
    assert_eq!(said(&all(publish, &["other"])).1, "password");
    // Anybody can publish with the password, so that only what every request is denied is dropped.
    let foreign = explain_json(&site, &cam("2.125.160.216"));
    assert_eq!(foreign["kernel"], json!({"80/tcp": "pass"}));
    let text = explain(&site, &cam("2.125.160.216")).with(0).stdout;
    assert!(text.contains("judged by p for cam:"), "{text}");
    let checked = site.run(&["check", "--json"]).with(0).json();
    let texts: Vec<&str> =
        checked["rules"].as_array().unwrap().iter().map(|rule| rule["text"].as_str().unwrap()).collect();
    assert!(texts.contains(&"allowed_countries US") && texts.contains(&"password secret"), "{texts:?}");
    let said: Vec<&Value> =
        checked["diagnostics"].as_array().unwrap().iter().map(|said| &said["code"]).collect();
    assert_eq!(said, [&json!("database-share")], "nothing is left to the media server");
}

#[test]
fn what_every_stream_of_a_port_restricts_is_dropped_there() {
    let config = |more: &str| {
        format!(
            "{}auth_backend p {{ allow token good; }}\nstream a {{ allowed_countries US; on_play auth://p; }}\n\
             stream b {{ allowed_countries US GB; }}\nstream c {{ domains a.example; {more} }}\n\
             gate 80 {{ upstream http://127.0.0.1:8080; }}\n",
            database()
        )
    };
    let kernel = |more: &str, ip: &str| {
        explain_json(&site(&config(more)), &["--stream", "a", "--ip", ip])["kernel"]["80/tcp"].clone()
    };
    // 2.125.160.216 is in GB, 89.160.20.112 in SE.
    assert_eq!(kernel("", "89.160.20.112"), "pass");
    assert_eq!(kernel("allowed_countries GB;", "89.160.20.112"), "drop");
    assert_eq!(kernel("allowed_countries GB;", "2.125.160.216"), "pass");
    assert_eq!(kernel("disallowed_countries SE;", "89.160.20.112"), "drop");
}
