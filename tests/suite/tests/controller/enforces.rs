//! What a running controller enforces at the NIC and at the gate, and what it says of it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::Stdio,
    time::SystemTime,
};

use kit::{
    edge::{BANNED, Edge, GATE, GUARD, RULES, VIEWER, arrivals, knock},
    http::Get,
    netns::EDGE_V6,
    nicgate::{PATIENCE, until},
    rights,
};
use serde_json::{Value, json};

#[expect(clippy::too_many_lines, reason = "one story, in the order in which it happens")]
#[test]
fn viewers_get_their_stream_and_the_denied_are_stopped_where_they_should_be() {
    rights::need_root();
    let edge = Edge::new("enforces");
    edge.configure(RULES, "");
    let controller = edge.start();
    assert!(controller.log().contains("\"mode\":\"native\""), "{}", controller.log());

    let answer = edge.get(&edge.viewer, "/live/index.m3u8?token=good").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "/live/index.m3u8"));
    let answer = Get::new((EDGE_V6, GATE), "/live/6").timeout(PATIENCE).send(&edge.viewer).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "/live/6"));
    let answer = edge.get(&edge.viewer, "/live/index.m3u8?token=bad").unwrap();
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(edge.get(&edge.viewer, "/other").unwrap().status, 404);
    assert!(!edge.drops(&edge.viewer));
    assert!(edge.drops(&edge.banned));

    let socket = edge.receiver(GUARD);
    knock(&edge.banned, GUARD, b"denied");
    knock(&edge.viewer, GUARD, b"admitted");
    knock(&edge.viewer, GUARD, b"last");
    let mut arrived = arrivals(&socket, b"last");
    arrived.sort();
    let admitted = |address: &str| (address.parse().unwrap(), b"admitted".to_vec());
    assert_eq!(arrived, VIEWER.map(admitted));

    // Each drop is counted under its rule, with the rule's place.
    let stats = edge.stats();
    for (text, line) in [("deny ip 198.51.100.66", 7), ("deny ip 2001:db8:66::/64", 8)] {
        let rules = stats["rules"].as_array().unwrap();
        let rule = rules.iter().find(|rule| rule["text"] == text).unwrap_or_else(|| panic!("{stats:#}"));
        // A connection's first packet, at least, and one datagram.
        assert!(rule["packets"].as_u64().unwrap() >= 2, "{rule}");
        assert!(rule["bytes"].as_u64().unwrap() >= 2 * 54, "{rule}");
        assert_eq!(
            (&rule["policy"], &rule["file"], &rule["line"]),
            (&json!("viewers"), &json!("nicgate.conf"), &json!(line))
        );
    }
    let service = |name: &str| {
        let services = stats["services"].as_array().unwrap();
        services.iter().find(|service| service["service"] == name).unwrap().clone()
    };
    assert_eq!(service("9998/udp")["dropped"]["packets"], 2);
    assert_eq!(service("9998/udp")["passed"]["packets"], 4);
    assert!(service("8000/tcp")["passed"]["packets"].as_u64().unwrap() > 10);

    // What is in force, by the controller and for people.
    let status = edge.nicgate(&["status", "--json"]).with(0).json();
    assert_eq!(status["controller"]["running"], true);
    assert_eq!(status["controller"]["config"], "nicgate.conf");
    let interface = &status["interfaces"][0];
    assert_eq!(
        json!([interface["interface"], interface["mode"], interface["link"], interface["generation"]]),
        json!([edge.lab.interface(), "native", "bpf_link", 1])
    );
    assert_eq!(
        json!([interface["v4"], interface["v6"]]),
        json!([{"desired": 1, "installed": 1}, {"desired": 1, "installed": 1}])
    );
    let text = edge.nicgate(&["status"]).with(0).stdout;
    assert!(text.contains("controller: running") && text.contains("native, BPF link"), "{text}");

    // The gate's own counters, and the one viewer that is a session for each token.
    let gate = edge.nicgate(&["stats", "--json"]).with(0).json()["gates"][0].clone();
    assert_eq!(json!([gate["service"], gate["denied"], gate["not_found"]]), json!(["8000/tcp", 1, 1]));
    // Without the token itself.
    let label = "deny token *** (sha1 1902e3d6)";
    let denied = gate["rules"].as_array().unwrap().iter().find(|rule| rule["rule"] == label);
    assert_eq!(denied.unwrap()["count"], 1, "{gate:#}");
    let text = edge.nicgate(&["stats"]).with(0).stdout;
    assert!(text.contains("viewers: deny ip 198.51.100.66 (nicgate.conf:7)"), "{text}");
    let listed = edge.nicgate(&["sessions", "--json"]).with(0).json();
    let sessions = listed["sessions"].as_array().unwrap();
    assert!(
        sessions.iter().any(|session| session["address"] == VIEWER[0] && session["stream"] == "live"),
        "{listed:#}"
    );
    assert!(sessions.iter().all(|session| session["address"] != BANNED[0]), "{listed:#}");
    let text = edge.nicgate(&["sessions"]).with(0).stdout;
    assert!(text.starts_with("ID ") && text.contains(VIEWER[0]), "{text}");
    assert!(controller.end(libc::SIGTERM).unwrap().success());
}

