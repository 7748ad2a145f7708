//! A viewer is one viewer: what is one session, how long it lasts, and where it may go.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use filter_user::{
    model::{Access, Action, Follows, ServiceKey},
    session::{SessionFilter, SessionLimits},
};
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running, quick},
    origins::{Server, full},
    raw_client::Client,
    wait::until,
};

use crate::watching::{asking, breaks_off, goes_on, live, watch, watch_from};

async fn admitting(headers: &'static [(&'static str, &'static str)]) -> Server {
    Server::backend(&Arc::new(AtomicU16::new(200)), headers).await
}

/// Answers what a player of each kind would get.
async fn media() -> Server {
    Server::noting(|seen| {
        let (kind, body) = match seen.target.split('?').next().unwrap().rsplit('.').next().unwrap() {
            "m3u8" => {
                ("application/vnd.apple.mpegurl", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n0.ts\n")
            }
            "mpd" => ("application/dash+xml", "<MPD maxSegmentDuration=\"PT2S\"></MPD>"),
            _ => ("application/octet-stream", "media"),
        };
        http::Response::builder().header("Content-Type", kind).body(full(body)).unwrap()
    })
    .await
}

fn soon_gone(milliseconds: u64) -> SessionLimits {
    SessionLimits { idle: Duration::from_millis(milliseconds), ..SessionLimits::default() }
}

#[tokio::test]
async fn all_that_a_player_asks_for_is_one_session_whatever_its_endings() {
    let (backend, upstream) = (admitting(&[]).await, media().await);
    let gate = Running::new(asking(&backend, &upstream));
    let mut client = Client::connect(gate.address).await;
    for file in [
        "index.m3u8",
        "video.m3u8",
        "0.ts",
        "init.mp4",
        "1.m4s",
        "a.aac",
        "key.key",
        "de.vtt",
        "thumb.jpg",
        "index.mpd",
        "chunk-1.webm",
        "manifest",
        "mpegts",
    ] {
        assert_eq!(client.get(&format!("/cam/{file}?token=t")).await.status, 200, "{file}");
    }
    assert_eq!(backend.count(), 1);
    assert_eq!(gate.sessions.list().len(), 1);
    // An endless body over another connection, too.
    let endless = live().await;
    gate.gates.apply(&asking(&backend, &endless).snapshot()).unwrap();
    let mut body = watch(&gate, "/cam/mpegts?token=t").await;
    assert!(goes_on(&mut body).await);
    assert_eq!((backend.count(), gate.sessions.list().len()), (1, 1));
}

#[tokio::test]
async fn the_protocol_is_learnt_from_the_manifest() {
    let (backend, upstream) = (admitting(&[("X-AuthDuration", "1")]).await, media().await);
    let gate = Running::new(asking(&backend, &upstream));
    let mut client = Client::connect(gate.address).await;
    assert_eq!(client.get("/cam/play?token=t").await.status, 200);
    assert_eq!(&*gate.sessions.list()[0].proto, "http", "nothing is known yet");
    assert_eq!(client.get("/cam/index.mpd?token=t").await.status, 200);
    assert_eq!(&*gate.sessions.list()[0].proto, "dash");
    assert_eq!(client.get("/cam/0.ts?token=t").await.status, 200, "a segment says nothing");
    until("it is asked again", || backend.count() >= 2).await;
    let told: Vec<_> =
        backend.requests().iter().map(|question| question.parameter("proto").unwrap()).collect();
    assert_eq!(told[..2], ["http", "dash"]);
}

#[tokio::test]
async fn a_session_ends_when_its_player_has_gone_and_not_with_its_verdict() {
    let (backend, upstream) = (admitting(&[("X-AuthDuration", "36000")]).await, media().await);
    let gate = Running::with(asking(&backend, &upstream), quick(), soon_gone(400));
    let mut client = Client::connect(gate.address).await;
    assert_eq!(client.get("/cam/0.ts?token=a").await.status, 200);
    assert_eq!(gate.sessions.counters().open, 1);
    until("its player has gone", || gate.sessions.counters().open == 0).await;
    assert!(gate.sessions.list().is_empty());
    assert_eq!(client.get("/cam/0.ts?token=b").await.status, 200);
    let question = backend.requests().remove(1);
    for count in ["stream_clients", "total_clients"] {
        assert_eq!(question.parameter(count).as_deref(), Some("0"), "{count}: nobody was there");
    }
    // After a pause it goes on, and nobody is asked: its token may be good for one question only.
    assert_eq!(client.get("/cam/0.ts?token=a").await.status, 200);
    assert_eq!((backend.count(), gate.sessions.counters().open), (2, 2));
}

#[tokio::test]
async fn a_playlist_says_how_long_its_player_may_be_quiet() {
    let (backend, upstream) = (admitting(&[]).await, media().await);
    let gate = Running::with(asking(&backend, &upstream), quick(), soon_gone(300));
    let mut client = Client::connect(gate.address).await;
    let begun = std::time::Instant::now();
    assert_eq!(client.get("/cam/index.m3u8?token=t").await.status, 200);
    until("its player has gone", || gate.sessions.counters().open == 0).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "two target durations: {:?}", begun.elapsed());
}

