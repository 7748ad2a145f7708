//! One controller takes over from another: what goes over, and what happens when it does not come to that.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command, thread, time::Duration};

use filter_user::{
    control::{Channel, Client},
    operations::{HandingOver, Heir, Reply, Request},
};
use kit::{
    edge::{BANNED, Edge, GUARD, RULES, VIEWER, arrivals, knock},
    nicgate::{Controller, PATIENCE, Stray, binary, until},
    rights,
};
use serde_json::{Value, json};

/// Starts a controller that takes over from the one that runs.
#[track_caller]
fn replace(edge: &Edge) -> Controller {
    let command = edge.site.command_in(edge.lab.edge(), &["run", "--replace"]);
    edge.site.start_command(edge.lab.edge(), command).unwrap_or_else(|error| panic!("{error:#}"))
}

/// The process that answers.
#[track_caller]
fn pid(edge: &Edge) -> u64 {
    let status = edge.nicgate(&["status", "--json"]).json();
    status["controller"]["pid"].as_u64().unwrap_or_else(|| panic!("{status}"))
}

/// That everything is in force which [`RULES`] say, by the process of this number.
#[track_caller]
fn in_force(edge: &Edge, process: u64) {
    assert_eq!(pid(edge), process);
    assert_eq!(edge.alarms(), Vec::<String>::new());
    assert!(edge.drops(&edge.banned));
    assert_eq!(edge.get(&edge.viewer, "/live/x").unwrap().status, 200);
    assert_eq!(edge.get(&edge.viewer, "/live/x?token=bad").unwrap().status, 403);
    let before = edge.dropped_by("deny ip 198.51.100.66").unwrap();
    knock(&edge.banned, GUARD, b"x");
    until("it is dropped", || edge.dropped_by("deny ip 198.51.100.66").unwrap() > before);
}

#[test]
fn what_is_in_force_goes_over_and_the_former_process_finishes_and_ends() {
    rights::need_root();
    let edge = Edge::new("over");
    edge.configure(RULES, "");
    let mut former = edge.start();
    let fetch = edge.fetch(&edge.viewer);
    for prefix in ["203.0.113.0/26", "2001:db8:10::/64"] {
        let said = edge.nicgate(&["ban", prefix, "--reason", "before", "--service", "9998/udp"]).with(0);
        assert!(said.stderr.is_empty(), "{said:?}");
    }
    let program = edge.status()["program"].clone();
    let mut monitor = edge.site.command_in(edge.lab.edge(), &["monitor"]).spawn().unwrap();
    let next = replace(&edge);
    assert!(next.log().contains("\"adopted\":true"), "{}", next.log());
    assert_ne!(edge.status()["program"], program, "its own program, perhaps of another version");
    // What was made before holds, at the gate and at the network card.
    let bans = edge.nicgate(&["bans", "--json"]).with(0).json();
    assert_eq!(
        (&bans["bans"][0]["reason"], &bans["bans"][1]["reason"]),
        (&json!("before"), &json!("before"))
    );
    let socket = edge.receiver(GUARD);
    knock(&edge.viewer, GUARD, b"banned");
    let _ = edge.nicgate(&["unban", "--all"]).with(0);
    knock(&edge.viewer, GUARD, b"last");
    assert_eq!(arrivals(&socket, b"last"), []);
    in_force(&edge, pid(&edge));
    assert_eq!(edge.reload()["ok"], true);
    // Whoever watched is told that there is nothing more to come.
    assert_eq!(monitor.wait().unwrap().code(), Some(3));
    assert!(former.process().child().try_wait().unwrap().is_none(), "it waits for the transfer");
    drop(fetch);
    let status = former.process().wait(PATIENCE).unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "{}", former.log());
    assert!(edge.site.socket().exists(), "it is the other's");
    in_force(&edge, pid(&edge));
    assert!(next.end(libc::SIGTERM).unwrap().success());
    assert!(!edge.site.socket().exists());
}

#[test]
fn without_a_controller_it_is_a_start_like_any_other() {
    rights::need_root();
    let edge = Edge::new("alone");
    edge.configure(RULES, "");
    let controller = replace(&edge);
    in_force(&edge, pid(&edge));
    // A socket that a dead process left is no controller.
    let _ = controller.end(libc::SIGKILL).unwrap();
    let controller = replace(&edge);
    in_force(&edge, pid(&edge));
    drop(controller);
}

/// Runs `run --replace`, which has to fail with this status; what it says.
#[track_caller]
fn fails(edge: &Edge, status: i32) -> String {
    edge.nicgate(&["run", "--replace"]).with(status).stderr
}

