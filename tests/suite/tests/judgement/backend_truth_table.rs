//! The three-backend truth table in full, against real servers: 27 answers, with and without
//! `allow default`, and every way not to respond.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    sync::{Arc, atomic::AtomicU16},
    time::{Duration, Instant},
};

use filter_user::{
    backend::{Backends, Conclusion, Question},
    judge::{Answer, Request, Verdict},
    model::{Operation, Stage},
};
use kit::{
    configurations::{self, Rules, first_question},
    origins::{Refusing, Server, Temper, full},
};

/// Short: the table has many hanging backends. Long enough for a loaded machine to answer locally.
const TIMEOUT: Duration = Duration::from_millis(1500);

fn request(operation: Operation, token: &str) -> Request {
    Request {
        operation,
        token: Some(token.into()),
        ua: Some("VLC".into()),
        host: Some("tv.example".into()),
        query: Some("token=t".into()),
        ..configurations::request([192, 0, 2, 1])
    }
}

fn question() -> Question {
    first_question(request(Operation::Play, "t"))
}

async fn ask(urls: &[String], default: bool) -> Conclusion {
    let rules = urls.iter().fold(Rules::new("p"), |rules, url| rules.backend(url));
    let policy = if default { rules.allow_default() } else { rules }.build();
    Backends::default().ask(&policy, question(), TIMEOUT).await
}

async fn status(code: u16) -> Server {
    Server::backend(&Arc::new(AtomicU16::new(code)), &[]).await
}

/// Every way to give each answer, so that the table goes through all of them.
struct Cast {
    servers: Vec<(Answer, Server)>,
    refusing: Refusing,
}

impl Cast {
    async fn new() -> Self {
        let mut servers = Vec::new();
        for code in [200, 204, 299] {
            servers.push((Answer::Allow, status(code).await));
        }
        for code in [403, 404, 302, 401, 499] {
            servers.push((Answer::Ban, status(code).await));
        }
        for code in [500, 503] {
            servers.push((Answer::Down, status(code).await));
        }
        for temper in [Temper::Hang, Temper::Reset, Temper::CloseEarly, Temper::CloseInHead, Temper::Garbage]
        {
            servers.push((Answer::Down, Server::bad(temper).await));
        }
        Self { servers, refusing: Refusing::new() }
    }

    /// The `turn`-th way to give an answer.
    fn url(&self, answer: Answer, turn: usize) -> String {
        let mut urls: Vec<String> = self
            .servers
            .iter()
            .filter(|(given, _)| *given == answer)
            .map(|(_, server)| server.url())
            .collect();
        if answer == Answer::Down {
            urls.push(self.refusing.url());
        }
        urls[turn % urls.len()].clone()
    }
}

#[tokio::test]
async fn all_27_answers_with_and_without_the_default() {
    let cast = Arc::new(Cast::new().await);
    let answers = [Answer::Allow, Answer::Ban, Answer::Down];
    let mut turn = 0;
    let mut asked = tokio::task::JoinSet::new();
    for default in [false, true] {
        for first in answers {
            for second in answers {
                for third in answers {
                    let given = [first, second, third];
                    let urls: Vec<String> = given
                        .iter()
                        .enumerate()
                        .map(|(place, answer)| cast.url(*answer, turn + place))
                        .collect();
                    turn += 1;
                    let expected = if given.contains(&Answer::Allow) {
                        (Verdict::Allow, Stage::Backend)
                    } else if given.contains(&Answer::Ban) {
                        (Verdict::Deny, Stage::Backend)
                    } else if default {
                        (Verdict::Allow, Stage::Default)
                    } else {
                        (Verdict::Deny, Stage::Default)
                    };
                    asked.spawn(async move {
                        let conclusion = ask(&urls, default).await;
                        let decision = conclusion.decision;
                        assert_eq!(
                            (decision.verdict, decision.stage),
                            expected,
                            "{given:?}, default {default}: {:?}",
                            conclusion.answers
                        );
                    });
                }
            }
        }
    }
    let mut done = 0;
    while let Some(case) = asked.join_next().await {
        case.unwrap();
        done += 1;
    }
    assert_eq!(done, 54);
}

