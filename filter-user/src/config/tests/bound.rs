//! What a configuration means.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::*;

fn texts(policy: &Policy) -> Vec<&str> {
    policy.rules().iter().map(|rule| &*rule.text).collect()
}

/// The name of the policy that judges, or what else holds.
fn access(config: &Config, access: &Access) -> String {
    match access {
        Access::Policy(id) => config.policy(*id).name().to_string(),
        Access::Open => "open".into(),
        Access::Closed => "closed".into(),
    }
}

/// Who judges playing and publishing of a stream.
fn judges(config: &Config, stream: &str) -> (String, String) {
    let stream = config.streams.get(stream).unwrap_or_else(|| panic!("no stream {stream}"));
    (access(config, &stream.on_play), access(config, &stream.on_publish))
}

fn pair(play: &str, publish: &str) -> (String, String) {
    (play.into(), publish.into())
}

/// The policies of a service by name, and whether it is open.
fn service(config: &Config, key: &str) -> (Vec<String>, Option<OpenReason>) {
    let found = config.services.iter().find(|service| service.key.to_string() == key);
    let service = found.unwrap_or_else(|| panic!("no service {key}"));
    let names = service.policies.iter().map(|id| config.policy(*id).name().to_string()).collect();
    (names, service.open.clone())
}

#[test]
fn every_value_is_a_rule_with_its_own_text_and_place() {
    let config = good(
        "auth_backend a {\n  deny ip 10.10/16 192.0.2.1;\n  allow country ru;\n  drop country CN;\n  \
         deny useragent \"Mozilla/5.0 (Windows; U;\" VLC;\n  allow token t1;\n}\ngeoip c.mmdb;",
    );
    let policy = &config.policies[0];
    assert_eq!(
        texts(policy),
        [
            "deny ip 10.10/16",
            "deny ip 192.0.2.1",
            "allow country ru",
            "drop country CN",
            "deny ua \"Mozilla/5.0 (Windows; U;\"",
            "deny ua VLC",
            "allow token t1"
        ]
    );
    let places: Vec<_> = policy.rules().iter().map(|rule| (rule.origin.line, rule.origin.column)).collect();
    assert_eq!(places, [(2, 11), (2, 20), (3, 17), (4, 16), (5, 18), (5, 45), (6, 15)]);
    assert_eq!(policy.rules()[0].matcher, Matcher::Ip("10.10.0.0/16".parse().unwrap()));
    assert_eq!(policy.rules()[2].matcher, Matcher::Country(Country::new("RU")));
    assert_eq!((policy.origin().line, policy.origin().column), (1, 1));
}

#[test]
fn backends_and_the_default_are_kept() {
    let config =
        good("auth_backend a {\n backend http://h/a?x=1;\n backend iptv://localhost;\n allow default;\n}");
    let policy = &config.policies[0];
    let backends: Vec<_> = policy.backends().iter().map(|b| (&*b.text, b.origin.line)).collect();
    assert_eq!(backends, [("backend http://h/a?x=1", 2), ("backend iptv://localhost", 3)]);
    assert_eq!(policy.backends()[1].authority, Authority::Iptv);
    assert_eq!(policy.default_allow().unwrap().line, 4);
}

