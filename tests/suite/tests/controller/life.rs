//! How a controller ends and what it leaves: the filter goes on enforcing, and the next one takes it over.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use aya::programs::links::{FdLink, PinnedLink};
use kit::{
    edge::{Edge, GUARD, RULES, arrivals, knock},
    nicgate::{PATIENCE, until},
    rights,
};
use serde_json::Value;

/// The id of the link that holds the program in place.
fn pinned_link(edge: &Edge) -> u32 {
    let pin = edge.site.bpffs().join("nicgate").join(edge.lab.interface()).join("link");
    let link: FdLink = PinnedLink::from_pin(&pin).unwrap().into();
    link.info().unwrap().id()
}

#[test]
fn a_request_in_hand_finishes_when_the_controller_is_told_to_stop() {
    rights::need_root();
    let edge = Edge::new("drain");
    edge.configure(RULES, "");
    let mut controller = edge.start();
    let fetch = edge.fetch(&edge.viewer);
    controller.process().signal(libc::SIGTERM).unwrap();
    until("it drains", || controller.log().contains("stopping"));
    // No new connections, and nobody is told anything any more.
    until("the gate is closed", || edge.get(&edge.viewer, "/live/x").is_err());
    assert!(!edge.site.socket().exists());
    assert!(controller.process().child().try_wait().unwrap().is_none(), "it waits for the request");
    assert!(fetch.finish(), "the whole file came");
    let status = controller.process().wait(PATIENCE).unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "{}", controller.log());
    // The filter stays.
    let status = edge.nicgate(&["status", "--json"]).with(0).json();
    assert_eq!(status["controller"]["running"], false);
    assert_eq!(status["interfaces"][0]["mode"], "native");
    let before = edge.dropped_by("deny ip 198.51.100.66").unwrap();
    knock(&edge.banned, GUARD, b"x");
    until("it is dropped", || edge.dropped_by("deny ip 198.51.100.66").unwrap() > before);
}

#[test]
fn who_asks_twice_does_not_wait() {
    rights::need_root();
    let edge = Edge::new("twice");
    edge.configure(RULES, "");
    let mut controller = edge.start();
    let fetch = edge.fetch(&edge.viewer);
    controller.process().signal(libc::SIGINT).unwrap();
    until("it drains", || controller.log().contains("stopping"));
    controller.process().signal(libc::SIGINT).unwrap();
    let status = controller.process().wait(PATIENCE).unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "{}", controller.log());
    assert!(controller.log().contains("stopping at once"));
    assert!(!fetch.finish());
}

#[test]
fn a_killed_controller_leaves_no_gap_and_the_next_one_makes_none() {
    rights::need_root();
    let edge = Edge::new("killed");
    edge.configure(RULES, "");
    let controller = edge.start();
    let socket = edge.receiver(GUARD);
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let rule = "deny ip 198.51.100.66";
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                knock(&edge.banned, GUARD, b"denied");
                sent.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let more = |than: u64| {
                until("the rule drops more", || edge.dropped_by(rule).is_some_and(|count| count > than + 50));
                edge.dropped_by(rule).unwrap()
            };
            let counted = more(0);
            let link = pinned_link(&edge);
            let program = edge.status()["program"].clone();
            assert!(program.is_u64());

            let killed = controller.end(libc::SIGKILL).unwrap();
            assert_eq!(killed.code(), None);
            let counted = more(counted);
            // Nobody listens on the socket that the dead one left.
            assert!(edge.site.socket().exists());
            let status = edge.nicgate(&["status", "--json"]).with(0).json();
            assert_eq!(status["controller"]["running"], false);
            assert_eq!(status["interfaces"][0]["program"], program);
            assert!(edge.nicgate(&["status"]).with(0).stdout.contains("not running; the filter goes on"));
            let stats = edge.nicgate(&["stats", "--json"]).with(0).json();
            assert_eq!(stats["gates"], Value::Null);
            assert!(edge.nicgate(&["stats"]).with(0).stdout.contains(rule));
            assert!(edge.nicgate(&["reload"]).with(3).stderr.contains("no controller answers"));

            let again = edge.start();
            assert!(again.log().contains("\"adopted\":true"), "{}", again.log());
            assert_eq!(pinned_link(&edge), link, "the same link");
            assert!(edge.dropped_by(rule).unwrap() >= counted, "counters go on");
            more(edge.dropped_by(rule).unwrap());
            assert_eq!(edge.get(&edge.viewer, "/live/a").unwrap().status, 200);
            assert!(again.end(libc::SIGTERM).unwrap().success());
            more(edge.dropped_by(rule).unwrap());
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = checked {
            std::panic::resume_unwind(panic);
        }
    });
    knock(&edge.viewer, GUARD, b"last");
    let passed = arrivals(&socket, b"last");
    assert_eq!(passed, [], "of {} datagrams", sent.load(Ordering::Relaxed));
}

