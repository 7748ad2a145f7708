//! Viewers of a stream that never ends.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use http_body_util::BodyExt;
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running},
    origins::{Endless, Server},
    raw_client::Client,
    wait::PATIENCE,
};

/// A gate for the stream `cam`, whose viewers a backend knows.
pub(crate) fn asking(backend: &Server, upstream: &Server) -> Made {
    Made::new().judged("cam", Rules::new("p").backend(&backend.url())).gate(LOOPBACK, &upstream.url())
}

/// A stream that never ends: small pieces, now and then.
pub(crate) async fn live() -> Server {
    Server::answering(|_| async {
        let pause = Some(tokio::time::interval(Duration::from_millis(20)));
        http::Response::new(Endless { taken: Arc::new(AtomicU64::new(0)), pause }.boxed_unsync())
    })
    .await
}

/// Starts watching; the answer has begun when this returns.
pub(crate) async fn watch(gate: &Running, target: &str) -> Client {
    watch_from([127, 0, 0, 1], gate, target).await
}

/// The same, from an address.
pub(crate) async fn watch_from(source: [u8; 4], gate: &Running, target: &str) -> Client {
    let mut client = Client::connect_from(source, gate.address).await;
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\nUser-Agent: VLC\r\n\r\n")).await;
    assert_eq!(client.head().await.status, 200, "{target}");
    assert!(client.chunk().await.is_some());
    client
}

/// Whether the stream goes on for a while: longer than what is buffered on the way lasts.
pub(crate) async fn goes_on(client: &mut Client) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {
        if client.chunk().await.is_none() {
            return false;
        }
    }
    true
}

/// Reads until the stream breaks off.
pub(crate) async fn breaks_off(client: &mut Client) {
    let reading = async { while client.chunk().await.is_some() {} };
    assert!(tokio::time::timeout(PATIENCE, reading).await.is_ok(), "the stream was never cut");
}
