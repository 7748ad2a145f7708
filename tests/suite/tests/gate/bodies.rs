//! Bodies and upgrades through the gate, and upstreams and clients that vanish in the middle.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use filter_user::{gate::Limits, http::Limits as HttpLimits, model::Access, session::SessionLimits};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use kit::{
    configurations::{LOOPBACK, Made, Running, quick},
    origins::{Endless, Refusing, Server, Temper, full},
    raw_client::Client,
    wait::{PATIENCE, until},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn open(upstream: &str) -> Made {
    Made::new().stream("open", Access::Open, Access::Open).gate(LOOPBACK, upstream)
}

fn with(made: Made, limits: Limits) -> Running {
    Running::with(made, limits, SessionLimits::default())
}

#[tokio::test]
async fn upstream_faults_are_502_and_504() {
    let refusing = Refusing::new();
    let hang = Server::bad(Temper::Hang).await;
    let garbage = Server::bad(Temper::Garbage).await;
    let early = Server::bad(Temper::CloseEarly).await;
    for (url, status) in [(refusing.url(), 502), (garbage.url(), 502), (early.url(), 502), (hang.url(), 504)]
    {
        let limits = Limits { answer_time: Duration::from_millis(300), ..quick() };
        let gate = with(open(&url), limits);
        let mut client = Client::connect(gate.address).await;
        assert_eq!(client.get("/open").await.status, status, "{url}");
        let counters = gate.gates.counters().remove(0);
        assert_eq!((counters.upstream_faults, counters.server_errors), (1, 1));
    }
}

#[tokio::test]
async fn an_upstream_that_vanishes_leaves_a_torn_answer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let upstream = tokio::spawn(async move {
        for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            let body = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n");
            stream.write_all(body.as_bytes()).await.unwrap();
        }
    });
    let gate = Running::new(open(&url));
    for _ in 0..2 {
        let mut client = Client::connect(gate.address).await;
        client.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let reply = client.reply().await;
        assert_eq!(reply.status, 0, "no whole answer: {reply:?}");
    }
    upstream.await.unwrap();
    until("nothing is left", || gate.sessions.counters().transfers == 0).await;
}

#[tokio::test]
async fn a_client_that_vanishes_ends_the_upstreams_work() {
    let taken = Arc::new(AtomicU64::new(0));
    let counter = taken.clone();
    let upstream = Server::answering(move |_| {
        let taken = counter.clone();
        async move {
            let pause = Some(tokio::time::interval(Duration::from_millis(5)));
            http::Response::new(Endless { taken, pause }.boxed_unsync())
        }
    })
    .await;
    let gate = Running::new(open(&upstream.url()));
    let mut client = Client::connect(gate.address).await;
    client.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!(gate.sessions.counters().transfers, 1);
    drop(client);
    until("the transfer ends", || gate.sessions.counters().transfers == 0).await;
    until("the upstream is let go", || {
        let before = taken.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(100));
        before == taken.load(Ordering::Relaxed)
    })
    .await;
}

#[tokio::test]
async fn a_client_that_vanishes_in_its_body_is_not_a_whole_request() {
    let upstream = Server::media().await;
    let gate = Running::new(open(&upstream.url()));
    for request in [
        "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello",
        "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let mut client = Client::connect(gate.address).await;
        client.send(request).await;
        until("it runs", || gate.sessions.counters().transfers == 1).await;
        drop(client);
        until("it ends", || gate.sessions.counters().transfers == 0).await;
    }
    assert_eq!(upstream.count(), 0, "the upstream notes only whole requests");
}