#[test]
fn a_next_process_that_fails_leaves_everything_as_it_was() {
    rights::need_root();
    let edge = Edge::new("fails");
    edge.configure(RULES, "");
    let former = edge.start();
    let process = pid(&edge);
    let _ = edge.nicgate(&["ban", "192.0.2.77"]).with(0);

    // Before anything was left to it.
    edge.site.configure("gate 80 {");
    assert!(fails(&edge, 1).contains("unclosed-block"));
    edge.configure(RULES, "");
    let elsewhere = edge.nicgate(&["run", "--replace", "--state", "other.json"]).with(3);
    assert!(elsewhere.stderr.contains("keeps its bans in"), "{elsewhere:?}");
    in_force(&edge, process);

    // After everything was left to it: filters and bans are taken back.
    edge.configure(RULES, "interface nosuch0 { required; }\n");
    let said = fails(&edge, 3);
    assert!(said.contains("nosuch0"), "{said}");
    assert!(former.log().contains("not handed over, this process goes on"), "{}", former.log());
    edge.configure(RULES, "");
    in_force(&edge, process);
    assert_eq!(edge.nicgate(&["bans", "--json"]).with(0).json()["bans"][0]["prefix"], "192.0.2.77/32");
    for address in VIEWER {
        let banned = edge.nicgate(&["ban", address]).with(0);
        assert!(banned.stderr.is_empty(), "{banned:?}");
    }
    assert!(edge.drops(&edge.viewer));
    for address in VIEWER {
        let _ = edge.nicgate(&["unban", address]).with(0);
    }
    // Nothing is locked that a controller needs, and it still watches.
    edge.lab
        .edge()
        .run(|| fs::remove_file(edge.site.bpffs().join("nicgate").join(edge.lab.interface()).join("link")))
        .unwrap();
    until("it is put right", || {
        edge.alarms().is_empty()
            && edge.site.bpffs().join("nicgate").join(edge.lab.interface()).join("link").exists()
    });
    in_force(&edge, process);
    let next = replace(&edge);
    in_force(&edge, pid(&edge));
    assert_ne!(pid(&edge), process);
    drop((former, next));
}

/// Asks the controller to hand over.
fn ask(edge: &Edge, protocol: u32) -> (Reply<HandingOver>, Option<Channel>) {
    let client = Client::connect(&edge.site.socket()).unwrap().unwrap();
    let heir = Heir { protocol, version: "9.9.9".to_owned(), state: edge.site.state().join("bans.json") };
    let (reply, channel) = client.ask_for_descriptor(&Request::HandOver(heir)).unwrap();
    (reply, channel.map(|channel| Channel::new(channel).unwrap()))
}

#[tokio::test]
async fn a_next_process_that_breaks_off_at_any_step_leaves_everything_as_it_was() {
    rights::need_root();
    let edge = Edge::new("breaks");
    edge.configure(RULES, "");
    let former = edge.start();
    let process = pid(&edge);
    let (refused, channel) = ask(&edge, 99);
    assert!(!refused.ok && channel.is_none() && refused.message.contains("version 9.9.9"), "{refused:?}");
    for steps in 0..3 {
        let ended = Command::new(env!("CARGO_BIN_EXE_half-heir"))
            .args([edge.site.socket(), edge.site.state().join("bans.json"), PathBuf::from(steps.to_string())])
            .output()
            .unwrap();
        assert!(ended.status.success(), "{ended:?}");
        until("the attempt is over", || former.log().matches("not handed over").count() == steps + 2);
        in_force(&edge, process);
        assert_eq!(edge.reload()["ok"], true);
    }
    // What comes at the wrong time, or is nothing at all, ends the attempt, too.
    for wrong in [json!("commit"), json!("serving"), json!({"abandon": {"why": "reasons"}}), json!(7)] {
        let count = former.log().matches("not handed over").count();
        let (_, channel) = ask(&edge, 1);
        channel.unwrap().send(&wrong, &[]).await.unwrap();
        until("the attempt is over", || former.log().matches("not handed over").count() > count);
    }
    in_force(&edge, process);
    drop(former);
}

#[test]
fn an_upgrade_starts_the_program_that_is_there_now() {
    rights::need_root();
    let edge = Edge::new("upgrade");
    edge.configure(RULES, "");
    let (link, copies) = (edge.site.path("nicgate"), ["one", "two"].map(|name| edge.site.path(name)));
    for copy in &copies {
        fs::copy(binary(), copy).unwrap();
    }
    symlink(&copies[0], &link).unwrap();
    let mut command = edge.lab.edge().command(&link);
    command.arg("run");
    let mut former = edge.site.start_command(edge.lab.edge(), edge.site.prepared(command)).unwrap();
    let process = pid(&edge);
    let exe = |pid: u64| fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert_eq!(exe(process), copies[0]);

    // One that does not even start, and one that is something else.
    fs::remove_file(&link).unwrap();
    let said = edge.nicgate(&["upgrade"]).with(3);
    assert!(said.stderr.contains("nothing has changed: cannot start"), "{said:?}");
    symlink("/bin/false", &link).unwrap();
    let said = edge.nicgate(&["upgrade"]).with(3);
    assert!(said.stderr.contains("it ended before it could ask"), "{said:?}");
    // A configuration that is wrong.
    fs::remove_file(&link).unwrap();
    symlink(&copies[1], &link).unwrap();
    edge.site.configure("gate 80 {");
    let said = edge.nicgate(&["upgrade"]).with(3);
    assert!(said.stderr.contains("unclosed-block"), "{said:?}");
    edge.configure(RULES, "");
    in_force(&edge, process);

    let upgraded = edge.nicgate(&["upgrade", "--json"]).with(0).json();
    let next = upgraded["pid"].as_i64().unwrap();
    let next_process = Stray::new(i32::try_from(next).unwrap());
    assert_eq!(upgraded["former"].as_u64(), Some(process));
    assert_eq!(upgraded["version"], env!("CARGO_PKG_VERSION"));
    in_force(&edge, next.unsigned_abs());
    assert_eq!(exe(next.unsigned_abs()), copies[1]);
    assert_eq!(former.process().wait(PATIENCE).unwrap().unwrap().code(), Some(0));

    // By a signal, and the upgraded one can be upgraded.
    next_process.signal(rustix::process::Signal::USR2).unwrap();
    until("another one answers", || pid(&edge) != next.unsigned_abs());
    let third = pid(&edge);
    let _third = Stray::new(i32::try_from(third).unwrap());
    in_force(&edge, third);
}