#[test]
fn lists_are_read_once_and_relative_to_the_file_that_names_them() {
    let files = memory("include sub/a.conf;\n")
        .with("sub/a.conf", "auth_backend a { deny ip file \"l\"; drop ip file l; allow token file \"t\"; }")
        .with("sub/l", "\u{feff}# list\r\n10.0.0.0/8\r\n\r\n 2001:db8::/32 ; doc\n192.0.2.1#x\n; end")
        .with("sub/t", "t1\n # no\nt#2 # yes\nt3;no\nt4 ;yes\n");
    let (config, report) = files.load();
    let config = config.unwrap_or_else(|| panic!("{}", report.render(false)));
    assert_eq!(report.diagnostics, []);
    let rules = config.policies[0].rules();
    assert_eq!(
        texts(&config.policies[0]),
        ["deny ip file \"l\"", "drop ip file \"l\"", "allow token file \"t\""]
    );
    let (Matcher::IpFile(first), Matcher::IpFile(second)) = (&rules[0].matcher, &rules[1].matcher) else {
        panic!("{rules:?}")
    };
    assert!(Arc::ptr_eq(&first.entries, &second.entries));
    let entries: Vec<_> = first.entries.iter().map(|(net, line)| (net.to_string(), *line)).collect();
    assert_eq!(entries, [("10.0.0.0/8".into(), 2), ("2001:db8::/32".into(), 4), ("192.0.2.1/32".into(), 5)]);
    let Matcher::TokenFile(tokens) = &rules[2].matcher else { panic!("{rules:?}") };
    assert_eq!(*tokens.entries, [("t1".into(), 1), ("t#2".into(), 3), ("t3;no".into(), 4), ("t4".into(), 5)]);
    assert_eq!(config.files, ["nicgate.conf", "sub/a.conf", "sub/l", "sub/t"].map(PathBuf::from));
    assert_eq!(&*rules[0].origin.file, "sub/a.conf");
}

#[test]
fn a_quoted_file_is_a_value() {
    let config = good("auth_backend a { allow token \"file\"; allow ua file; }");
    assert_eq!(texts(&config.policies[0]), ["allow token file", "allow ua file"]);
}

#[test]
fn streams_inherit_from_templates_and_from_the_top() {
    let config = good(
        "auth_backend a { allow default; }\nauth_backend b { allow default; }\nauth_backend c { allow default; }\n\
         on_play auth://c;\n\
         template t { on_play auth://b; prefix sport/; input publish://; on_publish auth://a; }\n\
         stream own { template t; on_play auth://a; }\n\
         stream inherits { template t; }\n\
         stream top { input udp://239.0.0.1:1234; }\n\
         stream pub { input publish://; }\n",
    );
    assert_eq!(judges(&config, "own"), pair("a", "a"));
    assert_eq!(judges(&config, "inherits"), pair("b", "a"));
    assert_eq!(judges(&config, "sport"), pair("b", "a"));
    assert_eq!(judges(&config, "top"), pair("c", "closed"));
    assert_eq!(judges(&config, "pub"), pair("c", "open"));
    assert_eq!(&*config.stream_for("sport/one/index.m3u8").unwrap().name, "sport");
}

#[test]
fn streams_without_a_judge_are_open_to_play_and_published_only_where_they_take_it() {
    let config = good(
        "stream plain { input udp://239.0.0.1:1234; }\nlive push { }\nvod films { storage /movies; }\n\
         stream pass { input publish://; password secret; }\nstream srt { srt_publish { port 9999; } }\n\
         stream older { url publish://; }\nrewrite old publish://;\nondemand od { input publish; }",
    );
    assert_eq!(judges(&config, "plain"), pair("open", "closed"));
    assert_eq!(judges(&config, "push"), pair("open", "open"));
    assert_eq!(judges(&config, "films"), pair("open", "closed"));
    assert_eq!(judges(&config, "pass"), pair("open", "open"));
    assert_eq!(judges(&config, "srt"), pair("open", "open"));
    assert_eq!(judges(&config, "old"), pair("open", "open"));
    assert_eq!(judges(&config, "older"), pair("open", "open"));
    assert_eq!(judges(&config, "od"), pair("open", "open"));
}

#[test]
fn the_default_for_publishing_holds_where_something_is_published() {
    let config = good(
        "auth_backend a { allow default; }\non_publish auth://a;\nstream x { input publish://; }\nstream y { input udp://239.0.0.1:1; }",
    );
    assert_eq!(judges(&config, "x"), pair("open", "a"));
    assert_eq!(judges(&config, "y"), pair("open", "closed"));
}

