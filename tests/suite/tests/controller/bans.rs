//! Runtime bans by a running controller: at the NIC, at the gate, over reloads, kills and restarts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use kit::{
    edge::{Edge, GUARD, VIEWER, arrivals, knock},
    nicgate::{Said, Site, until},
    rights,
};
use serde_json::{Value, json};

/// Rules that leave every address to a ban.
const OPEN: &str = "deny token bad;\nallow default;";

impl Bans for Edge {
    fn ban(&self, arguments: &[&str]) -> Said {
        self.nicgate(&[&["ban"], arguments].concat())
    }

    fn bans(&self) -> Vec<Value> {
        self.nicgate(&["bans", "--json"]).with(0).json()["bans"].as_array().unwrap().clone()
    }

    fn prefixes(&self) -> Vec<String> {
        self.bans().iter().map(|ban| ban["prefix"].as_str().unwrap().to_owned()).collect()
    }
}

trait Bans {
    fn ban(&self, arguments: &[&str]) -> Said;
    fn bans(&self) -> Vec<Value>;
    fn prefixes(&self) -> Vec<String>;
}

/// Bans the viewer's networks, over both families.
#[track_caller]
fn ban_viewer(edge: &Edge, arguments: &[&str]) {
    for net in ["203.0.113.0/24", "2001:db8:10::/64"] {
        let said = edge.ban(&[&[net], arguments].concat());
        assert_eq!(said.status, Some(0), "{said:?}");
    }
}

#[expect(clippy::too_many_lines, reason = "one story, in the order in which it happens")]
#[test]
fn a_ban_stops_who_it_names_and_nobody_else_until_it_is_lifted() {
    rights::need_root();
    let edge = Edge::new("ban");
    edge.configure(OPEN, "");
    let controller = edge.start();
    assert!(!edge.drops(&edge.viewer) && !edge.drops(&edge.banned));
    assert_eq!(edge.bans(), [Value::Null; 0]);

    let said = edge.ban(&[VIEWER[0], "--for", "1h30m", "--reason", "restreams"]).with(0);
    assert_eq!(said.stdout, "banned 203.0.113.10 on every service for 1h30m: restreams\n", "{said:?}");
    let said = edge.ban(&["2001:db8:10::/64"]).with(0);
    assert_eq!(said.stdout, "banned 2001:db8:10::/64 on every service for ever\n");
    assert!(edge.drops(&edge.viewer));
    assert!(!edge.drops(&edge.banned));
    let socket = edge.receiver(GUARD);
    knock(&edge.viewer, GUARD, b"banned");
    knock(&edge.banned, GUARD, b"last");
    assert_eq!(arrivals(&socket, b"last"), []);

    // What is said of it.
    let bans = edge.bans();
    assert_eq!(bans.len(), 2);
    let first = &bans[0];
    assert_eq!(
        json!([first["prefix"], first["service"], first["reason"], first["requests"], first["never_drop"]]),
        json!(["203.0.113.10/32", null, "restreams", 0, null])
    );
    let left = first["seconds_left"].as_u64().unwrap();
    assert!(left > 5400 - 120 && left <= 5400, "{first}");
    assert_eq!(
        first["expires_at"].as_u64().unwrap().abs_diff(first["made_at"].as_u64().unwrap() + 5400) / 2,
        0
    );
    // A connection's first packet, at least, and one datagram.
    assert!(first["packets"].as_u64().unwrap() >= 2, "{first}");
    assert!(first["bytes"].as_u64().unwrap() >= 2 * 42, "{first}");
    assert_eq!(
        json!([bans[1]["seconds_left"], bans[1]["expires_at"], bans[1]["reason"]]),
        json!([null, null, null])
    );
    let text = edge.nicgate(&["bans"]).with(0).stdout;
    let line = text.lines().find(|line| line.starts_with("203.0.113.10 ")).unwrap();
    assert!(line.contains("every service") && line.ends_with("restreams"), "{text}");
    let stats = edge.nicgate(&["stats", "--json"]).with(0).json();
    let packets: u64 = edge.bans().iter().map(|ban| ban["packets"].as_u64().unwrap()).sum();
    assert_eq!(stats["bans"]["count"], 2);
    assert!(stats["bans"]["packets"].as_u64().unwrap() <= packets);
    assert_eq!(stats["interfaces"][0]["bans"], 2);
    assert!(stats["interfaces"][0]["outcomes"]["ban_drop"].as_u64().unwrap() >= 4);
    assert!(edge.nicgate(&["stats"]).with(0).stdout.contains("2 bans: "));
    let status = edge.nicgate(&["status", "--json"]).with(0).json();
    assert_eq!(json!([status["bans"]["count"], status["bans"]["not_saved"]]), json!([2, null]));
    assert_eq!(status["interfaces"][0]["bans"], json!({"desired": 2, "installed": 2}));
    assert!(edge.nicgate(&["status"]).with(0).stdout.contains("\n2 bans\n"));
    assert!(controller.log().contains("\"prefix\":\"203.0.113.10/32\""), "{}", controller.log());

    // Once more: another end and reason for the same ban.
    let said = edge.ban(&[VIEWER[0], "--for", "10m", "--reason", "again"]).with(0);
    let mut lines = said.stdout.lines();
    assert_eq!(lines.next(), Some("banned 203.0.113.10 on every service for 10m: again"));
    assert!(lines.next().unwrap().starts_with("it was banned already, for 1h"), "{said:?}");
    assert!(edge.bans()[0]["packets"].as_u64() >= first["packets"].as_u64(), "it goes on counting");

    for net in [VIEWER[0], "2001:db8:10::/64"] {
        let said = edge.nicgate(&["unban", net]).with(0);
        assert_eq!(said.stdout, format!("unbanned {net} on every service\n"));
    }
    assert!(!edge.drops(&edge.viewer));
    assert_eq!(edge.bans(), [Value::Null; 0]);
    assert_eq!(edge.status()["bans"], json!({"desired": 0, "installed": 0}));
}