#[tokio::test]
async fn many_sessions_cost_no_task_each() {
    let (backend, upstream) = (admitting(&[]).await, media().await);
    let gate = Running::new(asking(&backend, &upstream));
    let mut client = Client::connect(gate.address).await;
    assert_eq!(client.get("/cam/0.ts?token=first").await.status, 200);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for n in 0..200 {
        assert_eq!(client.get(&format!("/cam/0.ts?token={n}")).await.status, 200);
    }
    assert_eq!(gate.sessions.counters().open, 201);
    // The questions' own tasks end with them.
    until("no task is left", || tasks() <= before).await;
}

fn following(backend: &Server, upstream: &Server, follows: Follows) -> Made {
    let mut made = asking(backend, upstream);
    made.config.sessions.follows = follows;
    made
}

const HOME: [u8; 4] = [127, 0, 0, 1];
const NEAR: [u8; 4] = [127, 0, 0, 77];
const FAR: [u8; 4] = [127, 0, 9, 1];

#[tokio::test]
async fn a_session_stays_where_it_is_unless_the_configuration_lets_it_move() {
    let (backend, upstream) = (admitting(&[]).await, media().await);
    for (follows, far, near) in
        [(Follows::Nothing, 3, 2), (Follows::Prefix(24, 56), 2, 1), (Follows::Token, 1, 1)]
    {
        let before = backend.count();
        let gate = Running::new(following(&backend, &upstream, follows));
        for (source, asked) in [(HOME, 1), (NEAR, near), (FAR, far)] {
            // Its former connection has ended, as that of a phone that leaves a network.
            let reply = Client::connect_from(source, gate.address).await.get("/cam/0.ts?token=t").await;
            assert_eq!(reply.status, 200, "{follows:?} {source:?}");
            assert_eq!(backend.count() - before, asked, "{follows:?} {source:?}");
            assert_eq!(gate.sessions.counters().open, asked as u64, "{follows:?} {source:?}");
        }
    }
}

#[tokio::test]
async fn a_session_that_moves_is_the_same_one_and_lives_in_one_place() {
    let backend = admitting(&[("X-AuthDuration", "36000"), ("X-UserId", "7"), ("X-Max-Sessions", "1")]).await;
    let upstream = live().await;
    let gate = Running::new(following(&backend, &upstream, Follows::Token));
    let mut home = watch_from(HOME, &gate, "/cam/mpegts?token=t").await;
    let before = gate.sessions.list().remove(0);
    let mut far = watch_from(FAR, &gate, "/cam/mpegts?token=t").await;
    breaks_off(&mut home).await;
    assert!(goes_on(&mut far).await);
    let after = gate.sessions.list();
    assert_eq!((after.len(), after[0].id, after[0].opened_at), (1, before.id, before.opened_at));
    assert_eq!(after[0].key.address, std::net::IpAddr::from(FAR));
    assert!(after[0].bytes >= before.bytes, "its bytes go with it");
    assert_eq!((backend.count(), gate.sessions.counters().moved), (1, 1));
    // Who shares the token has to wait until it has gone from there; and so has the former place.
    for source in [HOME, NEAR] {
        let reply = Client::connect_from(source, gate.address).await.get("/cam/mpegts?token=t").await;
        assert_eq!((reply.status, reply.text().as_str()), (403, "denied: elsewhere\n"));
    }
    assert!(goes_on(&mut far).await);
    drop(far);
    until("it has left", || gate.sessions.counters().transfers == 0).await;
    let mut back = watch_from(HOME, &gate, "/cam/mpegts?token=t").await;
    assert!(goes_on(&mut back).await);
    assert_eq!((backend.count(), gate.sessions.counters().moved), (1, 2));
}

