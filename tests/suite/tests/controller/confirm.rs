//! Changes that may lock an operator out: what they would do is shown before, and they go back unless they are
//! confirmed.

use std::process::Command;

use kit::{
    edge::{BANNED, Edge, GATE, RULES, VIEWER},
    nicgate::until,
    rights,
};
use serde_json::{Value, json};

/// The host that [`RULES`] deny is admitted, the viewer is not.
const TURNED: &str = "deny ip 203.0.113.10;\ndeny ip 2001:db8:10::/64;\nallow default;";

/// What the status says of the controller, whether or not everything is in force.
fn told(edge: &Edge) -> Value {
    edge.nicgate(&["status", "--json"]).json()["controller"].clone()
}

#[test]
fn what_nobody_confirms_goes_back() {
    rights::need_root();
    let edge = Edge::new("goesback");
    edge.configure(RULES, "");
    let mut controller = edge.start();
    edge.configure(TURNED, "");
    let said = edge.nicgate(&["reload", "--confirm", "3"]).with(0);
    assert!(said.stdout.contains("comes back in 3 s, unless you `nicgate confirm` before"), "{said:?}");
    assert!(edge.drops(&edge.viewer), "it is in force meanwhile");
    assert!(told(&edge)["confirm_within_seconds"].as_u64().is_some_and(|left| left <= 3));
    // What loads lists again every minute does not speak for an operator; and nobody takes over meanwhile.
    assert!(edge.nicgate(&["reload"]).with(0).stdout.contains("comes back in"));
    controller.process().signal(libc::SIGHUP).unwrap();
    let refused = edge.nicgate(&["upgrade"]).with(3);
    assert!(refused.stderr.contains("waits to be confirmed"), "{refused:?}");

    until("the former configuration is back", || told(&edge)["confirm_within_seconds"].is_null());
    assert!(edge.drops(&edge.banned) && !edge.drops(&edge.viewer));
    assert_eq!(edge.get(&edge.viewer, "/live/x?token=bad").unwrap().status, 403, "for requests, too");
    let status = edge.nicgate(&["status"]).with(3).stdout;
    assert!(status.contains("ALARM reload-failed"), "{status}");
    assert!(status.contains("nobody confirmed it in time"), "{status}");
    let late = edge.nicgate(&["confirm"]).with(1);
    assert!(late.stderr.contains("nothing waits to be confirmed"), "{late:?}");
    // Nor is it what a start falls back to.
    assert!(controller.end(libc::SIGTERM).unwrap().success());
    edge.configure("nonsense;", "");
    let _controller = edge.start();
    assert!(edge.drops(&edge.banned) && !edge.drops(&edge.viewer));
}

#[test]
fn what_is_confirmed_stays() {
    rights::need_root();
    let edge = Edge::new("confirmed");
    edge.configure(RULES, "");
    let controller = edge.start();
    edge.configure(TURNED, "");
    let json = edge.nicgate(&["reload", "--confirm", "1h", "--json"]).with(0).json();
    assert!(json["result"]["confirm_within_seconds"].as_u64().is_some_and(|left| left >= 3590), "{json}");
    assert!(edge.nicgate(&["status"]).with(0).stdout.contains("unless you `nicgate confirm`"));
    let json = edge.nicgate(&["confirm", "--json"]).with(0).json();
    assert!(json["seconds_left"].as_u64().is_some_and(|left| left >= 3590), "{json}");
    assert!(!edge.nicgate(&["status"]).with(0).stdout.contains("nicgate confirm"));
    let _ = edge.nicgate(&["confirm"]).with(1);
    assert!(edge.drops(&edge.viewer));
    // It is kept for a start with a broken one.
    assert!(controller.end(libc::SIGTERM).unwrap().success());
    edge.configure("nonsense;", "");
    let _controller = edge.start();
    assert!(edge.drops(&edge.viewer) && !edge.drops(&edge.banned));
}

