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