#[test]
fn a_ban_on_one_service_leaves_the_others_alone() {
    rights::need_root();
    let edge = Edge::new("banport");
    edge.configure(OPEN, "");
    let _controller = edge.start();
    ban_viewer(&edge, &["--service", "9998/udp"]);
    let socket = edge.receiver(GUARD);
    knock(&edge.viewer, GUARD, b"banned");
    knock(&edge.banned, GUARD, b"last");
    assert_eq!(arrivals(&socket, b"last"), []);
    assert!(!edge.drops(&edge.viewer));
    assert_eq!(edge.get(&edge.viewer, "/live/x").unwrap().status, 200, "the gate is another service");
    ban_viewer(&edge, &["--service", "8000/tcp"]);
    assert!(edge.drops(&edge.viewer));
    assert_eq!(edge.prefixes().len(), 4);
    let said = edge.nicgate(&["unban", "203.0.113.0/24"]).with(1);
    assert!(
        said.stderr
            .contains("203.0.113.0/24 is not banned on every service; it is banned on 8000/tcp, 9998/udp"),
        "{said:?}"
    );
    for net in ["203.0.113.0/24", "2001:db8:10::/64"] {
        let _ = edge.nicgate(&["unban", net, "--service", "9998/udp"]).with(0);
    }
    knock(&edge.viewer, GUARD, b"last");
    assert_eq!(arrivals(&socket, b"last"), []);
    assert!(edge.drops(&edge.viewer));
    let said = edge.nicgate(&["unban", "--all", "--json"]).with(0).json();
    assert_eq!(said["unbanned"].as_array().unwrap().len(), 2);
    assert!(!edge.drops(&edge.viewer));
}

