//! Connections through the gate: keep-alive, pipelining, slowness, size, bodies both ways, upgrades, families.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use filter_user::{
    gate::{Gates, Limits},
    http::Limits as HttpLimits,
    model::{Access, Action, Limit, Proto, ServiceKey},
    session::{SessionLimits, Sessions},
};
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running, quick},
    origins::{Server, Temper, full},
    raw_client::Client,
    wait::{PATIENCE, until},
};
use tokio::{sync::watch, task::JoinSet};

fn open(upstream: &str) -> Made {
    Made::new().stream("open", Access::Open, Access::Open).gate(LOOPBACK, upstream)
}

fn with(made: Made, limits: Limits) -> Running {
    Running::with(made, limits, SessionLimits::default())
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
    made.countries.push(("127.0.0.1".parse().unwrap(), filter_user::model::Country::new("us").unwrap()));
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
        [
            "accept",
            "cookie",
            "forwarded",
            "host",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-real-ip"
        ]
    );
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host"), Some("tv.example:8080"));
    assert_eq!(seen.header("forwarded"), Some("for=127.0.0.1;proto=http;host=\"tv.example:8080\""));
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
    let limits =
        Limits { http: HttpLimits { head_time: Duration::from_millis(300), ..quick().http }, ..quick() };
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
    let limits =
        Limits { http: HttpLimits { idle_time: Duration::from_millis(300), ..quick().http }, ..quick() };
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

/// An upstream that answers as long as it is let, so that its clients' connections are busy.
async fn held() -> (Server, watch::Sender<bool>) {
    let let_go = watch::Sender::new(false);
    let gate = let_go.clone();
    let server = Server::answering(move |_| {
        let mut free = gate.subscribe();
        async move {
            free.wait_for(|free| *free).await.unwrap();
            http::Response::new(full("done"))
        }
    })
    .await;
    (server, let_go)
}

#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    let (upstream, let_go) = held().await;
    let mut made = open(&upstream.url());
    made.config.limits.set(Limit::ConnectionsPerAddress, 3);
    let gate = Running::new(made);
    let mut clients = JoinSet::new();
    for _ in 0..3 {
        let mut client = Client::connect(gate.address).await;
        clients.spawn(async move { (client.get("/open").await.status, client) });
    }
    until("three are busy", || gate.sessions.counters().transfers == 3).await;
    let mut fourth = Client::connect(gate.address).await;
    let refused = fourth.get("/open").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("2")), "the fourth is answered");
    assert!(fourth.closed().await, "and closed");
    let_go.send_replace(true);
    let mut clients = clients.join_all().await;
    assert!(clients.iter().all(|(status, _)| *status == 200));
    clients.pop();
    until("the place is free again", || gate.gates.counters()[0].connections_open == 2).await;
    assert_eq!(Client::connect(gate.address).await.get("/open").await.status, 200);
    assert_eq!(gate.gates.counters()[0].connections_refused, 1);
    assert_eq!(gate.sessions.hits().count(Limit::ConnectionsPerAddress), 1);
}

#[tokio::test]
async fn connections_that_wait_make_room_and_those_that_work_do_not() {
    for limit in [Limit::ConnectionsPerAddress, Limit::Connections] {
        let (upstream, let_go) = held().await;
        let mut made = open(&upstream.url());
        made.config.limits.set(limit, 4);
        let gate = Running::new(made);
        let mut busy = Client::connect(gate.address).await;
        let working = tokio::spawn(async move { (busy.get("/open").await.status, busy) });
        until("one is busy", || gate.sessions.counters().transfers == 1).await;
        // A connection that has sent nothing, one with a part of a head, and one that waits after an answer.
        // They are made one after the other, so that it is known which has waited longest.
        let mut silent = Client::connect(gate.address).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut begun = Client::connect(gate.address).await;
        begun.send("GET /open HT").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut waits = Client::connect(gate.address).await;
        assert_eq!(waits.get("/nothing").await.status, 404);
        until("four are there", || gate.gates.counters()[0].connections_open == 4).await;
        let mut refused = Client::connect(gate.address).await;
        assert_eq!(refused.get("/nothing").await.status, 503, "nobody has waited long enough");
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let mut new = Vec::new();
        for (n, closed) in [&mut silent, &mut begun, &mut waits].into_iter().enumerate() {
            let mut client = Client::connect(gate.address).await;
            assert_eq!(client.get("/nothing").await.status, 404, "there is room for one more");
            assert!(closed.closed().await, "the one that has waited longest, number {n}, makes it");
            new.push(client);
        }
        let mut refused = Client::connect(gate.address).await;
        assert_eq!(refused.get("/nothing").await.status, 503, "these are new");
        let_go.send_replace(true);
        let (status, mut busy) = working.await.unwrap();
        assert_eq!(status, 200);
        assert_eq!(busy.get("/nothing").await.status, 404, "it was never closed");
        let counters = &gate.gates.counters()[0];
        assert_eq!((counters.connections_closed_idle, counters.connections_refused), (3, 2), "{limit}");
        assert_eq!(gate.sessions.hits().count(limit), 2);
    }
}

