//! The harness itself: what the other tests take for granted about its networks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use kit::{
    frame::{Transport, frame},
    http::Get,
    netns::{self, EDGE_V4, EDGE_V6, Lab, Namespace},
    rights,
    server::Server,
    xdp,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn exists(namespace: &str) -> bool {
    Path::new("/run/netns").join(namespace).exists()
}

fn hello(namespace: &Namespace, address: IpAddr) -> Server {
    Server::start(namespace, (address, 0), |_| Response::new(Full::new(Bytes::from("hello")))).unwrap()
}

/// A datagram socket of the edge, and where it is.
fn listener(lab: &Lab, address: &str) -> UdpSocket {
    let socket = lab.edge().run(|| UdpSocket::bind((ip(address), 0))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// Where the next datagram comes from.
#[track_caller]
fn sender(socket: &UdpSocket) -> SocketAddr {
    socket.recv_from(&mut [0; 64]).unwrap().1
}

#[test]
fn the_edge_sees_each_client_at_the_address_that_it_chose() {
    rights::need_root();
    let mut lab = Lab::new("sources").unwrap();
    let hosts: [(&str, &[&str]); 2] = [
        ("one", &["198.51.100.7", "198.51.100.8", "2001:db8:100::7"]),
        ("two", &["203.0.113.9", "2001:db8:200::9"]),
    ];
    for (name, addresses) in hosts {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| ip(address)).collect();
        let host = lab.client(name, &addresses).unwrap();
        for source in addresses {
            let edge = if source.is_ipv4() { IpAddr::from(EDGE_V4) } else { EDGE_V6.into() };
            let socket = listener(&lab, &edge.to_string());
            let to = socket.local_addr().unwrap();
            host.run(|| UdpSocket::bind((source, 0)).unwrap().send_to(b"x", to)).unwrap();
            assert_eq!(sender(&socket).ip(), source, "{name}");
            let server = hello(lab.edge(), edge);
            let response = Get::new(server.address(), "/").from(source).send(&host).unwrap();
            assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{name} at {source}");
        }
    }
}

#[test]
fn a_frame_made_by_hand_arrives_whatever_its_source_and_tags() {
    rights::need_root();
    let lab = Lab::new("frames").unwrap();
    let wire = lab.wire().unwrap();
    for (tags, edge, source) in [
        (&[][..], "192.0.2.1", "198.51.100.200:5000"),
        (&[], "2001:db8::1", "[2001:db8:dead::1]:5000"),
        // The one tag that a host without VLAN interfaces takes in: a priority, and no network.
        (&[0], "192.0.2.1", "203.0.113.77:6000"),
        (&[0], "2001:db8::1", "[2001:db8:dead::2]:6000"),
    ] {
        let socket = listener(&lab, edge);
        let source: SocketAddr = source.parse().unwrap();
        // The kernel delivers a datagram only when its checksums are right.
        wire.send(&frame(tags, source, socket.local_addr().unwrap(), Transport::Udp)).unwrap();
        assert_eq!(sender(&socket), source, "tags {tags:?}");
    }
}

#[test]
fn a_program_runs_natively_on_the_edge_and_sees_the_tags_in_the_frames() {
    rights::need_root();
    let mut lab = Lab::new("native").unwrap();
    let client = lab.client("plain", &[ip("198.51.100.7")]).unwrap();
    let server = hello(lab.edge(), EDGE_V4.into());
    let get = Get::new(server.address(), "/");
    let (wire, socket) = (lab.wire().unwrap(), listener(&lab, "192.0.2.1"));
    let send = |tags: &[u16], port: u16| {
        let source = SocketAddr::new(ip("203.0.113.77"), port);
        wire.send(&frame(tags, source, socket.local_addr().unwrap(), Transport::Udp)).unwrap();
    };
    let program = xdp::drop_tagged_natively(lab.edge(), lab.interface()).unwrap();
    assert_eq!(get.send(&client).unwrap().status, 200);
    // The wire keeps the order, so the second arrives first only if the first was dropped.
    send(&[0], 1);
    send(&[], 2);
    assert_eq!(sender(&socket).port(), 2, "a tagged frame passed a program that drops them");
    program.detach().unwrap();
    send(&[0], 3);
    assert_eq!(sender(&socket).port(), 3, "the program is still attached");
}

#[test]
fn a_request_that_nobody_answers_times_out_and_one_that_is_refused_says_so() {
    rights::need_root();
    let mut lab = Lab::new("timeout").unwrap();
    let client = lab.client("one", &[ip("198.51.100.7")]).unwrap();
    let refused = Get::new((EDGE_V4, 9), "/").send(&client).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    // The address after the edge's is on its link and nobody's.
    let nobody = Get::new(([192, 0, 2, 3], 80), "/").timeout(Duration::from_millis(200));
    assert!(nobody.send(&client).is_err());
    // A listener that takes connections and says nothing.
    let mute = lab.edge().run(|| std::net::TcpListener::bind((EDGE_V4, 0))).unwrap();
    let silent = Get::new(mute.local_addr().unwrap(), "/").timeout(Duration::from_millis(200)).send(&client);
    assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[test]
fn nothing_is_left_of_a_lab_after_a_panic() {
    rights::need_root();
    let mut names = Vec::new();
    let mut process = None;
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut lab = Lab::new("panic").unwrap();
        lab.client("one", &[ip("198.51.100.7")]).unwrap();
        names = lab.namespaces().to_vec();
        process = Some(lab.edge().command("sleep").arg("1000").spawn().unwrap());
        assert!(names.iter().all(|name| exists(name)), "{names:?}");
        panic!("as a failed test does");
    }));
    assert!(outcome.is_err());
    assert_eq!(names.len(), 3);
    assert!(!names.iter().any(|name| exists(name)), "{names:?}");
    assert!(!process.unwrap().wait().unwrap().success(), "a process that ran inside was ended");
}

#[test]
fn what_a_dead_process_left_is_swept_and_what_a_live_one_uses_is_not() {
    rights::need_root();
    let mut gone = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
    gone.wait().unwrap();
    let left = format!("nicgate-{}-0-left-edge", gone.id());
    let add = Command::new("ip").args(["netns", "add", &left]).status().unwrap();
    assert!(add.success());
    let lab = Lab::new("live").unwrap();
    netns::sweep();
    assert!(!exists(&left));
    assert!(lab.namespaces().iter().all(|name| exists(name)));
}

#[test]
fn a_command_runs_in_the_namespace_and_sees_the_same_file_systems() {
    rights::need_root();
    let lab = Lab::new("command").unwrap();
    let link = |namespace: &str| std::fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
    let output =
        lab.edge().command("readlink").args(["/proc/self/ns/mnt", "/proc/self/ns/net"]).output().unwrap();
    let inside = String::from_utf8(output.stdout).unwrap();
    let inside: Vec<&str> = inside.lines().collect();
    assert_eq!(inside[0], link("mnt").to_str().unwrap());
    assert_ne!(inside[1], link("net").to_str().unwrap());
}

#[test]
fn a_process_ends_with_its_guard() {
    rights::need_root();
    let lab = Lab::new("process").unwrap();
    let process = lab.edge().start(lab.edge().command("sleep").arg("1000")).unwrap();
    let directory = format!("/proc/{}", process.id());
    assert!(Path::new(&directory).exists());
    drop(process);
    assert!(!Path::new(&directory).exists());
}