#[test]
fn an_address_in_on_play_is_a_policy_of_its_own() {
    let config = good(
        "stream x { on_play http://h/auth max_sessions=3; on_publish http://h/publish; }\n\
         stream y { auth http://h/auth; }\nstream z { on_play securetoken://key soft_limitation=true; }\n\
         auth_backend named { allow default; }",
    );
    let names: Vec<_> = config.policies.iter().map(|policy| &**policy.name()).collect();
    assert_eq!(names, ["named", "on_play of x", "on_publish of x", "on_play of z"]);
    assert_eq!(judges(&config, "x"), pair("on_play of x", "on_publish of x"));
    assert_eq!(judges(&config, "y").0, "on_play of x");
    let id = config.policy_named("on_play of z").unwrap();
    assert_eq!(config.policy(id).backends()[0].authority, Authority::SecureToken("key".into()));
    assert_eq!(&*config.policy(id).backends()[0].text, "on_play securetoken://key");
}

#[test]
fn services_know_the_policies_that_they_can_meet() {
    let config = good(
        "auth_backend a { allow default; }\nauth_backend b { allow default; }\nauth_backend c { allow default; }\n\
         stream x { on_play auth://b; }\nstream y { on_play auth://a; on_publish auth://c; }\nstream z { on_play auth://a; }\n\
         gate 80 { upstream http://127.0.0.1:8080/; }\nguard tcp 1935 auth://c auth://a auth://c;\nguard udp [2001:db8::1]:9998 streams;",
    );
    assert_eq!(service(&config, "80/tcp"), (vec!["a".into(), "b".into(), "c".into()], None));
    assert_eq!(service(&config, "1935/tcp"), (vec!["a".into(), "c".into()], None));
    assert_eq!(service(&config, "[2001:db8::1]:9998/udp").0.len(), 3);
    let ServiceKind::Gate(gate) = &config.services[0].kind else { panic!("{:?}", config.services[0]) };
    assert_eq!(gate.upstream.to_string(), "127.0.0.1:8080");
    assert_eq!(config.services[1].origin.line, 8);
}

#[test]
fn a_stream_without_a_policy_opens_a_port() {
    let config = good(
        "stream x { on_play http://h/; input publish://; }\ngate 80 { upstream http://h; }\nguard tcp 1935 streams;",
    );
    // The gate refuses what no policy allows to be published; another server does not.
    assert_eq!(service(&config, "80/tcp").1, None);
    let (_, open) = service(&config, "1935/tcp");
    assert!(
        matches!(&open, Some(OpenReason::PublishWithoutPolicy(name, at)) if &**name == "x" && at.line == 1),
        "{open:?}"
    );

    let config = good("stream x { }\ngate 80 { upstream http://h; }\n");
    let (_, open) = service(&config, "80/tcp");
    assert!(matches!(&open, Some(OpenReason::PlayWithoutPolicy(name, _)) if &**name == "x"), "{open:?}");
}

#[test]
fn a_port_without_streams_is_open() {
    let config = good("gate 80 { upstream http://h; }\nguard sctp 9 streams;");
    assert_eq!(service(&config, "80/tcp").1, Some(OpenReason::NoStreams));
    assert_eq!(service(&config, "9/sctp").1, Some(OpenReason::NoStreams));
}

#[test]
fn another_server_opens_what_streams_guard() {
    let config = good(
        "source origin.example { only a b; }\nstream x { on_play http://h/; }\nguard tcp 1935 streams;\ngate 80 { upstream http://h; }",
    );
    let (_, open) = service(&config, "1935/tcp");
    assert!(
        matches!(&open, Some(OpenReason::OtherServer(name, _)) if &**name == "origin.example"),
        "{open:?}"
    );
    assert_eq!(service(&config, "80/tcp").1, None);

    let config = good("on_play http://h/;\nsource origin.example { }\nguard tcp 1935 streams;");
    assert_eq!(service(&config, "1935/tcp"), (vec!["on_play of every stream".into()], None));
}