#[test]
fn wrong_requests_change_nothing_and_say_what_to_write() {
    rights::need_root();
    let edge = Edge::new("banwrong");
    edge.configure(OPEN, "guard sctp 5000 auth://viewers;\n");
    let _controller = edge.start();
    let long = "x".repeat(201);
    for (arguments, status, message) in [
        (&["203.0.113.256"][..], 1, "the octet 256 is over 255"),
        (&["nonsense"], 1, "write an address"),
        (&["203.0.113.7/24"], 1, "write 203.0.113.0/24"),
        (&["0.0.0.0/0"], 1, "say --yes"),
        (&["::/0"], 1, "every IPv6 address"),
        (&["10.0.0.1", "--service", "22/tcp"], 1, "protected: 8000/tcp, 9998/udp, 5000/sctp"),
        (&["10.0.0.1", "--service", "ssh"], 1, "write it as 80/tcp"),
        (&["10.0.0.1", "--reason", "a\u{1b}[2Jb"], 1, "control characters"),
        (&["10.0.0.1", "--reason", &long], 1, "200 characters"),
        (&["10.0.0.1", "--for", "10"], 2, "such as 30s"),
        (&["10.0.0.1", "--for", "0s"], 2, "such as 30s"),
        (&["10.0.0.1", "--for", "20000d"], 2, "ten years"),
        (&[], 2, "ADDR|PREFIX"),
    ] {
        let said = edge.ban(arguments);
        assert_eq!(said.status, Some(status), "{arguments:?}: {said:?}");
        assert!(said.stdout.is_empty() && said.stderr.contains(message), "{arguments:?}: {said:?}");
    }
    assert_eq!(edge.bans(), [Value::Null; 0]);
    let _ = edge.nicgate(&["unban"]).with(2);
    let _ = edge.nicgate(&["unban", "10.0.0.1", "--all"]).with(2);
    let said = edge.nicgate(&["unban", "--all"]).with(0);
    assert_eq!(said.stdout, "there were no bans\n");

    // What covers an address is named, before and after.
    let _ = edge.ban(&["10.0.0.0/8", "--for", "1h"]).with(0);
    let said = edge.nicgate(&["unban", "10.1.1.1"]).with(1);
    assert!(said.stderr.contains("10.1.1.1 is not banned on every service"), "{said:?}");
    assert!(said.stderr.contains("the ban of 10.0.0.0/8 on every service ("), "{said:?}");
    let said = edge.ban(&["10.1.1.1", "--for", "1m", "--service", "8000/tcp"]).with(0);
    assert!(said.stderr.contains("it changes nothing while the ban of 10.0.0.0/8"), "{said:?}");
    let said = edge.nicgate(&["unban", "10.1.1.1", "--service", "8000/tcp"]).with(0);
    assert!(said.stderr.contains("it is still banned: the ban of 10.0.0.0/8"), "{said:?}");
    let json = edge.nicgate(&["unban", "10.1.1.1", "--json"]).with(1).json();
    assert_eq!(json["ok"], false);
    // The same by hand, on the socket.
    for (request, fault) in [
        (&b"{\"command\":\"ban\"}\n"[..], "request"),
        (b"{\"command\":\"ban\",\"prefix\":\"10.0.0.1\",\"seconds\":0}\n", "request"),
        (b"{\"command\":\"unban\"}\n", "request"),
        (b"{\"command\":\"unban\",\"prefix\":\"10.0.0.0/8\",\"all\":true}\n", "request"),
    ] {
        let reply: Value = serde_json::from_str(&edge.control(request).unwrap()).unwrap();
        assert_eq!(json!([reply["ok"], reply["fault"]]), json!([false, fault]), "{reply}");
    }
    assert_eq!(edge.prefixes(), ["10.0.0.0/8"]);
    // Meant as it is written.
    let _ = edge.ban(&["0.0.0.0/0", "--yes", "--service", "9998/udp"]).with(0);
    assert_eq!(edge.get(&edge.viewer, "/live/x").unwrap().status, 200);
}

#[test]
fn without_a_controller_nobody_bans() {
    let site = Site::new();
    site.configure("");
    for arguments in [&["ban", "10.0.0.1"][..], &["unban", "10.0.0.1"], &["bans"]] {
        let said = site.run(arguments).with(3);
        assert!(said.stderr.contains("start it with `nicgate run`"), "{said:?}");
    }
    assert!(!site.state().join("bans.json").exists());
}