#[test]
fn what_a_reload_would_change_is_shown_before() {
    rights::need_root();
    let edge = Edge::new("difference");
    edge.configure(RULES, "");
    let controller = edge.start();
    let same = edge.nicgate(&["reload", "--diff"]).with(0);
    assert!(same.stdout.starts_with("NIC: the same addresses as now\nsessions: 0 open"), "{same:?}");

    assert_eq!(edge.get(&edge.viewer, "/live/x?token=good").unwrap().status, 200);
    let client = edge.fetch(&edge.viewer);
    edge.configure(TURNED, "");
    let said = edge.nicgate(&["reload", "--diff"]).with(0);
    let gate = format!(
        "NIC, {GATE}/tcp: 2 prefixes (1 IPv4, 1 IPv6) dropped more, 2 prefixes (1 IPv4, 1 IPv6) fewer"
    );
    for line in [
        &*gate,
        "  + 203.0.113.10/32",
        "  + 2001:db8:10::/64",
        "  - 198.51.100.66/32",
        "  - 2001:db8:66::/64",
        "live transfers: 0 would go on, 1 would be cut, 0 would go on while their backends are asked",
    ] {
        assert!(said.stdout.lines().any(|one| one == line), "{line}: {}", said.stdout);
    }
    assert!(said.stdout.contains("2 of addresses that would be dropped at every gate"), "{}", said.stdout);
    assert!(edge.drops(&edge.banned) && !edge.drops(&edge.viewer), "nothing has changed");
    assert_eq!(told(&edge)["reloads"], 0);
    drop(client);

    // A candidate beside the file, and the same without a controller.
    let check = |file: &str, status: i32| {
        let mut command = Command::new(kit::nicgate::binary());
        command.args(["check", "--diff", "--json", "-c"]).arg(edge.site.path(file));
        let output = command.arg("--control").arg(edge.site.socket()).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        output
    };
    edge.site.write("candidate.conf", edge.text("deny ip 192.0.2.0/24;\nallow default;", ""));
    let candidate = check("candidate.conf", 0);
    let candidate: Value = serde_json::from_slice(&candidate.stdout).unwrap();
    let services = candidate["result"]["services"].as_array().unwrap();
    assert_eq!(services[0]["more"], json!({"v4": 1, "v6": 0, "first": ["192.0.2.0/24"]}), "{candidate:#}");
    assert_eq!(services[0]["fewer"]["first"][0], format!("{}/32", BANNED[0]));
    edge.site.write("wrong.conf", "auth_backend a { nonsense; }");
    let wrong = String::from_utf8(check("wrong.conf", 1).stderr).unwrap();
    assert!(wrong.contains("nothing was compared"), "{wrong}");
    assert!(controller.end(libc::SIGTERM).unwrap().success());
    let said = edge.nicgate(&["check", "--diff"]).with(0);
    assert!(said.stdout.contains(&gate) && !said.stdout.contains("sessions"), "{said:?}");
}

#[test]
fn an_operator_who_would_be_dropped_is_warned() {
    rights::need_root();
    let edge = Edge::new("lockedout");
    edge.configure(RULES, "");
    let _controller = edge.start();
    edge.configure(TURNED, "");
    let reload = |arguments: &[&str]| {
        let mut command = edge.site.command(arguments);
        command.env("SSH_CONNECTION", format!("{} 50000 192.0.2.1 22", VIEWER[0]));
        let output = command.output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let warning = format!("warning: your own address {} (SSH_CONNECTION) is dropped on", VIEWER[0]);
    for arguments in [&["reload", "--diff"][..], &["check", "--diff"], &["check"], &["reload"]] {
        let said = reload(arguments);
        assert!(said.contains(&warning), "{arguments:?}: {said}");
        assert!(said.contains(&format!("`never_drop {};` keeps it in", VIEWER[0])), "{said}");
    }
    edge.configure(TURNED, &format!("never_drop {};\n", VIEWER[0]));
    assert!(!reload(&["reload"]).contains("SSH_CONNECTION"));
}
