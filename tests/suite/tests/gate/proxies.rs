//! Gates behind trusted proxies: whose address is judged, and what is refused.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use filter_user::{
    bans::{BanIndex, BanTable, Scope},
    gate::Limits,
    http::{Limits as HttpLimits, proxy_protocol},
    kernel::boottime,
    model::{Access, Action, AddressHeader, Gate, ServiceKind, Trust},
    session::{SessionLimits, Snapshot},
};
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running, quick},
    origins::Server,
    raw_client::{Client, Reply},
    wait::until,
};

const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

/// `cam` is for 203.0.113.0/24 alone, `open` for all.
fn made(upstream: &Server) -> Made {
    Made::new()
        .judged("cam", Rules::new("p").ip(Action::Allow, "203.0.113.0/24"))
        .stream("open", Access::Open, Access::Open)
        .gate(LOOPBACK, &upstream.url())
}

fn by_header(upstream: &Server, header: AddressHeader) -> Running {
    Running::new(made(upstream).trusting(&[("127.0.0.10/31", header)], &[]))
}

fn by_announcement(upstream: &Server) -> Running {
    Running::with(made(upstream).trusting(&[], &["127.0.0.10/32"]), quick(), SessionLimits::default())
}

/// One request from an address with further header lines.
async fn get(gate: &Running, from: Ipv4Addr, target: &str, lines: &str) -> Reply {
    let mut client = Client::connect_from(from, gate.address).await;
    client.send(format!("GET {target} HTTP/1.1\r\nHost: tv.example\r\n{lines}\r\n")).await;
    client.reply().await
}

#[tokio::test]
async fn the_address_that_a_proxy_names_is_judged_and_passed_on() {
    let upstream = Server::media().await;
    for (header, names) in [
        (AddressHeader::XForwardedFor, "X-Forwarded-For: 198.51.100.1, 203.0.113.5, 127.0.0.11\r\n"),
        (AddressHeader::XRealIp, "X-Real-IP: 203.0.113.5\r\n"),
        (
            AddressHeader::Forwarded,
            "Forwarded: for=198.51.100.1, for=203.0.113.5;proto=http, for=127.0.0.11\r\n",
        ),
        (AddressHeader::CfConnectingIp, "CF-Connecting-IP: 203.0.113.5\r\n"),
    ] {
        let gate = by_header(&upstream, header);
        let lines = format!("{names}X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n");
        assert_eq!(get(&gate, PROXY, "/cam/a", &lines).await.status, 200, "{header}");
        let seen = upstream.requests().pop().unwrap();
        for (name, value) in [
            ("x-forwarded-for", "203.0.113.5"),
            ("x-real-ip", "203.0.113.5"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "tv.example"),
            ("forwarded", "for=203.0.113.5;proto=https;host=\"tv.example\""),
        ] {
            let values: Vec<_> = seen.headers.get_all(name).iter().collect();
            assert_eq!(values, [value], "{header}: {name}");
        }
        assert!(header == AddressHeader::XRealIp || seen.header("cf-connecting-ip").is_none(), "{header}");
        let session = gate.sessions.list().remove(0);
        assert_eq!(
            session.key.address,
            IpAddr::from([203, 0, 113, 5]),
            "{header}: the session is the viewer's"
        );

        // The same from a stranger is the stranger's own request, and its words go no further.
        assert_eq!(get(&gate, STRANGER, "/cam/a", &lines).await.status, 403, "{header}");
        assert_eq!(get(&gate, STRANGER, "/open/a", &lines).await.status, 200, "{header}");
        let seen = upstream.requests().pop().unwrap();
        assert_eq!(
            seen.header("forwarded"),
            Some("for=127.0.0.77;proto=http;host=\"tv.example\""),
            "{header}"
        );
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.77"), "{header}");

        // Another address behind the same proxy, and the proxy's own request.
        let other = lines.replace("203.0.113.5", "192.0.2.5");
        assert_eq!(get(&gate, PROXY, "/cam/a", &other).await.status, 403, "{header}");
        assert_eq!(get(&gate, PROXY, "/cam/a", "").await.status, 403, "{header}");
        let counters = gate.gates.counters().remove(0);
        assert_eq!((counters.proxied, counters.proxies_refused), (2, 0), "{header}");
    }
}