#[test]
fn an_srt_port_of_one_stream_is_for_that_stream() {
    let streams = "auth_backend a { allow default; }\nauth_backend b { allow default; }\n\
                   stream x { srt 9998; on_play auth://a; }\nstream y { on_play auth://b; }\nstream z { }\n\
                   guard udp 9998 streams;\n";
    let config = good(streams);
    assert_eq!(service(&config, "9998/udp"), (vec!["a".into()], None));
    // Where the whole server listens on the port too, every stream is behind it.
    let config = good(&format!("{streams}srt 9998;\n"));
    let (policies, open) = service(&config, "9998/udp");
    assert_eq!(policies, ["a", "b"]);
    assert!(open.is_some());
}

#[test]
fn listeners_are_those_of_the_media_server() {
    let config = good(
        "http 80;\nhttps 192.0.2.1:443 { ssl_protocols tlsv1.2; }\nrtmp localhost:1935;\nsrt 9998;\nadmin_http [::1]:8090 api=on;\n\
         rtsp { port 554; }\nhttp { }\n\
         stream x { srt_play { port 9999; } on_play http://h/; }",
    );
    let listeners: Vec<_> = config.listeners.iter().map(|l| format!("{} {}", l.directive, l.key)).collect();
    assert_eq!(
        listeners,
        [
            "http 80/tcp",
            "https 192.0.2.1:443/tcp",
            "rtmp 1935/tcp",
            "srt 9998/udp",
            "admin_http [::1]:8090/tcp",
            "rtsp 554/tcp",
            "srt_play 9999/udp"
        ]
    );
}

#[test]
fn settings_are_read() {
    let files = memory("include sub/x;").with(
        "sub/x",
        "interface eth0 { mode native; }\ninterface eth1;\nnever_drop 10/8 2001:db8::1;\nshadow;\nengine lpm;\ngeoip c.mmdb;\n\
         auth_token tkn;\nno_auto_token;\nbackend_timeout 1.5;\nview_auth a b;\napi_allowed_from 10.0.0.0/8;",
    );
    let config = files.load().0.unwrap();
    let interfaces: Vec<_> = config.interfaces.iter().map(|i| (&*i.name, i.mode)).collect();
    assert_eq!(interfaces, [("eth0", InterfaceMode::Native), ("eth1", InterfaceMode::Auto)]);
    let kept: Vec<_> = config.never_drop.iter().map(|(net, _)| net.to_string()).collect();
    assert_eq!(kept, ["10.0.0.0/8", "2001:db8::1/128"]);
    assert!(config.shadow && config.no_auto_token);
    assert_eq!(config.engine, Engine::Lpm);
    assert_eq!(config.geoip.as_ref().unwrap().0, PathBuf::from("sub/c.mmdb"));
    assert_eq!(&*config.token_name, "tkn");
    assert_eq!(config.backend_timeout, Duration::from_millis(1500));
}

#[test]
fn gates_trust_the_proxies_of_all_gates_or_their_own() {
    let config = good(
        "real_ip from 192.0.2.1 192.0.2/28;\nreal_ip from 2001:db8::1 { header cf-connecting-ip; }\n\
         gate 80 { upstream http://127.0.0.1:8080; proxy_protocol from 203.0.113.1; proxy_protocol from 203.0.113.2; }\n\
         gate 81 { upstream http://127.0.0.1:8080; real_ip from 198.51.100.1 { header Forwarded; } }\n\
         gate 82 { upstream http://127.0.0.1:8080; real_ip off; }\nguard tcp 83 streams;\n\
         gate 84 { upstream http://127.0.0.1:8080; real_ip off; proxy_protocol from 203.0.113.1; }\n",
    );
    let trusted = |place: usize| -> Vec<String> {
        let trust = config.services[place].trust();
        trust
            .into_iter()
            .flat_map(Trust::prefixes)
            .map(|(net, origin)| format!("{net} {}", origin.line))
            .collect()
    };
    let global = ["192.0.2.1/32 1", "192.0.2.0/28 1", "2001:db8::1/128 2"];
    assert_eq!(trusted(0), [&global[..], &["203.0.113.1/32 3", "203.0.113.2/32 3"]].concat());
    assert_eq!(trusted(1), ["198.51.100.1/32 4"]);
    assert!(config.services[2].trust().is_none() && config.services[3].trust().is_none());
    assert_eq!(trusted(4), ["203.0.113.1/32 7"]);
    let header = |place: usize, peer: &str| {
        let trust = config.services[place].trust().unwrap();
        trust.header_of(peer.parse().unwrap()).map(AddressHeader::written)
    };
    assert_eq!(header(0, "192.0.2.15"), Some("X-Forwarded-For"));
    assert_eq!(header(0, "2001:db8::1"), Some("CF-Connecting-IP"));
    assert_eq!(header(0, "203.0.113.1"), None);
    assert_eq!(header(1, "198.51.100.1"), Some("Forwarded"));
    assert_eq!(header(1, "192.0.2.1"), None);
}

