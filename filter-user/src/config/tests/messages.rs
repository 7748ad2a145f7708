//! One test for each message, so that each is seen as an operator sees it.

use super::*;

/// A snapshot of what loading a configuration says; further files stand behind it.
macro_rules! messages {
    ($($name:ident: $main:expr $(, $path:literal = $content:expr)*;)*) => {$(
        #[test]
        fn $name() {
            let files = memory($main)$(.with($path, $content))*;
            let (config, report) = files.load();
            assert_eq!(config.is_none(), report.has_errors());
            insta::assert_snapshot!(report.render(false));
        }
    )*};
}

/// A policy of one line, on the second line of the file.
fn policy(line: &str) -> String {
    format!("auth_backend myauth1 {{\n  {line}\n}}\n")
}

/// Text.
mod text {
    use super::*;

    messages! {
        not_utf8: b"# fine: \xc3\xa9\nauth_backend \xff\xfe { allow default; }\n";
        unclosed_quote: policy(r#"deny ua "Mozilla/5.0 (Windows;"#);
        unclosed_quote_inside_a_word: policy("deny ua MAG\"250;");
        missing_semicolon_before_a_directive: "auth_backend a {\n  allow ip 10/8 192.168/16\n  deny ip 10.10/16;\n}\n";
        missing_semicolon_before_a_brace: "auth_backend a {\n  allow default\n}\n";
        missing_semicolon_at_the_end: "shadow";
        missing_semicolon_at_the_top: "shadow # soon off\nstream a { on_play http://h/; }\n";
        unclosed_block: "auth_backend a {\n  allow default;\n";
        unclosed_block_before_a_stream: "auth_backend a {\n  allow default;\n\nstream s {\n  on_play auth://a;\n}\n";
        unmatched_brace: "shadow;\n}\nshadow;\n";
        nameless_block: "{ allow default; }\n";
        too_deep: "a {".repeat(65) + &"}".repeat(65);
        several_errors_in_one_run: "auth_backend a {\n  allow ip 10.300/16;\n  deny country Russia\n  alow token t;\n}\nguard tcp 0 auth://b;\n";
        a_line_of_tabs_and_wide_letters: "auth_backend a {\n\tallow ua \"телевизор\"; deny ip\t300.1.1.1;\n}\n";
        a_very_long_line: policy(&("allow ip".to_owned() + &" 10.0.0.1/32".repeat(50) + " 10.0.0.256" + &" 10.0.0.2".repeat(80) + ";"));
        more_errors_than_are_shown: "}\n".repeat(103);
    }
}

/// Values of rules.
mod values {
    use super::*;

    messages! {
        octet_over_255: policy("deny ip 10.300.0.0/16;");
        prefix_over_32: policy("deny ip 10.0.0.0/33;");
        prefix_over_128: policy("deny ip 2001:db8::/129;");
        leading_zero_in_an_octet: policy("deny ip 10.010.0.0/16;");
        leading_zero_in_a_length: policy("deny ip 10.0.0.0/08;");
        leading_zeros_only: policy("deny ip 10.00.0.0/8;");
        short_without_a_length: policy("deny ip 10.10;");
        length_is_no_number: policy("deny ip 10.0.0.0/x;");
        netmask: policy("deny ip 10.0.0.0/255.0.0.0;");
        range_of_addresses: policy("deny ip 10.0.0.1-10.0.0.9;");
        too_many_octets: policy("deny ip 10.0.0.1.2;");
        host_name: policy("deny ip example.com;");
        empty_address: policy("deny ip \"\";");
        host_bits: policy("deny ip 192.0.2.77/24;");
        mapped_not_covered: policy("deny ip ::/0;");
        country_is_not_two_letters: policy("deny country Russia;");
        unknown_country: policy("deny country ZZ;");
        unknown_country_with_advice: policy("deny country el;");
        country_unknown_without_geoip: policy("allow country unknown;");
        empty_token: policy("allow token \"\";");
        duplicate_values: policy("deny ip 10/8 10.0.0.0/8; allow ua MAG; allow useragent MAG;");
        country_without_geoip: policy("allow country RU US;");
    }
}

/// Lines of an `auth_backend`.
mod lines {
    use super::*;

