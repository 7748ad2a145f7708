//! Where a token may stand.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use filter_user::model::{Access, Action, ServiceKind, TokenFrom};
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running},
    origins::Server,
    raw_client::{Client, Reply},
};

async fn gate(token_from: TokenFrom) -> (Running, Server) {
    let upstream = Server::noting(|seen| {
        let list = seen.target.contains(".m3u8");
        let body =
            if list { "#EXTM3U\n1.ts\n/cam/2.ts\n".to_owned() } else { format!("media {}", seen.target) };
        let content_type = if list { "application/vnd.apple.mpegurl" } else { "video/mp2t" };
        http::Response::builder().header("content-type", content_type).body(kit::origins::full(body)).unwrap()
    })
    .await;
    let mut made = Made::new();
    let policy = made.policy(Rules::new("p").token(Action::Allow, "good"));
    let mut made =
        made.stream("cam", Access::Policy(policy), Access::Policy(policy)).gate(LOOPBACK, &upstream.url());
    if let ServiceKind::Gate(gate) = &mut made.config.services[0].kind {
        gate.token_from = token_from;
    }
    (Running::new(made), upstream)
}

const NOWHERE: TokenFrom = TokenFrom { query: false, header: false, cookie: false, path: false };

async fn ask(gate: &Running, method: &str, target: &str, lines: &str) -> Reply {
    let mut client = Client::connect(gate.address).await;
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: tv.example\r\n{lines}\r\n")).await;
    client.reply().await
}

#[tokio::test]
async fn a_token_counts_where_it_may_stand_and_nowhere_else() {
    let places = [
        ("/cam/1.ts?token=good", "", TokenFrom { query: true, ..NOWHERE }),
        ("/cam/1.ts", "Authorization: Bearer good\r\n", TokenFrom { header: true, ..NOWHERE }),
        ("/cam/1.ts", "Cookie: a=b; token=good\r\n", TokenFrom { cookie: true, ..NOWHERE }),
        ("/token=good/cam/1.ts", "", TokenFrom { path: true, ..NOWHERE }),
    ];
    for (target, lines, _) in places {
        for (.., from) in places {
            let (gate, upstream) = gate(from).await;
            let reply = ask(&gate, "GET", target, lines).await;
            let counts = places.iter().any(|(t, l, f)| (*t, *l, *f) == (target, lines, from));
            // A segment that is no token is a part of the path, which no stream has.
            let refused = if target.starts_with("/token") { 404 } else { 403 };
            assert_eq!(reply.status, if counts { 200 } else { refused }, "{target} {lines} {from:?}");
            assert_eq!(upstream.count(), usize::from(counts));
            assert!(upstream.requests().iter().all(|seen| !seen.target.starts_with("/token")));
        }
    }
}

#[tokio::test]
async fn tokens_that_disagree_are_refused() {
    let everywhere = TokenFrom { query: true, header: true, cookie: true, path: true };
    let (gate, upstream) = gate(everywhere).await;
    for (target, lines) in [
        ("/cam/1.ts?token=good", "Authorization: Bearer bad\r\n"),
        ("/cam/1.ts?token=bad", "Cookie: token=good\r\n"),
        ("/token=good/cam/1.ts?token=bad", ""),
        ("/cam/1.ts", "Cookie: token=good; token=bad\r\n"),
        ("/cam/1.ts", "Authorization: Bearer good\r\nAuthorization: Bearer bad\r\n"),
    ] {
        assert_eq!(ask(&gate, "GET", target, lines).await.status, 400, "{target} {lines}");
    }
    assert_eq!(upstream.count(), 0);
    let all = "Authorization: Bearer good\r\nCookie: token=good\r\n";
    assert_eq!(ask(&gate, "GET", "/token=good/cam/1.ts?token=good", all).await.status, 200);
}

#[tokio::test]
async fn a_playlist_hands_a_token_on_in_the_form_that_is_read() {
    let query = TokenFrom { header: true, ..TokenFrom::default() };
    let path = TokenFrom { path: true, ..NOWHERE };
    for (from, target, lines, expected) in [
        (
            query,
            "/cam/a.m3u8",
            "Authorization: Bearer good\r\n",
            "#EXTM3U\n1.ts?token=good\n/cam/2.ts?token=good\n",
        ),
        // A relative reference keeps the segment by itself.
        (path, "/cam/token=good/a.m3u8", "", "#EXTM3U\n1.ts\n/cam/token=good/2.ts\n"),
        (path, "/token=good/cam/a.m3u8", "", "#EXTM3U\n1.ts\n/cam/token=good/2.ts\n"),
        // Nothing that could be written would be read.
        (
            TokenFrom { header: true, ..NOWHERE },
            "/cam/a.m3u8",
            "Authorization: Bearer good\r\n",
            "#EXTM3U\n1.ts\n/cam/2.ts\n",
        ),
        // A browser sends its cookie again by itself.
        (
            TokenFrom { cookie: true, ..TokenFrom::default() },
            "/cam/a.m3u8",
            "Cookie: token=good\r\n",
            "#EXTM3U\n1.ts\n/cam/2.ts\n",
        ),
    ] {
        let (gate, _upstream) = gate(from).await;
        let reply = ask(&gate, "GET", target, lines).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, expected), "{target} {from:?}");
    }
}