#[test]
fn bans_outlive_reloads_kills_and_another_engine() {
    rights::need_root();
    let edge = Edge::new("banlives");
    edge.configure(OPEN, "");
    edge.lab.edge().batch("link add extra0 type veth peer name extra1\n").unwrap();
    let controller = edge.start();
    ban_viewer(&edge, &["--for", "1h", "--reason", "stays"]);
    assert!(edge.drops(&edge.viewer));

    // An interface that joins has them from the start.
    edge.configure(OPEN, "interface extra0;\n");
    assert_eq!(edge.reload()["ok"], true);
    assert!(edge.drops(&edge.viewer));
    let status = edge.nicgate(&["status", "--json"]).with(0).json();
    for interface in status["interfaces"].as_array().unwrap() {
        assert_eq!(interface["bans"], json!({"desired": 2, "installed": 2}), "{interface}");
    }
    // A reload that fails changes nothing about them.
    edge.configure(OPEN, "interface nosuch0 { required; }\n");
    assert_eq!(edge.reload()["ok"], false);
    assert!(edge.drops(&edge.viewer));
    edge.configure(OPEN, "");
    assert_eq!(edge.reload()["ok"], true);

    let before = edge.bans();
    controller.end(libc::SIGKILL).unwrap();
    assert!(edge.drops(&edge.viewer), "nobody is there, and the ban is");
    let stats = edge.stats();
    assert_eq!(stats["bans"], 2, "{stats}");
    for engine in ["flat", "lpm", "flat"] {
        edge.configure(OPEN, &format!("engine {engine};\n"));
        let controller = edge.start();
        assert!(edge.drops(&edge.viewer), "{engine}");
        assert!(!edge.drops(&edge.banned), "{engine}");
        let after = edge.bans();
        assert_eq!(after.len(), 2, "{engine}");
        for (before, after) in before.iter().zip(&after) {
            for name in ["prefix", "service", "reason", "made_at"] {
                assert_eq!(before[name], after[name], "{engine}");
            }
            assert!(after["seconds_left"].as_u64() <= before["seconds_left"].as_u64());
        }
        controller.end(libc::SIGKILL).unwrap();
    }
    // An attachment without a controller knows them, too, also when nothing was pinned.
    let _ = edge.nicgate(&["detach", "--all"]).with(0);
    let socket = edge.receiver(GUARD);
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // The kernel lets go of an unpinned link a moment later.
    until("the filter is off", || {
        knock(&edge.viewer, GUARD, b"x");
        socket.recv_from(&mut [0; 64]).is_ok()
    });
    while socket.recv_from(&mut [0; 64]).is_ok() {}
    let _ = edge.nicgate(&["attach"]).with(0);
    assert_eq!(edge.status()["bans"], json!({"desired": 2, "installed": 2}));
    knock(&edge.viewer, GUARD, b"banned");
    knock(&edge.banned, GUARD, b"last");
    assert_eq!(arrivals(&socket, b"last"), []);
}

#[test]
fn a_ban_ends_in_time_with_a_controller_and_without() {
    rights::need_root();
    let edge = Edge::new("banends");
    edge.configure(OPEN, "");
    let controller = edge.start();
    ban_viewer(&edge, &["--for", "2s"]);
    let _ = edge.ban(&["10.0.0.0/8"]).with(0);
    until("it is tidied up", || edge.prefixes() == ["10.0.0.0/8"]);
    assert!(!edge.drops(&edge.viewer));
    until("the kernel's entries are gone, too", || {
        edge.status()["bans"] == json!({"desired": 1, "installed": 1})
    });
    until("it is logged", || controller.log().matches("a ban has run out").count() == 2);
    until("it is saved", || {
        let saved = fs::read_to_string(edge.site.state().join("bans.json")).unwrap();
        saved.contains("10.0.0.0/8") && !saved.contains("203.0.113.0/24")
    });

    ban_viewer(&edge, &["--for", "3s"]);
    controller.end(libc::SIGKILL).unwrap();
    // Nobody listens behind the NIC; the guarded port tells.
    let socket = edge.receiver(GUARD);
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    until("the kernel lets it in", || {
        knock(&edge.viewer, GUARD, b"x");
        socket.recv_from(&mut [0; 64]).is_ok()
    });
    assert_eq!(edge.status()["bans"], json!({"desired": 3, "installed": 3}), "nobody has tidied up");
    let _controller = edge.start();
    assert_eq!(edge.prefixes(), ["10.0.0.0/8"]);
    assert_eq!(edge.status()["bans"], json!({"desired": 1, "installed": 1}));
}