    messages! {
        unknown_word: policy("alow ip 10/8;");
        unknown_word_like_nothing: policy("total_clients 10;");
        max_sessions_of_what: policy("max_sessions 10;");
        max_sessions_of_none: policy("max_sessions 0 per token;");
        max_sessions_of_something_else: policy("max_sessions 2 per adress;");
        max_sessions_without_per: policy("max_sessions 2 each token;");
        max_sessions_twice: policy("max_sessions 2 per token; max_sessions 3 per token;");
        unknown_kind: policy("allow tokens t1;");
        unknown_kind_like_nothing: policy("allow referer example.com;");
        kind_left_out: policy("allow 10.0.0.0/8;");
        allow_without_anything: policy("allow;");
        deny_without_a_value: policy("deny ip;");
        drop_of_a_token: policy("drop token t1;");
        deny_default: policy("deny default;");
        allow_default_with_more: policy("allow default ip;");
        allow_default_twice: policy("allow default; allow default;");
        block_in_a_policy: policy("allow ip 10/8 { }");
        no_block: "auth_backend myauth1;\n";
        no_name: "auth_backend { allow default; }\n";
        two_names: "auth_backend a b { allow default; }\n";
        duplicate_name: "auth_backend a { allow default; }\nauth_backend a { allow default; }\n";
        rule_outside: "allow ip 10/8;\n";
        backend_without_a_url: policy("backend;");
        backend_is_no_url: policy("backend localhost/auth;");
        backend_url_is_wrong: policy("backend http://;");
        backend_port_is_wrong: policy("backend http://localhost:99999/auth;");
        backend_port_is_zero: policy("backend http://localhost:0/auth;");
        backend_scheme: policy("backend ftp://localhost/auth;");
        backend_is_a_policy: policy("backend auth://other;");
        backend_twice: policy("backend http://h/a;\n  backend http://h/a;");
        two_backends_on_a_line: policy("backend http://a/ http://b/;");
        backend_socket_without_encoding: policy("backend http+unix:///run/auth.sock/a;");
        backend_certificates_without_https: policy("backend http://a/ { ca a.pem; }");
        backend_header_values: policy("backend http://a/ { header Host a; header \"a b\" c; header X \"a\\nb\"; header X; }");
        backend_header_twice: policy("backend http://a/ { header X-Key a; header x-key b; }");
        backend_key_alone: policy("backend https://a/ { key missing.pem; }");
        backend_option_unknown: policy("backend http://a/ { max_question 3; retries 1; }");
        backend_option_values: policy("backend http://a/ { max_questions 0; timeout soon; queue_timeout; }");
        backend_option_twice: policy("backend http://a/ { timeout 1s; timeout 2s; }");
        backend_options_of_a_token: policy("backend securetoken://k { timeout 1s; }");
        backend_options_left_open: "auth_backend a {\n  backend http://a/ {\n    timeout 1s\n  allow default;\n}\n";
        backend_options_differ: policy("backend http://a/ { timeout 1s; }") + "auth_backend b { backend http://a/; }";
        backend_iptv: policy("backend iptv://localhost; # iptv plugin");
        backend_securetoken: policy("backend securetoken://secret;");
        securetoken_without_a_key: policy("backend securetoken://;");
        allow_wins_over_an_address: policy("allow ip 10/8;\n  deny ip 10.10/16;");
        allow_wins_over_a_country: policy("allow country RU;\n  deny country ru;") + "geoip c.mmdb;";
        allow_wins_over_a_token: policy("deny token t1;\n  allow token t1;");
        allow_wins_over_an_agent: policy("allow ua MAG;\n  deny ua MAG250;");
    }
}

/// List files.
mod lists {
    use super::*;

