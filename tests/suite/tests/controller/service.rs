//! The controller as a service of systemd's: it says when it is ready, and its listening sockets outlive it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv6Addr, TcpListener, TcpStream},
    process::Command,
};

use kit::{
    edge::{Edge, GATE, RULES},
    netns::EDGE_V4,
    nicgate::{Controller, PATIENCE, Stray, until},
    rights,
    service_manager::ServiceManager,
};

/// Starts the service with this command.
#[track_caller]
fn start(edge: &Edge, command: Command) -> Controller {
    edge.site.start_command(edge.lab.edge(), command).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Connects to the gate and asks, without waiting for an answer.
#[track_caller]
fn knock(edge: &Edge) -> TcpStream {
    let mut stream = edge.viewer.run(|| TcpStream::connect((EDGE_V4, GATE))).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /live/x HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

#[track_caller]
fn answered(mut stream: TcpStream) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn nobody_is_refused_while_no_process_runs() {
    rights::need_root();
    let edge = Edge::new("store");
    edge.configure(RULES, "");
    let mut manager = ServiceManager::new(&edge.site);
    let service = start(&edge, manager.command(&edge.site, edge.lab.edge(), &["run"]));
    manager.until("READY=1");
    manager.until("FDSTORE=1");
    answered(knock(&edge));
    let _ = service.end(libc::SIGKILL).unwrap();
    for round in 0..3 {
        // The filter enforces meanwhile, and those who are not dropped wait.
        assert!(edge.drops(&edge.banned), "{round}");
        let waiting: Vec<TcpStream> = (0..3).map(|_| knock(&edge)).collect();
        let service = start(&edge, manager.command(&edge.site, edge.lab.edge(), &["run"]));
        waiting.into_iter().for_each(answered);
        assert_eq!(edge.alarms(), Vec::<String>::new());
        manager.catch_up();
        assert_eq!(manager.store.len(), 1, "the one socket, once: {:?}", manager.store);
        assert!(service.end(libc::SIGTERM).unwrap().success());
        manager.until("STOPPING=1");
    }
    // Without what was kept, as after a stop that is none of a restart, nobody listens.
    manager.store.clear();
    let refused = edge.viewer.run(|| TcpStream::connect((EDGE_V4, GATE))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn what_is_kept_follows_the_configuration() {
    rights::need_root();
    let edge = Edge::new("kept");
    let other = GATE + 1;
    edge.configure(RULES, &edge.gate(other));
    let mut manager = ServiceManager::new(&edge.site);
    let service = start(&edge, manager.command(&edge.site, edge.lab.edge(), &["run"]));
    let names = |manager: &ServiceManager| {
        let mut names: Vec<String> = manager.store.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    };
    until("both are kept", || {
        manager.catch_up();
        names(&manager) == ["8000/tcp", "8001/tcp"]
    });
    // A socket that is kept listens: what no gate serves must not be.
    edge.configure(RULES, "");
    assert_eq!(edge.reload()["ok"], true);
    until("one is kept", || {
        manager.catch_up();
        names(&manager) == ["8000/tcp"]
    });
    let refused = edge.viewer.run(|| TcpStream::connect((EDGE_V4, other))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    // The same while no process runs that could say so: what comes back and is not wanted goes.
    let _ = service.end(libc::SIGKILL).unwrap();
    edge.site.configure(&edge.text(RULES, "").replace(&edge.gate(GATE), ""));
    let service = start(&edge, manager.command(&edge.site, edge.lab.edge(), &["run"]));
    assert!(service.log().contains("on which no gate listens"), "{}", service.log());
    until("none is kept", || {
        manager.catch_up();
        manager.store.is_empty()
    });
    let refused = edge.viewer.run(|| TcpStream::connect((EDGE_V4, GATE))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_socket_unit_listens_for_a_gate() {
    rights::need_root();
    let edge = Edge::new("unit");
    edge.configure(RULES, "");
    let mut manager = ServiceManager::new(&edge.site);
    let listener = edge.lab.edge().run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, GATE))).unwrap();
    manager.store.push(("nicgate.socket".to_owned(), listener.into()));
    // Before anything runs.
    let waiting = knock(&edge);
    let service = start(&edge, manager.command(&edge.site, edge.lab.edge(), &["run"]));
    answered(waiting);
    assert_eq!(edge.alarms(), Vec::<String>::new(), "no second socket was needed");
    assert!(service.end(libc::SIGTERM).unwrap().success());
}

#[test]
fn the_process_that_takes_over_is_the_service() {
    rights::need_root();
    let edge = Edge::new("main");
    edge.configure(RULES, "");
    let mut manager = ServiceManager::new(&edge.site);
    let mut former = start(&edge, manager.command(&edge.site, edge.lab.edge(), &["run"]));
    manager.until("FDSTORE=1");
    manager.said.clear();
    // What is passed to one process is not passed on to those that it starts.
    let environment = fs::read(format!("/proc/{}/environ", former.process().id())).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("LISTEN_FDS"));
    let upgraded = edge.nicgate(&["upgrade", "--json"]).with(0).json();
    let next = upgraded["pid"].as_i64().unwrap();
    let _next = Stray::new(i32::try_from(next).unwrap());
    manager.until("READY=1");
    let order: Vec<&String> =
        manager.said.iter().filter(|line| line.starts_with("MAINPID=") || *line == "READY=1").collect();
    assert_eq!(
        order,
        [&format!("MAINPID={next}"), &"READY=1".to_owned()],
        "it can speak for the service when it is its main process"
    );
    let environment = fs::read(format!("/proc/{next}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("LISTEN_"));
    until("the socket is kept once", || {
        manager.catch_up();
        manager.said.iter().any(|line| line == "FDSTORE=1")
    });
    assert_eq!(manager.store.len(), 1, "{:?}", manager.store);
    answered(knock(&edge));
}