#[test]
fn what_may_never_be_dropped_is_refused_by_the_gate() {
    rights::need_root();
    let edge = Edge::new("banexempt");
    edge.configure(OPEN, "never_drop 203.0.113.10 2001:db8:10::/64;\n");
    let _controller = edge.start();
    let said = edge.ban(&["203.0.113.0/24"]).with(0);
    assert!(
        said.stderr
            .contains("the NIC will not drop 203.0.113.10: `never_drop 203.0.113.10/32` (nicgate.conf:"),
        "{said:?}"
    );
    let said = edge.ban(&["2001:db8:10::10", "--reason", "crawler"]).with(0);
    assert!(said.stderr.contains("the NIC will not drop 2001:db8:10::10"), "{said:?}");
    assert!(!edge.drops(&edge.viewer));
    let answer = edge.get(&edge.viewer, "/live/x").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (403, "denied: ban\n"));
    let listed = edge.bans();
    assert_eq!(listed[0]["never_drop"], Value::Null, "only a part of it is exempt");
    assert!(listed[1]["never_drop"].as_str().unwrap().starts_with("nicgate.conf:"), "{listed:?}");
    assert!(edge.nicgate(&["bans"]).with(0).stdout.contains("crawler [never_drop at nicgate.conf:"));
    assert!(listed[0]["requests"].as_u64().unwrap() >= 1);
    let gate = edge.nicgate(&["stats", "--json"]).with(0).json()["gates"][0].clone();
    assert!(
        gate["banned"].as_u64().unwrap() >= 1 && gate["denied"].as_u64() >= gate["banned"].as_u64(),
        "{gate}"
    );
    // A reload takes the exemption away, and another brings it back.
    edge.configure(OPEN, "");
    assert_eq!(edge.reload()["ok"], true);
    assert!(edge.drops(&edge.viewer));
    edge.configure(OPEN, "never_drop 203.0.113.10 2001:db8:10::/64;\n");
    assert_eq!(edge.reload()["ok"], true);
    assert!(!edge.drops(&edge.viewer));
}

#[test]
fn the_gate_refuses_and_cuts_where_no_interface_is_filtered() {
    rights::need_root();
    let edge = Edge::new("bangate");
    let configure = |more: &str| {
        let text = edge.text(OPEN, more);
        edge.site.configure(text.split_once('\n').unwrap().1);
    };
    configure("");
    let controller = edge.start();
    let (cut, goes_on) = (edge.fetch(&edge.viewer), edge.fetch(&edge.banned));
    let said = edge.ban(&[VIEWER[0], "--service", "9998/udp"]).with(0);
    assert!(said.stderr.contains("nothing enforces it"), "{said:?}");
    let said = edge.ban(&[VIEWER[0], "--service", "8000/tcp", "--reason", "token sharing"]).with(0);
    assert!(said.stdout.ends_with("; 1 live transfer cut\n") && said.stderr.is_empty(), "{said:?}");
    assert!(!cut.finish());
    assert!(goes_on.finish());
    let answer = edge.get(&edge.viewer, "/live/x").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (403, "denied: ban\n"));
    assert_eq!(
        edge.get(&edge.viewer, "/nowhere").unwrap().status,
        403,
        "a ban is judged before anything else"
    );
    assert_eq!(edge.get(&edge.banned, "/live/x").unwrap().status, 200);
    until("the refusal is logged with its reason", || {
        let log = controller.log();
        log.lines()
            .any(|line| line.contains("\"stage\":\"ban\"") && line.contains("\"reason\":\"token sharing\""))
    });
    // By SIGKILL and back.
    controller.end(libc::SIGKILL).unwrap();
    let _controller = edge.start();
    assert_eq!(edge.get(&edge.viewer, "/live/x").unwrap().status, 403);

    // Shadow mode counts, and lets it pass.
    configure("shadow;\n");
    assert_eq!(edge.reload()["ok"], true);
    let requests = || edge.bans().iter().map(|ban| ban["requests"].as_u64().unwrap()).sum::<u64>();
    let before = requests();
    assert_eq!(edge.get(&edge.viewer, "/live/x").unwrap().status, 200);
    assert_eq!(edge.get(&edge.viewer, "/nowhere").unwrap().status, 404);
    assert_eq!(requests(), before + 1);
    let goes_on = edge.fetch(&edge.viewer);
    let _ = edge.ban(&["203.0.113.0/24"]).with(0);
    assert!(goes_on.finish());
    let cut = edge.fetch(&edge.viewer);
    configure("");
    let reply = edge.reload();
    assert_eq!(reply["result"]["transfers"]["cut"], 1, "in earnest now: {reply}");
    assert!(!cut.finish());
    let _ = edge.nicgate(&["unban", "--all"]).with(0);
    assert_eq!(edge.get(&edge.viewer, "/live/x").unwrap().status, 200);
}