    messages! {
        list_without_a_path: policy("deny ip file;");
        list_of_countries: policy("deny country file \"c.txt\";");
        missing_list: policy("deny ip file \"lists/bad.netset\";");
        bad_lines: policy("deny ip file \"bad.netset\";"), "bad.netset" = "# a list\n10.0.0.0/8\n10.300.0.0/16 ; oops\r\n\nexample.com # oops\n10.0.0.0/08\n";
        more_bad_lines_than_are_shown: policy("deny ip file \"bad.netset\";"), "bad.netset" = "x\n".repeat(13);
        on_error_value: "on_error ignore;\n";
        on_error_twice: "on_error skip;\non_error abort;\n";
        list_option: policy("deny ip file \"l\" { on_eror skip; }"), "l" = "192.0.2.1\n";
        list_option_without_a_file: policy("deny ip 192.0.2.1 { on_error skip; }");
        bad_lines_that_are_left_out: policy("deny ip file \"bad.netset\" { on_error skip; }"), "bad.netset" = "10.0.0.0/8\nexample.com\n".to_owned() + &"10.0.0.0/08\n".repeat(11);
        no_line_can_be_read: policy("deny ip file \"page.html\";") + "on_error skip;\n", "page.html" = "<html>\n<body>\n";
        everybody_is_listed: policy("deny ip file \"l\";"), "l" = "192.0.2.0/24\n::/0\n";
        list_not_utf8: policy("deny ip file \"bad.netset\";"), "bad.netset" = b"10/8\n\xff\xfe10/8\n";
        list_host_bits: policy("deny ip file \"l\";"), "l" = "10.0.0.0/8\n192.0.2.1/24\n192.0.3.1/24\n";
        list_mapped_not_covered: policy("deny ip file \"l\";"), "l" = "::/64\n";
        token_with_blanks: policy("allow token file \"tokens\";"), "tokens" = "t1\nt2 # fine\nt 3\n";
        list_covers_never_drop: "never_drop 10.1.2.0/24;\n".to_owned() + &policy("drop ip file \"l\";"), "l" = "192.0.2.0/24\n10.0.0.0/8\n";
        rule_covers_never_drop: policy("deny ip 10.0.0.0/8;") + "never_drop 10.1.2.3;\n";
        allow_wins_over_a_list: policy("allow ip 10/8;\n  deny ip file \"l\";"), "l" = "10.0.0.0/16\n192.0.2.0/24\n10.1.0.0/16\n";
        allow_list_wins_over_an_address: policy("allow ip file \"l\";\n  deny ip 10.1.0.0/16;"), "l" = "10.0.0.0/8\n";
        allow_wins_over_a_list_of_tokens: policy("allow token t1;\n  deny token file \"l\";"), "l" = "t0\nt1\n";
    }
}

/// Files that are included.
mod includes {
    use super::*;

    #[test]
    fn missing_main_file() {
        let (config, report) = Memory::default().load();
        assert!(config.is_none());
        insta::assert_snapshot!(report.render(false));
    }

    messages! {
        missing_include: "include \"flussonic.conf\";\n";
        include_without_a_path: "include;\n";
        include_of_two: "include a b;\n";
        include_with_a_block: "include a { }\n", "a" = "";
        include_pattern: "include conf.d/*.conf;\n";
        include_cycle: "include \"a.conf\";\n", "a.conf" = "shadow;\ninclude ./nicgate.conf;\n";
        included_twice: "include a;\ninclude ./a;\n", "a" = "shadow;\n";
        error_in_an_included_file: "include sub/a;\n", "sub/a" = "include b;\n", "sub/b" = "# b\nguard tcp 70000 streams;\n";
    }

    #[test]
    fn include_depth() {
        let mut files = memory("include f0;\n");
        for i in 0..20 {
            files = files.with(&format!("f{i}"), format!("include f{};\n", i + 1));
        }
        insta::assert_snapshot!(files.load().1.render(false));
    }