#[test]
fn a_process_that_is_told_to_stop_holds_nothing_that_another_one_needs() {
    rights::need_root();
    let edge = Edge::new("stops");
    edge.configure(RULES, "");
    let _ = edge.nicgate(&["ban", BANNED[0]]);
    let mut former = edge.start();
    let _ = edge.nicgate(&["ban", BANNED[0]]).with(0);
    let fetch = edge.fetch(&edge.viewer);
    former.process().signal(libc::SIGTERM).unwrap();
    until("it drains", || edge.get(&edge.viewer, "/live/x").is_err());
    let next = edge.start();
    assert!(former.process().child().try_wait().unwrap().is_none(), "it still waits for the transfer");
    in_force(&edge, pid(&edge));
    assert!(fetch.finish(), "the whole file came");
    assert_eq!(former.process().wait(PATIENCE).unwrap().unwrap().code(), Some(0));
    in_force(&edge, pid(&edge));
    drop(next);
}

#[test]
fn commands_that_come_in_between_reach_whoever_is_the_owner() {
    rights::need_root();
    let edge = Edge::new("between");
    edge.configure(RULES, "");
    let mut controllers = vec![edge.start()];
    let mut expected = Vec::new();
    for round in 0..3u8 {
        thread::scope(|scope| {
            let orders: Vec<_> = (0..8u8)
                .map(|number| {
                    let edge = &edge;
                    scope.spawn(move || {
                        let prefix = format!("192.0.2.{}", 100 + 10 * round + number);
                        thread::sleep(Duration::from_millis(u64::from(number) * 15));
                        (edge.nicgate(&["ban", &prefix]), format!("{prefix}/32"))
                    })
                })
                .collect();
            controllers.push(replace(&edge));
            for order in orders {
                let (said, prefix) = order.join().unwrap();
                let _ = said.with(0);
                expected.push(prefix);
            }
        });
    }
    let bans = edge.nicgate(&["bans", "--json"]).with(0).json();
    let mut bans: Vec<&str> =
        bans["bans"].as_array().unwrap().iter().map(|ban| ban["prefix"].as_str().unwrap()).collect();
    bans.sort_unstable();
    expected.sort_unstable();
    assert_eq!(bans, expected, "none was lost");
    assert_eq!(edge.alarms(), Vec::<String>::new());
}

#[test]
fn sessions_go_over_with_those_who_were_sent_away() {
    rights::need_root();
    let edge = Edge::new("over-sessions");
    edge.configure(RULES, "");
    let _former = edge.start();
    let list =
        || edge.nicgate(&["sessions", "--json"]).with(0).json()["sessions"].as_array().unwrap().clone();
    let own = |list: &[Value]| -> Vec<Value> {
        list.iter().map(|one| json!([one["id"], one["token"], one["address"], one["opened_at"]])).collect()
    };
    assert_eq!(edge.get(&edge.viewer, "/live/x?token=good").unwrap().status, 200);
    let kicked = list()[0]["id"].as_str().unwrap().to_owned();
    let _ = edge.nicgate(&["sessions", "kick", &kicked, "--ban", "10m"]).with(0);
    // nicgate gave this player's token, and has to know it again.
    assert_eq!(edge.get(&edge.viewer, "/live/x").unwrap().status, 200);
    let before = own(&list());
    assert_eq!(before.len(), 1, "{before:?}");
    let next = replace(&edge);
    assert!(next.log().contains("the sessions of the former process go on"), "{}", next.log());
    assert_eq!(own(&list()), before);
    let answer = edge.get(&edge.viewer, "/live/x?token=good").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (403, "denied: kicked\n"));
    assert_eq!(edge.get(&edge.viewer, "/live/x").unwrap().status, 200);
    assert_eq!(own(&list()), before, "it is the same viewer");
}