#[tokio::test]
async fn lists_judge_a_session_where_it_is_now() {
    let (backend, upstream) = (admitting(&[]).await, media().await);
    let rules = Rules::new("p").ip(Action::Deny, "127.0.9.0/24").backend(&backend.url());
    let mut made = Made::new().judged("cam", rules).gate(LOOPBACK, &upstream.url());
    made.config.sessions.follows = Follows::Token;
    let gate = Running::new(made);
    assert_eq!(Client::connect_from(HOME, gate.address).await.get("/cam/0.ts?token=t").await.status, 200);
    let reply = Client::connect_from(FAR, gate.address).await.get("/cam/0.ts?token=t").await;
    assert_eq!((reply.status, reply.text().as_str()), (403, "denied: ip\n"));
}

#[tokio::test]
async fn who_is_kicked_stays_away_for_that_time() {
    let (backend, upstream) = (admitting(&[("X-UserId", "7")]).await, live().await);
    let other = ServiceKey { address: Some([127, 0, 0, 2].into()), ..LOOPBACK };
    let made = asking(&backend, &upstream).stream("open", Access::Open, Access::Closed);
    let gate = Running::new(made.gate(other, &upstream.url()));
    let mut kicked = watch(&gate, "/cam/mpegts?token=t").await;
    let mut stays = watch(&gate, "/cam/mpegts?token=u").await;
    let mut nameless = watch_from(NEAR, &gate, "/open/mpegts").await;
    let id = gate.sessions.list().into_iter().find(|one| one.key.token.as_deref() == Some("t")).unwrap().id;
    let filter = SessionFilter { id: Some(id), ..SessionFilter::default() };
    let done = gate.sessions.kick(&filter, Duration::from_secs(2));
    assert_eq!((done.sessions, done.transfers), (1, 1));
    breaks_off(&mut kicked).await;
    let asked = backend.count();
    // The token is refused, on whatever stream, from whatever address, at whatever gate.
    let second = gate.gates.address(other).unwrap();
    for address in [gate.address, second] {
        for target in ["/cam/mpegts?token=t", "/open/x?token=t"] {
            let reply = Client::connect_from(FAR, address).await.get(target).await;
            assert_eq!((reply.status, reply.text().as_str()), (403, "denied: kicked\n"), "{target}");
        }
    }
    assert_eq!(backend.count(), asked, "and nobody is asked about it");
    assert!(goes_on(&mut stays).await);
    // Without a token it is the address that is refused, on that stream.
    let filter = SessionFilter { ip: Some(NEAR.into()), ..SessionFilter::default() };
    assert_eq!(gate.sessions.kick(&filter, Duration::from_secs(60)).sessions, 1);
    breaks_off(&mut nameless).await;
    assert_eq!(Client::connect_from(NEAR, gate.address).await.get("/open/x").await.status, 403);
    drop(watch_from(FAR, &gate, "/open/mpegts").await);
    // After that time it may come back, and is asked about anew.
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    let comes_back = loop {
        let mut client = Client::connect(gate.address).await;
        client.send("GET /cam/mpegts?token=t HTTP/1.1\r\nHost: a\r\n\r\n").await;
        if client.head().await.status == 200 || std::time::Instant::now() > deadline {
            break backend.count();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(comes_back, asked + 1);
    let counters = gate.sessions.counters();
    assert_eq!((counters.kicked, counters.open), (2, 3));
}

#[tokio::test]
async fn sessions_are_chosen_by_user_stream_and_address() {
    let backend = Server::noting(|question| {
        let user = question.parameter("token").unwrap();
        http::Response::builder().header("X-UserId", user).body(full("")).unwrap()
    })
    .await;
    let upstream = media().await;
    let ask = || Rules::new("p").backend(&backend.url());
    let gate =
        Running::new(Made::new().judged("a", ask()).judged("b", ask()).gate(LOOPBACK, &upstream.url()));
    for (source, target) in [
        (HOME, "/a/0.ts?token=1"),
        (HOME, "/b/0.ts?token=1"),
        (NEAR, "/a/0.ts?token=1"),
        (NEAR, "/b/0.ts?token=2"),
    ] {
        assert_eq!(Client::connect_from(source, gate.address).await.get(target).await.status, 200);
    }
    let filter = |stream: Option<&str>, user: Option<&str>, ip: Option<[u8; 4]>| SessionFilter {
        id: None,
        stream: stream.map(Into::into),
        user: user.map(Into::into),
        ip: ip.map(Into::into),
    };
    for (filter, count) in [
        (filter(None, None, None), 4),
        (filter(Some("a"), None, None), 2),
        (filter(None, Some("1"), None), 3),
        (filter(None, None, Some(NEAR)), 2),
        (filter(Some("a"), Some("1"), Some(NEAR)), 1),
        (filter(Some("a"), Some("2"), None), 0),
    ] {
        assert_eq!(gate.sessions.list_of(&filter, Default::default()).len(), count, "{filter:?}");
    }
    let asked = backend.count();
    let done = gate.sessions.reauthorise(&filter(None, Some("1"), None));
    assert_eq!((done.asked, done.passed_over), (3, 0));
    until("they are asked", || backend.count() == asked + 3).await;
    let again = backend.requests().split_off(asked);
    assert!(again.iter().all(|one| one.parameter("request_type").as_deref() == Some("update_session")));
}

#[tokio::test]
async fn an_operator_has_the_backends_asked_and_their_ban_cuts() {
    let verdict = Arc::new(AtomicU16::new(200));
    let backend = Server::backend(&verdict, &[("X-AuthDuration", "36000")]).await;
    let upstream = live().await;
    let gate = Running::new(asking(&backend, &upstream));
    let mut viewer = watch(&gate, "/cam/mpegts?token=t").await;
    verdict.store(403, Ordering::Relaxed);
    let filter = SessionFilter { stream: Some("cam".into()), ..SessionFilter::default() };
    assert_eq!(gate.sessions.reauthorise(&filter).asked, 1);
    breaks_off(&mut viewer).await;
    assert_eq!(gate.sessions.counters().open, 0, "who is banned is not there");
}

/// From one process to the next, as text.
fn hand_over(from: &Running, to: &Running) -> usize {
    let taken = from.sessions.export().filter(|record| {
        let text = serde_json::to_string(record).unwrap();
        to.sessions.import(&serde_json::from_str(&text).unwrap())
    });
    taken.count()
}

#[tokio::test]
async fn the_next_process_takes_sessions_over_with_their_verdicts_and_places() {
    let backend = Server::noting(|question| {
        let status = if question.parameter("token").as_deref() == Some("bad") { 403 } else { 200 };
        let response = http::Response::builder().status(status).header("X-UserId", "7");
        response.header("X-AuthDuration", "3").header("X-Max-Sessions", "1").body(full("")).unwrap()
    })
    .await;
    let upstream = media().await;
    let made = || asking(&backend, &upstream).stream("open", Access::Open, Access::Closed);
    let former = Running::new(made());
    let mut client = Client::connect(former.address).await;
    assert_eq!(client.get("/cam/index.m3u8?token=good").await.status, 200);
    assert_eq!(client.get("/open/0.ts?token=list").await.status, 200);
    assert_eq!(Client::connect(former.address).await.get("/cam/0.ts?token=over").await.status, 403);
    assert_eq!(client.get("/cam/0.ts?token=bad").await.status, 403);
    let mut before = former.sessions.list();
    let asked = backend.count();

    let next = Running::new(made());
    // What was denied is asked about anew.
    assert_eq!(hand_over(&former, &next), 3);
    let mut after = next.sessions.list();
    before.sort_by_key(|session| session.key.stream.clone());
    after.sort_by_key(|session| session.key.stream.clone());
    let told = |list: &[filter_user::session::SessionInfo]| -> Vec<_> {
        let told = list.iter().map(|one| {
            (one.id, one.key.clone(), one.proto.clone(), one.opened_at, one.bytes, one.user_id.clone())
        });
        told.collect()
    };
    assert_eq!(told(&before), told(&after));
    assert_eq!((after.len(), next.sessions.counters().open), (2, 2));
    // Where the policy is another one, the verdict means nothing.
    let rules = Rules::new("another").backend(&backend.url());
    let other = Running::new(Made::new().judged("cam", rules).gate(LOOPBACK, &upstream.url()));
    assert_eq!(hand_over(&former, &other), 1, "the refused one");
    assert_eq!(other.sessions.counters().open, 0);
    // Nobody is asked about it; who is over the limit stays refused, and so does whoever comes new.
    let mut client = Client::connect(next.address).await;
    assert_eq!(client.get("/cam/0.ts?token=good").await.status, 200);
    assert_eq!(client.get("/cam/0.ts?token=over").await.text(), "denied: sessions\n");
    assert_eq!(backend.count(), asked);
    // The next question is one about a session that is known.
    until("it is asked about again", || {
        backend.requests()[asked..].iter().any(|one| {
            one.parameter("request_type").as_deref() == Some("update_session")
                && one.parameter("session_id") == Some(after[0].id.to_string())
                && one.parameter("request_number").as_deref() == Some("1")
        })
    })
    .await;
    // Twice is as once.
    assert_eq!(hand_over(&former, &next), 0);
}
