//! `explain`: what becomes of one request, and of its packets.

use serde_json::{Value, json};

use super::{MYAUTH, database, explain, explain_json, rule, site};

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