#[test]
fn what_is_not_set_has_its_default() {
    let config = good("");
    assert_eq!(&*config.token_name, "token");
    assert_eq!(config.backend_timeout, Duration::from_secs(3));
    assert_eq!(config.engine, Engine::Flat);
    assert!(!config.shadow && !config.no_auto_token && config.geoip.is_none());
}

#[test]
fn the_unspecified_address_is_every_address() {
    let config = good(
        "guard tcp 0.0.0.0:80 streams;\nguard tcp [::]:81 streams;\nguard tcp [::ffff:192.0.2.1]:82 streams;",
    );
    let addresses: Vec<_> = config.services.iter().map(|service| service.key.address).collect();
    assert_eq!(addresses, [None, None, Some(IpAddr::from([192, 0, 2, 1]))]);
}

#[test]
fn two_addresses_can_share_a_port() {
    let config = good("guard tcp 80 streams;\nguard tcp 192.0.2.1:80 streams;\nguard udp 80 streams;");
    assert_eq!(config.services.len(), 3);
}

#[test]
fn an_empty_prefix_is_every_name() {
    let config = good("template t { prefix \"\"; on_play http://h/; }\nstream a { on_play http://i/; }");
    assert_eq!(&*config.stream_for("a/index.m3u8").unwrap().name, "a");
    assert_eq!(&*config.stream_for("b/index.m3u8").unwrap().name, "");
}

#[test]
fn a_deny_around_an_allow_is_no_contradiction() {
    let (_, report) = memory("auth_backend a { allow ip 10.1.2.3; deny ip 10/8; }").load();
    assert_eq!(report.diagnostics, []);
}

#[test]
fn an_on_play_that_is_inherited_goes_before_the_auth_of_a_stream() {
    let policies = "auth_backend x { allow default; } auth_backend y { deny ip 10/8; }\n";
    for (text, judge) in [
        ("template t { on_play auth://x; } stream s { template t; auth auth://y; }", "x"),
        ("template t { auth auth://x; } stream s { template t; auth auth://y; }", "y"),
        ("template t { auth auth://x; } stream s { template t; }", "x"),
        ("template t { on_play auth://x; } stream s { template t; on_play auth://y; }", "y"),
        ("on_play auth://x; stream s { auth auth://y; }", "y"),
        ("stream s { auth auth://x; on_play auth://y; }", "y"),
    ] {
        let config = good(&format!("{policies}{text}"));
        assert_eq!(judges(&config, "s").0, judge, "{text}");
    }
}

#[test]
fn an_auth_of_the_file_holds_for_every_stream_without_one() {
    let config = good(
        "auth http://127.0.0.1/a;\nauth_backend x { allow default; }\ntemplate t { on_play auth://x; }\n\
         stream plain; stream own { on_play auth://x; } stream inherits { template t; }\n\
         vod movies; live cam;",
    );
    for name in ["plain", "movies", "cam"] {
        assert_eq!(judges(&config, name).0, "auth of every stream", "{name}");
    }
    for name in ["own", "inherits"] {
        assert_eq!(judges(&config, name).0, "x", "{name}");
    }
}

#[test]
fn auth_with_a_name_alone_is_the_policy_of_that_name() {
    let (config, report) = memory("stream s { auth myauth; }\nauth_backend myauth { deny ip 10/8; }").load();
    assert_eq!(judges(&config.unwrap(), "s").0, "myauth");
    assert_eq!(
        report.diagnostics.iter().map(|d| (d.severity, d.code)).collect::<Vec<_>>(),
        [(Severity::Note, "bare-name")]
    );
}