#[tokio::test]
async fn every_way_not_to_respond_says_why() {
    let refusing = Refusing::new();
    for (temper, expected) in [
        (Temper::Hang, "timed out after 1.5s"),
        (Temper::CloseEarly, "closed before answering"),
        (Temper::CloseInHead, "closed before answering"),
        (Temper::Garbage, "malformed answer"),
    ] {
        let server = Server::bad(temper).await;
        let conclusion = ask(&[server.url()], false).await;
        let why = &conclusion.answers[0].why;
        assert_eq!(conclusion.answers[0].answer, Some(Answer::Down), "{temper:?}");
        assert!(why.contains(expected), "{temper:?} says {why:?}");
    }
    let server = Server::bad(Temper::Reset).await;
    let conclusion = ask(&[server.url()], false).await;
    let why = &conclusion.answers[0].why;
    assert!(why.contains("reset") || why.contains("closed"), "reset says {why:?}");
    for (url, expected) in [(refusing.url(), "refused"), ("iptv://localhost".to_owned(), "cannot be asked")] {
        let conclusion = ask(std::slice::from_ref(&url), false).await;
        assert_eq!(conclusion.answers[0].answer, Some(Answer::Down), "{url}");
        assert!(conclusion.answers[0].why.contains(expected), "{url}: {:?}", conclusion.answers[0].why);
    }
}

#[tokio::test]
async fn an_allow_ends_the_question_at_once() {
    let hang = Server::bad(Temper::Hang).await;
    let allow = status(200).await;
    let begun = Instant::now();
    let policy = Rules::new("p").backend(&hang.url()).backend(&allow.url()).build();
    let conclusion = Backends::default().ask(&policy, question(), Duration::from_secs(600)).await;
    assert_eq!(conclusion.decision.verdict, Verdict::Allow);
    assert_eq!(conclusion.answers[0].answer, None, "the hanging one is not waited for");
    assert!(begun.elapsed() < Duration::from_secs(300));
}

#[tokio::test]
async fn a_ban_waits_for_a_later_allow() {
    let ban = status(403).await;
    let late = Server::answering(|_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        http::Response::new(full(""))
    })
    .await;
    let conclusion = ask(&[ban.url(), late.url()], false).await;
    assert_eq!(conclusion.decision.verdict, Verdict::Allow);
    assert_eq!(conclusion.answers[0].answer, Some(Answer::Ban));
}

#[tokio::test]
async fn the_terms_are_read_and_kept_sane() {
    for (value, expected) in
        [("36000", 36000), ("0", 1), ("99999999999", 7 * 24 * 3600), ("soon", 180), ("-5", 180), ("", 180)]
    {
        let server = Server::answering(move |_| async move {
            http::Response::builder()
                .header("X-AuthDuration", value)
                .header("X-UserId", "42")
                .header("X-Max-Sessions", "3")
                .header("X-Unique", "True")
                .body(full("body"))
                .unwrap()
        })
        .await;
        let conclusion = ask(&[server.url()], false).await;
        assert_eq!(conclusion.auth_duration, Duration::from_secs(expected), "{value:?}");
        assert_eq!(conclusion.user_id.as_deref(), Some("42"));
        assert_eq!(conclusion.max_sessions, Some(3));
        assert!(conclusion.unique);
    }
}

