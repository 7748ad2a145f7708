//! Tokens travel: what the gate does to playlists and manifests, and what it leaves alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::time::Duration;

use filter_user::model::{Access, Action, Gate, PlayerToken, ServiceKind};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running},
    origins::{AnyBody, Seen, Server, full},
    raw_client::{Client, Reply},
};

const HLS: &str = "application/vnd.apple.mpegurl";
const LIST: &str = "#EXTM3U\n#EXTINF:4,\n1.ts\n#EXTINF:4,\nhttp://cdn.example/2.ts\n/other/3.ts\n";
const WITH_TOKEN: &str =
    "#EXTM3U\n#EXTINF:4,\n1.ts?token=good\n#EXTINF:4,\nhttp://cdn.example/2.ts\n/other/3.ts\n";

/// Answers each path in its own way.
fn media(seen: &Seen) -> Response<AnyBody> {
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let list = |content_type: &str| Response::builder().header("content-type", content_type);
    match path {
        "/cam/list.m3u8" => {
            let tag = "\"v1\"";
            let answer = list(HLS)
                .header("etag", tag)
                .header("cache-control", "public, max-age=2")
                .header("accept-ranges", "bytes");
            if seen.header("if-none-match") == Some(tag) {
                return answer.status(StatusCode::NOT_MODIFIED).body(full("")).unwrap();
            }
            match seen.header("range") {
                Some(_) => {
                    answer.status(206).header("content-range", "bytes 0-1/9").body(full("#E")).unwrap()
                }
                None => answer.body(full(LIST)).unwrap(),
            }
        }
        "/cam/own.m3u8" => {
            list(HLS).header("etag", "\"v1\"").body(full(format!("#EXTM3U\n1.ts?{query}\n"))).unwrap()
        }
        "/cam/master.m3u8" => {
            list(HLS).body(full("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8\n")).unwrap()
        }
        "/cam/live.mpd" => list("application/dash+xml")
            .body(full("<MPD><Period><BaseURL>a.mp4</BaseURL></Period></MPD>"))
            .unwrap(),
        "/cam/entities.mpd" => list("application/dash+xml")
            .body(full("<!DOCTYPE MPD [<!ENTITY a \"b\">]><MPD><BaseURL>&a;</BaseURL></MPD>"))
            .unwrap(),
        "/cam/large.mpd" => list("application/dash+xml")
            .body(full(format!("<MPD><BaseURL>a.mp4</BaseURL>{}</MPD>", " ".repeat(2 << 20))))
            .unwrap(),
        "/cam/gzip.m3u8" => {
            list(HLS).header("content-encoding", "gzip").body(full("#EXTM3U\n1.ts\n")).unwrap()
        }
        "/cam/page.m3u8" => list("text/html").body(full("#EXTM3U\n1.ts\n")).unwrap(),
        "/cam/play" => {
            let whole = list(HLS).status(206).header("content-range", "bytes 0-12/13");
            whole.body(full("#EXTM3U\n1.ts\n")).unwrap()
        }
        "/cam/huge.m3u8" => {
            // Fifty megabytes in lines, the last without an end.
            let line = format!("#EXTINF:4,\n{}.ts\n", "s".repeat(487));
            let lines = futures_of(line, 100_000);
            list(HLS).body(lines).unwrap()
        }
        _ => Response::new(full(format!("media {}", seen.target))),
    }
}

/// A body of `count` times `line`, after a playlist's first line.
fn futures_of(line: String, count: usize) -> AnyBody {
    struct Lines {
        first: bool,
        line: bytes::Bytes,
        left: usize,
    }
    impl hyper::body::Body for Lines {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<bytes::Bytes>, Self::Error>>> {
            if std::mem::take(&mut self.first) {
                return std::task::Poll::Ready(Some(Ok(Frame::data("#EXTM3U\n".into()))));
            }
            let next = self.left.checked_sub(1).map(|left| {
                self.left = left;
                Ok(Frame::data(self.line.clone()))
            });
            std::task::Poll::Ready(next)
        }
    }
    Lines { first: true, line: line.into(), left: count }.boxed_unsync()
}

async fn gate(change: impl FnOnce(&mut Gate)) -> (Running, Server) {
    let upstream = Server::noting(media).await;
    let rules = Rules::new("p").token(Action::Allow, "good");
    let mut made = Made::new()
        .judged("cam", rules)
        .stream("free", Access::Open, Access::Closed)
        .gate(LOOPBACK, &upstream.url());
    if let ServiceKind::Gate(gate) = &mut made.config.services[0].kind {
        change(gate);
    }
    (Running::new(made), upstream)
}

