//! More questions than a backend may be asked at once: nobody is admitted, and nobody refused, in its name.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use filter_user::{
    gate::Limits,
    judge::{Ground, Request, Verdict},
    model::{Action, BackendOptions, Limit, Stage},
    session::{Presence, SessionLimits, Sessions},
};
use http::{Response, StatusCode};
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running, quick, request},
    origins::{Server, full},
    raw_client::{Client, Reply},
    wait::until,
};
use tokio::{net::TcpSocket, sync::watch, task::JoinSet};

/// A backend that knows one good token, and answers only while it is let.
struct Slow {
    server: Server,
    asked: Arc<AtomicUsize>,
    let_go: watch::Sender<bool>,
}

impl Slow {
    async fn new() -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let let_go = watch::Sender::new(false);
        let (count, gate) = (asked.clone(), let_go.clone());
        let server = Server::answering(move |request| {
            count.fetch_add(1, Ordering::Relaxed);
            let good = request.uri().query().is_some_and(|query| query.contains("token=good"));
            let mut free = gate.subscribe();
            async move {
                free.wait_for(|free| *free).await.unwrap();
                let mut response = Response::new(full("{}"));
                *response.status_mut() = if good { StatusCode::OK } else { StatusCode::FORBIDDEN };
                response
            }
        })
        .await;
        Self { server, asked, let_go }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// A gate whose backend may be silent for longer than a question waits for its turn.
async fn gate(backend: &Slow, default: bool) -> (Running, Server) {
    let upstream = Server::media().await;
    let rules = Rules::new("p").backend(&backend.server.url());
    let rules = if default { rules.allow_default() } else { rules };
    let mut made = Made::new().judged("cam", rules).gate(LOOPBACK, &upstream.url());
    made.config.backend_timeout = Duration::from_secs(60);
    let limits = Limits { connections_per_address: 4096, ..quick() };
    (Running::with(made, limits, SessionLimits::default()), upstream)
}

/// Takes every turn that there is, each with a token of its own, from two addresses: one alone cannot.
async fn take_all_turns(gate: &Running, backend: &Slow) -> JoinSet<Reply> {
    let mut held = JoinSet::new();
    for n in 0..BackendOptions::MAX_QUESTIONS {
        let mut client = from(gate, if n % 2 == 0 { "127.0.0.1:0" } else { "127.0.0.3:0" }).await;
        held.spawn(async move { client.get(&format!("/cam/x?token=held-{n}")).await });
    }
    until("every turn is taken", || backend.asked() == BackendOptions::MAX_QUESTIONS).await;
    held
}

/// Connects from a third address of the loopback.
async fn other(gate: &Running) -> Client {
    from(gate, "127.0.0.2:0").await
}

async fn from(gate: &Running, address: &str) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(address.parse().unwrap()).unwrap();
    Client { stream: socket.connect(gate.address).await.unwrap(), buffer: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_was_never_asked_is_not_the_silence_of_the_backend() {
    for default in [true, false] {
        let backend = Slow::new().await;
        let (gate, _upstream) = gate(&backend, default).await;
        let held = take_all_turns(&gate, &backend).await;
        for token in ["bad", "good"] {
            let reply = other(&gate).await.get(&format!("/cam/x?token={token}")).await;
            assert_eq!(reply.status, 503, "allow default: {default}, {token}");
            assert!(reply.header("retry-after").is_some());
        }
        assert_eq!(backend.asked(), BackendOptions::MAX_QUESTIONS);
        assert_eq!(gate.sessions.counters().unasked, 2);
        let counted = &gate.gates.counters()[0];
        assert_eq!((counted.limited, counted.denied), (2, 0), "nobody was denied");
        assert_eq!(gate.sessions.hits().count(Limit::QueueTimeout), 2);
        let status = &gate.sessions.backends()[0];
        assert_eq!((status.in_flight, status.limit, status.queue_timed_out), (256, 256, 2));
        // As soon as there are turns again, everybody is judged.
        backend.let_go.send_replace(true);
        let refused = held.join_all().await;
        assert!(refused.iter().all(|reply| reply.status == 403));
        assert_eq!(other(&gate).await.get("/cam/x?token=bad").await.status, 403);
        assert_eq!(other(&gate).await.get("/cam/x?token=good").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_hangs_on_one_address_answers_others() {
    let backend = Slow::new().await;
    let (gate, _upstream) = gate(&backend, true).await;
    let mut held = JoinSet::new();
    for n in 0..BackendOptions::MAX_QUESTIONS {
        let mut client = Client::connect(gate.address).await;
        held.spawn(async move { client.get(&format!("/cam/x?token=held-{n}")).await });
    }
    until("it has its share", || backend.asked() == BackendOptions::MAX_QUESTIONS / 2).await;
    let mut viewer = other(&gate).await;
    let viewer = tokio::spawn(async move { viewer.get("/cam/x?token=good").await });
    until("another is asked about at once", || backend.asked() == BackendOptions::MAX_QUESTIONS / 2 + 1)
        .await;
    backend.let_go.send_replace(true);
    assert_eq!(viewer.await.unwrap().status, 200);
    assert!(held.join_all().await.iter().all(|reply| matches!(reply.status, 403 | 503)));
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_nobody_waits_for_are_not_asked() {
    let backend = Slow::new().await;
    let (gate, _upstream) = gate(&backend, true).await;
    let held = take_all_turns(&gate, &backend).await;
    let mut leaving = Vec::new();
    for n in 0..200 {
        let mut client = Client::connect(gate.address).await;
        client.send(format!("GET /cam/x?token=gone-{n} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        leaving.push(client);
    }
    let questions = || gate.sessions.counters().questions - BackendOptions::MAX_QUESTIONS as u64;
    until("they wait", || questions() == 200).await;
    drop(leaving);
    until("they are gone", || {
        gate.gates.counters()[0].connections_open == BackendOptions::MAX_QUESTIONS as u64
    })
    .await;
    let mut viewer = other(&gate).await;
    let viewer = tokio::spawn(async move { viewer.get("/cam/x?token=good").await });
    until("it waits", || questions() == 201).await;
    backend.let_go.send_replace(true);
    assert_eq!(viewer.await.unwrap().status, 200);
    held.join_all().await;
    until("the line is empty", || gate.sessions.counters().unasked == 200).await;
    assert_eq!(backend.asked(), BackendOptions::MAX_QUESTIONS + 1);
}

/// What a backend's block says, but for its times.
fn options(max_questions: usize) -> BackendOptions {
    BackendOptions { max_questions, ..BackendOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_is_asked_as_its_block_says() {
    let backend = Slow::new().await;
    let upstream = Server::media().await;
    let times = BackendOptions {
        timeout: Some(Duration::from_millis(600)),
        queue_timeout: Duration::from_millis(200),
        ..options(2)
    };
    let rules = Rules::new("p").backend_with(&backend.server.url(), times).allow_default();
    let gate = Running::new(Made::new().judged("cam", rules).gate(LOOPBACK, &upstream.url()));
    let mut held = JoinSet::new();
    for address in ["127.0.0.1:0", "127.0.0.3:0"] {
        let mut client = from(&gate, address).await;
        held.spawn(async move { client.get("/cam/x?token=bad").await });
    }
    until("both are asked", || backend.asked() == 2).await;
    assert_eq!(
        other(&gate).await.get("/cam/x?token=bad").await.status,
        503,
        "the third waits 200 ms at most"
    );
    for held in held.join_all().await {
        assert_eq!(held.status, 200, "silent for 600 ms: the default");
    }
    let status = &gate.sessions.backends()[0];
    assert_eq!((status.asked, status.timed_out, status.queue_timed_out), (2, 2, 1));
    assert_eq!(status.latency.count, 0, "none was answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_questions_wait() {
    let backend = Slow::new().await;
    let upstream = Server::media().await;
    let rules = Rules::new("p").backend_with(&backend.server.url(), options(1)).allow_default();
    let mut made = Made::new().judged("cam", rules).gate(LOOPBACK, &upstream.url());
    made.config.limits.set(Limit::Questions, 3);
    made.config.limits.set(Limit::QuestionsPerAddress, 2);
    let gate = Running::new(made);
    let mut held = JoinSet::new();
    let waiting = || gate.sessions.backends().first().map_or(0, |status| status.waiting);
    for (n, address) in ["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.2:0"].into_iter().enumerate() {
        let mut client = from(&gate, address).await;
        held.spawn(async move { client.get(&format!("/cam/x?token=held-{n}")).await });
        until("it is asked or waits", || backend.asked() + waiting() == n + 1).await;
    }
    let hits = |limit| gate.sessions.hits().count(limit);
    assert_eq!(from(&gate, "127.0.0.3:0").await.get("/cam/x?token=good").await.status, 503);
    assert_eq!((hits(Limit::Questions), hits(Limit::QuestionsPerAddress)), (1, 0));
    held.abort_all();
    until("two have left", || waiting() == 0).await;
    backend.let_go.send_replace(true);
    assert_eq!(other(&gate).await.get("/cam/x?token=good").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_does_not_respond_is_tried_by_single_questions() {
    let backend = Slow::new().await;
    let upstream = Server::media().await;
    let times = BackendOptions { timeout: Some(Duration::from_millis(500)), ..BackendOptions::default() };
    let rules = Rules::new("p").backend_with(&backend.server.url(), times);
    let gate = Running::new(Made::new().judged("cam", rules).gate(LOOPBACK, &upstream.url()));
    let mut silent = JoinSet::new();
    for n in 0..20 {
        let mut client = from(&gate, &format!("127.0.1.{}:0", n + 1)).await;
        silent.spawn(async move { client.get("/cam/x?token=good").await.status });
    }
    assert!(
        silent.join_all().await.iter().all(|status| *status == 403),
        "no default, so that they are denied"
    );
    let status = || gate.sessions.backends().remove(0);
    assert!(status().not_responding_seconds.is_some());
    let asked = backend.asked();
    let begun = std::time::Instant::now();
    for n in 0..50 {
        let reply = from(&gate, &format!("127.0.2.{}:0", n + 1)).await.get("/cam/x?token=good").await;
        assert_eq!(reply.status, 403);
    }
    let seconds = begun.elapsed().as_secs() as usize;
    assert!(backend.asked() - asked <= seconds + 1, "one question a second tries");
    assert!(status().short_circuited >= 40 && status().outages == 1);
    // It is back, and the next question that tries finds that out.
    backend.let_go.send_replace(true);
    let mut n = 0;
    loop {
        n += 1;
        let reply = from(&gate, &format!("127.0.3.{n}:0")).await.get("/cam/x?token=good").await;
        if reply.status == 200 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it is noticed");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(status().not_responding_seconds, None);
}

/// Every descriptor that the process can have, but none for what is being tested. Dropped, there are enough again.
struct Starved {
    soft: u64,
    hard: u64,
    _held: Vec<std::fs::File>,
}

impl Starved {
    fn now() -> Self {
        let (soft, hard) = rlimit::Resource::NOFILE.get().unwrap();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        rlimit::Resource::NOFILE.set((open + 64).min(soft), hard).unwrap();
        let mut held = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            held.push(file);
        }
        Self { soft, hard, _held: held }
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        rlimit::Resource::NOFILE.set(self.soft, self.hard).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn want_of_descriptors_is_nobodys_silence() {
    let backend = Slow::new().await;
    backend.let_go.send_replace(true);
    let upstream = Server::media().await;
    for default in [true, false] {
        let rules = Rules::new("p").token(Action::Allow, "known").backend(&backend.server.url());
        let rules = if default { rules.allow_default() } else { rules };
        let gate = Running::new(Made::new().judged("cam", rules).gate(LOOPBACK, &upstream.url()));
        let mut client = other(&gate).await;
        // The client's connection is there; one to the backend or to the media server cannot be made.
        until("it is accepted", || gate.gates.counters()[0].connections_open == 1).await;
        let starved = Starved::now();
        let asked = client.get("/cam/x?token=bad").await;
        let admitted = client.get("/cam/x?token=known").await;
        drop(starved);
        assert_eq!((asked.status, admitted.status), (503, 503), "default: {default}");
        let counters = &gate.gates.counters()[0];
        assert_eq!((counters.limited, counters.denied, counters.upstream_faults), (2, 0, 0));
        assert_eq!(gate.sessions.hits().count(Limit::OpenFiles), 2);
        assert_eq!(gate.sessions.backends()[0].refused, 0, "it is not the backend's fault");
        assert_eq!(client.get("/cam/x?token=bad").await.status, 403);
        assert_eq!(client.get("/cam/x?token=known").await.status, 200);
    }
}

/// Ten thousand viewers at once, each from an address of its own, at a backend that takes two seconds for an answer and
/// can be asked 256 questions at once: it could answer 512 of them in time, and those it does answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_passes_no_cap_loses_no_answer_and_admits_nobody_by_the_default() {
    const VIEWERS: usize = 10_000;
    let at_once = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (at_once.clone(), most.clone());
    let server = Server::answering(move |request| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let good = request.uri().query().is_some_and(|query| query.contains("token=good"));
        let now = now.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            let mut response = Response::new(full("{}"));
            *response.status_mut() = if good { StatusCode::OK } else { StatusCode::FORBIDDEN };
            response
        }
    })
    .await;
    let rules = Rules::new("p").backend(&server.url()).allow_default();
    let snapshot = Made::new().judged("cam", rules).snapshot();
    let sessions = Sessions::new(snapshot.clone(), SessionLimits::default());
    let mut storm = JoinSet::new();
    for n in 0..VIEWERS {
        let good = n % 2 == 0;
        let token = Some(format!("{}-{n}", if good { "good" } else { "bad" }).into());
        let address = [10, 0, (n / 256) as u8, (n % 256) as u8];
        let request = Arc::new(Request { token, ..request(address) });
        let (sessions, snapshot) = (sessions.clone(), snapshot.clone());
        storm.spawn(async move {
            let admission = sessions.admit(&snapshot, &request, &Presence::new()).await.unwrap();
            (good, admission.judgement.ground, admission.answers)
        });
    }
    let (mut judged, mut told_to_come_back) = (0, 0);
    while let Some(viewer) = storm.join_next().await {
        match viewer.unwrap() {
            (good, Ground::Judged(_, decision), answers) => {
                assert_eq!(decision.stage, Stage::Backend, "nobody by the default: {answers:?}");
                assert_eq!(decision.verdict == Verdict::Allow, good);
                judged += 1;
            }
            (_, Ground::Limited(_), _) => told_to_come_back += 1,
            (_, other, _) => panic!("{other:?}"),
        }
    }
    let status = &sessions.backends()[0];
    assert_eq!(judged as u64, status.asked, "every question that was asked has helped: {status:?}");
    assert!(judged >= 2 * BackendOptions::MAX_QUESTIONS, "{judged} of those that could have been");
    assert_eq!(judged + told_to_come_back, VIEWERS);
    assert!(most.load(Ordering::SeqCst) <= BackendOptions::MAX_QUESTIONS, "{most:?} at once");
    assert_eq!(status.queue_timed_out as usize, told_to_come_back);
}