#[test]
fn a_damaged_file_loses_no_ban_that_is_in_force() {
    rights::need_root();
    let edge = Edge::new("bandamage");
    edge.configure(OPEN, "");
    let controller = edge.start();
    ban_viewer(&edge, &["--for", "1h", "--reason", "lost"]);
    let _ = edge.ban(&["10.0.0.0/8", "--service", "9998/udp"]).with(0);
    controller.end(libc::SIGKILL).unwrap();
    let file = edge.site.state().join("bans.json");
    for damage in ["half a f", ""] {
        fs::write(&file, damage).unwrap();
        let controller = edge.start();
        assert!(controller.log().contains("the bans in"), "{}", controller.log());
        assert!(
            controller.log().contains("took over the bans that the kernel enforces"),
            "{}",
            controller.log()
        );
        assert!(edge.drops(&edge.viewer));
        assert!(!edge.drops(&edge.banned));
        let bans = edge.bans();
        assert_eq!(edge.prefixes(), ["203.0.113.0/24", "2001:db8:10::/64", "10.0.0.0/8"]);
        assert_eq!(json!([bans[2]["service"], bans[2]["seconds_left"]]), json!(["9998/udp", null]));
        assert!(bans[0]["seconds_left"].as_u64().unwrap() > 3000, "{bans:?}");
        assert!(bans[0]["packets"].as_u64().unwrap() > 0, "{bans:?}");
        assert!(bans[0]["reason"].as_str().unwrap().contains("the file of bans was lost"));
        let folder = fs::read_dir(file.parent().unwrap()).unwrap().flatten();
        let aside = folder.map(|entry| entry.path()).find(|path| {
            path.to_str().unwrap().contains("bans.json.damaged-")
                && fs::read_to_string(path).unwrap() == damage
        });
        fs::remove_file(aside.unwrap()).unwrap();
        assert!(fs::read_to_string(&file).unwrap().contains("203.0.113.0/24"), "saved anew");
        controller.end(libc::SIGKILL).unwrap();
    }
    // Without a file it is the same.
    fs::remove_file(&file).unwrap();
    let controller = edge.start();
    assert!(edge.drops(&edge.viewer));
    let _ = edge.nicgate(&["unban", "--all"]).with(0);
    controller.end(libc::SIGKILL).unwrap();
    let _controller = edge.start();
    assert!(!edge.drops(&edge.viewer), "and what is lifted stays lifted");
}

#[test]
fn a_ban_that_cannot_be_saved_is_in_force_and_says_so() {
    rights::need_root();
    let edge = Edge::new("bandisk");
    edge.configure(OPEN, "");
    let controller = edge.start();
    // A folder cannot be replaced by a file.
    fs::create_dir(edge.site.state().join("bans.json")).unwrap();
    fs::write(edge.site.state().join("bans.json/full"), "").unwrap();
    for net in ["203.0.113.0/24", "2001:db8:10::/64"] {
        let said = edge.ban(&[net]).with(0);
        assert!(said.stderr.contains("in force, but not saved: cannot write"), "{said:?}");
    }
    assert!(edge.drops(&edge.viewer));
    assert_eq!(edge.alarms(), ["bans-not-saved"]);
    assert!(edge.nicgate(&["status"]).with(3).stdout.contains("ALARM bans-not-saved"));
    fs::remove_dir_all(edge.site.state().join("bans.json")).unwrap();
    until("it is saved in the end", || edge.site.state().join("bans.json").is_file());
    until("the alarm is over", || edge.nicgate(&["status", "--quiet"]).status == Some(0));
    drop(controller);
}

#[test]
fn monitor_names_the_ban() {
    rights::need_root();
    let edge = Edge::new("banmonitor");
    edge.configure(OPEN, "");
    let _controller = edge.start();
    let _socket = edge.receiver(GUARD);
    ban_viewer(&edge, &["--reason", "too many", "--service", "9998/udp"]);
    for arguments in [&["monitor", "--json"][..], &["monitor"]] {
        let mut command = edge.site.command_in(edge.lab.edge(), arguments);
        let mut monitor = edge.lab.edge().start(command.stdout(Stdio::piped())).unwrap();
        until("drops are reported", || edge.status()["sampling"] == 1);
        knock(&edge.viewer, GUARD, b"banned");
        let lines = BufReader::new(monitor.child().stdout.take().unwrap()).lines();
        let lines: Vec<String> = lines.take(2).map(Result::unwrap).collect();
        let v4 = lines.iter().find(|line| line.contains(VIEWER[0])).unwrap();
        if arguments.len() == 2 {
            let event: Value = serde_json::from_str(v4).unwrap();
            assert_eq!(
                event["ban"],
                json!({"prefix": "203.0.113.0/24", "service": "9998/udp", "reason": "too many"})
            );
            assert_eq!(event["policy"], Value::Null);
        } else {
            assert!(v4.contains("drop 203.0.113.10 -> 9998/udp"), "{v4}");
            assert!(v4.ends_with("ban 203.0.113.0/24 on 9998/udp: too many"), "{v4}");
        }
        drop(monitor);
        until("nobody looks any more", || edge.status()["sampling"] == 0);
    }
}

