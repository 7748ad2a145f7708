//! Lists and databases that commands read: what is wrong with them, or odd.

use std::process::Command;

use kit::{
    mmdb::{self, Layout},
    nicgate::Site,
    oracle::Prefix,
};
use serde_json::json;

use super::{FIXTURES, database, explain_json, site};

#[test]
fn a_missing_file_is_named() {
    let site = Site::new();
    for arguments in [&["check"][..], &["compile"], &["explain", "--auth", "a", "--ip", "::1"], &["run"]] {
        let said = site.run(arguments).with(1);
        assert!(said.stdout.is_empty() && said.stderr.contains("nicgate.conf"), "{said:?}");
    }
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
