//! Connections through the gate: keep-alive, pipelining, slowness, size, bodies both ways, upgrades, families.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use filter_user::{
    config::{Access, Proto, ServiceKey},
    gate::Limits,
    policy::Action,
    session::SessionLimits,
};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tests::{
    http::{Endless, Refusing, Server, Temper, full},
    made::{LOOPBACK, Made, Rules, Running, quick},
    raw::{Client, PATIENCE},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn open(upstream: &str) -> Made {
    Made::new().stream("open", Access::Open, Access::Open).gate(LOOPBACK, upstream)
}

fn with(made: Made, limits: Limits) -> Running {
    Running::with(made, limits, SessionLimits::default())
}

/// Waits until something is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never so: {what}");
}

#[tokio::test]
async fn every_request_of_a_connection_is_judged() {
    let upstream = Server::media().await;
    let rules = Rules::new("p")
        .token(Action::Allow, "good")
        .ua(Action::Deny, "curl")
        .country(Action::Deny, "US")
        .allow_default();
    let gate = Running::new(Made::new().judged("cam", rules).gate(LOOPBACK, &upstream.url()));
    let mut client = Client::connect(gate.address).await;
    let mut statuses = Vec::new();
    for (target, ua) in [
        ("/cam?token=good", "curl/8"),
        ("/cam", "curl/8"),
        ("/cam", "VLC"),
        ("/cam?token=other", "libcurl"),
        ("/nothing", "VLC"),
        ("/cam?token=good", "curl/8"),
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\nUser-Agent: {ua}\r\n\r\n")).await;
        statuses.push(client.reply().await.status);
    }
    assert_eq!(statuses, [200, 403, 200, 403, 404, 200]);
    let counters = gate.gates.counters().remove(0);
    assert_eq!((counters.allowed, counters.denied, counters.not_found), (3, 2, 1));
    assert_eq!(counters.connections, 1);
    let denied = counters.rules.iter().find(|rule| rule.rule.as_deref() == Some("deny ua curl")).unwrap();
    assert_eq!((denied.count, denied.origin.line), (2, 3));
}