#[test]
fn many_bans_are_one_change_or_none() {
    rights::need_root();
    let edge = Edge::new("many");
    edge.configure(OPEN, "");
    let controller = edge.start();
    let list: String =
        (0..10_000u32).map(|n| format!("{}\n", std::net::Ipv4Addr::from(0x0a00_0000 + n))).collect();
    let list = format!("# attackers\n{list}203.0.113.10 ; the viewer, too\n2001:db8:10::/64\n\n");
    edge.site.write("list", &list);
    let file = edge.site.path("list");
    let file = file.to_str().unwrap();
    let said = edge.ban(&["--file", file, "--for", "1h", "--reason", "flood"]).with(0);
    assert_eq!(said.stdout, "banned 10,002, replaced 0\n", "{said:?}");
    assert!(edge.drops(&edge.viewer) && !edge.drops(&edge.banned));
    let status = edge.status();
    assert_eq!(status["bans"], json!({"desired": 10_002, "installed": 10_002}), "{status}");
    assert!(
        edge.bans().iter().all(|ban| ban["reason"] == "flood" && ban["seconds_left"].as_u64() <= Some(3600))
    );
    // The file was written once for all of them.
    assert_eq!(controller.log().matches("banned many").count(), 1);

    // The same again, by the standard input; what is put there again is put there anew.
    let mut command = edge.site.command_in(edge.lab.edge(), &["ban", "--file", "-", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), list.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json!([made["banned"], made["replaced"], made["not_in_force"]]), json!([0, 10_002, []]));
    assert!(edge.bans().iter().all(|ban| ban["seconds_left"].is_null()), "now for ever");

    // One that is wrong keeps all from being made.
    let before = edge.bans().len();
    edge.site.write("wrong", "192.0.2.1\n192.0.2.256\n192.0.2.3\n0.0.0.0/0\n");
    let wrong = edge.site.path("wrong");
    let said = edge.ban(&["--file", wrong.to_str().unwrap()]).with(1);
    assert!(said.stderr.contains("nothing was banned: 2 of the 4 bans"), "{said:?}");
    assert!(
        said.stderr.contains("ban 2: `192.0.2.256`") && said.stderr.contains("ban 4: 0.0.0.0/0"),
        "{said:?}"
    );
    edge.site.write("empty", "# nobody\n");
    let empty = edge.site.path("empty");
    let said = edge.ban(&["--file", empty.to_str().unwrap()]).with(1);
    assert!(said.stderr.contains("no address in it"), "{said:?}");
    let too_many: String =
        (0..7000u32).map(|n| format!("{}\n", std::net::Ipv4Addr::from(0x0b00_0000 + n))).collect();
    edge.site.write("list", too_many);
    let said = edge.ban(&["--file", file]).with(1);
    assert!(said.stderr.contains("which is the limit"), "{said:?}");
    assert_eq!(edge.bans().len(), before);
    let _ = edge.ban(&["--file", "/dev/zero"]).with(1);
    let _ = edge.ban(&["--file", file, "192.0.2.1"]).with(2);

    let said = edge.nicgate(&["unban", "--all"]).with(0);
    assert_eq!(said.stdout, "unbanned 10,002 prefixes\n", "{said:?}");
    assert!(!edge.drops(&edge.viewer));
    // What is not banned is let in already.
    let said = edge.nicgate(&["unban", "203.0.113.10"]).with(0);
    assert!(said.stderr.contains("203.0.113.10 is not banned on every service"), "{said:?}");
}