    #[test]
    fn file_too_large() {
        let files = memory("include big;\n").with("big", vec![b'\n'; (64 << 20) + 1]);
        insta::assert_snapshot!(files.load().1.render(false));
    }
}

/// Streams.
mod streams {
    use super::*;

    messages! {
        unknown_policy: policy("allow default;") + "stream s { on_play auth://myauth; }\n";
        unknown_policy_like_nothing: "stream s { on_play auth://other; }\n";
        unknown_policy_in_a_template: "template t { prefix a; prefix b; on_play auth://other; }\nstream s { template t; }\n";
        policy_without_a_name: "stream s { on_play auth://; }\n";
        on_play_false: "stream s { on_play false; }\n";
        on_play_without_a_value: "stream s { on_play; }\n";
        on_play_twice: "stream s {\n  on_play http://a/;\n  on_play http://b/;\n}\n";
        on_play_scheme: "stream s { on_publish mfa://x; }\n";
        on_play_securetoken: "stream s { on_play securetoken://secret; }\nstream t { on_play securetoken://secret; }\n";
        stream_without_a_name: "stream { input udp://239.0.0.1:1234; }\n";
        stream_with_an_empty_name: "stream / { input udp://239.0.0.1:1234; }\n";
        duplicate_stream: "stream a { on_play http://h/; }\nvod a { on_play http://h/; }\n";
        duplicate_template: "template a { }\ntemplate a { }\n";
        unknown_template: "template sport { on_play http://h/; }\nstream a { template sports; }\n";
        unknown_template_like_nothing: "stream a { template sports; }\n";
        misspelt_on_play: "stream a { on_ply auth://myauth1; }\n";
        passed_over: "cluster_key abcd;\ndvr /storage;\nstream a {\n  on_play http://h/;\n  dvr /storage 7d;\n  transcoder vb=2048k size=1280x720:fit:#000000 ab=128k;\n}\nunheard_of { of { this; } }\n";
        iptv: "iptv sqlite:///opt/iptv.db;\n";
    }
}

/// nicgate's own directives, and the ports of the media server.
mod own {
    use super::*;

