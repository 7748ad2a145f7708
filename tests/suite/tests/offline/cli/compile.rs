//! `compile`: what the network card drops, as prefixes.

use std::path::Path;

use serde_json::{Value, json};

use super::{FIXTURES, compile, database, explain_json, site};

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