#[test]
fn what_is_odd_about_bans_is_told_one_by_one_and_many_at_once() {
    rights::need_root();
    let edge = Edge::new("banodd");
    edge.configure(OPEN, "never_drop 198.51.100.0/28;\n");
    let _controller = edge.start();
    // Ranges are the prefixes that they are.
    edge.site.write("list", "some name:192.0.2.4-192.0.2.6\n198.51.100.1 - 198.51.100.1\n8.0.0.0/7\n");
    let file = edge.site.path("list");
    let said = edge.ban(&["--file", file.to_str().unwrap()]).with(0);
    assert_eq!(said.stdout, "banned 4, replaced 0\n", "{said:?}");
    let prefixes = edge.prefixes();
    for prefix in ["192.0.2.4/31", "192.0.2.6/32", "198.51.100.1/32", "8.0.0.0/7"] {
        assert!(prefixes.contains(&prefix.to_owned()), "{prefixes:?}");
    }
    assert!(said.stderr.contains("note: the NIC will not drop 198.51.100.1: `never_drop"), "{said:?}");
    assert!(said.stderr.contains("note: 8.0.0.0/7 is a very large network"), "{said:?}");
    let said = edge.ban(&["8.0.0.0/7"]).with(0);
    assert!(said.stderr.contains("note: 8.0.0.0/7 is a very large network"), "{said:?}");
    // The host's own addresses, as the controller finds them in its namespace.
    let said = edge.ban(&["0.0.0.0/0", "--yes"]).with(0);
    assert!(said.stderr.contains(", an address of this host, lies in 0.0.0.0/0"), "{said:?}");
    assert!(said.stderr.contains("0.0.0.0/0 is a very large network"), "{said:?}");
}

#[expect(clippy::too_many_lines, reason = "one story, in the order in which it happens")]
#[test]
fn bans_are_made_while_reloads_go_on() {
    rights::need_root();
    let edge = Edge::new("banrace");
    edge.lab.edge().batch("link add extra0 type veth peer name extra1\n").unwrap();
    edge.configure(OPEN, "");
    let _controller = edge.start();
    ban_viewer(&edge, &[]);
    let socket = edge.receiver(GUARD);
    let stop = AtomicBool::new(false);
    let ask = |request: Value| {
        let reply = edge.control(format!("{request}\n").as_bytes()).unwrap();
        let reply: Value = serde_json::from_str(&reply).unwrap();
        assert_eq!(reply["ok"], true, "{reply}");
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            // Interfaces come and go, and exemptions, too.
            for turn in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let more = ["", "interface extra0;\n", "interface extra0;\nnever_drop 10.0.0.7;\n"][turn % 3];
                edge.configure(OPEN, more);
                assert_eq!(edge.reload()["ok"], true);
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                knock(&edge.viewer, GUARD, b"banned");
                thread::sleep(Duration::from_millis(1));
            }
        });
        let bans = [0u8, 1].map(|half| {
            scope.spawn(move || {
                for n in 0..100 {
                    let prefix = format!("10.0.{half}.{n}");
                    ask(json!({"command": "ban", "prefix": prefix, "seconds": 3600}));
                    // Around the viewer's own.
                    ask(json!({"command": "ban", "prefix": "203.0.112.0/20", "seconds": 3600 + n}));
                    if n % 2 == 1 {
                        ask(json!({"command": "unban", "prefix": prefix}));
                    }
                }
            })
        });
        let done: Vec<_> = bans.into_iter().map(|thread| thread.join()).collect();
        stop.store(true, Ordering::Relaxed);
        done.into_iter().for_each(|done| done.unwrap());
    });
    edge.configure(OPEN, "interface extra0;\n");
    assert_eq!(edge.reload()["ok"], true);
    knock(&edge.banned, GUARD, b"last");
    assert_eq!(arrivals(&socket, b"last"), [], "nothing of the viewer's came through");
    let mut expected: Vec<String> =
        (0..2).flat_map(|half| (0..100).step_by(2).map(move |n| format!("10.0.{half}.{n}/32"))).collect();
    expected.extend(["203.0.112.0/20", "203.0.113.0/24", "2001:db8:10::/64"].map(str::to_owned));
    expected.sort();
    let mut found = edge.prefixes();
    found.sort();
    assert_eq!(found, expected);
    let status = edge.nicgate(&["status", "--json"]).with(0).json();
    assert_eq!(status["bans"]["not_in_force"], json!([]));
    for interface in status["interfaces"].as_array().unwrap() {
        let count = expected.len();
        assert_eq!(interface["bans"], json!({"desired": count, "installed": count}), "{interface}");
    }
    assert_eq!(edge.get(&edge.banned, "/live/x").unwrap().status, 200);
}