    messages! {
        misspelt_directive: "gaurd tcp 1935 streams;\n";
        gate_without_a_port: "gate { upstream http://127.0.0.1:8080; }\n";
        gate_without_an_upstream: "gate 80;\n";
        gate_with_an_empty_block: "gate 80 { }\n";
        gate_with_two_upstreams: "gate 80 {\n  upstream http://127.0.0.1:8080;\n  upstream http://127.0.0.1:8081;\n}\n";
        gate_with_an_https_upstream: "gate 80 { upstream https://127.0.0.1:8443; }\n";
        gate_with_a_path: "gate 80 { upstream http://127.0.0.1:8080/live; }\n";
        gate_option: "gate 80 { upstraem http://127.0.0.1:8080; upstream http://127.0.0.1:8080; }\n";
        gate_option_like_nothing: "gate 80 { upstream http://127.0.0.1:8080; ssl on; }\n";
        port_zero: "gate 0 { upstream http://127.0.0.1:8080; }\n";
        port_too_high: "guard tcp 192.0.2.1:65536 streams;\n";
        port_is_a_word: "guard tcp rtmp streams;\n";
        port_of_the_server: "http 808080;\n";
        address_is_a_name: "guard tcp localhost:80 streams;\n";
        address_without_brackets: "guard tcp 2001:db8::1:80 streams;\n";
        guard_alone: "guard tcp;\n";
        guard_without_a_policy: "guard tcp 1935;\n";
        guard_protocol: "guard icmp 1 streams;\n";
        guard_of_something_else: "guard tcp 1935 myauth1;\n";
        guard_with_an_unknown_policy: "guard tcp 1935 auth://myauth1;\n";
        guard_with_streams_and_more: policy("allow default;") + "guard tcp 1935 streams auth://myauth1;\n";
        guard_with_a_block: "guard tcp 1935 streams { }\n";
        duplicate_service: "gate 80 { upstream http://127.0.0.1:8080; }\nguard tcp 0.0.0.0:80 streams;\n";
        duplicate_interface: "interface eth0;\ninterface eth0 { mode native; }\n";
        interface_without_a_name: "interface;\n";
        interface_name: "interface a_very_long_name_0;\n";
        engine: "engine flta;\n";
        engine_like_nothing: "engine hash;\n";
        engine_twice: "engine lpm;\nengine flat;\n";
        engine_without_a_name: "engine;\n";
        interface_mode: "interface eth0 { mode natve; }\n";
        interface_mode_like_nothing: "interface eth0 { mode xdp; }\n";
        interface_mode_twice: "interface eth0 { mode native; mode generic; }\n";
        interface_option: "interface eth0 { queue 4; }\n";
        never_drop_without_a_value: "never_drop;\n";
        never_drop_value: "never_drop 10.0.0.0/33;\n";
        real_ip_without_a_value: "real_ip;\n";
        real_ip_without_from: "real_ip 192.0.2.1;\n";
        real_ip_from_nobody: "real_ip from { header X-Real-IP; }\n";
        real_ip_from_everybody: "real_ip from 0.0.0.0/0 ::/0;\n";
        real_ip_wrong_prefix: "real_ip from proxy.example;\n";
        real_ip_unknown_header: "real_ip from 192.0.2.1 { header X-Forwarded-Four; }\n";
        real_ip_header_like_nothing: "real_ip from 192.0.2.1 { header Host; }\n";
        real_ip_header_twice: "real_ip from 192.0.2.1 { header X-Real-IP; header Forwarded; }\n";
        real_ip_option_like_nothing: "real_ip from 192.0.2.1 { recursive on; }\n";
        real_ip_two_headers: "real_ip from 192.0.2.0/24;\nreal_ip from 192.0.2.1 { header X-Real-IP; }\n";
        real_ip_on_and_off: "gate 80 { upstream http://127.0.0.1:8080; real_ip from 192.0.2.1; real_ip off; }\n";
        real_ip_misspelt: "realip from 192.0.2.1;\n";
        proxy_protocol_everybody: "gate 80 { upstream http://127.0.0.1:8080; proxy_protocol; proxy_protocol from ::/0; }\n";
        rule_meets_a_proxy: policy("drop ip 192.0.2.0/24; deny ip 203.0.113.1; allow ip 192.0.2.10;") + "real_ip from 192.0.2.10;\ngate 80 { upstream http://127.0.0.1:8080; proxy_protocol from 203.0.113.0/24; }\n";
        upstream_without_a_name: "upstream { server 127.0.0.1:8080; }\n";
        upstream_without_a_server: "upstream media { }\ngate 80 { upstream media; }\n";
        upstream_name: "upstream 192.0.2.1 { server 127.0.0.1:8080; }\n";
        upstream_twice: "upstream media { server 127.0.0.1:8080; }\nupstream media { server 127.0.0.2:8080; }\ngate 80 { upstream media; }\n";
        upstream_unused: "upstream media { server 127.0.0.1:8080; }\n";
        upstream_unknown: "upstream media { server 127.0.0.1:8080; }\ngate 80 { upstream medai; }\ngate 81 { upstream media; }\n";
        upstream_like_nothing: "gate 80 { upstream 8080; }\n";
        upstream_server_without_an_address: "upstream media { server; }\ngate 80 { upstream media; }\n";
        upstream_server_address: "upstream media {\n  server 8080;\n  server 2001:db8::1;\n  server a@b;\n  server unix:run/media;\n  server https://h;\n  server 127.0.0.1:0;\n}\ngate 80 { upstream media; }\n";
        upstream_server_twice: "upstream media { server 127.0.0.1; server http://127.0.0.1:80/; }\ngate 81 { upstream media; }\n";
        upstream_server_parameters: "upstream media { server 127.0.0.1:8080 weight=0 wieght=2 max_fails=no fail_timeout=2h backup; }\ngate 80 { upstream media; }\n";
        upstream_health_without_a_path: "upstream media { server 127.0.0.1:8080; health interval=5s; }\ngate 80 { upstream media; }\n";
        upstream_health_path: "upstream media { server 127.0.0.1:8080; health path=health timout=5s; }\ngate 80 { upstream media; }\n";
        upstream_health_twice: "upstream media { server 127.0.0.1:8080; health path=/a; health path=/b; }\ngate 80 { upstream media; }\n";
        upstream_proxy_protocol_with_a_value: "upstream media { server 127.0.0.1:8080; proxy_protocol v2; }\ngate 80 { upstream media; }\n";
        upstream_option: "upstream media { server 127.0.0.1:8080; helath path=/; }\ngate 80 { upstream media; }\n";
        upstream_option_like_nothing: "upstream media { server 127.0.0.1:8080; ip_hash; }\ngate 80 { upstream media; }\n";
        gate_path: "gate 80 { upstream 127.0.0.1:8080; path tv; }\ngate 81 { upstream 127.0.0.1:8080; path /; }\ngate 82 { upstream 127.0.0.1:8080; path /a/../b; }\n";
        gate_path_twice: "gate 80 { upstream 127.0.0.1:8080; path /a; path /b; }\n";
        shadow_with_a_value: "shadow on;\n";
        limit_without_a_value: "limit connections;\n";
        limit_unknown: "limit connexions 10;\n";
        limit_that_is_set_elsewhere: "limit bans 10;\n";
        limit_out_of_bounds: "limit head_bytes 10;\nlimit sessions many;\nlimit sessions 1 2;\n";
        limit_twice: "limit sessions 100;\nlimit sessions 200;\n";
        geoip_twice: "geoip a.mmdb;\ngeoip b.mmdb;\n";
        geoip_empty: "geoip \"\";\n";
        auth_token_name: "auth_token \"a b\";\n";
        backend_timeout_unit: "backend_timeout 3h;\n";
        session_follows_whom: "session_follows;\n";
        session_follows_something_else: "session_follows ip;\n";
        session_follows_no_networks: "session_follows ip_prefix;\n";
        session_follows_too_long: "session_follows ip_prefix 33/56;\n";
        session_follows_twice: "session_follows token;\nsession_follows off;\n";
        session_idle_of_none: "session_idle 0s;\n";
        session_idle_twice: "session_idle 30s;\nsession_idle 1m;\n";
        max_sessions_of_a_stream: "stream a { max_sessions many; }\n";
        max_sessions_without_a_gate: "stream a { max_sessions 5; }\nguard tcp 1935 streams;\n";
        backend_timeout_zero: "backend_timeout 0;\n";
        view_auth_form: "view_auth admin;\n";
        api_allowed_from_value: "api_allowed_from 10.0.0.0/8 10.0.0.300;\n";
    }
}

/// What a gate does for players.
mod players {
    use super::*;

    fn gate(options: &str) -> String {
        format!("gate 80 {{\n  upstream http://127.0.0.1:8080;\n  {options}\n}}\n")
    }

    messages! {
        player_token_of_another_kind: gate("player_token cokie;");
        player_token_without_a_value: gate("player_token;");
        player_token_twice: gate("player_token off;\n  player_token auto;");
        token_from_nowhere: gate("token_from query body;");
        token_from_twice: gate("token_from query;\n  token_from header;");
        token_that_cannot_be_written: gate("player_token playlist;\n  token_from header cookie;");
        cors_without_a_value: gate("cors;");
        cors_of_no_origin: gate("cors portal.example.com;");
        cors_with_a_path: gate("cors https://portal.example.com any https://Portal.example.com:443/;");
        cors_twice: gate("cors any;\n  cors off;");
    }
}