#[tokio::test]
async fn what_a_proxy_names_twice_or_by_an_alias_is_refused_and_counted() {
    let upstream = Server::media().await;
    let gate = by_header(&upstream, AddressHeader::XForwardedFor);
    let cases = [
        "X-Forwarded-For: 203.0.113.5\r\nX-Forwarded-For: 203.0.113.5\r\n",
        "X-Forwarded-For: 203.0.113.5\r\nX_Forwarded_For: 203.0.113.5\r\n",
        "X-Forwarded.For: 203.0.113.5\r\n",
        "X-Forwarded-For: 203.0.113.5, unknown\r\n",
        "X-Forwarded-For:\r\n",
        "X-Forwarded-For: 203.0.113.5\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n",
    ];
    let proxies = format!("X-Forwarded-For: 203.0.113.5{}\r\n", ", 127.0.0.11".repeat(1000));
    for lines in cases.into_iter().chain([&*proxies]) {
        let mut client = Client::connect_from(PROXY, gate.address).await;
        client.send(format!("GET /cam/a HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).await;
        assert_eq!(client.reply().await.status, 400, "{lines}");
        assert!(client.closed().await, "{lines}");
        // Strangers may write what they like: it means nothing.
        assert_eq!(get(&gate, STRANGER, "/open/a", lines).await.status, 200, "{lines}");
    }
    let hops = format!("X-Forwarded-For: {}203.0.113.5\r\n", "198.51.100.1, ".repeat(1000));
    assert_eq!(
        get(&gate, PROXY, "/cam/a", &hops).await.status,
        200,
        "what the client wrote is not looked at"
    );
    let counters = gate.gates.counters().remove(0);
    assert_eq!((counters.proxies_refused, counters.bad_requests), (7, 7));
}

#[tokio::test]
async fn the_address_that_a_proxy_announces_is_judged() {
    let upstream = Server::media().await;
    let gate = by_announcement(&upstream);
    let (viewer, other): (SocketAddr, SocketAddr) =
        ("203.0.113.5:4711".parse().unwrap(), "[2001:db8::7]:4711".parse().unwrap());
    let v1 = |source: SocketAddr| {
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        format!("PROXY {family} {0} {0} {1} 80\r\n", source.ip(), source.port()).into_bytes()
    };
    let v2 = |source: SocketAddr| proxy_protocol::write(source, gate.address);
    for header in [v1(viewer), v2(viewer)] {
        let mut client = Client::connect_from(PROXY, gate.address).await;
        // A header in several pieces, the last of them with a request.
        for piece in header[..header.len() - 1].chunks(7) {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        let request = b"GET /cam/a HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
        client.send([&header[header.len() - 1..], request].concat()).await;
        assert_eq!(client.reply().await.status, 200);
        assert_eq!(client.get("/cam/b").await.status, 200, "it holds for all of the connection");
        assert_eq!(upstream.requests().pop().unwrap().header("x-forwarded-for"), Some("203.0.113.5"));
    }
    for header in [v1(other), v2(other), b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut client = Client::connect_from(PROXY, gate.address).await;
        client.send(&header).await;
        assert_eq!(client.get("/cam/a").await.status, 403, "{header:?}");
        assert_eq!(client.get("/open/a").await.status, 200, "{header:?}");
    }
    let sessions = gate.sessions.list();
    let viewers: Vec<_> = sessions.iter().filter(|session| &*session.key.stream == "cam").collect();
    assert_eq!(viewers.len(), 1, "four requests over two connections are one viewer: {viewers:?}");
    let counters = gate.gates.counters().remove(0);
    assert_eq!((counters.proxied, counters.proxies_refused), (4 + 4, 0), "all but the proxy's own");
}

#[tokio::test]
async fn announcements_that_are_broken_missing_or_from_strangers_are_refused_and_counted() {
    let upstream = Server::media().await;
    let http = HttpLimits { head_time: Duration::from_millis(300), ..quick().http };
    let made = made(&upstream).trusting(&[], &["127.0.0.10/32"]);
    let gate = Running::with(made, Limits { http, ..quick() }, SessionLimits::default());
    let header = proxy_protocol::write("203.0.113.5:1".parse().unwrap(), gate.address);
    let request = b"GET /open/a HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let mut lying = header.clone();
    lying[15] = 11;
    let mut long = header.clone();
    long[14] = 0xff;
    let twice = [&header[..], &header, &request].concat();
    let mut refused = 0;
    for (from, sent, status) in [
        (PROXY, request.clone(), 400),
        (PROXY, b"PROXY TCP4 203.0.113.5\r\n".to_vec(), 400),
        (PROXY, lying, 400),
        (PROXY, long, 400),
        (PROXY, twice, 400),
        (PROXY, b"\x16\x03\x01\x02\0\x01\0".to_vec(), 400),
        (PROXY, header[..20].to_vec(), 408),
        (STRANGER, header.clone(), 400),
        (STRANGER, b"PROXY TCP4 203.0.113.5 127.0.0.1 1 80\r\n".to_vec(), 400),
    ] {
        let mut client = Client::connect_from(from, gate.address).await;
        client.send(&sent).await;
        assert_eq!(client.reply().await.status, status, "{}", sent.escape_ascii());
        assert!(client.closed().await);
        refused += 1;
        assert_eq!(gate.gates.counters()[0].proxies_refused, refused, "{}", sent.escape_ascii());
    }
    let mut cut = Client::connect_from(PROXY, gate.address).await;
    cut.send(&header[..20]).await;
    drop(cut);
    refused += 1;
    until("a header that is cut is counted", || gate.gates.counters()[0].proxies_refused == refused).await;

    // A proxy that looks whether somebody listens is no fault, and a stranger without a header a client like any other.
    drop(Client::connect_from(PROXY, gate.address).await);
    assert_eq!(get(&gate, STRANGER, "/open/a", "").await.status, 200);
    let counters = gate.gates.counters().remove(0);
    assert_eq!(counters.proxies_refused, refused);
    assert_eq!(counters.requests, refused + 1, "each of them is a line of the log, and answered");
    assert_eq!(upstream.count(), 1, "nothing of it reached the upstream");
}

#[tokio::test]
async fn a_header_is_believed_from_the_proxy_that_another_announces() {
    let upstream = Server::media().await;
    let real_ip = [("198.51.100.0/24", AddressHeader::CfConnectingIp)];
    let gate = Running::new(made(&upstream).trusting(&real_ip, &["127.0.0.10/32"]));
    for (announced, status) in [("198.51.100.9:1", 200), ("192.0.2.9:1", 403)] {
        let mut client = Client::connect_from(PROXY, gate.address).await;
        client.send(proxy_protocol::write(announced.parse().unwrap(), gate.address)).await;
        client.send("GET /cam/a HTTP/1.1\r\nHost: a\r\nCF-Connecting-IP: 203.0.113.5\r\n\r\n").await;
        assert_eq!(client.reply().await.status, status, "{announced}");
    }
}

#[tokio::test]
async fn connections_are_counted_for_the_viewer_and_not_for_the_proxy() {
    let upstream = Server::media().await;
    let limits = Limits { connections_per_address: 2, ..quick() };
    let trusting =
        made(&upstream).trusting(&[("127.0.0.10/32", AddressHeader::XForwardedFor)], &["127.0.0.11/32"]);
    let gate = Running::with(trusting, limits, SessionLimits::default());
    let mut held = Vec::new();
    for n in 0..8 {
        let mut client = Client::connect_from(PROXY, gate.address).await;
        client.send(format!("GET /open HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.{n}\r\n\r\n")).await;
        assert_eq!(client.reply().await.status, 200, "the proxy's connection {n}");
        held.push(client);
    }
    for (viewer, statuses) in [("203.0.113.1:1", [200, 200, 503]), ("203.0.113.2:1", [200, 200, 503])] {
        for status in statuses {
            let mut client = Client::connect_from([127, 0, 0, 11], gate.address).await;
            client.send(proxy_protocol::write(viewer.parse().unwrap(), gate.address)).await;
            assert_eq!(client.get("/open").await.status, status, "{viewer}");
            held.push(client);
        }
    }
    for status in [200, 200, 503] {
        let mut client = Client::connect_from(STRANGER, gate.address).await;
        assert_eq!(client.get("/open").await.status, status, "a stranger has its own limit");
        held.push(client);
    }
}

#[tokio::test]
async fn a_ban_of_the_viewer_holds_behind_the_proxy_and_one_of_the_proxy_is_not_the_viewers() {
    let upstream = Server::media().await;
    let gate = by_header(&upstream, AddressHeader::XRealIp);
    let ban = |net: &str| {
        let mut table = BanTable::default();
        table.put((Scope::Everywhere, net.parse().unwrap()), None, None, boottime(), 0).unwrap();
        gate.sessions.ban(BanIndex::new(&table));
    };
    let through = |address: &'static str| get(&gate, PROXY, "/open/a", address);
    ban("203.0.113.5/32");
    assert_eq!(through("X-Real-IP: 203.0.113.5\r\n").await.status, 403);
    assert_eq!(through("X-Real-IP: 203.0.113.6\r\n").await.status, 200);
    ban("127.0.0.10/32");
    assert_eq!(through("X-Real-IP: 203.0.113.5\r\n").await.status, 200);
    assert_eq!(through("").await.status, 403, "the proxy's own request");
}

#[tokio::test]
async fn a_reload_ends_the_trust_in_connections_that_are_open() {
    let upstream = Server::media().await;
    let gate = by_announcement(&upstream);
    let mut announced = Client::connect_from(PROXY, gate.address).await;
    announced.send(proxy_protocol::write("203.0.113.5:1".parse().unwrap(), gate.address)).await;
    assert_eq!(announced.get("/cam/a").await.status, 200);
    let before = gate.sessions.snapshot();
    let mut config = before.config.clone();
    let ServiceKind::Gate(Gate { trust, .. }) = &mut config.services[0].kind else { panic!("a gate") };
    *trust = Trust::default();
    gate.gates.apply(&Arc::new(Snapshot { config, countries: Box::new(()) })).unwrap();
    assert_eq!(announced.get("/cam/a").await.status, 400);
    assert_eq!(gate.gates.counters()[0].proxies_refused, 1);
}
