//! The gate between a client and an upstream, as RFC 9110 and 9112 want an intermediary to be: nothing that was not
//! judged reaches the upstream, and what comes back is what was meant.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use filter_user::model::{Access, Action};
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running},
    origins::{Server, Temper},
    raw_client::Client,
    wait::until,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// How an upstream reads what the gate sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// It knows no bodies: whatever follows a head is the next request. It closes when it is told to.
    NoBodies,
    /// The same, and it takes `LF` for a line's end, and a space before a colon for nothing.
    Lenient,
}

/// An upstream of a few lines, whose every answer is the same.
struct RawUpstream {
    address: SocketAddr,
    /// The first lines of what it took for requests.
    seen: Arc<Mutex<Vec<String>>>,
}

impl RawUpstream {
    async fn start(reading: Reading, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, reading, answer, log.clone()));
            }
        });
        Self { address, seen }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, reading: Reading, answer: &str, log: Arc<Mutex<Vec<String>>>) {
    let mut bytes = Vec::new();
    loop {
        let end = match reading {
            Reading::NoBodies => bytes.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4),
            Reading::Lenient => {
                let crlf = bytes.windows(3).position(|end| end == b"\n\r\n").map(|at| at + 3);
                let lf = bytes.windows(2).position(|end| end == b"\n\n").map(|at| at + 2);
                [crlf, lf].into_iter().flatten().min()
            }
        };
        let Some(end) = end else {
            let mut more = [0; 4096];
            match stream.read(&mut more).await {
                Ok(0) | Err(_) => return,
                Ok(read) => bytes.extend_from_slice(&more[..read]),
            }
            continue;
        };
        let head: Vec<u8> = bytes.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).to_lowercase();
        log.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
        if stream.write_all(answer.as_bytes()).await.is_err() || head.contains("connection: close") {
            return;
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn open(upstream: &str) -> Running {
    let rules = Rules::new("p").token(Action::Allow, "good");
    Running::new(
        Made::new()
            .stream("free", Access::Open, Access::Open)
            .judged("secret", rules)
            .gate(LOOPBACK, upstream),
    )
}

#[tokio::test]
async fn no_body_becomes_a_request_that_nobody_judged() {
    let hidden = "GET /secret/x HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = hidden.len();
    let chunk = format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n");
    for reading in [Reading::NoBodies, Reading::Lenient] {
        let upstream = RawUpstream::start(reading, OK).await;
        let gate = open(&upstream.url());
        for method in ["GET", "HEAD", "OPTIONS", "DELETE", "POST", "PUT", "PATCH", "PROPFIND"] {
            for raw in [
                format!("{method} /free/a HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{hidden}"),
                format!("{method} /free/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
                format!("{method} /free/a HTTP/1.1\r\nHost: a\r\nContent-Length : {length}\r\n\r\n{hidden}"),
                format!(
                    "{method} /free/a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\nX: y\r\n\r\n{hidden}"
                ),
            ] {
                let mut client = Client::connect(gate.address).await;
                client.send(raw).await;
                let _ = client.reply().await;
                // Whoever comes next gets an answer to what was asked, on whatever connection it is.
                let reply = Client::connect(gate.address).await.get("/free/next").await;
                assert_eq!((reply.status, reply.text()), (200, "ok".to_owned()), "{method} {reading:?}");
            }
        }
        let strange: Vec<String> =
            upstream.seen().into_iter().filter(|line| !line.contains(" /free/")).collect();
        // What an upstream takes for a request after `Connection: close` it never answers to anybody.
        assert!(strange.is_empty(), "{reading:?}: {strange:?}");
        assert!(upstream.seen().iter().any(|line| line.starts_with("post /free/a")), "bodies do pass");
    }
}

#[tokio::test]
async fn answers_are_those_of_an_intermediary() {
    let many: String = (0..400).map(|n| format!("X-{n}: 1\r\n")).collect();
    let many: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 2\r\n\r\nok").into_boxed_str());
    for (what, answer, status, text) in [
        (
            "a length beside chunks",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n",
            200,
            "whole",
        ),
        ("many fields", many, 200, "ok"),
        ("an old version", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold", 200, "old"),
        (
            "a coding that was not asked for",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            502,
            "upstream: bad gateway\n",
        ),
    ] {
        let upstream = RawUpstream::start(Reading::NoBodies, answer).await;
        let gate = open(&upstream.url());
        let mut client = Client::connect(gate.address).await;
        // The client's connection is kept, whatever the upstream does with its own.
        for _ in 0..2 {
            let reply = client.get("/free/a").await;
            assert_eq!((reply.status, reply.text()), (status, text.to_owned()), "{what}");
        }
        let counters = gate.gates.counters().remove(0);
        assert_eq!(counters.connections, 1, "{what}");
    }
}

#[tokio::test]
async fn references_of_the_upstream_lead_back_to_the_gate_with_the_token() {
    let upstream = RawUpstream::start(
        Reading::NoBodies,
        "HTTP/1.1 302 Found\r\nLocation: /secret/y\r\nContent-Length: 0\r\n\r\n",
    );
    let upstream = upstream.await;
    let gate = open(&upstream.url());
    let reply = Client::connect(gate.address).await.get("/secret/x?token=good").await;
    assert_eq!((reply.status, reply.header("location")), (302, Some("/secret/y?token=good")));
    let reply = Client::connect(gate.address).await.get("/free/x").await;
    assert_eq!((reply.status, reply.header("location")), (302, Some("/secret/y")));
}

#[tokio::test]
async fn what_came_whole_is_delivered_whole_though_the_client_has_gone() {
    let upstream = Server::media().await;
    let gate = open(&upstream.url());
    for round in 0..20usize {
        let mut client = TcpStream::connect(gate.address).await.unwrap();
        let body = "x".repeat(100_000 + round);
        let raw = if round % 2 == 0 {
            let length = body.len();
            format!(
                "POST /free/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
            )
        } else {
            format!("PUT /free/a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        client.write_all(raw.as_bytes()).await.unwrap();
        // As publishers do: right after the last byte.
        drop(client);
        until("it arrives", || upstream.count() == round + 1).await;
        assert_eq!(upstream.requests()[round].body.len(), body.len());
    }
}

#[tokio::test]
async fn what_does_something_is_delivered_without_a_body_too() {
    let upstream = Server::media().await;
    let gate = open(&upstream.url());
    for (round, head) in [
        "DELETE /free/a HTTP/1.1\r\nHost: a\r\n\r\n",
        // As ffmpeg deletes.
        "DELETE /free/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /free/a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "PUT /free/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ]
    .into_iter()
    .cycle()
    .take(20)
    .enumerate()
    {
        let mut client = TcpStream::connect(gate.address).await.unwrap();
        client.write_all(head.as_bytes()).await.unwrap();
        drop(client);
        until("it arrives", || upstream.count() == round + 1).await;
    }
}

#[tokio::test]
async fn who_publishes_and_half_closes_gets_an_answer() {
    let upstream = Server::media().await;
    let gate = open(&upstream.url());
    let mut client = TcpStream::connect(gate.address).await.unwrap();
    client.write_all(b"POST /free/a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_as_its_own_doing() {
    let (backend, media) = (Server::bad(Temper::Hang).await, Server::media().await);
    let rules = Rules::new("p").backend(&backend.url());
    let gate = Running::new(Made::new().judged("cam", rules).gate(LOOPBACK, &media.url()));
    let mut client = Client::connect(gate.address).await;
    client.send("GET /cam/x?token=t HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("it is asked", || gate.sessions.counters().questions == 1).await;
    drop(client);
    until("it is counted", || gate.gates.counters()[0].client_gone == 1).await;

    let mut client = TcpStream::connect(gate.address).await.unwrap();
    let open = open(&media.url());
    let mut upload = TcpStream::connect(open.address).await.unwrap();
    upload.write_all(b"PUT /free/a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
    until("it is forwarded", || open.sessions.counters().transfers == 1).await;
    drop(upload);
    until("it is counted", || open.gates.counters()[0].client_gone == 1).await;
    assert_eq!(open.gates.counters()[0].upstream_faults, 0);
    client.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_browser_reads_refusals_and_asks_without_a_session() {
    let upstream = Server::media().await;
    let gate = open(&upstream.url());
    let mut client = Client::connect(gate.address).await;
    client
        .send(
            "OPTIONS /secret/x HTTP/1.1\r\nHost: a\r\nOrigin: http://p\r\nAccess-Control-Request-Method: GET\r\n\
             Access-Control-Request-Headers: range\r\n\r\n",
        )
        .await;
    let reply = client.reply().await;
    let headers =
        ["access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers"];
    assert_eq!(
        (reply.status, headers.map(|name| reply.header(name))),
        (204, [Some("http://p"), Some("GET"), Some("range")])
    );
    assert_eq!(reply.header("access-control-allow-credentials"), None, "no page acts in its visitor's name");
    assert_eq!((upstream.count(), gate.sessions.counters().opened), (0, 0));
    client.send("GET /secret/x HTTP/1.1\r\nHost: a\r\nOrigin: http://p\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (403, Some("http://p")));
    // The upstream's own answers are the upstream's to open.
    client.send("GET /free/x HTTP/1.1\r\nHost: a\r\nOrigin: http://p\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, None));
}

#[tokio::test]
async fn an_empty_line_is_one_however_packets_cut_it() {
    let upstream = Server::media().await;
    let gate = open(&upstream.url());
    let request = b"GET /free/a HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /free/b HTTP/1.1\r\nHost: a\r\n\r\n";
    for cut in 30..42 {
        let mut client = Client::connect(gate.address).await;
        client.send(&request[..cut]).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        client.send(&request[cut..]).await;
        assert_eq!([client.reply().await.status, client.reply().await.status], [200, 200], "cut at {cut}");
    }
}

#[tokio::test]
async fn a_proxy_in_front_is_told_what_is_wrong() {
    let upstream = Server::media().await;
    let gate = open(&upstream.url());
    for header in [
        &b"PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\nGET / HTTP/1.1\r\n\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
    ] {
        let mut client = Client::connect(gate.address).await;
        client.send(header).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, 400);
        assert!(reply.text().contains("PROXY protocol"), "{}", reply.text());
    }
}
