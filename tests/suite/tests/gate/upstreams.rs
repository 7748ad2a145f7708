//! Upstreams of several servers: who gets a request, who gets it next when that fails, and what is known of each.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use filter_user::{
    gate::{Limits, ServerState, ServerStatus, UpstreamStatus},
    model::{Access, HealthCheck, PlayerToken, ServerAddress, Upstream, UpstreamServer},
    session::SessionLimits,
};
use http::Response;
use kit::{
    configurations::{LOOPBACK, Made, Running, quick},
    nicgate::Site,
    origins::{Refusing, Server, Temper, full},
    raw_client::Client,
    wait::until,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use url::Url;

fn server(url: &str) -> UpstreamServer {
    UpstreamServer::new(ServerAddress::Tcp(Url::parse(url).unwrap()))
}

fn media(servers: Vec<UpstreamServer>) -> Upstream {
    Upstream { name: "media".into(), servers, health: None, proxy_protocol: false }
}

fn made(upstream: Upstream) -> Made {
    Made::new().stream("open", Access::Open, Access::Open).gate_to(LOOPBACK, upstream)
}

fn status(gate: &Running) -> Vec<ServerStatus> {
    let mut all: Vec<UpstreamStatus> = gate.gates.upstreams();
    assert_eq!(all.len(), 1);
    all.remove(0).servers
}

async fn get(gate: &Running, target: &str) -> u16 {
    Client::connect(gate.address).await.get(target).await.status
}

async fn post(gate: &Running) -> u16 {
    let mut client = Client::connect(gate.address).await;
    client.send("POST /open/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
    client.reply().await.status
}

#[tokio::test]
async fn requests_are_spread_and_connections_kept() {
    let servers = [Server::media().await, Server::media().await, Server::media().await];
    let gate = Running::new(made(media(servers.iter().map(|one| server(&one.url())).collect())));
    let mut client = Client::connect(gate.address).await;
    for _ in 0..30 {
        assert_eq!(client.get("/open/a").await.status, 200);
    }
    for (one, status) in servers.iter().zip(status(&gate)) {
        assert_eq!(one.count(), 10, "those without requests take turns");
        assert_eq!(one.connections.load(Ordering::Relaxed), 1, "one connection was enough");
        assert_eq!((status.state, status.requests, status.failures), (ServerState::Up, 10, 0));
        assert_eq!((status.active, status.idle), (0, 1));
    }
}

/// Answers at once, but for a body that never ends.
async fn streaming() -> Server {
    Server::answering(|request| async move {
        if request.uri().path() == "/open/long" {
            let endless = kit::origins::Endless {
                taken: Arc::default(),
                pause: Some(tokio::time::interval(Duration::from_millis(20))),
            };
            return Response::new(http_body_util::BodyExt::boxed_unsync(endless));
        }
        Response::new(full("short"))
    })
    .await
}

#[tokio::test]
async fn who_carries_long_transfers_gets_fewer_requests() {
    let servers = [streaming().await, streaming().await];
    let gate = Running::new(made(media(servers.iter().map(|one| server(&one.url())).collect())));
    let mut long = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(gate.address).await;
        client.send("GET /open/long HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.head().await.status, 200);
        long.push(client);
    }
    assert_eq!(status(&gate).iter().map(|one| one.active).collect::<Vec<_>>(), [2, 2]);
    // One server loses one of its viewers: the next two requests are its own.
    drop(long.pop());
    until("a transfer has ended", || status(&gate).iter().map(|one| one.active).sum::<usize>() == 3).await;
    let before: Vec<_> = status(&gate).iter().map(|one| (one.active, one.requests)).collect();
    assert_eq!((get(&gate, "/open/a").await, get(&gate, "/open/a").await), (200, 200));
    for (one, (active, requests)) in status(&gate).iter().zip(before) {
        assert_eq!(one.requests - requests, if active == 1 { 2 } else { 0 });
    }
}

#[tokio::test]
async fn a_request_goes_to_another_server_when_nothing_is_lost_by_that() {
    let good = Server::media().await;
    let refusing = Refusing::new();
    let closing = Server::bad(Temper::CloseEarly).await;
    let resetting = Server::bad(Temper::Reset).await;
    for (bad, kind) in [(refusing.url(), "refuses"), (closing.url(), "closes"), (resetting.url(), "resets")] {
        let servers = vec![server(&bad), server(&good.url())];
        let gate = Running::new(made(media(servers)));
        for _ in 0..20 {
            assert_eq!(get(&gate, "/open/a").await, 200, "{kind}");
        }
        let all = status(&gate);
        assert_eq!((all[0].state, all[1].state), (ServerState::Failing, ServerState::Up), "{kind}");
        assert_eq!((all[0].failures, all[1].failures), (3, 0), "{kind}: it was given no more");
        assert!(all[0].last_failure.is_some(), "{kind}");
        assert_eq!(gate.gates.counters()[0].upstream_faults, 0, "{kind}");
    }

    // A body is sent to another only while nothing of it was sent.
    let gate = Running::new(made(media(vec![server(&refusing.url()), server(&good.url())])));
    for _ in 0..20 {
        assert_eq!(post(&gate).await, 200);
    }
    let gate = Running::new(made(media(vec![server(&closing.url()), server(&good.url())])));
    let mut statuses: Vec<_> = Vec::new();
    for _ in 0..20 {
        statuses.push(post(&gate).await);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [[200].repeat(17), [502].repeat(3)].concat(), "three failures are enough");
}

#[tokio::test]
async fn a_late_answer_is_504_and_asked_for_once() {
    let hanging = [Server::bad(Temper::Hang).await, Server::bad(Temper::Hang).await];
    let limits = Limits { answer_time: Duration::from_millis(200), ..quick() };
    let servers = hanging.iter().map(|one| server(&one.url())).collect();
    let gate = Running::with(made(media(servers)), limits, SessionLimits::default());
    assert_eq!(get(&gate, "/open/a").await, 504);
    let connections: u64 = hanging.iter().map(|one| one.connections.load(Ordering::Relaxed)).sum();
    assert_eq!(connections, 1, "it may be working on it");
}

#[tokio::test]
async fn a_server_that_fails_is_tried_and_comes_back() {
    let good = Server::media().await;
    let reserved = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let flaky = UpstreamServer {
        max_fails: 1,
        fail_timeout: Duration::from_millis(100),
        ..server(&format!("http://{address}"))
    };
    let gate = Running::new(made(media(vec![flaky, server(&good.url())])));
    let deadline = Instant::now() + Duration::from_secs(20);
    while status(&gate)[0].state != ServerState::Failing {
        assert!(Instant::now() < deadline, "it is not seen to fail");
        assert_eq!(get(&gate, "/open/a").await, 200);
    }
    // Requests go on being answered while it is tried now and then.
    let failures = status(&gate)[0].failures;
    while status(&gate)[0].failures < failures + 2 {
        assert!(Instant::now() < deadline, "it is never tried");
        assert_eq!(get(&gate, "/open/a").await, 200);
    }
    // It listens again.
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                .await;
        }
    });
    while status(&gate)[0].state != ServerState::Up {
        assert!(Instant::now() < deadline, "it does not come back");
        assert_eq!(get(&gate, "/open/a").await, 200);
    }
}

