//! How backends are reached: TLS, HTTP/2, Unix sockets, names, credentials; and answers that nobody should send.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    net::Ipv6Addr,
    sync::{Arc, atomic::AtomicU16},
    time::Duration,
};

use filter_user::{
    backend::{BackendStatus, Backends, Conclusion, Question},
    judge::{Answer, Request, Verdict},
    model::{BackendOptions, Pem, Secret, Stage},
};
use http::{Response, Version};
use kit::{
    configurations::{Rules, first_question, request},
    origins::{AnyBody, Seen, Server, full},
    tls::{self, Authority, Secure},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TIMEOUT: Duration = Duration::from_secs(10);

fn question() -> Question {
    first_question(Request { token: Some("t".into()), ..request([192, 0, 2, 1]) })
}

/// What one backend says, and how it stands then.
async fn ask(url: &str, options: BackendOptions) -> (Conclusion, BackendStatus) {
    let policy = Rules::new("p").backend_with(url, options).allow_default().build();
    let backends = Backends::default();
    let conclusion = backends.ask(&policy, question(), TIMEOUT).await;
    let status = backends.status().remove(0);
    (conclusion, status)
}

fn pem(text: impl Into<Vec<u8>>) -> Pem {
    Pem { path: "test.pem".into(), bytes: text.into().into() }
}

fn trusting(authority: &Authority) -> BackendOptions {
    BackendOptions { ca: Some(pem(authority.pem())), ..BackendOptions::default() }
}

fn yes(_: &Seen) -> Response<AnyBody> {
    Response::new(full("{}"))
}

#[tokio::test]
async fn a_backend_is_asked_over_tls_in_the_best_version_that_it_has() {
    let authority = Authority::new();
    for (offered, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let secure = Secure::new(&authority.certificate("localhost"), None).offering(offered);
        let server = Server::secure(secure, yes).await;
        let policy = Rules::new("p").backend_with(&tls::url(server.address), trusting(&authority)).build();
        let backends = Backends::default();
        for _ in 0..5 {
            let conclusion = backends.ask(&policy, question(), TIMEOUT).await;
            assert_eq!(conclusion.decision.verdict, Verdict::Allow, "{:?}", conclusion.answers);
        }
        let seen = server.requests();
        assert!(seen.iter().all(|seen| seen.version == version), "{offered:?}");
        assert_eq!(seen[0].parameter("token").as_deref(), Some("t"));
        let connections = server.connections.load(std::sync::atomic::Ordering::Relaxed);
        assert!(connections < 5, "{connections} connections for 5 questions");
    }
}

#[tokio::test]
async fn the_table_holds_over_tls_and_over_a_socket() {
    let authority = Authority::new();
    let folder = std::env::temp_dir().join(format!("nicgate-sockets-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (code, answer) in [(204, Answer::Allow), (302, Answer::Ban), (403, Answer::Ban), (500, Answer::Down)]
    {
        let say = move |_: &Seen| {
            Response::builder().status(code).header("location", "http://127.0.0.1:9/").body(full("")).unwrap()
        };
        let secure = Secure::new(&authority.certificate("localhost"), None).offering(&["h2"]);
        let tls_server = Server::secure(secure, say).await;
        let path = folder.join(code.to_string());
        let unix_server = Server::unix(&path, say).await;
        let socket = format!("http+unix://{}/auth?k=1", path.to_str().unwrap().replace('/', "%2F"));
        for (url, options, server) in [
            (tls::url(tls_server.address), trusting(&authority), &tls_server),
            (socket, BackendOptions::default(), &unix_server),
        ] {
            let (conclusion, status) = ask(&url, options).await;
            assert_eq!(conclusion.answers[0].answer, Some(answer), "{url}: {:?}", conclusion.answers);
            assert_eq!(server.count(), 1, "a redirect is not followed");
            let counted = [status.allowed, status.banned, status.failed];
            assert_eq!(
                counted,
                [Answer::Allow, Answer::Ban, Answer::Down].map(|one| u64::from(one == answer))
            );
        }
        assert_eq!(unix_server.requests()[0].header("host"), Some("localhost"));
        assert_eq!(unix_server.requests()[0].parameter("k").as_deref(), Some("1"));
    }
    let (conclusion, status) = ask(
        &format!("http+unix://{}%2Fnobody/", folder.to_str().unwrap().replace('/', "%2F")),
        BackendOptions::default(),
    )
    .await;
    assert_eq!((conclusion.decision.stage, status.refused), (Stage::Default, 1), "{:?}", conclusion.answers);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn who_answers_has_to_be_who_should() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = authority.certificate("localhost");
    for (what, certificate, options, expected) in [
        ("another authority", &good, trusting(&other), "invalid peer certificate"),
        ("the system's authorities", &good, BackendOptions::default(), "TLS: "),
        ("an expired one", &authority.expired("localhost"), trusting(&authority), "expired"),
        (
            "another name",
            &authority.certificate("portal.example.com"),
            trusting(&authority),
            "not valid for name",
        ),
    ] {
        let server = Server::secure(Secure::new(certificate, None), yes).await;
        let (conclusion, status) = ask(&tls::url(server.address), options).await;
        let why = &conclusion.answers[0].why;
        assert_eq!(conclusion.answers[0].answer, Some(Answer::Down), "{what}: {why}");
        // A machine without any authorities says so in words of its own.
        let none = why.contains("the system has no certificate authorities");
        assert!(why.contains(expected) || (none && expected == "TLS: "), "{what}: {why}");
        assert_eq!((status.untrusted, server.count()), (1, 0), "{what}: nothing was asked");
    }
    // One that speaks no TLS.
    let plain = Server::backend(&Arc::new(AtomicU16::new(200)), &[]).await;
    let (conclusion, status) = ask(&tls::url(plain.address), trusting(&authority)).await;
    assert_eq!(
        (conclusion.decision.stage, status.untrusted),
        (Stage::Default, 1),
        "{:?}",
        conclusion.answers
    );
}

#[tokio::test]
async fn nicgate_shows_who_it_is() {
    let authority = Authority::new();
    let server =
        Server::secure(Secure::new(&authority.certificate("localhost"), Some(&authority)), yes).await;
    let own = authority.certificate("edge.example.com");
    let shown = BackendOptions { identity: Some((pem(own.pem), pem(own.key))), ..trusting(&authority) };
    let (conclusion, _) = ask(&tls::url(server.address), shown).await;
    assert_eq!(conclusion.decision.stage, Stage::Backend, "{:?}", conclusion.answers);
    let (conclusion, status) = ask(&tls::url(server.address), trusting(&authority)).await;
    assert_eq!(conclusion.answers[0].answer, Some(Answer::Down), "{:?}", conclusion.answers);
    assert_eq!(status.untrusted + status.broken, 1, "{status:?}");
}

#[tokio::test]
async fn credentials_and_headers_reach_the_backend_and_nobody_else() {
    let server = Server::backend(&Arc::new(AtomicU16::new(200)), &[]).await;
    let headers = [("x-api-key", "sesame"), ("user-agent", "portal")];
    let headers = headers.iter().map(|(name, value)| ((*name).into(), Secret::new(value))).collect();
    let url = format!("http://user:open@{}/auth", server.address);
    let (conclusion, status) = ask(&url, BackendOptions { headers, ..BackendOptions::default() }).await;
    let seen = &server.requests()[0];
    // `printf user:open | base64`
    assert_eq!(seen.header("authorization"), Some("Basic dXNlcjpvcGVu"));
    assert_eq!((seen.header("x-api-key"), seen.header("user-agent")), (Some("sesame"), Some("portal")));
    assert_eq!(seen.header("host"), Some(&*server.address.to_string()));
    let shown = format!("{conclusion:?} {status:?}");
    assert!(!shown.contains("open@") && !shown.contains("sesame") && shown.contains("***"), "{shown}");
}

#[tokio::test]
async fn both_families_are_tried() {
    let server = Server::backend(&Arc::new(AtomicU16::new(200)), &[]).await;
    // The name has an address of each family on most machines, and the server listens on one.
    let (conclusion, _) =
        ask(&format!("http://localhost:{}/", server.address.port()), BackendOptions::default()).await;
    assert_eq!(conclusion.decision.stage, Stage::Backend, "{:?}", conclusion.answers);
    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("skipped the IPv6 half: no IPv6 here");
        return;
    }
    let listener = tokio::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let read = stream.read(&mut [0; 4096]).await.unwrap();
        assert!(read > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    });
    let (conclusion, _) = ask(&url, BackendOptions::default()).await;
    assert_eq!(conclusion.decision.stage, Stage::Backend, "{:?}", conclusion.answers);
    answering.await.unwrap();
}

#[tokio::test]
async fn a_name_that_nobody_has_is_no_answer() {
    let (conclusion, status) = ask("http://nobody.invalid/", BackendOptions::default()).await;
    assert_eq!((conclusion.decision.stage, status.refused), (Stage::Default, 1), "{:?}", conclusion.answers);
}

/// A server that sends `head`, and then `more` for as long as it is read; returns how much of that was taken.
async fn flood(head: &'static [u8], more: &'static [u8]) -> (String, tokio::task::JoinHandle<usize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let mut sent = 0;
        let _ = stream.write_all(head).await;
        while stream.write_all(more).await.is_ok() {
            sent += more.len();
        }
        sent
    });
    (url, task)
}