async fn ask(gate: &Running, method: &str, target: &str, lines: &str) -> Reply {
    let mut client = Client::connect(gate.address).await;
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: tv.example\r\n{lines}\r\n")).await;
    if method == "HEAD" { client.head().await } else { client.reply().await }
}

#[tokio::test]
async fn a_playlist_hands_the_token_on_and_is_the_players_alone() {
    let (gate, upstream) = gate(|_| ()).await;
    let lines = "Accept-Encoding: gzip, br\r\nRange: bytes=0-\r\nIf-Modified-Since: x\r\n";
    let reply = ask(&gate, "GET", "/cam/list.m3u8?token=good", lines).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, WITH_TOKEN));
    assert_eq!(reply.header("content-length"), Some(WITH_TOKEN.len().to_string().as_str()));
    assert_eq!(reply.header("cache-control"), Some("private, max-age=2"));
    assert_eq!(reply.header("accept-ranges"), None);
    let seen = upstream.requests().remove(0);
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!((seen.header("range"), seen.header("if-modified-since")), (None, None));
    let reply =
        ask(&gate, "GET", "/cam/1.ts?token=good", "Accept-Encoding: gzip\r\nRange: bytes=0-\r\n").await;
    assert_eq!(reply.text(), "media /cam/1.ts?token=good");
    let seen = upstream.requests().pop().unwrap();
    assert_eq!((seen.header("accept-encoding"), seen.header("range")), (Some("gzip"), Some("bytes=0-")));
    assert_eq!(gate.gates.counters()[0].manifests, 1);
    assert_eq!(gate.sessions.counters().opened, 1);
}

#[tokio::test]
async fn conditions_hold_for_the_answer_that_the_player_has() {
    let (gate, _upstream) = gate(|_| ()).await;
    let first = ask(&gate, "GET", "/cam/list.m3u8?token=good", "").await;
    let tag = first.header("etag").unwrap().to_owned();
    assert_ne!(tag, "\"v1\"", "it is another answer than the upstream's");
    let again = ask(&gate, "GET", "/cam/list.m3u8?token=good", &format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!((again.status, again.header("etag")), (304, Some(&*tag)));
    assert_eq!(again.header("cache-control"), Some("private, max-age=2"));
    // Of the upstream's own bytes this player has none.
    for other in ["\"v1\"", "\"v1-000000000000\"", "*"] {
        let reply =
            ask(&gate, "GET", "/cam/list.m3u8?token=good", &format!("If-None-Match: {other}\r\n")).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, WITH_TOKEN), "{other}");
    }
    let head = ask(&gate, "HEAD", "/cam/list.m3u8?token=good", "").await;
    let named = ["content-length", "etag", "accept-ranges"].map(|name| head.header(name));
    assert_eq!((head.status, named), (200, [None; 3]), "what is not known is not said");
    assert_eq!(head.header("cache-control"), Some("private, max-age=2"));
}

#[tokio::test]
async fn what_needs_no_token_passes_as_it_is() {
    let (gate, _upstream) = gate(|_| ()).await;
    for (path, unread) in [
        ("own.m3u8", 0),
        ("page.m3u8", 0),
        ("gzip.m3u8", 1),
        ("entities.mpd", 2),
        ("large.mpd", 3),
        ("1.ts", 3),
    ] {
        let target = format!("/cam/{path}?token=good");
        let passed = ask(&gate, "GET", &target, "").await;
        let response = media(&Seen {
            method: "GET".into(),
            target: target.clone(),
            version: http::Version::HTTP_11,
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
        });
        for (name, value) in response.headers() {
            assert_eq!(passed.header(name.as_str()), Some(value.to_str().unwrap()), "{path}: {name}");
        }
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(passed.body == body, "{path}");
        assert_eq!(gate.gates.counters()[0].manifests_unread, unread, "{path}");
    }
    assert_eq!(gate.gates.counters()[0].manifests, 0);
}

#[tokio::test]
async fn a_manifest_without_an_ending_and_one_of_dash_are_known_by_their_type() {
    let (gate, _upstream) = gate(|_| ()).await;
    let reply = ask(&gate, "GET", "/cam/play?token=good", "Range: bytes=0-\r\n").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "#EXTM3U\n1.ts?token=good\n"));
    assert_eq!(reply.header("content-range"), None);
    let reply = ask(&gate, "GET", "/cam/live.mpd?token=good", "").await;
    assert_eq!(reply.text(), "<MPD><Period><BaseURL>a.mp4?token=good</BaseURL></Period></MPD>");
}