#[test]
fn monitor_shows_drops_with_their_rules() {
    rights::need_root();
    let edge = Edge::new("monitor");
    edge.configure(RULES, "");
    let _controller = edge.start();
    let _socket = edge.receiver(GUARD);
    assert_eq!(edge.status()["sampling"], 0, "nobody looks");
    for (arguments, shown) in [(&["monitor", "--json"][..], true), (&["monitor"], false)] {
        let mut command = edge.site.command_in(edge.lab.edge(), arguments);
        let mut monitor = edge.lab.edge().start(command.stdout(Stdio::piped())).unwrap();
        until("drops are reported", || edge.status()["sampling"] == 1);
        knock(&edge.viewer, GUARD, b"admitted");
        knock(&edge.banned, GUARD, b"denied");
        let lines = BufReader::new(monitor.child().stdout.take().unwrap()).lines();
        let mut lines: Vec<String> = lines.take(2).map(Result::unwrap).collect();
        // Each processor reports its own, in an order of their own.
        lines.sort_by_key(|line| line.contains(BANNED[1]));
        if shown {
            let event: Value = serde_json::from_str(&lines[0]).unwrap();
            for (name, value) in [
                ("interface", json!(edge.lab.interface())),
                ("source", json!(BANNED[0])),
                ("service", json!("9998/udp")),
                ("shadow", json!(false)),
                ("policy", json!("viewers")),
                ("text", json!("deny ip 198.51.100.66")),
                ("file", json!("nicgate.conf")),
                ("line", json!(7)),
            ] {
                assert_eq!(event[name], value, "{event:#}");
            }
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
            let ago = now - event["time"].as_f64().unwrap();
            assert!((-1.0..60.0).contains(&ago), "by the wall clock: {event:#}");
            let event: Value = serde_json::from_str(&lines[1]).unwrap();
            assert_eq!(json!([event["source"], event["line"]]), json!([BANNED[1], 8]));
        } else {
            let line = &lines[0];
            assert!(line.contains("drop 198.51.100.66 -> 9998/udp"), "{line}");
            assert!(line.ends_with("viewers: deny ip 198.51.100.66 (nicgate.conf:7)"), "{line}");
        }
        drop(monitor);
        until("nobody looks any more", || edge.status()["sampling"] == 0);
    }
}

#[test]
fn shadow_counts_and_drops_nothing() {
    rights::need_root();
    let edge = Edge::new("shadow");
    edge.configure(RULES, "shadow;\n");
    let _controller = edge.start();
    let socket = edge.receiver(GUARD);
    knock(&edge.banned, GUARD, b"counted");
    knock(&edge.viewer, GUARD, b"last");
    assert_eq!(arrivals(&socket, b"last").len(), 2);
    assert!(!edge.drops(&edge.banned));
    assert!(edge.dropped_by("deny ip 198.51.100.66").unwrap() >= 1);
    assert!(edge.dropped_by("deny ip 2001:db8:66::/64").unwrap() >= 1);
    assert_eq!(edge.stats()["outcomes"]["drop"], 0);
    assert_eq!(edge.status()["shadow"], true);
    assert_eq!(edge.get(&edge.viewer, "/live/x?token=bad").unwrap().status, 200);
    // In earnest, by a reload.
    edge.configure(RULES, "");
    assert_eq!(edge.reload()["ok"], true);
    assert!(edge.drops(&edge.banned));
}

