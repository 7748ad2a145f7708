//! Twenty restarts and a crash while viewers watch: nobody is refused for the restarts, and for the crash nobody for long.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use kit::{
    crowd::{Crowd, Manner, Transfers},
    edge::{Edge, GATE, RULES},
    netns::{EDGE_V4, Namespace},
    nicgate::{Controller, until},
    origins::{AnyBody, Endless, Server, full},
    rights,
};

const RESTARTS: usize = 20;
const TRANSFERS: usize = 50;
/// Viewers of each manner.
const VIEWERS: usize = 8;

/// A media server in a namespace: `/live/endless…` goes on for ever, slowly. It ends with what is returned.
fn media_server(namespace: &Namespace) -> (SocketAddr, tokio::sync::oneshot::Sender<()>) {
    let (ready, started) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    namespace.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let server = Server::answering(|request: Request<Incoming>| async move {
                let path = request.uri().path().to_owned();
                let body: AnyBody = if path.starts_with("/live/endless") {
                    let pause = Some(tokio::time::interval(Duration::from_millis(100)));
                    Endless { taken: Default::default(), pause }.boxed_unsync()
                } else {
                    full(Bytes::from(path))
                };
                Response::new(body)
            })
            .await;
            ready.send(server.address).unwrap();
            let _ = stopped.await;
        });
    });
    (started.recv().unwrap(), stop)
}

#[track_caller]
fn replace(edge: &Edge) -> Controller {
    let command = edge.site.command_in(edge.lab.edge(), &["run", "--replace", "--stop-drain", "10m"]);
    edge.site.start_command(edge.lab.edge(), command).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn twenty_restarts_refuse_nobody_and_a_crash_nobody_for_long() {
    rights::need_root();
    let edge = Edge::new("restarts");
    let (media, _stop) = media_server(edge.lab.edge());
    let text = edge.text(RULES, "");
    let upstream = format!("gate {GATE} {{ upstream http://{media}; }}\n");
    edge.site.configure(&text.replace(&edge.gate(GATE), &upstream));
    let gate = SocketAddr::from((EDGE_V4, GATE));

    let mut controllers = vec![replace(&edge)];
    let targets = (0..TRANSFERS).map(|number| format!("/live/endless?token=t{number}"));
    let transfers = Transfers::begin(&edge.viewer, gate, targets);
    let viewers = (0..2 * VIEWERS).map(|number| {
        let manner = if number % 2 == 0 { Manner::Anew } else { Manner::Keeping };
        (format!("/live/x?token=v{number}"), manner)
    });
    let crowd = Crowd::start(&edge.viewer, gate, viewers);
    until("they watch", || crowd.served() > 100);

    for restart in 0..RESTARTS {
        let (served, bytes) = (crowd.served(), transfers.bytes());
        controllers.push(replace(&edge));
        until("they go on watching", || crowd.served() > served + 50);
        until("the transfers go on", || transfers.bytes().iter().zip(&bytes).all(|(now, then)| now > then));
        assert_eq!(transfers.alive(), TRANSFERS, "{restart}");
        // Those without a transfer have ended.
        let ended = |controller: &mut Controller| controller.process().child().try_wait().unwrap().is_some();
        let middle = 1..controllers.len() - 1;
        until("those in the middle have ended", || controllers[middle.clone()].iter_mut().all(ended));
        assert!(!ended(&mut controllers[0]), "{restart}");
    }
    let outcomes = crowd.outcomes();
    println!("{RESTARTS} restarts: {outcomes:?}");
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), ["200"], "{outcomes:?}");
    assert!(edge.drops(&edge.banned));

    // A crash: whoever supervises it starts it again.
    let served = crowd.served();
    let crash = Instant::now();
    let _ = controllers.pop().unwrap().end(libc::SIGKILL).unwrap();
    let next = replace(&edge);
    until("they watch again", || crowd.served() > served + 100);
    let last = crowd.last_failure().map_or(Duration::ZERO, |last| last.saturating_duration_since(crash));
    let outcomes = crowd.stop();
    println!("a crash: the last viewer was refused {} ms after it: {outcomes:?}", last.as_millis());
    // A second is what is wanted; a busy machine gets more.
    assert!(last < Duration::from_secs(10), "{last:?}");
    assert!(edge.drops(&edge.banned));
    drop(next);
}
