//! Gates behind real proxies: HAProxy and nginx, as `docs/proxies.md` says to set them up.

use std::net::Ipv4Addr;

use filter_user::{
    gate::Limits,
    model::{Access, Action, AddressHeader},
    session::SessionLimits,
};
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running, quick},
    fronts::Front,
    origins::Server,
    raw_client::{Client, Reply},
};

/// Viewers come from 127.0.0.0/8; the proxies connect from here.
const FRONT: &str = "127.0.0.1/32";
const GOOD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);
const BAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);

/// `cam` is for one viewer alone.
fn made(upstream: &Server) -> Made {
    Made::new()
        .judged("cam", Rules::new("p").ip(Action::Allow, "127.0.0.5/32"))
        .stream("open", Access::Open, Access::Closed)
        .gate(LOOPBACK, &upstream.url())
}

async fn get(front: &Front, from: Ipv4Addr, lines: &str) -> Reply {
    let mut client = Client::connect_from(from, front.address).await;
    client.send(format!("GET /cam/a HTTP/1.1\r\nHost: tv.example\r\n{lines}\r\n")).await;
    client.reply().await
}

/// What has to hold behind every proxy.
async fn viewers_are_told_apart(what: &str, gate: &Running, upstream: &Server, front: &Front) {
    for _ in 0..3 {
        assert_eq!(get(front, GOOD, "").await.status, 200, "{what}");
        assert_eq!(get(front, BAD, "").await.status, 403, "{what}");
    }
    // What a client writes itself is not believed, whatever the proxy makes of it.
    let forged = "X-Real-IP: 127.0.0.5\r\nX-Forwarded-For: 127.0.0.5\r\nForwarded: for=127.0.0.5\r\n";
    assert_eq!(get(front, BAD, forged).await.status, 403, "{what}");
    assert_eq!(get(front, GOOD, "X-Forwarded-For: 192.0.2.1\r\n").await.status, 200, "{what}");
    let seen = upstream.requests().pop().expect("a request");
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.5"), "{what}");
    let sessions = gate.sessions.list();
    assert_eq!(sessions.len(), 1, "{what}: {sessions:?}");
    assert_eq!(sessions[0].key.address, GOOD, "{what}");
    let counters = gate.gates.counters().remove(0);
    assert_eq!((counters.proxied, counters.proxies_refused), (8, 0), "{what}");
}

#[tokio::test]
async fn haproxy_announces_viewers() {
    for option in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let upstream = Server::media().await;
        let gate = Running::new(made(&upstream).trusting(&[], &[FRONT]));
        // With a check that is announced as well: a connection of HAProxy's own.
        let server = format!("{option} check inter 200ms");
        let front = Front::haproxy(gate.address, "  unique-id-format %{+X}o%ci:%cp", &server);
        viewers_are_told_apart(option, &gate, &upstream, &front).await;
    }
}

#[tokio::test]
async fn haproxy_names_viewers() {
    let upstream = Server::media().await;
    let gate = Running::new(made(&upstream).trusting(&[(FRONT, AddressHeader::XForwardedFor)], &[]));
    let lines = "  http-request set-header X-Forwarded-For %[src]\n  http-request del-header x_forwarded_for";
    let front = Front::haproxy(gate.address, lines, "");
    viewers_are_told_apart("set-header", &gate, &upstream, &front).await;

    // `option forwardfor` adds a second line to that of the client: which of them counts depends on the reader.
    let front = Front::haproxy(gate.address, "  option forwardfor", "");
    assert_eq!(get(&front, GOOD, "").await.status, 200);
    assert_eq!(get(&front, BAD, "X-Forwarded-For: 127.0.0.5\r\n").await.status, 400);
}

fn nginx(gate: &Running, lines: &str) -> Front {
    Front::nginx(&format!(
        "http {{ server {{ listen 127.0.0.1:PORT; location / {{ proxy_pass http://{}; {lines} }} }} }}",
        gate.address
    ))
}

#[tokio::test]
async fn nginx_names_viewers() {
    for (header, lines) in [
        (AddressHeader::XRealIp, "proxy_set_header X-Real-IP $remote_addr;"),
        (AddressHeader::XForwardedFor, "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"),
        (AddressHeader::Forwarded, "proxy_set_header Forwarded for=$remote_addr;"),
    ] {
        let upstream = Server::media().await;
        let gate = Running::new(made(&upstream).trusting(&[(FRONT, header)], &[]));
        let front = nginx(&gate, lines);
        viewers_are_told_apart(lines, &gate, &upstream, &front).await;
    }
}

#[tokio::test]
async fn nginx_announces_viewers() {
    let upstream = Server::media().await;
    let gate = Running::new(made(&upstream).trusting(&[], &[FRONT]));
    let front = Front::nginx(&format!(
        "stream {{ server {{ listen 127.0.0.1:PORT; proxy_pass {}; proxy_protocol on; }} }}",
        gate.address
    ));
    viewers_are_told_apart("stream", &gate, &upstream, &front).await;
}

/// Behind a terminator of TLS all viewers come over its connections, and it has as many as it needs.
#[tokio::test]
async fn six_hundred_viewers_come_through_one_proxy_at_once() {
    const VIEWERS: usize = 600;
    let upstream = Server::media().await;
    let trusting = Made::new()
        .stream("open", Access::Open, Access::Closed)
        .gate(LOOPBACK, &upstream.url())
        .trusting(&[(FRONT, AddressHeader::XRealIp)], &[]);
    // Less than the proxy needs.
    let limits = Limits { connections_per_address: 16, ..quick() };
    let gate = Running::with(trusting, limits, SessionLimits::default());
    let front = nginx(&gate, "proxy_set_header X-Real-IP $remote_addr;");
    let all = (0..VIEWERS).map(|n| {
        let (address, from) =
            (front.address, Ipv4Addr::new(127, 0, 1 + (n / 250) as u8, 1 + (n % 250) as u8));
        tokio::spawn(async move { Client::connect_from(from, address).await.get("/open/a").await.status })
    });
    for (n, viewer) in all.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(viewer.await.expect("it ends"), 200, "viewer {n}");
    }
    assert_eq!(gate.sessions.list().len(), VIEWERS);
    assert_eq!(gate.gates.counters()[0].connections_refused, 0);
}
