//! More questions than a backend may be asked at once: nobody is admitted, and nobody refused, in its name.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use filter_user::{backend::QUESTIONS_PER_BACKEND, gate::Limits, session::SessionLimits};
use http::{Response, StatusCode};
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running, quick},
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
    for n in 0..QUESTIONS_PER_BACKEND {
        let mut client = from(gate, if n % 2 == 0 { "127.0.0.1:0" } else { "127.0.0.3:0" }).await;
        held.spawn(async move { client.get(&format!("/cam/x?token=held-{n}")).await });
    }
    until("every turn is taken", || backend.asked() == QUESTIONS_PER_BACKEND).await;
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
        assert_eq!(backend.asked(), QUESTIONS_PER_BACKEND);
        assert_eq!(gate.sessions.counters().unasked, 2);
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
    for n in 0..QUESTIONS_PER_BACKEND {
        let mut client = Client::connect(gate.address).await;
        held.spawn(async move { client.get(&format!("/cam/x?token=held-{n}")).await });
    }
    until("it has its share", || backend.asked() == QUESTIONS_PER_BACKEND / 2).await;
    let mut viewer = other(&gate).await;
    let viewer = tokio::spawn(async move { viewer.get("/cam/x?token=good").await });
    until("another is asked about at once", || backend.asked() == QUESTIONS_PER_BACKEND / 2 + 1).await;
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
    let questions = || gate.sessions.counters().questions - QUESTIONS_PER_BACKEND as u64;
    until("they wait", || questions() == 200).await;
    drop(leaving);
    until("they are gone", || gate.gates.counters()[0].connections_open == QUESTIONS_PER_BACKEND as u64)
        .await;
    let mut viewer = other(&gate).await;
    let viewer = tokio::spawn(async move { viewer.get("/cam/x?token=good").await });
    until("it waits", || questions() == 201).await;
    backend.let_go.send_replace(true);
    assert_eq!(viewer.await.unwrap().status, 200);
    held.join_all().await;
    until("the line is empty", || gate.sessions.counters().unasked == 200).await;
    assert_eq!(backend.asked(), QUESTIONS_PER_BACKEND + 1);
}