#[test]
fn attach_and_detach_need_no_controller() {
    rights::need_root();
    let edge = Edge::new("attach");
    edge.configure(RULES, "");
    let said = edge.nicgate(&["attach"]).with(0);
    assert!(said.stdout.contains("attached (native)"), "{said:?}");
    let socket = edge.receiver(GUARD);
    knock(&edge.banned, GUARD, b"denied");
    knock(&edge.viewer, GUARD, b"last");
    assert_eq!(arrivals(&socket, b"last"), []);
    assert!(edge.dropped_by("deny ip 198.51.100.66").unwrap() > 0);
    // Again is an update, of the table and of nothing else.
    let generation = edge.status()["generation"].as_u64().unwrap();
    let link = pinned_link(&edge);
    let again = edge.nicgate(&["attach", edge.lab.interface(), "--json"]).with(0).json();
    assert_eq!(again["interfaces"][0]["adopted"], true);
    assert_eq!(edge.status()["generation"], generation + 1);
    assert_eq!(pinned_link(&edge), link);
    // A controller owns its interfaces.
    let controller = edge.start();
    assert!(edge.nicgate(&["attach"]).with(1).stderr.contains("a controller runs"));
    assert!(controller.end(libc::SIGTERM).unwrap().success());

    let said = edge.nicgate(&["detach", edge.lab.interface()]).with(0);
    assert_eq!(said.stdout, format!("{}: detached\n", edge.lab.interface()));
    // The kernel lets go of an unpinned link a moment later.
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    until("the filter is off", || {
        knock(&edge.banned, GUARD, b"denied");
        socket.recv_from(&mut [0; 64]).is_ok()
    });
    while socket.recv_from(&mut [0; 64]).is_ok() {}
    knock(&edge.banned, GUARD, b"denied");
    knock(&edge.viewer, GUARD, b"last");
    assert_eq!(arrivals(&socket, b"last").len(), 2, "both families pass now");
    assert!(!edge.site.bpffs().join("nicgate").exists(), "no pins are left");
    assert!(edge.nicgate(&["status"]).with(3).stdout.contains("no interface is filtered"));
    let _ = edge.nicgate(&["detach", edge.lab.interface()]).with(1);
    let _ = edge.nicgate(&["detach", "--all"]).with(0);
}

#[test]
fn an_interface_that_is_gone_hides_no_other() {
    rights::need_root();
    let edge = Edge::new("gone");
    edge.lab.edge().batch("link add extra0 type veth peer name extra1\n").unwrap();
    edge.configure(RULES, "interface extra0;\n");
    let _ = edge.nicgate(&["attach"]).with(0);
    edge.lab.edge().batch("link del extra0\n").unwrap();
    let status = edge.nicgate(&["status", "--json"]).with(3).json();
    let interfaces = status["interfaces"].as_array().unwrap();
    let of = |name: &str| interfaces.iter().find(|each| each["interface"] == name).unwrap();
    assert!(of("extra0")["error"].as_str().unwrap().contains("no interface extra0"), "{status}");
    assert_eq!(of(edge.lab.interface())["mode"], "native");
    let stats = edge.nicgate(&["stats", "--json"]).with(0);
    assert_eq!(stats.json()["interfaces"].as_array().unwrap().len(), 1);
    assert!(stats.stderr.contains("extra0"), "{stats:?}");
    let _ = edge.nicgate(&["detach", "extra0"]).with(0);
    assert_eq!(edge.nicgate(&["status", "--json"]).with(0).json()["interfaces"].as_array().unwrap().len(), 1);
}

#[test]
fn a_controller_whose_log_nobody_reads_goes_on() {
    rights::need_root();
    let edge = Edge::new("nolog");
    edge.configure(RULES, "");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = edge.site.command_in(edge.lab.edge(), &["run"]);
    let mut process = edge.lab.edge().start(command.stderr(writer)).unwrap();
    // Its own copy of the writer goes with the command.
    drop(command);
    drop(reader);
    until("it serves", || edge.control(b"{\"command\":\"status\"}\n").is_ok());
    for turn in 0..3 {
        assert_eq!(edge.reload()["ok"], true, "{turn}");
        assert_eq!(edge.get(&edge.viewer, "/live/x").unwrap().status, 200, "{turn}");
    }
    assert!(edge.drops(&edge.banned));
    process.signal(libc::SIGTERM).unwrap();
    assert_eq!(process.wait(PATIENCE).unwrap().unwrap().code(), Some(0));
}

#[test]
fn of_controllers_that_start_together_one_runs() {
    rights::need_root();
    let edge = Edge::new("race");
    edge.configure(RULES, "");
    let mut racers: Vec<_> = (0..5)
        .map(|_| {
            let mut command = edge.site.command_in(edge.lab.edge(), &["run"]);
            edge.lab.edge().start(command.stderr(Stdio::null()).stdout(Stdio::null())).unwrap()
        })
        .collect();
    until("all but one have ended", || {
        let ended = racers.iter_mut().map(|racer| racer.child().try_wait().unwrap().is_some());
        ended.filter(|ended| *ended).count() == 4
    });
    for racer in &mut racers {
        if let Some(status) = racer.child().try_wait().unwrap() {
            assert_eq!(status.code(), Some(3));
        }
    }
    until("the one serves", || edge.control(b"{\"command\":\"status\"}\n").is_ok());
    assert!(edge.drops(&edge.banned));
    assert_eq!(edge.status()["generation"], 1, "the others touched nothing");
}

#[test]
fn a_lab_leaves_nothing_behind() {
    rights::need_root();
    let (directory, names) = {
        let edge = Edge::new("traces");
        edge.configure(RULES, "");
        let _controller = edge.start();
        (edge.site.path(""), edge.lab.namespaces().to_vec())
    };
    assert!(!directory.exists());
    for name in names {
        assert!(!Path::new("/run/netns").join(name).exists());
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(directory.to_str().unwrap().trim_end_matches('/')));
    let own = std::process::id().to_string();
    let children = Command::new("ps").args(["--ppid", &own, "-o", "comm="]).output();
    if let Ok(children) = children {
        assert!(!String::from_utf8_lossy(&children.stdout).contains("nicgate"));
    }
}