#[tokio::test]
async fn answers_without_an_end_are_not_read_to_the_end() {
    const MOST: usize = 16 << 20;
    // A head that never ends, and a line that never ends.
    let heads: [(&[u8], &[u8]); 2] = [
        (b"HTTP/1.1 200 OK\r\n", b"X-More: and more of it and more of it\r\n"),
        (b"HTTP/1.1 200 ", &[b'a'; 4096]),
    ];
    for (begin, more) in heads {
        let (url, flood_task) = flood(begin, more).await;
        let (conclusion, status) = ask(&url, BackendOptions::default()).await;
        assert_eq!(
            (conclusion.answers[0].answer, status.broken),
            (Some(Answer::Down), 1),
            "{:?}",
            conclusion.answers
        );
        assert!(flood_task.await.unwrap() < MOST);
    }
    // A body of gigabytes: the verdict is in the head.
    let (url, flood_task) =
        flood(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\nX-AuthDuration: 60\r\n\r\n", &[b'a'; 16384])
            .await;
    let (conclusion, status) = ask(&url, BackendOptions::default()).await;
    assert_eq!((conclusion.answers[0].answer, status.allowed), (Some(Answer::Allow), 1));
    assert_eq!(conclusion.auth_duration, Duration::from_secs(60));
    assert!(flood_task.await.unwrap() < MOST);
}

#[tokio::test]
async fn terms_that_cannot_be_read_are_counted() {
    for (value, bad) in [("60", false), ("-1", true), ("1e99", true), ("soon", true)] {
        let server = Server::noting(move |_| {
            Response::builder().header("x-authduration", value).body(full("")).unwrap()
        })
        .await;
        let (conclusion, status) = ask(&server.url(), BackendOptions::default()).await;
        assert_eq!(conclusion.decision.verdict, Verdict::Allow);
        assert_eq!(conclusion.auth_duration, Duration::from_secs(if bad { 180 } else { 60 }), "{value}");
        assert_eq!(status.bad_terms, u64::from(bad), "{value}");
    }
}