#[tokio::test]
async fn a_publisher_is_one_session_wherever_its_token_stands() {
    for (from, prefix, lines) in [
        (TokenFrom { header: true, ..NOWHERE }, "/cam", "Authorization: Bearer good\r\n"),
        (TokenFrom { cookie: true, ..NOWHERE }, "/cam", "Cookie: token=good\r\n"),
        (TokenFrom { path: true, ..NOWHERE }, "/token=good/cam", ""),
    ] {
        let (gate, upstream) = gate(from).await;
        for (method, file) in [("PUT", "1.ts"), ("PUT", "a.m3u8"), ("DELETE", "1.ts"), ("POST", "x.mpegts")] {
            let body = if method == "DELETE" { "" } else { "Content-Length: 0\r\n" };
            let target = format!("{prefix}/{file}");
            assert_eq!(ask(&gate, method, &target, &format!("{lines}{body}")).await.status, 200, "{target}");
            assert_eq!(
                ask(&gate, method, &format!("/cam/{file}"), body).await.status,
                403,
                "{method} {file}"
            );
        }
        assert_eq!(upstream.count(), 4);
    }
}

#[tokio::test]
async fn a_publisher_deletes_with_a_body_of_nothing() {
    let (gate, upstream) = gate(TokenFrom { path: true, ..NOWHERE }).await;
    let head = "DELETE /token=good/cam/1.ts HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    // As ffmpeg does; and wherever packets are cut.
    let raw = format!("{head}0\r\n\r\n");
    for cut in [raw.len(), raw.len() - 1, raw.len() - 3, head.len(), head.len() - 1] {
        let mut client = Client::connect(gate.address).await;
        client.send(&raw[..cut]).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        client.send(&raw[cut..]).await;
        assert_eq!(client.reply().await.status, 200, "cut at {cut}");
        // The connection goes on where the body ended.
        assert_eq!(client.get("/token=good/cam/2.ts").await.text(), "media /cam/2.ts");
    }
    let deleted: Vec<_> = upstream.requests().into_iter().filter(|seen| seen.method == "DELETE").collect();
    assert_eq!(deleted.len(), 5);
    assert!(deleted.iter().all(|seen| seen.header("transfer-encoding").is_none() && seen.body.is_empty()));
    for body in [
        "1\r\nx\r\n0\r\n\r\n",
        "0\r\nX: y\r\n\r\n",
        "0;x\r\n\r\n",
        "00\r\n\r\n",
        "GET /cam/x HTTP/1.1\r\n\r\n",
    ] {
        let mut client = Client::connect(gate.address).await;
        client.send(format!("{head}{body}")).await;
        let reply = client.reply().await;
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (400, "body of a request that has none\n"),
            "{body}"
        );
    }
    assert_eq!(upstream.count(), 10);
}

#[tokio::test]
async fn a_webrtc_session_ends_where_the_media_server_says() {
    // The media server names its sessions where no stream is.
    let upstream = Server::noting(|seen| {
        let builder = http::Response::builder();
        match seen.method.as_str() {
            "POST" => builder.status(201).header("location", "/session/7?secret=x"),
            _ => builder.status(204),
        }
        .body(kit::origins::full(""))
        .unwrap()
    })
    .await;
    let mut made = Made::new();
    let policy = made.policy(Rules::new("p").token(Action::Allow, "good"));
    let made = made.stream("cam", Access::Policy(policy), Access::Policy(policy)).stream(
        "other",
        Access::Policy(policy),
        Access::Policy(policy),
    );
    let mut made = made.gate(LOOPBACK, &upstream.url());
    if let ServiceKind::Gate(gate) = &mut made.config.services[0].kind {
        gate.token_from = TokenFrom { query: true, header: true, cookie: false, path: true };
    }
    let gate = Running::new(made);
    let offer = "Content-Type: application/sdp\r\nContent-Length: 0\r\n";
    for (target, lines) in [
        ("/cam/whip?token=good", ""),
        ("/cam/whip", "Authorization: Bearer good\r\n"),
        ("/token=good/cam/whip", ""),
        ("/cam/whep", "Authorization: Bearer good\r\n"),
    ] {
        let reply = ask(&gate, "POST", target, &format!("{lines}{offer}")).await;
        let location = reply.header("location").unwrap().to_owned();
        assert_eq!(reply.status, 201);
        assert!(
            location.contains("cam/whip/nicgate-") || location.contains("cam/whep/nicgate-"),
            "{location}"
        );
        for method in ["PATCH", "DELETE"] {
            let body = if method == "PATCH" { "Content-Length: 0\r\n" } else { "" };
            assert_eq!(
                ask(&gate, method, &location, &format!("{lines}{body}")).await.status,
                204,
                "{location}"
            );
            let seen = upstream.requests().pop().unwrap();
            assert_eq!((&*seen.method, &*seen.target), (method, "/session/7?secret=x"));
            // It is judged as a request of its stream, and is no way into another.
            let bare = location.replace("?token=good", "").replace("/token=good", "");
            assert_eq!(ask(&gate, method, &bare, body).await.status, 403, "{bare}");
            let elsewhere = location.replace("cam/", "other/");
            let status = ask(&gate, method, &elsewhere, &format!("{lines}{body}")).await.status;
            assert_eq!(status, 204, "passed on as the path that it is");
            assert!(upstream.requests().pop().unwrap().target.starts_with("/other/"));
        }
    }
    // WHIP publishes and WHEP plays: one session each, wherever the token stands.
    assert_eq!(gate.sessions.list().iter().filter(|session| &*session.key.stream == "cam").count(), 2);
}