#[tokio::test]
async fn kept_connections_that_have_died_are_no_failures() {
    // Says that it keeps the connection, and closes it after each answer.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    count.fetch_add(1, Ordering::Relaxed);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
            });
        }
    });
    let gate = Running::new(made(media(vec![server(&url)])));
    for _ in 0..200 {
        assert_eq!((get(&gate, "/open/a").await, post(&gate).await), (200, 200));
    }
    assert_eq!(served.load(Ordering::Relaxed), 400, "none was served twice");
    assert_eq!(status(&gate)[0].failures, 0);
}

#[tokio::test]
async fn checks_take_servers_out_and_bring_them_back() {
    let answers = [Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(503))];
    let mut servers = Vec::new();
    for answer in &answers {
        let answer = answer.clone();
        servers.push(
            Server::noting(move |seen| {
                let status = if seen.target == "/health" { answer.load(Ordering::Relaxed) } else { 200 };
                Response::builder().status(status).body(full("")).unwrap()
            })
            .await,
        );
    }
    let health = HealthCheck {
        path: "/health".into(),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(10),
    };
    let upstream =
        Upstream { health: Some(health), ..media(servers.iter().map(|one| server(&one.url())).collect()) };
    let gate = Running::new(made(upstream));
    let viewers = |server: &Server| server.requests().iter().filter(|seen| seen.target == "/open/a").count();
    until("the second is down", || status(&gate)[1].state == ServerState::Down).await;
    let before = viewers(&servers[1]);
    for _ in 0..10 {
        assert_eq!(get(&gate, "/open/a").await, 200);
    }
    assert_eq!((viewers(&servers[0]), viewers(&servers[1])), (10, before));
    let check = servers[1].requests().remove(0);
    assert_eq!(check.header("user-agent"), Some(concat!("nicgate/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(check.header("host"), Some(&*servers[1].address.to_string()));

    answers[0].store(404, Ordering::Relaxed);
    until("both are down", || status(&gate)[0].state == ServerState::Down).await;
    let mut client = Client::connect(gate.address).await;
    client.send("GET /open/a HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("2")));
    assert!(reply.text().contains(r#""code":"upstream_down""#), "{}", reply.text());
    assert!(gate.gates.upstreams()[0].is_out());
    assert_eq!(gate.gates.counters()[0].upstream_faults, 1);

    answers[1].store(204, Ordering::Relaxed);
    until("the second is back", || status(&gate)[1].state == ServerState::Up).await;
    assert_eq!(client.get("/open/a").await.status, 200, "on the same connection");
}

#[tokio::test]
async fn a_reload_keeps_what_is_known_and_takes_new_servers() {
    let (first, second) = (Server::media().await, Server::media().await);
    let gate = Running::new(made(media(vec![server(&first.url())])));
    assert_eq!(get(&gate, "/open/a").await, 200);
    let more = made(media(vec![server(&first.url()), server(&second.url())])).snapshot();
    gate.gates.apply(&more).unwrap();
    for _ in 0..4 {
        assert_eq!(get(&gate, "/open/a").await, 200);
    }
    let requests: Vec<_> = status(&gate).iter().map(|one| one.requests).collect();
    assert_eq!(requests, [3, 2]);
    assert_eq!(
        (first.connections.load(Ordering::Relaxed), second.connections.load(Ordering::Relaxed)),
        (1, 1)
    );
    gate.gates.apply(&made(media(vec![server(&second.url())])).snapshot()).unwrap();
    assert_eq!(get(&gate, "/open/a").await, 200);
    assert_eq!((first.count(), second.count()), (3, 3));
}

#[tokio::test]
async fn an_upstream_can_be_a_unix_socket() {
    let site = Site::new();
    let path = site.path("media.sock");
    let upstream = Server::unix(&path, |seen| {
        Response::builder()
            .header("Location", "http://tv.example/open/b")
            .body(full(seen.target.clone()))
            .unwrap()
    })
    .await;
    let gate = Running::new(made(Upstream::one(ServerAddress::Unix(path.clone()))));
    let mut client = Client::connect(gate.address).await;
    for _ in 0..3 {
        let reply = client.get("/open/a").await;
        assert_eq!((reply.status, reply.text()), (200, "/open/a".to_owned()));
        assert_eq!(reply.header("location"), Some("http://tv.example/open/b"), "that is the gate");
    }
    assert_eq!(upstream.connections.load(Ordering::Relaxed), 1);
    assert_eq!(upstream.requests()[0].header("host"), Some("tv.example"));
    client.send("GET /open/a HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 200);
    assert_eq!(upstream.requests()[3].header("host"), Some("localhost"));
    assert_eq!(status(&gate)[0].server, format!("unix:{}", path.display()));
    drop(upstream);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(get(&gate, "/open/a").await, 502);
}

#[tokio::test]
async fn the_client_is_announced_to_an_upstream_that_wants_it() {
    let origin = Server::media().await;
    // The upstream is another gate, which believes what is announced, and nothing else.
    let judged = Made::new()
        .stream("open", Access::Open, Access::Open)
        .gate(LOOPBACK, &origin.url())
        .trusting(&[], &["127.0.0.1/32"]);
    let behind = Running::new(judged);
    let health = HealthCheck {
        path: "/open/health".into(),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(10),
    };
    let upstream = Upstream {
        proxy_protocol: true,
        health: Some(health),
        ..media(vec![server(&format!("http://{}", behind.address))])
    };
    let gate = Running::new(made(upstream));
    let viewers = [Ipv4Addr::new(127, 0, 0, 5), Ipv4Addr::new(127, 0, 0, 6)];
    for viewer in viewers.iter().cycle().take(6) {
        let mut client = Client::connect_from(*viewer, gate.address).await;
        assert_eq!(client.get("/open/a").await.status, 200);
        client.send("POST /open/a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
        assert_eq!(client.reply().await.status, 200);
        let seen = origin.requests().into_iter().rfind(|seen| seen.target == "/open/a").unwrap();
        assert_eq!((&*seen.method, seen.header("x-forwarded-for")), ("POST", Some(&*viewer.to_string())));
    }
    until("checks are answered", || origin.requests().iter().any(|seen| seen.target == "/open/health")).await;
    let counters = behind.gates.counters().remove(0);
    assert_eq!((counters.proxied, counters.proxies_refused), (12, 0));
    assert_eq!((status(&gate)[0].state, status(&gate)[0].failures), (ServerState::Up, 0));
    assert_eq!(status(&gate)[0].idle, 0, "each connection is for one client");
}

#[tokio::test]
async fn a_prefix_is_for_the_clients_alone() {
    let upstream = Server::noting(|seen| match seen.target.split('?').next().unwrap() {
        "/open/index.m3u8" => Response::builder()
            .header("Content-Type", "application/vnd.apple.mpegurl")
            .body(full("#EXTM3U\n#EXTINF:2,\nseg.ts\n#EXTINF:2,\n../open/b.ts\n"))
            .unwrap(),
        "/open" => Response::builder().status(302).header("Location", "/open/").body(full("")).unwrap(),
        _ => Response::new(full("media")),
    })
    .await;
    let mut made = made(Upstream::from(Url::parse(&upstream.url()).unwrap()));
    made.last_gate().prefix = "a/tv".into();
    let gate = Running::new(made);
    let mut client = Client::connect(gate.address).await;
    assert_eq!(client.get("/a/tv/open/seg.ts?x=1").await.status, 200);
    assert_eq!(upstream.requests()[0].target, "/open/seg.ts?x=1");
    for outside in ["/open/seg.ts", "/a/tvs/open/seg.ts", "/a/tv/../open/seg.ts", "/"] {
        assert_eq!(client.get(outside).await.status, 404, "{outside}");
    }
    assert_eq!(upstream.count(), 1, "nothing else reached it");
    let counters = gate.gates.counters().remove(0);
    assert_eq!((counters.not_found, counters.bad_requests), (4, 0));
    let reply = client.get("/a/tv/open?token=t").await;
    assert_eq!(reply.header("location"), Some("/a/tv/open/?token=t"));
    let playlist = client.get("/a/tv/open/index.m3u8?token=t").await.text();
    assert!(
        playlist.contains("\nseg.ts?token=t\n") && playlist.contains("\n../open/b.ts?token=t\n"),
        "{playlist}"
    );
}

#[tokio::test]
async fn a_cookie_is_for_the_prefix_too() {
    let upstream = Server::media().await;
    let mut made = made(Upstream::from(Url::parse(&upstream.url()).unwrap()));
    made.last_gate().prefix = "tv".into();
    made.last_gate().player_token = PlayerToken::Cookie;
    let trusting = made.trusting(&[("127.0.0.1/32", filter_user::model::AddressHeader::XForwardedFor)], &[]);
    let gate = Running::new(trusting);
    let mut client = Client::connect(gate.address).await;
    let reply = client.get("/tv/open/a?token=good").await;
    assert_eq!(reply.header("set-cookie"), Some("token=good; Path=/tv/open; HttpOnly; SameSite=Lax"));
    // A proxy that ends TLS says so.
    client.send("GET /tv/open/a?token=good HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n").await;
    let reply = client.reply().await;
    let cookie = "token=good; Path=/tv/open; HttpOnly; Secure; SameSite=None";
    assert_eq!(reply.header("set-cookie"), Some(cookie));
}

/// What is announced is the viewer's own address and port, and where it came to.
#[tokio::test]
async fn both_ends_are_announced() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let upstream = Upstream { proxy_protocol: true, ..media(vec![server(&url)]) };
    let gate = Running::new(made(upstream));
    let mut client = Client::connect(gate.address).await;
    let (local, to): (SocketAddr, SocketAddr) = (client.stream.local_addr().unwrap(), gate.address);
    client.send("GET /open/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") || seen.len() < 40 {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "{seen:?}");
    }
    let header = filter_user::http::proxy_protocol::write(local, to);
    assert_eq!(seen[..header.len()], header);
    let head = String::from_utf8(seen[header.len()..].to_vec()).unwrap();
    assert!(head.starts_with("GET /open/a HTTP/1.1\r\n") && head.contains("connection: close"), "{head}");
}