#[test]
fn scripts_never_respond_and_are_warned_of() {
    let (config, report) =
        memory("stream a { auth /etc/flussonic/auth.lua; } stream b { on_play play.lua; }").load();
    let config = config.unwrap();
    let authorities: Vec<_> = config.policies.iter().map(|policy| &policy.backends()[0].authority).collect();
    let script = |path: &str| Authority::Script(path.into());
    assert_eq!(authorities, [&script("/etc/flussonic/auth.lua"), &script("play.lua")]);
    assert_eq!(report.warnings().map(|d| d.code).collect::<Vec<_>>(), ["script-backend"; 2]);
}

#[test]
fn a_stream_that_is_disabled_is_closed_and_opens_no_port() {
    let config = good(
        "auth_backend x { deny ip 10/8; allow default; } gate 80 { upstream http://127.0.0.1:8080; }\n\
         template off { disabled; }\n\
         stream on { on_play auth://x; } stream t { disabled; } ondemand o { disabled; input publish://; }\n\
         stream inherits { template off; } stream not { on_play auth://x; disabled false; }",
    );
    assert_eq!(service(&config, "80/tcp"), (vec!["x".into()], None));
    for name in ["t", "o", "inherits"] {
        assert_eq!(judges(&config, name), pair("closed", "closed"), "{name}");
    }
    assert_eq!(judges(&config, "not").0, "x");
    // A port all of whose streams are disabled is left alone by the NIC.
    let config = good("gate 80 { upstream http://127.0.0.1:8080; } stream t { disabled; }");
    assert_eq!(service(&config, "80/tcp").1, Some(OpenReason::NoStreams));
}

