//! 200 reloads under traffic: an always-allowed source loses no packet, none of an always-denied one passes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

use std::{
    collections::HashSet,
    net::{IpAddr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use kit::{
    edge::{Edge, GUARD, RULES, VIEWER, knock},
    netns::{EDGE_V4, EDGE_V6, Namespace},
    rights,
};

const RELOADS: usize = 200;

/// What the sender may be ahead of the receiver, so that no queue on the way overflows on a busy machine.
const IN_FLIGHT: u64 = 64;

/// The same verdicts for both hosts by other rules, in other places, beside another port.
const OTHER: &str = "drop ip 192.0.2.128/25;\n\n\ndeny ip 10/8;\ndeny ip 198.51.100.0/24 2001:db8:66::/48;\n\
                     allow ip 203.0.113.0/24;\nallow default;";

/// Sends numbered datagrams over both families until told to stop; returns how many.
fn send(from: &Namespace, stop: &AtomicBool, received: Option<&AtomicU64>) -> u64 {
    from.run(|| {
        let sockets =
            [("0.0.0.0:0", IpAddr::from(EDGE_V4)), ("[::]:0", EDGE_V6.into())].map(|(own, edge)| {
                let socket = UdpSocket::bind(own).unwrap();
                socket.connect((edge, GUARD)).unwrap();
                socket
            });
        let mut number: u64 = 0;
        while !stop.load(Ordering::Relaxed) {
            if let Some(received) = received {
                let patience = Instant::now() + Duration::from_secs(5);
                // A lost datagram is never received: the test goes on, to fail with what was lost.
                while number >= received.load(Ordering::Relaxed) + IN_FLIGHT && Instant::now() < patience {
                    thread::sleep(Duration::from_micros(100));
                }
            }
            sockets[(number % 2) as usize].send(&number.to_be_bytes()).unwrap();
            number += 1;
            thread::sleep(Duration::from_micros(500));
        }
        number
    })
}

#[test]
fn two_hundred_reloads_lose_nothing_and_let_nothing_through() {
    rights::need_root();
    let edge = Edge::new("traffic");
    edge.configure(RULES, "");
    let controller = edge.start();
    let socket = edge.receiver(GUARD);
    // Neighbours are found out, with what that may lose, before anything counts.
    for host in [&edge.viewer, &edge.banned] {
        knock(host, GUARD, b"first");
    }
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    while socket.recv_from(&mut [0; 64]).is_ok() {}

    let before = edge.status()["generation"].as_u64().unwrap();
    let (stop, stop_receiving) = (AtomicBool::new(false), AtomicBool::new(false));
    let received = AtomicU64::new(0);
    let viewer: Vec<IpAddr> = VIEWER.iter().map(|address| address.parse().unwrap()).collect();
    let (allowed, denied, (numbers, strangers)) = thread::scope(|scope| {
        let allowed = scope.spawn(|| send(&edge.viewer, &stop, Some(&received)));
        let denied = scope.spawn(|| send(&edge.banned, &stop, None));
        let receiver = scope.spawn(|| {
            let (mut numbers, mut strangers) = (HashSet::new(), Vec::new());
            let mut buffer = [0; 64];
            loop {
                match socket.recv_from(&mut buffer) {
                    Ok((8, from)) if viewer.contains(&from.ip().to_canonical()) => {
                        numbers.insert(u64::from_be_bytes(buffer[..8].try_into().unwrap()));
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok((_, from)) => strangers.push(from),
                    // Nothing has come for as long as the socket waits.
                    Err(_) if stop_receiving.load(Ordering::Relaxed) => return (numbers, strangers),
                    Err(_) => {}
                }
            }
        });
        for turn in 0..RELOADS {
            if turn % 2 == 0 {
                edge.configure(OTHER, "guard tcp 1935 auth://viewers;\n");
            } else {
                edge.configure(RULES, "");
            }
            let reply = edge.reload();
            assert_eq!(reply["ok"], true, "{reply}");
        }
        stop.store(true, Ordering::Relaxed);
        let sent = (allowed.join().unwrap(), denied.join().unwrap());
        stop_receiving.store(true, Ordering::Relaxed);
        (sent.0, sent.1, receiver.join().unwrap())
    });

    let after = edge.status()["generation"].as_u64().unwrap();
    assert_eq!(after - before, RELOADS as u64, "every reload put a table into force");
    assert_eq!(strangers, [], "of {denied} datagrams of the denied source");
    let lost: Vec<u64> = (0..allowed).filter(|number| !numbers.contains(number)).collect();
    assert_eq!(lost, [0; 0], "of {allowed} datagrams of the allowed source");
    // There was traffic to lose, and traffic to drop.
    assert!(allowed > RELOADS as u64 && denied > RELOADS as u64, "{allowed} and {denied}");
    let dropped = edge.stats()["outcomes"]["drop"].as_u64().unwrap();
    assert!(dropped > denied / 2, "{dropped} of {denied}");
    assert!(controller.end(libc::SIGTERM).unwrap().success());
}
