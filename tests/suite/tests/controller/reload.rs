//! Reloads: a wrong one changes nothing, a right one changes the NIC and the gate together.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

use std::{
    fs,
    time::{Duration, Instant},
};

use kit::{
    edge::{Edge, GATE, GUARD, RULES, arrivals, knock},
    http::Get,
    netns::EDGE_V4,
    nicgate::{PATIENCE, until},
    rights,
};
use serde_json::json;

/// The host that [`RULES`] deny is admitted, the viewer is not.
const TURNED: &str = "deny token worse;\ndeny ip 203.0.113.10;\ndeny ip 2001:db8:10::/64;\nallow default;";

/// A reload as it was before: the same table, the same verdicts, the same gate.
#[track_caller]
fn unchanged(edge: &Edge, generation: u64, what: &str) {
    let status = edge.nicgate(&["status", "--json"]).json();
    assert_eq!(status["interfaces"].as_array().unwrap().len(), 1, "{what}");
    assert_eq!(status["interfaces"][0]["generation"], generation, "{what}");
    assert_eq!(status["gates"].as_array().unwrap().len(), 1, "{what}");
    assert_eq!(edge.get(&edge.viewer, "/live/x?token=good").unwrap().status, 200, "{what}");
    assert_eq!(edge.get(&edge.viewer, "/live/x?token=bad").unwrap().status, 403, "{what}");
}

#[expect(clippy::too_many_lines, reason = "one story, in the order in which it happens")]
#[test]
fn a_wrong_reload_is_refused_with_its_reason_and_changes_nothing() {
    rights::need_root();
    let edge = Edge::new("wrong");
    edge.configure(RULES, "");
    let mut controller = edge.start();
    let socket = edge.receiver(GUARD);
    edge.site.write("bad.list", "10.0.0.0/8\nnonsense\n");
    edge.site.write("bad.mmdb", "nonsense");
    edge.lab
        .edge()
        .batch("link add extra0 type veth peer name extra1\nlink add extra2 type veth peer name extra3\n")
        .unwrap();
    let other = kit::xdp::drop_tagged_natively(edge.lab.edge(), "extra2").unwrap();
    let wrong = [
        ("rule", TURNED.replace("203.0.113.10", "203.0.113.256"), String::new(), 1, "203.0.113.256"),
        ("list", format!("drop ip file bad.list;\n{TURNED}"), String::new(), 1, "bad.list:2:"),
        ("missing list", format!("drop ip file no.list;\n{TURNED}"), String::new(), 1, "no.list"),
        ("database", format!("deny country GB;\n{TURNED}"), "geoip bad.mmdb;\n".into(), 1, "bad.mmdb"),
        ("missing database", format!("deny country GB;\n{TURNED}"), "geoip no.mmdb;\n".into(), 1, "no.mmdb"),
        ("include", TURNED.into(), "include \"no.conf\";\n".into(), 1, "no.conf"),
        ("interface", TURNED.into(), "interface nosuch0 { required; }\n".into(), 3, "no interface nosuch0"),
        (
            "taken interface",
            TURNED.into(),
            "interface extra0;\ninterface extra2 { required; }\n".into(),
            3,
            "another XDP program runs on extra2",
        ),
    ];
    for (what, rules, more, exit, message) in wrong {
        edge.configure(&rules, &more);
        let said = edge.nicgate(&["reload"]);
        assert_eq!(said.status, Some(exit), "{what}: {said:?}");
        assert_eq!(said.stdout, "", "{what}");
        assert!(said.stderr.contains(message), "{what}: {}", said.stderr);
        assert!(said.stderr.contains("what was enforced still is"), "{what}: {}", said.stderr);
        assert!(said.stderr.matches("os error").count() <= 1, "each cause once: {}", said.stderr);
        unchanged(&edge, 1, what);
        let json = edge.nicgate(&["reload", "--json"]).with(exit).json();
        assert_eq!(json["ok"], false, "{what}");
        assert!(json["message"].as_str().unwrap().contains(message), "{what}: {json}");
        let status = edge.nicgate(&["status", "--json"]).with(3).json();
        assert_eq!(status["alarms"][0]["code"], "reload-failed", "{what}: {status:#}");
        let told = status["controller"]["last_reload_error"].as_str().unwrap().to_owned();
        assert!(told.contains(message), "{what}: {told}");
    }
    fs::remove_file(edge.site.path("nicgate.conf")).unwrap();
    let said = edge.nicgate(&["reload"]).with(1);
    assert!(said.stderr.contains("nicgate.conf"), "{said:?}");
    unchanged(&edge, 1, "missing file");
    controller.process().signal(libc::SIGHUP).unwrap();
    until("the signal is answered", || controller.log().matches("was not loaded again").count() == 18);
    unchanged(&edge, 1, "missing file, by SIGHUP");
    assert!(edge.nicgate(&["status"]).with(3).stdout.contains("ALARM reload-failed"));

    assert!(!edge.site.bpffs().join("nicgate/extra0").exists(), "an interface that was new is let go");
    knock(&edge.banned, GUARD, b"denied");
    knock(&edge.viewer, GUARD, b"last");
    assert_eq!(arrivals(&socket, b"last"), []);
    assert!(edge.drops(&edge.banned));
    // And then a right one.
    other.detach().unwrap();
    edge.configure(TURNED, "");
    assert_eq!(edge.reload()["ok"], true);
    let status = edge.nicgate(&["status", "--json"]).with(0).json();
    assert_eq!(
        json!([status["controller"]["reloads"], status["controller"]["last_reload_error"]]),
        json!([1, null])
    );
    assert!(!edge.drops(&edge.banned));
    assert!(edge.drops(&edge.viewer));
}