#[test]
fn generic_mode_where_it_is_asked_for() {
    rights::need_root();
    let edge = Edge::new("generic");
    edge.site.configure(&edge.text(RULES, "").replace("mode native", "mode generic"));
    let controller = edge.start();
    assert_eq!(edge.status()["mode"], "generic");
    assert!(edge.drops(&edge.banned));
    assert!(!edge.drops(&edge.viewer));
    // A reload does not take the filter off to change the mode, and says so.
    edge.configure(RULES, "");
    let said = edge.nicgate(&["reload"]).with(0);
    assert!(
        said.stderr.contains("goes on in generic mode although the configuration says native"),
        "{said:?}"
    );
    assert_eq!(edge.status()["mode"], "generic");
    drop(controller);
    let said = edge.nicgate(&["attach"]).with(0);
    assert!(said.stderr.contains("goes on in generic mode"), "{said:?}");
}

#[test]
fn another_program_on_the_interface_is_named_and_left_alone() {
    rights::need_root();
    let edge = Edge::new("another");
    edge.configure(RULES, "");
    let other = kit::xdp::drop_tagged_natively(edge.lab.edge(), edge.lab.interface()).unwrap();
    for command in ["run", "attach"] {
        let said = edge.nicgate(&[command]).with(3);
        assert!(said.stderr.contains("another XDP program runs on"), "{said:?}");
        assert!(said.stderr.contains("(id ") || said.stderr.contains(": id "), "{said:?}");
        assert!(said.stderr.contains("xdp off"), "what to do about it: {said:?}");
    }
    assert!(!edge.site.bpffs().join("nicgate").exists(), "no pins are left");
    assert!(!edge.site.socket().exists());
    other.detach().unwrap();
    let _controller = edge.start();
    assert!(edge.drops(&edge.banned));
}

#[expect(clippy::too_many_lines, reason = "one story, in the order in which it happens")]
#[test]
fn the_control_socket_bears_everything() {
    rights::need_root();
    let edge = Edge::new("control");
    edge.configure(RULES, "");
    let mut controller = edge.start();
    let mode = std::fs::metadata(edge.site.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    // A second controller stops before it touches anything.
    let said = edge.nicgate(&["run"]).with(3);
    assert!(said.stderr.contains("another nicgate answers on"), "{said:?}");
    assert_eq!(edge.status()["generation"], 1);

    // Whoever says nothing, or half of it, or does not read, holds up nobody.
    let connect = || UnixStream::connect(edge.site.socket()).unwrap();
    let silent: Vec<UnixStream> = (0..50).map(|_| connect()).collect();
    let mut slow = connect();
    slow.write_all(b"{\"command\":").unwrap();
    let mut deaf = connect();
    deaf.write_all(b"{\"command\":\"monitor\",\"sample\":1}\n").unwrap();
    for garbage in [
        &b"\n"[..],
        b"reload\n",
        b"{}\n",
        b"{\"command\":\"format\"}\n",
        b"{\"command\":\"monitor\",\"sample\":-1}\n",
        b"{\"command\":\"reload\",\"more\":1}\n",
        b"{\"command\":[[[[[[\n",
        b"\xff\xfe\x00\n",
        b"GET / HTTP/1.1\r\n\r\n",
        &[b'['; 100_000],
        &[b'x'; 5000],
    ] {
        let mut stream = connect();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The controller may close before it has read everything.
        let _ = stream.write_all(garbage);
        let mut answer = String::new();
        match stream.read_to_string(&mut answer) {
            Ok(_) => {
                let reply: Value = serde_json::from_str(&answer).unwrap();
                assert_eq!(json!([reply["ok"], reply["fault"]]), json!([false, "request"]), "{answer}");
                assert!(!reply["message"].as_str().unwrap().is_empty());
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    assert_eq!(edge.status()["generation"], 1);
    slow.write_all(b"\"sessions\"}\n").unwrap();
    let mut answer = String::new();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("{\"ok\":true"), "{answer}");
    // The silent ones are let go.
    for mut stream in silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("no request came"), "{answer}");
    }
    assert!(controller.process().child().try_wait().unwrap().is_none());
    assert!(!controller.log().contains("panicked"), "{}", controller.log());
    assert!(edge.drops(&edge.banned));
    drop(deaf);

    // A file that is no socket is not replaced by one.
    let file = edge.site.write("precious", "data");
    let mut command = edge.site.command_in(edge.lab.edge(), &["run", "--control", "precious"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is no socket"));
    assert_eq!(std::fs::read(file).unwrap(), b"data");
}