/// The upstream produces without end and the client reads nothing: what is in between stays small.
#[tokio::test]
async fn a_slow_reader_slows_the_upstream() {
    let taken = Arc::new(AtomicU64::new(0));
    let counter = taken.clone();
    let upstream = Server::answering(move |_| {
        let taken = counter.clone();
        async move { http::Response::new(Endless { taken, pause: None }.boxed_unsync()) }
    })
    .await;
    let gate = Running::new(open(&upstream.url()));
    let mut client = Client::connect(gate.address).await;
    client.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    let mut before = u64::MAX;
    until("the upstream stands still", || {
        std::thread::sleep(Duration::from_millis(50));
        std::mem::replace(&mut before, taken.load(Ordering::Relaxed)) == taken.load(Ordering::Relaxed)
    })
    .await;
    // Kernel buffers of two connections, and some of ours.
    assert!(before < 64 << 20, "{before} bytes are on their way");
    let read: usize = {
        let mut read = 0;
        while read < 32 << 20 {
            read += client.chunk().await.unwrap().len();
        }
        read
    };
    assert!(read as u64 <= taken.load(Ordering::Relaxed), "it goes on as the client reads");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed() {
    let upstream = Server::answering(move |_| async move {
        http::Response::new(Endless { taken: Arc::default(), pause: None }.boxed_unsync())
    })
    .await;
    let limits =
        Limits { http: HttpLimits { send_time: Duration::from_millis(300), ..quick().http }, ..quick() };
    let gate = with(open(&upstream.url()), limits);
    let mut client = Client::connect(gate.address).await;
    client.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("it begins", || gate.sessions.counters().transfers == 1).await;
    until("it ends", || gate.sessions.counters().transfers == 0).await;
}

/// A body of 32 MiB reaches the upstream while it is sent; the gate never holds it.
#[tokio::test]
async fn large_bodies_stream_upwards() {
    let received = Arc::new(AtomicU64::new(0));
    let counter = received.clone();
    let upstream = Server::answering(move |request| {
        let received = counter.clone();
        async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                received.fetch_add(frame.data_ref().map_or(0, |data| data.len()) as u64, Ordering::Relaxed);
            }
            http::Response::new(full(received.load(Ordering::Relaxed).to_string()))
        }
    })
    .await;
    let gate = Running::new(open(&upstream.url()));
    let mut client = Client::connect(gate.address).await;
    let piece = vec![b'x'; 1 << 20];
    client.send(format!("PUT /open HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 32 << 20)).await;
    client.send(&piece).await;
    until("the first piece arrives before the last is sent", || received.load(Ordering::Relaxed) == 1 << 20)
        .await;
    for _ in 1..32 {
        client.send(&piece).await;
    }
    assert_eq!(client.reply().await.text(), (32 << 20).to_string());
    assert_eq!(gate.gates.counters()[0].bytes_received, 32 << 20);
}

#[tokio::test]
async fn expect_continue_is_answered_after_the_judgement() {
    let upstream = Server::media().await;
    let made =
        Made::new().stream("open", Access::Open, Access::Open).stream("no", Access::Open, Access::Closed);
    let gate = Running::new(made.gate(LOOPBACK, &upstream.url()));
    let request = |stream: &str| {
        format!("PUT /{stream} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    };
    let mut client = Client::connect(gate.address).await;
    client.send(request("open")).await;
    assert_eq!(client.head().await.status, 100);
    client.send("hello").await;
    assert_eq!(client.reply().await.status, 200);
    assert_eq!(&upstream.requests()[0].body[..], b"hello");
    assert_eq!(upstream.requests()[0].header("expect"), None);
    let mut client = Client::connect(gate.address).await;
    client.send(request("no")).await;
    assert_eq!(client.reply().await.status, 403, "who is denied is not asked for the body");
}

/// An upstream that switches to an echo, unless the path says no.
async fn websocket_upstream() -> Server {
    Server::answering(|mut request| async move {
        if request.uri().path() != "/open/ws" {
            return http::Response::new(full("no"));
        }
        assert_eq!(request.headers()["connection"], "upgrade");
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgraded.await.unwrap());
            let mut buffer = [0; 1024];
            while let Ok(read @ 1..) = io.read(&mut buffer).await {
                io.write_all(&buffer[..read]).await.unwrap();
            }
        });
        http::Response::builder()
            .status(101)
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .body(full(""))
            .unwrap()
    })
    .await
}

fn upgrade(path: &str, protocol: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
    )
}

#[tokio::test]
async fn an_upgrade_passes_after_the_upstreams_101() {
    let upstream = websocket_upstream().await;
    let gate = Running::new(open(&upstream.url()));
    let mut client = Client::connect(gate.address).await;
    // Bytes right behind the head wait for the 101 and are then the new protocol's.
    client.send(upgrade("/open/ws", "websocket") + "GET /x HTTP/1.1\r\n\r\n").await;
    let reply = client.head().await;
    assert_eq!((reply.status, reply.header("upgrade")), (101, Some("websocket")));
    client.send("pong").await;
    let mut echo = client.buffer.clone();
    let mut chunk = [0; 64];
    while echo.len() < 23 {
        let read = tokio::time::timeout(PATIENCE, client.stream.read(&mut chunk)).await.unwrap().unwrap();
        assert!(read > 0, "the echo broke off");
        echo.extend_from_slice(&chunk[..read]);
    }
    assert_eq!(echo, b"GET /x HTTP/1.1\r\n\r\npong");
    drop(client);
    until("the tunnel ends", || gate.sessions.counters().transfers == 0).await;
}

#[tokio::test]
async fn without_a_101_the_next_bytes_are_a_request() {
    let upstream = websocket_upstream().await;
    let gate = Running::new(open(&upstream.url()));
    for first in
        [upgrade("/open/other", "websocket"), upgrade("/nothing", "websocket"), upgrade("/open/ws", "h2c")]
    {
        let mut client = Client::connect(gate.address).await;
        client.send(first.clone() + "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_ne!(client.reply().await.status, 101, "{first}");
        assert_eq!(client.reply().await.status, 404, "what followed {first} is judged");
    }
}