#[test]
fn a_reload_changes_the_nic_and_the_gate_and_rules_that_stay_go_on_counting() {
    rights::need_root();
    let edge = Edge::new("reload");
    edge.configure(RULES, "");
    let mut controller = edge.start();
    assert!(edge.drops(&edge.banned));
    let counted = edge.dropped_by("deny ip 198.51.100.66").unwrap();
    assert!(counted > 0);

    // The rule stays, in another place; a token is denied that was not.
    edge.configure(&RULES.replace("deny token bad", "\n\ndeny token good"), "");
    let said = edge.nicgate(&["reload"]).with(0);
    assert_eq!(said.stdout, "loaded: 1 interface updated, 0 live transfers cut\n");
    assert!(edge.dropped_by("deny ip 198.51.100.66").unwrap() >= counted);
    let rule = edge.stats()["rules"][0].clone();
    assert_eq!(json!([rule["text"], rule["line"]]), json!(["deny ip 198.51.100.66", 9]));
    assert_eq!(edge.get(&edge.viewer, "/live/x?token=good").unwrap().status, 403);
    assert_eq!(edge.get(&edge.viewer, "/live/x?token=bad").unwrap().status, 200);

    // By SIGHUP, the other way round.
    edge.configure(TURNED, "");
    controller.process().signal(libc::SIGHUP).unwrap();
    until("the other table is in force", || edge.status()["generation"] == 3);
    until("the gate has it too", || {
        controller.log().matches("the configuration was loaded again").count() == 2
    });
    assert!(edge.drops(&edge.viewer));
    assert!(!edge.drops(&edge.banned));
    assert_eq!(edge.get(&edge.banned, "/live/x?token=worse").unwrap().status, 403);
    assert_eq!(edge.dropped_by("deny ip 198.51.100.66"), None, "a rule that is gone is not shown");
    assert!(edge.dropped_by("deny ip 203.0.113.10").unwrap() > 0);
}

#[test]
fn a_transfer_that_is_now_denied_is_cut_and_another_goes_on() {
    rights::need_root();
    let edge = Edge::new("cut");
    // By a token too, so that the NIC decides nothing and the gate has to cut.
    let open = "allow token t;\nallow default;";
    edge.configure(open, "");
    let _controller = edge.start();
    let denied = edge.fetch(&edge.banned);
    let admitted = edge.fetch(&edge.viewer);
    edge.configure(&format!("deny ip 198.51.100.66;\n{open}"), "");
    let reply = edge.reload();
    assert_eq!(
        json!([reply["ok"], reply["result"]["transfers"]]),
        json!([true, {"kept": 1, "cut": 1, "asked": 0}])
    );
    assert!(!denied.finish());
    assert!(admitted.finish());
    assert_eq!(edge.get(&edge.banned, "/live/x").unwrap().status, 403);
}