#[tokio::test]
async fn a_redirect_is_a_ban_that_says_where_to_go() {
    let redirect =
        Server::backend(&Arc::new(AtomicU16::new(302)), &[("Location", "http://pay.example/?a=1")]).await;
    let conclusion = ask(&[redirect.url()], true).await;
    assert_eq!(conclusion.decision.verdict, Verdict::Deny, "even with `allow default`");
    let there = conclusion.redirect.unwrap();
    assert_eq!((there.status.as_u16(), there.location.to_str().unwrap()), (302, "http://pay.example/?a=1"));

    let allow = status(200).await;
    let conclusion = ask(&[redirect.url(), allow.url()], false).await;
    assert_eq!(conclusion.decision.verdict, Verdict::Allow);
    assert!(conclusion.redirect.is_none(), "who is allowed is not sent away");
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = status(200).await;
    let policy = Rules::new("p").backend(&server.url()).build();
    let backends = Backends::default();
    for _ in 0..20 {
        let conclusion = backends.ask(&policy, question(), TIMEOUT).await;
        assert_eq!(conclusion.decision.verdict, Verdict::Allow);
        // The answer's body is read aside; give it its turn.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let connections = server.connections.load(std::sync::atomic::Ordering::Relaxed);
    assert!(connections < 20, "{connections} connections for 20 questions");
}

#[tokio::test]
async fn an_endless_answer_is_not_read() {
    let taken = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = taken.clone();
    let server = Server::answering(move |_| {
        let taken = counter.clone();
        async move {
            use http_body_util::BodyExt;
            http::Response::new(kit::origins::Endless { taken, pause: None }.boxed_unsync())
        }
    })
    .await;
    let conclusion = ask(&[server.url()], false).await;
    assert_eq!(conclusion.decision.verdict, Verdict::Allow);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let taken = taken.load(std::sync::atomic::Ordering::Relaxed);
    assert!(taken < 64 * 1024 * 1024, "{taken} bytes were taken");
}

#[tokio::test]
async fn play_is_asked_with_get_and_publish_with_post() {
    let server = status(200).await;
    let policy = Rules::new("p").backend(&format!("{}/auth?key=1", server.url())).build();
    let backends = Backends::default();
    backends.ask(&policy, question(), TIMEOUT).await;
    let publish = first_question(request(Operation::Publish, "t"));
    backends.ask(&policy, publish, TIMEOUT).await;
    let seen = server.requests();
    assert_eq!(seen[0].method, "GET");
    for (name, value) in
        [("key", "1"), ("name", "cam"), ("ip", "192.0.2.1"), ("token", "t"), ("request_type", "new_session")]
    {
        assert_eq!(seen[0].parameter(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!((seen[1].method.as_str(), seen[1].target.as_str()), ("POST", "/auth?key=1"));
    assert_eq!(seen[1].header("content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_slice(&seen[1].body).unwrap();
    assert_eq!((&body["name"], &body["proto"]), (&"cam".into(), &"hls".into()));
}

#[tokio::test]
async fn securetoken_is_answered_here() {
    let conclusion = ask(&["securetoken://key".to_owned()], true).await;
    assert_eq!((conclusion.decision.verdict, conclusion.decision.stage), (Verdict::Deny, Stage::Backend));
    // sha1 of "cam" "192.0.2.1" "0" "99999999999" "key" "salt".
    let token = "2f8e5ba45a8da1c5e5b9bb5c3f2aee4b8a8a8f3e-salt-99999999999-0";
    let policy = Rules::new("p").backend("securetoken://key").build();
    let forged = first_question(request(Operation::Play, token));
    let conclusion = Backends::default().ask(&policy, forged, TIMEOUT).await;
    assert_eq!(conclusion.answers[0].why, "token hash is wrong");
    let right = first_question(request(Operation::Play, RIGHT_TOKEN));
    let conclusion = Backends::default().ask(&policy, right, TIMEOUT).await;
    assert_eq!(conclusion.decision.verdict, Verdict::Allow, "{:?}", conclusion.answers);
}

/// `printf cam192.0.2.1099999999999keysalt | sha1sum`.
const RIGHT_TOKEN: &str = "d863ae1de12dc818d625c7924479b7cb78a42dc8-salt-99999999999-0";

/// A backend that closes each connection after its answer, without saying so: the next question meets a
/// connection that looks alive.
#[tokio::test]
async fn a_kept_connection_that_is_gone_is_no_answer() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            // The next question is read before the connection closes, so that it was certainly sent.
            tokio::spawn(async move {
                let mut request = [0; 1];
                let _ = stream.read(&mut request).await;
            });
        }
    });
    let policy = Rules::new("p").backend(&url).build();
    let backends = Backends::default();
    for n in 0..4 {
        let conclusion = backends.ask(&policy, question(), TIMEOUT).await;
        assert_eq!(conclusion.decision.verdict, Verdict::Allow, "question {n}: {:?}", conclusion.answers);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.abort();
}