#[tokio::test]
async fn a_playlist_of_fifty_megabytes_is_written_line_by_line() {
    let (gate, _upstream) = gate(|_| ()).await;
    let mut client = Client::connect(gate.address).await;
    client.send("GET /cam/huge.m3u8?token=good HTTP/1.1\r\nHost: tv.example\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!((head.status, head.header("content-length")), (200, None));
    assert_eq!(head.header("cache-control"), Some("private"));
    let mut got = Vec::new();
    let mut length = 0;
    loop {
        let chunk = client.chunk().await.expect("it comes whole");
        if chunk.is_empty() {
            break;
        }
        length += chunk.len();
        if got.len() < 10_000 {
            got.extend(chunk);
        }
    }
    let line = format!("#EXTINF:4,\n{}.ts?token=good\n", "s".repeat(487));
    assert_eq!(length, "#EXTM3U\n".len() + 100_000 * line.len());
    assert!(got.starts_with(format!("#EXTM3U\n{line}{line}").as_bytes()));
}

#[tokio::test]
async fn each_way_of_keeping_a_token() {
    for (way, written, cookie) in [
        (PlayerToken::Auto, true, false),
        (PlayerToken::Playlist, true, false),
        (PlayerToken::Cookie, false, true),
        (PlayerToken::Off, false, false),
    ] {
        let (gate, _upstream) = gate(|gate| gate.player_token = way).await;
        let reply = ask(&gate, "GET", "/cam/list.m3u8?token=good", "").await;
        assert_eq!(reply.text(), if written { WITH_TOKEN } else { LIST }, "{way:?}");
        let given = reply.header("set-cookie");
        assert_eq!(given, cookie.then_some("token=good; Path=/cam; HttpOnly; SameSite=Lax"), "{way:?}");
    }
}

#[tokio::test]
async fn a_cookie_stands_for_the_token_and_a_stale_one_goes() {
    let (gate, _upstream) = gate(|gate| gate.player_token = PlayerToken::Cookie).await;
    let reply = ask(&gate, "GET", "/cam/1.ts", "Cookie: token=good\r\n").await;
    assert_eq!((reply.status, reply.header("set-cookie")), (200, None));
    assert_eq!(ask(&gate, "GET", "/cam/1.ts", "Cookie: token=bad\r\n").await.status, 403);
    let reply = ask(&gate, "GET", "/cam/1.ts?token=good", "Cookie: token=old\r\n").await;
    assert_eq!((reply.status, reply.text().as_str()), (400, "two tokens that are not the same\n"));
    assert_eq!(reply.header("set-cookie"), Some("token=; Path=/cam; Max-Age=0; HttpOnly; SameSite=Lax"));
}

#[tokio::test]
async fn a_blocking_reload_comes_when_it_is_there_and_holds_up_nobody() {
    let (release, held) = tokio::sync::watch::channel(false);
    let upstream = Server::answering(move |request: http::Request<hyper::body::Incoming>| {
        let mut held = held.clone();
        async move {
            if request.uri().query().is_some_and(|query| query.contains("_HLS_msn=7")) {
                held.wait_for(|released| *released).await.unwrap();
            }
            Response::builder().header("content-type", HLS).body(full(LIST)).unwrap()
        }
    })
    .await;
    let rules = Rules::new("p").token(Action::Allow, "good");
    let gate = Running::new(Made::new().judged("cam", rules).gate(LOOPBACK, &upstream.url()));
    let mut blocked = Client::connect(gate.address).await;
    blocked
        .send("GET /cam/list.m3u8?token=good&_HLS_msn=7&_HLS_part=1 HTTP/1.1\r\nHost: tv.example\r\n\r\n")
        .await;
    for _ in 0..5 {
        assert_eq!(ask(&gate, "GET", "/cam/list.m3u8?token=good", "").await.text(), WITH_TOKEN);
    }
    let early = tokio::time::timeout(Duration::from_millis(100), blocked.head()).await;
    assert!(early.is_err(), "it waits for what it asked for");
    release.send(true).unwrap();
    assert_eq!(blocked.reply().await.text(), WITH_TOKEN);
    assert_eq!(gate.sessions.counters().opened, 1);
}

/// The token in the first reference of a playlist.
fn written(reply: &Reply) -> String {
    let text = reply.text();
    let (_, rest) = text.split_once("token=").unwrap_or_else(|| panic!("a token in {text:?}"));
    rest.lines().next().unwrap().to_owned()
}

/// A gate of which a backend asks after everybody, and admits all.
async fn asking(change: impl FnOnce(&mut Made)) -> (Running, Server, Server) {
    let upstream = Server::noting(media).await;
    let backend = Server::noting(|_| Response::new(full(""))).await;
    let rules = Rules::new("p").backend(&backend.url());
    let mut made = Made::new().judged("cam", rules).gate(LOOPBACK, &upstream.url());
    change(&mut made);
    (Running::new(made), upstream, backend)
}

#[tokio::test]
async fn a_player_without_a_token_gets_one_and_is_one_session() {
    let (gate, upstream, backend) = asking(|_| ()).await;
    let lines = "User-Agent: VLC\r\n";
    let first = ask(&gate, "GET", "/cam/list.m3u8", lines).await;
    let token = written(&first);
    assert_eq!(first.header("cache-control"), Some("private, max-age=2"));
    // A live playlist is asked for again by the URL that the player was given.
    for _ in 0..3 {
        assert_eq!(written(&ask(&gate, "GET", "/cam/list.m3u8", lines).await), token);
        for target in ["/cam/1.ts", "/cam/2.m4s", "/cam/key"] {
            let reply = ask(&gate, "GET", &format!("{target}?token={token}"), "User-Agent: other\r\n").await;
            assert_eq!(reply.status, 200);
        }
    }
    assert_eq!(gate.sessions.counters().opened, 1);
    assert_eq!(backend.count(), 1);
    assert_eq!(backend.requests()[0].parameter("token"), None, "the client gave none");
    // A media server that writes tokens itself is shown the one that it should write.
    assert_eq!(upstream.requests()[0].parameter("token").as_deref(), Some(&*token));
    let own = ask(&gate, "GET", "/cam/own.m3u8", lines).await;
    assert_eq!(own.text(), format!("#EXTM3U\n1.ts?token={token}\n"));
    assert_eq!(gate.sessions.counters().opened, 1);
}

#[tokio::test]
async fn players_without_tokens_are_told_apart() {
    let (gate, _upstream, _backend) = asking(|_| ()).await;
    let token = async |target: &str, lines: &str| written(&ask(&gate, "GET", target, lines).await);
    let one = token("/cam/list.m3u8", "User-Agent: VLC\r\n").await;
    assert_ne!(one, token("/cam/list.m3u8", "User-Agent: ffmpeg\r\n").await);
    assert_ne!(one, token("/cam/list.m3u8", "User-Agent: VLC\r\nX-Playback-Session-Id: 1\r\n").await);
    // Who asks for a playlist of playlists begins: where two of a kind are behind one address, each is a viewer.
    let first = token("/cam/master.m3u8", "User-Agent: TV\r\n").await;
    let second = token("/cam/master.m3u8", "User-Agent: TV\r\n").await;
    assert_ne!(first, second);
    for token in [&first, &second] {
        assert_eq!(ask(&gate, "GET", &format!("/cam/list.m3u8?token={token}"), "").await.status, 200);
    }
    assert_eq!(gate.sessions.counters().opened, 5);
}

#[tokio::test]
async fn a_token_of_nicgates_own_proves_nothing_to_a_rule() {
    // Whoever shows any token is denied here, and whoever shows none is not.
    let upstream = Server::noting(media).await;
    let deny = Rules::new("p").token(Action::Allow, "good").ua(Action::Allow, "VLC");
    let gate = Running::new(Made::new().judged("cam", deny).gate(LOOPBACK, &upstream.url()));
    let token = written(&ask(&gate, "GET", "/cam/list.m3u8", "User-Agent: VLC\r\n").await);
    let target = format!("/cam/1.ts?token={token}");
    assert_eq!(ask(&gate, "GET", &target, "User-Agent: VLC\r\n").await.status, 200);
    assert_eq!(ask(&gate, "GET", &target, "User-Agent: thief\r\n").await.status, 403);
    // A forged one is none: the request is one without a token, with a session of its own.
    let forged = format!("/cam/1.ts?token=nicgate{}", "0".repeat(48));
    assert_eq!(ask(&gate, "GET", &forged, "User-Agent: thief\r\n").await.status, 403);
    assert_eq!(ask(&gate, "GET", &forged, "User-Agent: VLC\r\n").await.status, 200);
    assert_eq!(gate.sessions.counters().opened, 1);
    let sessions = gate.sessions.list();
    assert_eq!(sessions[0].key.token.as_deref(), Some(&*token));
}

#[tokio::test]
async fn no_auto_token_gives_none() {
    let (gate, _upstream, _backend) = asking(|made| made.config.no_auto_token = true).await;
    for target in ["/cam/list.m3u8".to_owned(), format!("/cam/list.m3u8?token=nicgate{}", "0".repeat(48))] {
        let reply = ask(&gate, "GET", &target, "").await;
        assert_eq!((reply.status, reply.text().as_str()), (403, "denied: token\n"), "{target}");
    }
    let (gate, upstream, _backend) = asking(|made| {
        if let ServiceKind::Gate(gate) = &mut made.config.services[0].kind {
            gate.player_token = PlayerToken::Off;
        }
    })
    .await;
    assert_eq!(ask(&gate, "GET", "/cam/list.m3u8", "").await.text(), LIST);
    assert_eq!(upstream.requests()[0].target, "/cam/list.m3u8");
}