#[test]
fn interfaces_and_gates_come_and_go() {
    rights::need_root();
    let edge = Edge::new("comego");
    edge.configure(RULES, "");
    edge.lab.edge().batch("link add extra0 type veth peer name extra1\n").unwrap();
    let _controller = edge.start();
    let names = || -> Vec<String> {
        let status = edge.nicgate(&["status", "--json"]).with(0).json();
        let interfaces = status["interfaces"].as_array().unwrap().clone();
        interfaces.iter().map(|each| each["interface"].as_str().unwrap().to_owned()).collect()
    };
    let second = GATE + 1;
    let get = || Get::new((EDGE_V4, second), "/live/second").timeout(PATIENCE).send(&edge.viewer);
    assert_eq!(get().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);

    edge.configure(RULES, &format!("interface extra0;\n{}", edge.gate(second)));
    let reply = edge.reload();
    assert_eq!(reply["result"]["interfaces"].as_array().unwrap().len(), 2, "{reply}");
    assert_eq!(names(), [edge.lab.interface(), "extra0"]);
    assert_eq!(get().unwrap().text(), "/live/second");
    assert!(edge.site.bpffs().join("nicgate/extra0").exists());

    edge.configure(RULES, "");
    assert_eq!(edge.reload()["ok"], true);
    assert_eq!(names(), [edge.lab.interface()]);
    assert!(!edge.site.bpffs().join("nicgate/extra0").exists());
    assert_eq!(get().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(edge.get(&edge.viewer, "/live/first").unwrap().status, 200);
    assert!(edge.drops(&edge.banned));
}

#[test]
fn a_reload_puts_back_what_somebody_took_off() {
    rights::need_root();
    let edge = Edge::new("putback");
    edge.lab.edge().batch("link add extra0 type veth peer name extra1\n").unwrap();
    edge.configure(RULES, "interface extra0;\n");
    let controller = edge.start();
    let said = edge.nicgate(&["detach", edge.lab.interface()]).with(0);
    assert!(said.stderr.contains("its next reload attaches again"), "{said:?}");
    // The kernel lets go of an unpinned link a moment later.
    let get = Get::new((EDGE_V4, GATE), "/live/x").timeout(Duration::from_millis(700));
    until("the filter is off", || get.send(&edge.banned).is_ok());
    assert!(edge.status()["mode"].is_null(), "{}", edge.status());
    assert!(!edge.drops(&edge.banned));
    assert!(edge.nicgate(&["status"]).with(3).stdout.contains("nicgate is not attached to"));
    // What the operator takes off stays off, however long one waits; everything else is looked after.
    edge.lab.edge().batch("link del extra0\nlink add extra0 type veth peer name extra1\n").unwrap();
    until("the other interface is filtered again", || controller.log().contains("filtered again"));
    assert!(edge.alarms().contains(&"detached".to_owned()), "{:?}", edge.alarms());
    assert!(!edge.drops(&edge.banned));
    let said = edge.nicgate(&["reload"]).with(0);
    assert_eq!(said.stderr.matches("the filter had been taken off").count(), 1, "{said:?}");
    assert!(edge.drops(&edge.banned));
    let status = edge.nicgate(&["status", "--json"]).with(0).json();
    for interface in status["interfaces"].as_array().unwrap() {
        assert_eq!(interface["mode"], "native", "{status:#}");
    }
    assert!(controller.log().contains("the filter had been taken off"), "{}", controller.log());
}

#[test]
fn a_port_that_cannot_be_bound_is_an_alarm_and_is_tried_again() {
    rights::need_root();
    let edge = Edge::new("port");
    // Something else listens there already when nicgate starts; everything else is in force.
    let taken = edge.taken_port();
    let port = taken.local_addr().unwrap().port();
    edge.configure(RULES, &edge.gate(port));
    let controller = edge.start();
    assert!(edge.drops(&edge.banned));
    assert_eq!(edge.get(&edge.viewer, "/live/x").unwrap().status, 200);
    let not_bound = || edge.alarms().contains(&"port-not-bound".to_owned());
    assert!(not_bound(), "{:?}", edge.alarms());
    assert!(controller.log().contains("another server owns the port"), "{}", controller.log());

    // And at a reload, which names an address that no interface has as well.
    let other = edge.gate(0).replace("gate 0", "gate 192.0.2.99:8001");
    edge.configure(TURNED, &(edge.gate(port) + &other));
    let said = edge.nicgate(&["reload"]).with(0);
    assert!(said.stderr.contains("another server owns the port"), "{said:?}");
    assert!(said.stderr.contains("192.0.2.99:8001"), "{said:?}");
    assert!(said.stderr.matches("os error").count() <= 2, "each cause once: {}", said.stderr);
    assert!(edge.drops(&edge.viewer), "the new rules are in force");
    assert_eq!(edge.alarms(), ["port-not-bound", "port-not-bound"]);

    drop(taken);
    let open = Get::new((EDGE_V4, port), "/live/x").timeout(Duration::from_millis(700));
    until("the gate is open", || open.send(&edge.banned).is_ok());
    assert_eq!(edge.alarms(), ["port-not-bound"], "the other one cannot be");
    edge.configure(RULES, &edge.gate(port));
    assert_eq!(edge.reload()["ok"], true);
    assert!(edge.alarms().is_empty(), "{:?}", edge.alarms());
}

#[test]
fn an_upstream_without_a_server_that_works_is_an_alarm() {
    rights::need_root();
    let edge = Edge::new("upstream");
    let alone = edge.gate(8001);
    let (before, url) = alone.split_once("http://").unwrap();
    let (good, after) = url.split_once(';').unwrap();
    let gate = |servers: &str| format!("upstream media {{\n{servers}\n}}\n{before}media;{after}");
    // Nobody listens on either.
    edge.configure(RULES, &gate("server 127.0.0.1:1;\nserver unix:/nonexistent/media.sock;"));
    let _controller = edge.start();
    assert!(edge.alarms().is_empty(), "nothing is known yet: {:?}", edge.alarms());
    let get = || Get::new((EDGE_V4, 8001), "/live/x").send(&edge.viewer).unwrap().status;
    for _ in 0..3 {
        assert_eq!(get(), 502);
    }
    assert_eq!(edge.alarms(), ["upstream-down"]);
    let said = edge.nicgate(&["status", "--json"]).json();
    let what = said["alarms"][0]["what"].as_str().unwrap();
    assert!(
        what.contains("the upstream media works: 127.0.0.1:1 (") && what.contains("media.sock ("),
        "{what}"
    );
    let upstreams = said["upstreams"].as_array().unwrap();
    assert_eq!(upstreams[1]["upstream"], "media");
    assert_eq!(upstreams[1]["servers"][0]["state"], "failing");
    assert_eq!(upstreams[1]["servers"][0]["failures"], 3);
    let people = edge.nicgate(&["status"]).with(3).stdout;
    assert!(people.contains("upstream media, 127.0.0.1:1: FAILING for "), "{people}");
    assert!(people.contains(&format!("upstream {good}: up for ")), "{people}");

    edge.configure(RULES, &gate(&format!("server 127.0.0.1:1;\nserver {good};")));
    assert_eq!(edge.reload()["ok"], true);
    assert!(edge.alarms().is_empty(), "one is enough: {:?}", edge.alarms());
    assert_eq!(get(), 200);
    let stats = edge.nicgate(&["stats", "--json"]).with(0).json();
    assert_eq!(stats["upstreams"][1]["servers"][0]["failures"], 3, "a reload forgets nothing");
}

#[test]
fn a_list_that_has_become_empty_keeps_its_contents_and_one_that_has_shrunk_is_told() {
    rights::need_root();
    let edge = Edge::new("shrunk");
    let list = |entries: u32| {
        let many: String =
            (0..entries).map(|n| format!("{}\n", std::net::Ipv4Addr::from(0x0a00_0000 + n))).collect();
        edge.site.write("list", many);
    };
    list(100);
    edge.configure(&format!("deny ip file list;\n{RULES}"), "");
    let _controller = edge.start();
    let prefixes = || edge.status()["v4"]["installed"].as_u64().unwrap();
    let before = prefixes();

    // A download that broke off.
    list(0);
    let said = edge.nicgate(&["reload"]).with(1);
    assert!(
        said.stderr.contains("the list `list` is refused: it has no entry any more, and had 100"),
        "{said:?}"
    );
    assert!(said.stderr.contains("list_guard off"), "{said:?}");
    assert_eq!((prefixes(), edge.alarms()), (before, vec!["list-refused".to_owned()]));
    assert!(edge.drops(&edge.banned));
    // All or nothing, for who wants it.
    edge.configure(&format!("deny ip file list;\n{RULES}"), "on_error abort;\n");
    let said = edge.nicgate(&["reload"]).with(1);
    assert!(said.stderr.contains("cannot be used: it has no entry any more, and had 100"), "{said:?}");
    assert_eq!(
        (prefixes(), edge.alarms()),
        (before, vec!["reload-failed".to_owned(), "list-refused".to_owned()])
    );

    list(40);
    let said = edge.nicgate(&["reload"]).with(0);
    assert!(said.stderr.contains("has 40 entries; it had 100"), "{said:?}");
    assert!(edge.alarms().is_empty());
    list(30);
    assert!(!edge.nicgate(&["reload"]).with(0).stderr.contains("entries"), "that is not much less");

    list(0);
    edge.configure(&format!("deny ip file list;\n{RULES}"), "list_guard off;\n");
    assert!(edge.nicgate(&["reload"]).with(0).stderr.contains("has 0 entries"));
}

#[test]
fn a_list_that_is_no_regular_file_holds_nothing_up() {
    rights::need_root();
    let edge = Edge::new("fifo");
    edge.site.write("list", "192.0.2.1\n");
    edge.configure(&format!("deny ip file list;\n{RULES}"), "");
    let _controller = edge.start();
    let list = edge.site.path("list");
    fs::remove_file(&list).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&list).status().unwrap();
    assert!(made.success());
    let before = Instant::now();
    let said = edge.nicgate(&["reload"]).with(1);
    assert!(said.stderr.contains("it is not a regular file; its former contents"), "{said:?}");
    assert!(before.elapsed() < Duration::from_secs(5), "nothing waits for somebody who writes");
    assert_eq!(edge.alarms(), ["list-refused"]);
}