#[test]
fn patterns_include_files_in_the_order_of_their_names() {
    let files = memory("include d/*.conf;\nstream s { on_play auth://b; }")
        .with("d/b.conf", "auth_backend b { allow default; }")
        .with("d/a.conf", "auth_backend a { allow default; }")
        .with("d/readme.txt", "what { is not read");
    let (config, report) = files.load();
    let config = config.unwrap_or_else(|| panic!("{}", report.render(false)));
    assert_eq!(config.files, ["nicgate.conf", "d/a.conf", "d/b.conf"].map(PathBuf::from));
    assert_eq!(config.policies.iter().map(|p| p.name().to_string()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_quote_is_read_the_same_wherever_it_stands() {
    // Read as a shell reads it, each of these would be one token that swallows the rules after it.
    for wrong in [
        r#"deny token a"b; deny ip 1.2.3.4; deny ua c"d;"#,
        r#"deny token "x"y;"#,
        r#"deny token "x""y";"#,
        r#"deny token k="a;b";"#,
        "deny ua 'MAG';",
        "deny ua 'a b';",
        "deny ua \u{201c}MAG\u{201d};",
        "deny ua MAG\u{bb};",
    ] {
        let (config, report) = memory(format!("auth_backend x {{ {wrong} }}")).load();
        assert!(config.is_none(), "{wrong}");
        assert!(
            report.errors().any(|error| error.code == "stray-quote"),
            "{wrong}: {}",
            report.render(false)
        );
    }
    // The media server's own directives have quotes after a `=`; a quote at a word's end ends it.
    let config = good(
        r#"stream s { input udp://239.0.0.1 title="two; words"; on_play auth://x; } auth_backend x { deny token "a\"b" "c;d"; }"#,
    );
    assert_eq!(texts(&config.policies[0]), [r#"deny token "a\"b""#, r#"deny token "c;d""#]);
    assert_eq!(judges(&config, "s").0, "x");
}

#[test]
fn what_restricts_access_and_is_not_enforced_is_warned_of_once() {
    let (_, report) = memory(
        "auth_backend x { allow default; }\n\
         stream a { on_play auth://x max_sessions=3; total_clients 10; password secret; title no; }\n\
         stream b { on_play auth://x; total_clients 20; domains example.com; }",
    )
    .load();
    let said: Vec<_> = report.warnings().map(|d| (&*d.message, d.origin.line)).collect();
    assert_eq!(
        said,
        [
            ("nicgate does not enforce `domains`", 3),
            ("nicgate does not enforce `password`", 2),
            ("nicgate does not enforce `total_clients` (here and at one more place)", 2),
            ("nicgate does not enforce options of `on_play`", 2),
        ]
    );
}

#[test]
fn upstreams_have_names_and_servers() {
    let config = good(
        "gate 80 { upstream media; path /a/tv/; }\n\
         upstream media {\n  server media.example.com;\n  server [2001:db8::1]:8080 weight=2 max_fails=1 fail_timeout=500ms;\n  \
         server unix:/run/media.sock;\n  health path=/health?x=1 interval=2s timeout=300ms;\n  proxy_protocol;\n}\n\
         gate 81 { upstream 127.0.0.1; }\ngate 82 { upstream localhost:8080; }\ngate 83 { upstream unix:/run/media.sock; }\n\
         gate 84 { upstream media; }\ngate 85 { upstream http://127.0.0.1:80; }\n",
    );
    let gate = |index: usize| match &config.services[index].kind {
        ServiceKind::Gate(gate) => gate,
        ServiceKind::Guard => panic!("it is a gate"),
    };
    let media = &gate(0).upstream;
    assert_eq!((&*media.name, media.proxy_protocol, &*gate(0).prefix), ("media", true, "a/tv"));
    let servers: Vec<_> = media
        .servers
        .iter()
        .map(|one| (one.address.to_string(), one.weight, one.max_fails, one.fail_timeout.as_millis()))
        .collect();
    assert_eq!(
        servers,
        [
            ("media.example.com:80".to_owned(), 1, 3, 10_000),
            ("[2001:db8::1]:8080".to_owned(), 2, 1, 500),
            ("unix:/run/media.sock".to_owned(), 1, 3, 10_000),
        ]
    );
    let health = media.health.as_ref().expect("it has a check");
    assert_eq!(
        (&*health.path, health.interval.as_millis(), health.timeout.as_millis()),
        ("/health?x=1", 2000, 300)
    );
    assert!(Arc::ptr_eq(media, &gate(4).upstream));
    let names: Vec<_> = (1..4).map(|index| gate(index).upstream.to_string()).collect();
    assert_eq!(names, ["127.0.0.1:80", "localhost:8080", "unix:/run/media.sock"]);
    assert_eq!(gate(5).upstream, gate(1).upstream, "however it is written");
    assert!(gate(1).prefix.is_empty() && gate(1).upstream.health.is_none());
}

#[test]
fn gates_that_lead_to_themselves_are_refused() {
    let loops = |text: &str| {
        let (_, report) = memory(text).load();
        report.errors().filter(|error| error.code == "gate-loop").count()
    };
    assert_eq!(loops("gate 81 { upstream http://127.0.0.1:81; }"), 1);
    assert_eq!(loops("gate 81 { upstream http://localhost:81; }"), 1);
    assert_eq!(loops("gate 80 { upstream http://[::1]; }"), 1);
    assert_eq!(loops("gate 192.0.2.1:81 { upstream http://192.0.2.1:81; }"), 1);
    let two = "gate 80 { upstream http://127.0.0.1:81; } gate 81 { upstream http://127.0.0.1:80; }";
    assert_eq!(loops(two), 2);
    let leads_in = format!("{two} gate 82 {{ upstream http://127.0.0.1:80; }}");
    assert_eq!(loops(&leads_in), 2, "the third is not on the loop");
    let named = "upstream media { server 127.0.0.1:8080; server 127.0.0.1:81; } gate 81 { upstream media; }";
    assert_eq!(loops(named), 1, "one of its servers");
    for fine in [
        "gate 81 { upstream http://127.0.0.1:8080; }",
        "gate 81 { upstream http://192.0.2.1:81; }",
        "gate 192.0.2.1:81 { upstream http://127.0.0.1:81; }",
        "gate 80 { upstream http://127.0.0.1:81; } gate 81 { upstream http://127.0.0.1:8080; }",
    ] {
        assert_eq!(loops(fine), 0, "{fine}");
    }
}

#[test]
fn a_gate_keeps_players_tokens_as_it_is_told_to() {
    let gate = |options: &str| {
        let config = good(&format!("gate 80 {{ upstream http://127.0.0.1:8080; {options} }}"));
        match &config.services[0].kind {
            ServiceKind::Gate(gate) => gate.clone(),
            ServiceKind::Guard => panic!("it is a gate"),
        }
    };
    let plain = gate("");
    assert_eq!((plain.player_token, &plain.cors), (PlayerToken::Auto, &Cors::Any));
    assert_eq!(plain.reads(), TokenFrom { query: true, header: false, cookie: false, path: false });
    let told =
        gate("player_token cookie; token_from header path; cors https://a.example http://b.example:81;");
    assert_eq!(told.player_token, PlayerToken::Cookie);
    assert_eq!(told.token_from, TokenFrom { query: false, header: true, cookie: false, path: true });
    assert!(told.reads().cookie, "what is given as a cookie is read as one");
    assert_eq!(told.cors, Cors::Only(vec!["https://a.example".into(), "http://b.example:81".into()]));
    let later = gate(
        "player_token off; player_token playlist; cors any; cors off; token_from path; token_from cookie query;",
    );
    assert_eq!((later.player_token, later.cors), (PlayerToken::Playlist, Cors::Off));
    assert_eq!(later.token_from, TokenFrom { query: true, header: false, cookie: true, path: false });
}

#[test]
fn text_that_is_not_utf8_is_named_once() {
    let utf16 = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        "\u{feff}auth_backend a { }\n".encode_utf16().flat_map(order).collect()
    };
    for bytes in [utf16(u16::to_le_bytes), utf16(u16::to_be_bytes), b"shadow;\0".to_vec()] {
        let (config, report) = memory(bytes).load();
        assert!(config.is_none());
        assert_eq!(report.diagnostics.len(), 1, "{}", report.render(false));
        assert_eq!(report.diagnostics[0].help.as_deref(), Some("save the file as UTF-8"));
    }
}

#[test]
fn how_sessions_are_kept_and_how_many_there_may_be() {
    let config = good(
        "session_follows ip_prefix 24/56;\nsession_idle 1m;\n\
         auth_backend p { allow default; max_sessions 2 per token;\nmax_sessions 5 per address; }\n\
         template t { max_sessions 7; }\nstream a { template t; on_play auth://p; }\n\
         stream b { template t; max_sessions 8; on_play auth://p; }\n\
         stream c { template t; max_sessions 0; on_play auth://p; }\nstream d { on_play auth://p; }\n\
         gate 80 { upstream http://127.0.0.1:8080; }",
    );
    assert_eq!(config.sessions.follows, Follows::Prefix(24, 56));
    assert_eq!(config.sessions.idle, Some(Duration::from_secs(60)));
    let lines: Vec<_> = config.policies[0].max_sessions().lines().map(|(text, at)| (text, at.line)).collect();
    let line = |text: &str, line| (text.to_owned(), line);
    assert_eq!(lines, [line("max_sessions 2 per token", 3), line("max_sessions 5 per address", 4)]);
    let most = |name: &str| {
        let stream = &config.streams[name];
        assert_eq!(stream.most(Operation::Publish), None, "{name}");
        (stream.most(Operation::Play), stream.max_sessions.as_ref().map(|(_, origin)| origin.line))
    };
    assert_eq!([most("a"), most("b")], [(Some(7), Some(5)), (Some(8), Some(7))]);
    assert_eq!([most("c"), most("d")], [(None, None), (None, None)]);
    let config = good("session_follows token;");
    assert_eq!((config.sessions.follows, config.sessions.idle), (Follows::Token, None));
    assert_eq!(good("session_follows off;").sessions, SessionSettings::default());
}
