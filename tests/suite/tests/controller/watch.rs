//! What changes around a running controller is noticed, put right, and said until it is.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;

use kit::{
    edge::{Edge, GATE, GUARD, RULES, arrivals, knock},
    http::Get,
    netns::EDGE_V4,
    nicgate::{PATIENCE, until},
    rights,
};
use serde_json::json;

const ADD: &str = "link add extra0 type veth peer name extra1\n";

/// An edge with a second interface.
fn with_extra(label: &str) -> Edge {
    let edge = Edge::new(label);
    edge.lab.edge().batch(ADD).unwrap();
    edge.configure(RULES, "interface extra0;\n");
    edge
}

/// The program that the kernel runs on an interface, by the kernel's own word.
fn attached(edge: &Edge, interface: &str) -> bool {
    let output = edge.lab.edge().command("ip").args(["-d", "link", "show", interface]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().contains("prog/xdp")
}

/// Waits until everything is in force again by what `status` and the kernel say.
#[track_caller]
fn until_mended(edge: &Edge, interface: &str) {
    until("it is mended", || attached(edge, interface) && edge.alarms().is_empty());
}

#[test]
fn an_interface_that_is_made_again_is_filtered_again() {
    rights::need_root();
    let edge = with_extra("watchagain");
    let controller = edge.start();
    assert_eq!(edge.alarms(), [""; 0]);
    assert!(attached(&edge, "extra0"));
    edge.lab.edge().batch("link del extra0\n").unwrap();
    until("it is missed", || edge.alarms() == ["interface-missing"]);
    let said = edge.nicgate(&["status"]).with(3);
    assert!(said.stdout.contains("ALARM interface-missing: extra0 is not filtered"), "{said:?}");
    let quiet = edge.nicgate(&["status", "-q"]).with(3);
    assert_eq!((&*quiet.stdout, &*quiet.stderr), ("", ""));
    // The others are filtered all the time.
    assert!(edge.drops(&edge.banned));
    edge.lab.edge().batch(ADD).unwrap();
    until_mended(&edge, "extra0");
    // In one go, so that it is never seen missing; and by another name in between.
    edge.lab.edge().batch(&format!("link del extra0\n{ADD}")).unwrap();
    until_mended(&edge, "extra0");
    edge.lab.edge().batch("link set extra0 name other0\n").unwrap();
    until("it is missed", || edge.alarms() == ["interface-missing"]);
    edge.lab.edge().batch("link set other0 name extra0\n").unwrap();
    until_mended(&edge, "extra0");
    edge.lab.edge().batch("link set extra0 down\nlink set extra0 up\n").unwrap();
    until_mended(&edge, "extra0");
    let log = controller.log();
    assert_eq!(log.matches("not filtered any more").count(), 3, "each once: {log}");
    assert_eq!(log.matches("filtered again; it was not").count(), 3, "{log}");
    let status = edge.nicgate(&["status", "--json"]).with(0).json();
    assert_eq!(status["mended"], 3);
}

#[test]
fn a_filter_that_is_taken_off_by_hand_is_put_back() {
    rights::need_root();
    let edge = Edge::new("watchoff");
    edge.configure(RULES, "");
    let controller = edge.start();
    let interface = edge.lab.interface().to_owned();
    let pins = edge.pins();
    assert!(edge.drops(&edge.banned));
    let count = || controller.log().matches("filtered again; it was not").count();

    kit::xdp::detach_pinned_link(&pins.join("link")).unwrap();
    until("the detached link is put back", || count() == 1);
    until_mended(&edge, &interface);
    assert!(edge.drops(&edge.banned));

    fs::remove_dir_all(&pins).unwrap();
    until("the removed pins are put back", || count() == 2);
    until_mended(&edge, &interface);
    assert!(edge.drops(&edge.banned));
    assert!(pins.join("link").exists() && pins.join("program").exists());
    // And its gate has served all the time.
    let get = Get::new((EDGE_V4, GATE), "/live/x").timeout(PATIENCE);
    assert_eq!(get.send(&edge.viewer).unwrap().status, 200);
}

#[test]
fn what_is_missing_at_the_start_is_waited_for_unless_it_is_required() {
    rights::need_root();
    let edge = Edge::new("watchstart");
    edge.configure(RULES, "interface extra0 { required; }\n");
    let said = edge.nicgate(&["run"]).with(3);
    assert!(said.stderr.contains("interface extra0, which is required"), "{said:?}");
    assert!(!edge.site.bpffs().join("nicgate").exists(), "nothing is attached");

    edge.configure(RULES, "interface extra0;\n");
    let _controller = edge.start();
    assert_eq!(edge.alarms(), ["interface-missing"]);
    assert!(edge.drops(&edge.banned), "the other one is filtered");
    edge.lab.edge().batch(ADD).unwrap();
    until_mended(&edge, "extra0");

    // By a reload as well: the table is in force where it can be, and the reply says where it is not.
    edge.configure(RULES, "interface extra0;\ninterface extra9;\n");
    let said = edge.nicgate(&["reload"]).with(0);
    assert!(said.stderr.contains("extra9 is NOT filtered"), "{said:?}");
    assert_eq!(edge.alarms(), ["interface-missing"]);
    assert!(edge.drops(&edge.banned));
}

#[test]
fn an_interface_that_another_program_has_is_an_alarm_until_it_is_free() {
    rights::need_root();
    let edge = with_extra("watchtaken");
    let _controller = edge.start();
    let pin = edge.site.bpffs().join("nicgate/extra0/link");
    edge.lab.edge().batch("link del extra0\nlink add spare0 type veth peer name spare1\n").unwrap();
    until("it is missed", || edge.alarms() == ["interface-missing"]);
    let other = kit::xdp::drop_tagged_natively(edge.lab.edge(), "spare0").unwrap();
    edge.lab.edge().batch("link set spare0 name extra0\n").unwrap();
    until("the other program is named", || {
        let said = edge.nicgate(&["status"]).with(3);
        said.stdout.contains("ALARM not-attached")
            && said.stdout.contains("another XDP program runs on extra0")
    });
    other.detach().unwrap();
    until_mended(&edge, "extra0");
    assert!(pin.exists());
}

#[test]
fn bans_that_are_deleted_from_the_kernel_come_back() {
    rights::need_root();
    let edge = Edge::new("watchbans");
    edge.configure("allow default;", "");
    let controller = edge.start();
    let ban = |prefix: &str| edge.nicgate(&["ban", prefix, "--json"]).with(0).json();
    let ban = || ["203.0.113.0/24", "2001:db8:10::/64"].map(ban);
    ban();
    assert!(edge.drops(&edge.viewer));
    assert!(edge.lose_bans() >= 2);
    assert!(!edge.drops(&edge.viewer));
    assert!(edge.alarms().iter().any(|code| code == "bans-missing"), "what is missing is said at once");
    let again = ban();
    assert!(edge.drops(&edge.viewer), "the same ban again");
    again.iter().for_each(|again| assert_eq!(again["not_in_force"], json!([])));

    assert!(edge.lose_bans() >= 2);
    assert_eq!(edge.reload()["ok"], true);
    assert!(edge.drops(&edge.viewer), "a reload");
    assert_eq!(edge.alarms(), [""; 0]);
    let log = controller.log();
    assert_eq!(log.matches("the kernel's bans were not what they should be").count(), 2, "{log}");
}

#[test]
fn after_a_restart_of_the_machine_the_last_good_configuration_holds() {
    rights::need_root();
    let edge = Edge::new("watchboot");
    let list = |text: &str| edge.site.write("bad.list", text);
    list("198.51.100.66\n2001:db8:66::/64\n");
    edge.configure("deny ip file \"bad.list\";\nallow default;", "");
    // Without anything that was good before, a start fails.
    list("198.51.100.66\nnonsense\n");
    assert!(edge.nicgate(&["run"]).with(1).stderr.contains("bad.list"));
    list("198.51.100.66\n2001:db8:66::/64\n");
    let restart = |controller: kit::nicgate::Controller| {
        assert!(controller.end(libc::SIGTERM).unwrap().success());
        // Nothing is pinned after a restart of the machine.
        let _ = edge.nicgate(&["detach", "--all"]).with(0);
    };
    restart(edge.start());
    let right = fs::read(edge.site.path("nicgate.conf")).unwrap();
    for (broken, alarm, words) in [
        ("emptied", "list-refused", "`bad.list` is refused: it has no entry any more, and had 2"),
        ("bad.list", "list-refused", "`bad.list` is refused: 1 line of it cannot be read"),
        ("", "list-refused", "`bad.list` is refused: No such file"),
        ("nicgate.conf", "reload-failed", "the last good configuration is enforced"),
    ] {
        match broken {
            "emptied" => drop(list("# nothing\n")),
            "" => fs::remove_file(edge.site.path("bad.list")).unwrap(),
            broken => drop(edge.site.write(broken, "198.51.100.66\nnonsense\n")),
        }
        let controller = edge.start();
        assert!(edge.drops(&edge.banned), "{broken:?}");
        assert!(!edge.drops(&edge.viewer));
        assert_eq!(edge.alarms(), [alarm], "{broken:?}");
        assert!(edge.nicgate(&["status"]).with(3).stdout.contains(&format!("ALARM {alarm}")));
        restart(controller);
        // And so does `attach`, at early boot.
        let said = edge.nicgate(&["attach"]).with(0);
        assert!(said.stderr.contains(words), "{said:?}");
        let socket = edge.receiver(GUARD);
        knock(&edge.banned, GUARD, b"denied");
        knock(&edge.viewer, GUARD, b"last");
        assert_eq!(arrivals(&socket, b"last"), []);
        let _ = edge.nicgate(&["detach", "--all"]).with(0);
    }
    fs::write(edge.site.path("nicgate.conf"), right).unwrap();
    // What is right again is taken, by a reload or a start, and is the last good one from then on.
    list("203.0.113.10\n2001:db8:10::/64\n");
    let controller = edge.start();
    assert_eq!(edge.alarms(), [""; 0]);
    assert!(edge.drops(&edge.viewer));
    list("198.51.100.66\n2001:db8:66::/64\n");
    assert_eq!(edge.reload()["ok"], true);
    restart(controller);
    list("nonsense");
    let _controller = edge.start();
    assert!(edge.drops(&edge.banned) && !edge.drops(&edge.viewer));
}