#[tokio::test]
async fn a_denial_names_the_step_and_keeps_the_rule_to_itself() {
    let upstream = Server::media().await;
    let mut made = Made::new().judged("cam", Rules::new("p").country(Action::Deny, "US").allow_default());
    made.countries.push(("127.0.0.1".parse().unwrap(), filter_user::policy::Country::new("us").unwrap()));
    let gate = Running::new(
        made.judged("ip", Rules::new("q").ip(Action::Deny, "127.0.0.0/8").allow_default())
            .judged("none", Rules::new("r"))
            .gate(LOOPBACK, &upstream.url()),
    );
    for (target, text) in
        [("/cam", "denied: country\n"), ("/ip", "denied: ip\n"), ("/none", "denied: default\n")]
    {
        let reply = Client::connect(gate.address).await.get(target).await;
        assert_eq!((reply.status, reply.text().as_str()), (403, text));
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn without_a_token_where_one_is_demanded() {
    let upstream = Server::media().await;
    let mut made = Made::new().judged("cam", Rules::new("p").allow_default()).gate(LOOPBACK, &upstream.url());
    made.config.no_auto_token = true;
    made.config.token_name = "key".into();
    let gate = Running::new(made);
    let mut client = Client::connect(gate.address).await;
    assert_eq!(client.get("/cam").await.status, 403);
    assert_eq!(client.get("/cam?token=x").await.status, 403, "the parameter has another name here");
    assert_eq!(client.get("/cam?key=").await.status, 403);
    assert_eq!(client.get("/cam?key=x").await.status, 200);
}

#[tokio::test]
async fn shadow_mode_counts_and_drops_nothing() {
    let upstream = Server::media().await;
    let mut made = Made::new().judged("cam", Rules::new("p")).gate(LOOPBACK, &upstream.url());
    made.config.shadow = true;
    let gate = Running::new(made);
    let mut client = Client::connect(gate.address).await;
    assert_eq!(client.get("/cam").await.status, 200);
    assert_eq!(client.get("/other").await.status, 404);
    assert_eq!(gate.gates.counters()[0].denied, 1);
}

#[tokio::test]
async fn publishing_is_judged_by_on_publish() {
    let upstream = Server::media().await;
    let mut made = Made::new();
    let publish = made.policy(Rules::new("pub").token(Action::Allow, "key"));
    let gate = Running::new(
        made.stream("cam", Access::Open, Access::Policy(publish))
            .stream("file", Access::Open, Access::Closed)
            .gate(LOOPBACK, &upstream.url()),
    );
    let mut client = Client::connect(gate.address).await;
    for (line, status) in [
        ("PUT /cam/mpegts?token=key", 200),
        ("POST /cam/whip", 403),
        ("POST /cam/whep", 200),
        ("POST /file", 403),
        ("DELETE /cam", 403),
        ("GET /file", 200),
    ] {
        client.send(format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).await;
        assert_eq!(client.reply().await.status, status, "{line}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Server::media().await;
    let gate = Running::new(open(&upstream.url()));
    let mut client = Client::connect(gate.address).await;
    let all: String = (0..50).map(|n| format!("GET /open/{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(all).await;
    for n in 0..50 {
        assert_eq!(client.reply().await.text(), format!("media /open/{n}"));
    }
}

#[tokio::test]
async fn the_upstream_learns_the_client_from_us_alone() {
    let upstream = Server::media().await;
    let gate = Running::new(open(&upstream.url()));
    let mut client = Client::connect(gate.address).await;
    client
        .send(
            "GET /open HTTP/1.1\r\nHost: tv.example:8080\r\nX-Forwarded-For: 203.0.113.9\r\n\
             x_forwarded_for: 203.0.113.9\r\nX.Forwarded.Host: evil\r\nForwarded: for=203.0.113.9\r\n\
             X-Real-IP: 203.0.113.9\r\nX_Real_IP: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\
             X-Original-URL: /secret\r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\nTE: trailers\r\n\
             Keep-Alive: timeout=5\r\nAccept: */*\r\nCookie: a=b\r\n\r\n",
        )
        .await;
    assert_eq!(client.reply().await.status, 200);
    let seen = upstream.requests().remove(0);
    let mut names: Vec<&str> = seen.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["accept", "cookie", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]
    );
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host"), Some("tv.example:8080"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("host"), Some("tv.example:8080"));
}

#[tokio::test]
async fn answers_lose_their_hop_by_hop_headers() {
    let upstream = Server::noting(|_| {
        http::Response::builder()
            .header("Connection", "X-Hop")
            .header("X-Hop", "1")
            .header("Keep-Alive", "timeout=5")
            .header("X-End", "1")
            .body(full("x"))
            .unwrap()
    })
    .await;
    let gate = Running::new(open(&upstream.url()));
    let reply = Client::connect(gate.address).await.get("/open").await;
    assert_eq!((reply.status, reply.header("x-end")), (200, Some("1")));
    assert_eq!((reply.header("x-hop"), reply.header("keep-alive")), (None, None));
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let upstream = Server::media().await;
    let limits = Limits { head_time: Duration::from_millis(300), ..quick() };
    let gate = with(open(&upstream.url()), limits);
    let mut client = Client::connect(gate.address).await;
    client.send("GET /open HTTP/1.1\r\nHost: a\r\n").await;
    // A byte now and then does not buy time.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.send("X").await;
    }
    assert_eq!(client.reply().await.status, 408);
    assert!(client.closed().await);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_pause_between_requests_ends_and_an_answer_is_no_pause() {
    let upstream = Server::answering(|_| async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        http::Response::new(full("late"))
    })
    .await;
    let limits = Limits { idle_time: Duration::from_millis(300), ..quick() };
    let gate = with(open(&upstream.url()), limits);
    let mut client = Client::connect(gate.address).await;
    assert_eq!(client.get("/open").await.text(), "late", "a slow answer is waited for");
    assert!(client.closed().await, "and then the pause ends the connection");
}

#[tokio::test]
async fn large_heads_are_refused() {
    let upstream = Server::media().await;
    let gate = Running::new(open(&upstream.url()));
    let many: String = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect();
    for (what, request, status) in [
        ("a large value", format!("GET /open HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(40_000)), 431),
        ("a head without end", "GET /open HTTP/1.1\r\nX: ".to_owned() + &"y".repeat(2_000_000), 431),
        ("many headers", format!("GET /open HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
        ("a long target", format!("GET /open/{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(20_000)), 414),
    ] {
        let mut client = Client::connect(gate.address).await;
        client.send(request).await;
        assert_eq!(client.reply().await.status, status, "{what}");
    }
    let large = format!("GET /open HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(30_000));
    let mut client = Client::connect(gate.address).await;
    client.send(large).await;
    assert_eq!(client.reply().await.status, 200, "what is within the limit passes");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    let upstream = Server::media().await;
    let gate = with(open(&upstream.url()), Limits { connections_per_address: 3, ..quick() });
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(gate.address).await;
        assert_eq!(client.get("/open").await.status, 200);
        clients.push(client);
    }
    let mut fourth = Client::connect(gate.address).await;
    assert_eq!(fourth.get("/open").await.status, 0, "the fourth is closed at once");
    clients.pop();
    until("the place is free again", || gate.gates.counters()[0].connections_open == 2).await;
    assert_eq!(Client::connect(gate.address).await.get("/open").await.status, 200);
    assert_eq!(gate.gates.counters()[0].connections_refused, 1);
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
    let limits = Limits { send_time: Duration::from_millis(300), ..quick() };
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

#[tokio::test]
async fn both_families_on_one_gate() {
    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("skipped the IPv6 half: no IPv6 here");
        return;
    }
    let upstream = Server::media().await;
    let rules = Rules::new("p").ip(Action::Allow, "127.0.0.0/8").ip(Action::Deny, "::1/128").allow_default();
    let key = ServiceKey { proto: Proto::Tcp, port: 0, address: None };
    let gate = Running::new(Made::new().judged("cam", rules).gate(key, &upstream.url()));
    let port = gate.address.port();
    let v4 = Client::connect((IpAddr::from([127, 0, 0, 1]), port).into()).await.get("/cam").await;
    assert_eq!(v4.status, 200, "a mapped address is judged as IPv4");
    let v6 = Client::connect((Ipv6Addr::LOCALHOST, port).into()).await.get("/cam").await;
    assert_eq!((v6.status, v6.text().as_str()), (403, "denied: ip\n"));
    assert_eq!(upstream.requests()[0].header("x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn draining_finishes_what_is_in_hand() {
    let upstream = Server::answering(|_| async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        http::Response::new(full("done"))
    })
    .await;
    let gate = Running::new(open(&upstream.url()));
    let mut idle = Client::connect(gate.address).await;
    assert_eq!(idle.get("/open").await.status, 200);
    let mut busy = Client::connect(gate.address).await;
    busy.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("it is in hand", || gate.sessions.counters().transfers == 1).await;
    let (left, reply) = tokio::join!(gate.gates.drain(PATIENCE), busy.reply());
    assert_eq!((left, reply.text().as_str()), (0, "done"));
    assert!(idle.closed().await);
    assert!(tokio::net::TcpStream::connect(gate.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let hang = Server::bad(Temper::Hang).await;
    let gate = Running::new(open(&hang.url()));
    let mut client = Client::connect(gate.address).await;
    client.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("it is in hand", || gate.sessions.counters().transfers == 1).await;
    assert_eq!(gate.gates.drain(Duration::from_millis(200)).await, 1);
    assert!(client.closed().await);
}
