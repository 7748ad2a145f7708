//! Sessions through the gate: what is asked of the backends, how often, and what a reload does.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use filter_user::{
    model::{Access, Action, Limit, ServiceKey},
    session::SessionLimits,
};
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running, quick},
    origins::{Server, full},
    raw_client::Client,
    wait::until,
};

use crate::watching::{asking, breaks_off, goes_on, live, watch};

fn status(code: u16) -> Arc<AtomicU16> {
    Arc::new(AtomicU16::new(code))
}

#[tokio::test]
async fn an_hls_viewer_costs_one_question() {
    let (backend, upstream) = (Server::backend(&status(200), &[]).await, Server::media().await);
    let gate = Running::new(asking(&backend, &upstream));
    let mut client = Client::connect(gate.address).await;
    assert_eq!(client.get("/cam/index.m3u8?token=t").await.status, 200);
    for n in 0..20 {
        assert_eq!(client.get(&format!("/cam/{n}.ts?token=t")).await.status, 200);
    }
    assert_eq!(backend.count(), 1);
    let question = backend.requests().remove(0);
    for (name, value) in
        [("name", "cam"), ("proto", "hls"), ("ip", "127.0.0.1"), ("token", "t"), ("qs", "token=t")]
    {
        assert_eq!(question.parameter(name).as_deref(), Some(value), "{name}");
    }
    let sessions = gate.sessions.list();
    assert_eq!(sessions.len(), 1);
    assert_eq!(Some(sessions[0].id.to_string()), question.parameter("session_id"));
    // Another token is another session.
    assert_eq!(client.get("/cam/index.m3u8?token=u").await.status, 200);
    assert_eq!(backend.count(), 2);
    assert_eq!(backend.requests()[1].parameter("total_clients").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_denial_is_remembered_for_a_short_time() {
    let verdict = status(403);
    let (backend, upstream) = (Server::backend(&verdict, &[]).await, Server::media().await);
    let limits = SessionLimits { ban: Duration::from_millis(800), ..SessionLimits::default() };
    let gate = Running::with(asking(&backend, &upstream), quick(), limits);
    let mut client = Client::connect(gate.address).await;
    for _ in 0..5 {
        let reply = client.get("/cam").await;
        assert_eq!((reply.status, reply.text().as_str()), (403, "denied: backend\n"));
    }
    assert_eq!(backend.count(), 1);
    assert!(gate.sessions.list().is_empty(), "who was denied has no session");
    verdict.store(200, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(client.get("/cam").await.status, 200);
    assert_eq!(backend.requests()[1].parameter("request_type").as_deref(), Some("new_session"));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_redirect_is_handed_on() {
    let redirect = Server::backend(&status(302), &[("Location", "http://pay.example/")]).await;
    let upstream = Server::media().await;
    let gate = Running::new(asking(&redirect, &upstream));
    let reply = Client::connect(gate.address).await.get("/cam").await;
    assert_eq!((reply.status, reply.header("location")), (302, Some("http://pay.example/")));
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn one_question_however_many_wait() {
    let asked = Arc::new(AtomicU64::new(0));
    let counter = asked.clone();
    let backend = Server::answering(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            http::Response::new(full(""))
        }
    })
    .await;
    let upstream = Server::media().await;
    let gate = Running::new(asking(&backend, &upstream));
    // The first client goes away while the question is on its way: it is not asked again for the others.
    let mut first = Client::connect(gate.address).await;
    first.send("GET /cam HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the question is asked", || asked.load(Ordering::Relaxed) == 1).await;
    drop(first);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let address = gate.address;
        waiting.spawn(async move { Client::connect(address).await.get("/cam").await.status });
    }
    assert_eq!(waiting.join_all().await, vec![200; 30]);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_lists_are_judged_on_every_request() {
    let (backend, upstream) = (Server::backend(&status(200), &[]).await, Server::media().await);
    let rules = Rules::new("p").ua(Action::Deny, "curl").backend(&backend.url());
    let gate = Running::new(Made::new().judged("cam", rules).gate(LOOPBACK, &upstream.url()));
    let mut client = Client::connect(gate.address).await;
    assert_eq!(client.get("/cam").await.status, 200);
    client.send("GET /cam HTTP/1.1\r\nHost: a\r\nUser-Agent: curl\r\n\r\n").await;
    assert_eq!(client.reply().await.text(), "denied: ua\n", "a cached verdict does not outrank a list");
}

#[tokio::test]
async fn an_open_session_is_asked_about_again_and_a_ban_cuts_it() {
    let verdict = status(200);
    let backend = Server::backend(&verdict, &[("X-AuthDuration", "1")]).await;
    let upstream = live().await;
    let gate = Running::new(asking(&backend, &upstream));
    let mut client = watch(&gate, "/cam/mpegts?token=t").await;
    until("two updates", || backend.count() >= 3).await;
    let seen = backend.requests();
    for (number, question) in seen.iter().enumerate() {
        let kind = if number == 0 { "new_session" } else { "update_session" };
        assert_eq!(question.parameter("request_type").as_deref(), Some(kind));
        assert_eq!(question.parameter("request_number"), Some(number.to_string()));
        assert_eq!(question.parameter("session_id"), seen[0].parameter("session_id"));
    }
    assert!(seen[1].parameter("bytes").unwrap().parse::<u64>().unwrap() > 0);
    // The first comes a little before a second has passed: such questions are spread.
    assert!(seen[2].parameter("duration").unwrap().parse::<u64>().unwrap() >= 1);
    // Backends that do not respond change nothing.
    verdict.store(500, Ordering::Relaxed);
    let before = backend.count();
    until("an unanswered update", || backend.count() > before).await;
    assert!(goes_on(&mut client).await);
    assert_eq!(gate.sessions.counters().cut, 0);
    verdict.store(403, Ordering::Relaxed);
    breaks_off(&mut client).await;
    assert_eq!(gate.sessions.counters().cut, 1);
    assert_eq!(Client::connect(gate.address).await.get("/cam/mpegts?token=t").await.status, 403);
}

#[tokio::test]
async fn a_session_without_requests_closes() {
    let backend = Server::backend(&status(200), &[("X-AuthDuration", "2")]).await;
    let upstream = Server::media().await;
    let limits = SessionLimits { idle: Duration::from_millis(500), ..SessionLimits::default() };
    let gate = Running::with(asking(&backend, &upstream), quick(), limits);
    assert_eq!(Client::connect(gate.address).await.get("/cam").await.status, 200);
    assert_eq!(gate.sessions.list().len(), 1);
    until("it closes", || gate.sessions.list().is_empty()).await;
    until("it leaves the table", || gate.sessions.counters().entries == 0).await;
    assert_eq!(backend.count(), 1, "nobody is asked about a session that nobody uses");
}

#[tokio::test]
async fn the_default_opens_a_session_only_while_no_backend_responds() {
    let verdict = status(503);
    let backend = Server::backend(&verdict, &[]).await;
    let upstream = live().await;
    let rules = Rules::new("p").backend(&backend.url()).allow_default();
    let made = Made::new().judged("cam", rules).gate(LOOPBACK, &upstream.url());
    let limits = SessionLimits { outage: Duration::from_millis(300), ..SessionLimits::default() };
    let gate = Running::with(made, quick(), limits);
    let mut client = watch(&gate, "/cam/mpegts").await;
    let before = backend.count();
    until("it is asked again soon", || backend.count() > before).await;
    assert!(goes_on(&mut client).await);
    verdict.store(403, Ordering::Relaxed);
    breaks_off(&mut client).await;
}

/// The table is bounded: the session that was idle longest leaves, a live one never does.
#[tokio::test]
async fn a_full_table_lets_the_oldest_idle_session_go() {
    let (backend, upstream) = (Server::backend(&status(200), &[]).await, live().await);
    let limits = SessionLimits { sessions: 3, ..SessionLimits::default() };
    let gate = Running::with(asking(&backend, &upstream), quick(), limits);
    let mut alive = watch(&gate, "/cam/mpegts?token=alive").await;
    for n in 0..10 {
        drop(watch(&gate, &format!("/cam/mpegts?token={n}")).await);
        until("only one is left", || gate.sessions.counters().transfers == 1).await;
    }
    let counters = gate.sessions.counters();
    assert_eq!((counters.entries, counters.evicted), (3, 8));
    let tokens: Vec<_> = gate.sessions.list().into_iter().map(|session| session.key.token.unwrap()).collect();
    assert!(tokens.iter().any(|token| &**token == "alive"), "{tokens:?}");
    assert!(goes_on(&mut alive).await);
    let _others = [watch(&gate, "/cam/mpegts?token=a").await, watch(&gate, "/cam/mpegts?token=b").await];
    assert_eq!(Client::connect(gate.address).await.get("/cam/mpegts?token=c").await.status, 503);
    assert_eq!(gate.sessions.hits().count(Limit::Sessions), 1);
    assert_eq!((gate.gates.counters()[0].limited, gate.gates.counters()[0].denied), (1, 0));
}

fn reloadable(gate: &Running, upstream: &Server, rules: Rules) -> Made {
    let _ = gate;
    Made::new().judged("cam", rules).gate(LOOPBACK, &upstream.url())
}

#[tokio::test]
async fn a_reload_cuts_what_is_now_denied_and_nothing_else() {
    let upstream = live().await;
    let rules = || Rules::new("p").token(Action::Allow, "a").token(Action::Allow, "b");
    let made = Made::new().judged("cam", rules()).judged("gone", rules()).gate(LOOPBACK, &upstream.url());
    let gate = Running::new(made);
    let mut a = watch(&gate, "/cam/mpegts?token=a").await;
    let mut b = watch(&gate, "/cam/mpegts?token=b").await;
    let mut gone = watch(&gate, "/gone/mpegts?token=a").await;
    let snapshot = reloadable(&gate, &upstream, Rules::new("p").token(Action::Allow, "a")).snapshot();
    let rejudged = gate.gates.apply(&snapshot).unwrap();
    assert_eq!((rejudged.kept, rejudged.cut, rejudged.asked), (1, 2, 0));
    breaks_off(&mut b).await;
    breaks_off(&mut gone).await;
    assert!(goes_on(&mut a).await);
    assert_eq!(gate.gates.counters()[0].cut, 2);
    assert_eq!(Client::connect(gate.address).await.get("/cam?token=b").await.status, 403);
}

#[tokio::test]
async fn a_reload_keeps_verdicts_of_backends_that_stay() {
    let (backend, upstream) = (Server::backend(&status(200), &[]).await, live().await);
    let other = Server::backend(&status(403), &[]).await;
    let gate = Running::new(asking(&backend, &upstream));
    let mut client = watch(&gate, "/cam/mpegts").await;
    let snapshot = asking(&backend, &upstream).snapshot();
    let rejudged = gate.gates.apply(&snapshot).unwrap();
    assert_eq!((rejudged.kept, rejudged.cut, rejudged.asked), (1, 0, 0));
    assert!(goes_on(&mut client).await);
    assert_eq!(backend.count(), 1);
    // Other backends: the verdict is worthless, they are asked, and they ban.
    let snapshot = asking(&other, &upstream).snapshot();
    let rejudged = gate.gates.apply(&snapshot).unwrap();
    assert_eq!((rejudged.kept, rejudged.cut, rejudged.asked), (0, 0, 1));
    breaks_off(&mut client).await;
    assert_eq!(other.count(), 1);
}

#[tokio::test]
async fn a_reload_adds_keeps_and_removes_gates() {
    let (first, second) =
        (Server::media().await, Server::noting(|_| http::Response::new(full("second"))).await);
    let made = |keys: &[ServiceKey], upstream: &Server| {
        let made = Made::new().stream("open", Access::Open, Access::Closed);
        keys.iter().fold(made, |made, key| made.gate(*key, &upstream.url()))
    };
    let other = ServiceKey { address: Some("127.0.0.2".parse().unwrap()), ..LOOPBACK };
    let gate = Running::new(made(&[LOOPBACK], &first));
    let mut kept = Client::connect(gate.address).await;
    assert_eq!(kept.get("/open").await.text(), "media /open");

    gate.gates.apply(&made(&[LOOPBACK, other], &second).snapshot()).unwrap();
    assert_eq!(gate.gates.address(LOOPBACK), Some(gate.address), "a gate that stays keeps its socket");
    assert_eq!(kept.get("/open").await.text(), "second", "on the connection that was open");
    let added = gate.gates.address(other).unwrap();
    let mut leaving = Client::connect(added).await;
    assert_eq!(leaving.get("/open").await.text(), "second");
    assert_eq!(gate.gates.counters().len(), 2);

    gate.gates.apply(&made(&[LOOPBACK], &second).snapshot()).unwrap();
    assert!(leaving.closed().await, "an idle connection of a gate that is gone ends");
    assert!(gate.gates.address(other).is_none());
    assert_eq!(kept.get("/open").await.text(), "second");
    until("nobody listens there", || std::net::TcpStream::connect(added).is_err()).await;
}

#[tokio::test]
async fn a_port_that_is_taken_changes_nothing() {
    let upstream = Server::media().await;
    let gate = Running::new(
        Made::new().stream("open", Access::Open, Access::Closed).gate(LOOPBACK, &upstream.url()),
    );
    let taken = ServiceKey { port: upstream.address.port(), ..LOOPBACK };
    let made = Made::new().gate(LOOPBACK, &upstream.url()).gate(taken, &upstream.url());
    let error = gate.gates.apply(&made.snapshot()).unwrap_err().to_string();
    assert!(error.contains(&upstream.address.to_string()) && error.contains("another server"), "{error}");
    assert_eq!(Client::connect(gate.address).await.get("/open").await.status, 200, "the old streams serve");
}