#[tokio::test]
async fn fewer_open_files_are_fewer_connections() {
    let upstream = Server::media().await;
    let gate = with(open(&upstream.url()), Limits { open_files: 384 + 32, ..quick() });
    let mut clients = Vec::new();
    for _ in 0..16 {
        let mut client = Client::connect(gate.address).await;
        assert_eq!(client.get("/open").await.status, 200);
        clients.push(client);
    }
    assert_eq!(Client::connect(gate.address).await.get("/open").await.status, 503);
    assert_eq!(gate.sessions.hits().count(Limit::OpenFiles), 1);
}

#[tokio::test]
async fn heads_are_as_large_as_the_limits_say() {
    let upstream = Server::media().await;
    let mut made = open(&upstream.url());
    made.config.limits.set(Limit::HeadBytes, 2048);
    made.config.limits.set(Limit::HeaderLines, 10);
    made.config.limits.set(Limit::TargetBytes, 512);
    let gate = Running::new(made);
    let lines = |count| "X: y\r\n".repeat(count);
    for (head, status, limit) in [
        (format!("GET /open HTTP/1.1\r\nHost: a\r\n{}\r\n", lines(9)), 200, None),
        (format!("GET /open HTTP/1.1\r\nHost: a\r\n{}\r\n", lines(10)), 431, Some(Limit::HeaderLines)),
        (format!("GET /open?{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(500)), 200, None),
        (format!("GET /open?{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(510)), 414, Some(Limit::TargetBytes)),
        (format!("GET /open HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(1900)), 200, None),
        (
            format!("GET /open HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(2048)),
            431,
            Some(Limit::HeadBytes),
        ),
    ] {
        let mut client = Client::connect(gate.address).await;
        client.send(&head).await;
        assert_eq!(client.reply().await.status, status, "{head}");
        for other in [Limit::HeaderLines, Limit::TargetBytes, Limit::HeadBytes] {
            let expected = gate.sessions.hits().count(other);
            assert!(limit != Some(other) || expected == 1, "{other} is counted");
        }
    }
    let hits =
        [Limit::HeaderLines, Limit::TargetBytes, Limit::HeadBytes].map(|l| gate.sessions.hits().count(l));
    assert_eq!(hits, [1, 1, 1]);
    let mut made = open(&upstream.url());
    made.config.limits.set(Limit::HeaderLines, 500);
    let gate = Running::new(made);
    let mut client = Client::connect(gate.address).await;
    client.send(format!("GET /nothing HTTP/1.1\r\nHost: a\r\n{}\r\n", lines(400))).await;
    assert_eq!(client.reply().await.status, 404, "and as many: the head was read");
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

#[tokio::test]
async fn a_port_that_becomes_free_is_opened_but_not_after_a_drain() {
    for drained in [false, true] {
        let upstream = Server::media().await;
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let key = ServiceKey { proto: Proto::Tcp, port, address: Some("127.0.0.1".parse().unwrap()) };
        let made = Made::new().stream("open", Access::Open, Access::Open).gate(key, &upstream.url());
        let snapshot = made.snapshot();
        let gates = Gates::new(Sessions::new(snapshot.clone(), SessionLimits::default()), quick());
        gates.commit(gates.prepare(&snapshot));
        assert_eq!(gates.not_bound().len(), 1);
        if drained {
            assert_eq!(gates.drain(PATIENCE).await, 0);
        }
        drop(taken);
        gates.bind_again();
        // The port may have gone to another process since: then it is still one to try again.
        let wanted = gates.address(key).is_some() || !gates.not_bound().is_empty();
        assert_eq!(wanted, !drained);
    }
}

/// One socket serves the gate for every address of a port and the gate that names one of them.
#[tokio::test]
async fn a_gate_that_names_an_address_goes_before_the_one_for_all() {
    let (any, one) = (Server::media().await, Server::noting(|_| http::Response::new(full("one"))).await);
    // A port that was free a moment ago; another process may take it, then the next is tried.
    let (gate, port) = loop {
        let port = std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
        let key = |address| ServiceKey { proto: Proto::Tcp, port, address };
        let made = Made::new()
            .stream("open", Access::Open, Access::Closed)
            .gate(key(None), &any.url())
            .gate(key(Some("127.0.0.2".parse().unwrap())), &one.url());
        let snapshot = made.snapshot();
        let sessions = Sessions::new(snapshot.clone(), SessionLimits::default());
        let gates = Gates::new(sessions, quick());
        if gates.apply(&snapshot).is_ok() {
            break (gates, port);
        }
    };
    for (address, text) in [("127.0.0.1", "media /open"), ("127.0.0.2", "one")] {
        let address = std::net::SocketAddr::new(address.parse().unwrap(), port);
        assert_eq!(Client::connect(address).await.get("/open").await.text(), text);
    }
    let requests: Vec<u64> = gate.counters().iter().map(|counters| counters.requests).collect();
    assert_eq!(requests, [1, 1]);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let upstream = Server::media().await;
    let limits =
        Limits { http: HttpLimits { head_time: Duration::from_millis(300), ..quick().http }, ..quick() };
    let gate = with(open(&upstream.url()), limits);
    let mut client = Client::connect(gate.address).await;
    assert!(client.closed().await);
    assert!(client.buffer.is_empty(), "nothing was asked, nothing is answered");
}
