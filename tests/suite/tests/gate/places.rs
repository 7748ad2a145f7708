//! Limits that hold: how many sessions a user, a token and an address may have at once.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use filter_user::{
    model::{Access, Action, Origin, ServiceKey},
    session::SessionLimits,
};
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running, quick},
    origins::{Server, full},
    raw_client::{Client, Reply},
    wait::{PATIENCE, until},
};

use crate::watching::{breaks_off, goes_on, live, watch, watch_from};

type Terms = &'static [(&'static str, &'static str)];

const ONE: Terms = &[("X-AuthDuration", "36000"), ("X-UserId", "7"), ("X-Max-Sessions", "1")];
const TWO: Terms = &[("X-AuthDuration", "36000"), ("X-UserId", "7"), ("X-Max-Sessions", "2")];
const UNIQUE: Terms =
    &[("X-AuthDuration", "36000"), ("X-UserId", "7"), ("X-Max-Sessions", "1"), ("X-Unique", "true")];
const OVER: (u16, &str) = (403, "denied: sessions\n");

async fn admitting(headers: Terms) -> Server {
    Server::backend(&Arc::new(AtomicU16::new(200)), headers).await
}

/// Three channels, each with a policy of its own, that ask one portal.
fn channels(portal: &Server, upstream: &Server) -> Made {
    let made = ["one", "two", "three"]
        .into_iter()
        .fold(Made::new(), |made, name| made.judged(name, Rules::new(name).backend(&portal.url())));
    made.gate(LOOPBACK, &upstream.url())
}

/// The whole answer: what is admitted here has no end.
async fn get(gate: &Running, target: &str) -> Reply {
    let mut client = Client::connect(gate.address).await;
    tokio::time::timeout(PATIENCE, client.get(target))
        .await
        .expect("it was admitted, and its body has no end")
}

fn said(reply: &Reply) -> (u16, String) {
    (reply.status, reply.text())
}

fn over() -> (u16, String) {
    (OVER.0, OVER.1.to_owned())
}

#[tokio::test]
async fn a_user_has_so_many_sessions_over_all_streams_and_gates() {
    let (portal, upstream) = (admitting(TWO).await, live().await);
    let other = ServiceKey { address: Some([127, 0, 0, 2].into()), ..LOOPBACK };
    let gate = Running::new(channels(&portal, &upstream).gate(other, &upstream.url()));
    let second = gate.gates.address(other).unwrap();
    let mut first = watch(&gate, "/one/mpegts?token=a").await;
    let mut client = Client::connect(second).await;
    client.send("GET /two/mpegts?token=b HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    for target in ["/three/index.m3u8?token=c", "/three/index.mpd?token=d", "/one/mpegts?token=e"] {
        assert_eq!(said(&get(&gate, target).await), over(), "{target}");
    }
    assert!(goes_on(&mut first).await && goes_on(&mut client).await, "who was there first stays");
    let counters = gate.sessions.counters();
    assert_eq!((counters.open, counters.over_limit), (2, 3));
    assert_eq!(gate.gates.counters().iter().map(|gate| gate.denied).sum::<u64>(), 3);
}

#[tokio::test]
async fn who_was_refused_stays_refused_with_its_token() {
    let (portal, upstream) = (admitting(ONE).await, live().await);
    let gate = Running::new(channels(&portal, &upstream));
    let mut first = watch(&gate, "/one/mpegts?token=a").await;
    assert_eq!(said(&get(&gate, "/two/x?token=b").await), over());
    let asked = portal.count();
    let begun = Instant::now();
    for target in ["/two/x?token=b", "/two/y?token=b", "/three/x?token=b"] {
        assert_eq!(said(&get(&gate, target).await), over(), "{target}");
    }
    let far = Client::connect_from([127, 0, 9, 9], gate.address).await.get("/one/x?token=b").await;
    assert_eq!(said(&far), over());
    assert_eq!(portal.count(), asked, "nobody is asked about it again");
    assert!(begun.elapsed() < Duration::from_millis(900), "and nobody waits for it");
    assert!(goes_on(&mut first).await);
    // When the first has gone, that token is refused still.
    drop(first);
    until("it has gone", || gate.sessions.counters().transfers == 0).await;
    assert_eq!(said(&get(&gate, "/two/x?token=b").await), over());
    drop(watch(&gate, "/two/mpegts?token=c").await);
}

/// One token for all channels: the second television must not lock the first one out.
#[tokio::test]
async fn a_token_that_a_viewer_shows_who_has_a_place_is_not_refused() {
    let (portal, upstream) = (admitting(ONE).await, live().await);
    let gate = Running::new(channels(&portal, &upstream));
    let mut first = watch(&gate, "/one/mpegts?token=t").await;
    let far = [127, 0, 9, 9];
    let second = Client::connect_from(far, gate.address).await.get("/two/x?token=t").await;
    assert_eq!(said(&second), over());
    assert!(goes_on(&mut first).await);
    drop(first);
    drop(watch(&gate, "/three/mpegts?token=t").await);
    // The other television is refused for its channel still.
    let second = Client::connect_from(far, gate.address).await.get("/two/x?token=t").await;
    assert_eq!(said(&second), over());
}

#[tokio::test]
async fn a_viewer_changes_channels_without_a_pause() {
    let (portal, upstream) = (admitting(ONE).await, live().await);
    let gate = Running::new(channels(&portal, &upstream));
    // One long body for each channel.
    for (turn, channel) in ["one", "two", "three", "one"].into_iter().enumerate() {
        let mut body = watch(&gate, &format!("/{channel}/mpegts?token={turn}")).await;
        assert!(goes_on(&mut body).await);
        assert_eq!(gate.sessions.counters().open, 1, "{channel}");
    }
    // HLS over one connection, and over a new one for each channel.
    let media = Server::media().await;
    gate.gates.apply(&channels(&portal, &media).snapshot()).unwrap();
    let mut kept = Client::connect(gate.address).await;
    for (turn, channel) in ["two", "three", "one"].into_iter().enumerate() {
        for file in ["index.m3u8", "0.ts", "1.ts"] {
            let target = format!("/{channel}/{file}?token=kept{turn}");
            assert_eq!(kept.get(&target).await.status, 200, "{target}");
        }
    }
    drop(kept);
    for (turn, channel) in ["two", "three"].into_iter().enumerate() {
        let mut client = Client::connect(gate.address).await;
        for file in ["index.m3u8", "0.ts"] {
            let target = format!("/{channel}/{file}?token=new{turn}");
            assert_eq!(client.get(&target).await.status, 200, "{target}");
        }
    }
    assert_eq!(gate.sessions.counters().open, 1);
}

#[tokio::test]
async fn two_players_of_one_place_do_not_both_play() {
    let (portal, media) = (admitting(ONE).await, Server::media().await);
    let gate = Running::new(channels(&portal, &media));
    // One keeps its connection, and is there.
    let mut first = Client::connect(gate.address).await;
    assert_eq!(first.get("/one/index.m3u8?token=a").await.status, 200);
    assert_eq!(said(&get(&gate, "/two/index.m3u8?token=b").await), over());
    assert_eq!(first.get("/one/index.m3u8?token=a").await.status, 200);
    drop(first);
    // Both close theirs after each request: which of them has left cannot be seen, but not for long.
    let mut refused = [0, 0];
    for turn in 0..12 {
        let target = ["/one/index.m3u8?token=c", "/three/index.m3u8?token=d"][turn % 2];
        let mut client = Client::connect(gate.address).await;
        let reply = client.get(target).await;
        drop(client);
        // The gate has seen that it has gone.
        until("the connection has ended", || gate.gates.counters()[0].connections_open == 0).await;
        refused[turn % 2] += u32::from(reply.status == 403);
    }
    assert_eq!(refused[0], 0, "the one that began first plays");
    assert!(refused[1] >= 3, "the other one does not: {refused:?}");
}

#[tokio::test]
async fn a_unique_session_ends_the_others_within_a_second() {
    let (portal, upstream) = (admitting(UNIQUE).await, live().await);
    let gate = Running::new(channels(&portal, &upstream));
    let mut first = watch(&gate, "/one/mpegts?token=a").await;
    let mut second = watch_from([127, 0, 0, 9], &gate, "/two/mpegts?token=b").await;
    let begun = Instant::now();
    breaks_off(&mut first).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(goes_on(&mut second).await);
    // It does not come back as long as the new one is there, and not with its token afterwards.
    let asked = portal.count();
    assert_eq!(said(&get(&gate, "/one/mpegts?token=a").await), over());
    assert_eq!(said(&get(&gate, "/three/mpegts?token=a").await), over());
    assert_eq!(portal.count(), asked);
    assert!(goes_on(&mut second).await);
    assert_eq!(gate.sessions.counters().open, 1);
}

#[tokio::test]
async fn a_portal_that_changes_its_mind_is_heard_at_the_next_question() {
    let most = Arc::new(AtomicU16::new(3));
    let told = most.clone();
    let portal = Server::noting(move |_| {
        let response = http::Response::builder().header("X-AuthDuration", "1").header("X-UserId", "7");
        response.header("X-Max-Sessions", told.load(Ordering::Relaxed)).body(full("")).unwrap()
    })
    .await;
    let upstream = live().await;
    let gate = Running::new(channels(&portal, &upstream));
    let mut first = watch(&gate, "/one/mpegts?token=a").await;
    let mut second = watch(&gate, "/two/mpegts?token=b").await;
    let mut third = watch(&gate, "/three/mpegts?token=c").await;
    let before = portal.count();
    until("all are asked about again", || portal.count() >= before + 3).await;
    assert!(goes_on(&mut third).await, "nothing has changed");
    most.store(1, Ordering::Relaxed);
    breaks_off(&mut second).await;
    breaks_off(&mut third).await;
    assert!(goes_on(&mut first).await, "who began first stays");
    assert_eq!(gate.sessions.counters().open, 1);
}

#[tokio::test]
async fn a_limit_of_none_is_no_limit_and_users_are_told_apart() {
    const FREE: Terms = &[("X-UserId", "7"), ("X-Max-Sessions", "0")];
    let (portal, upstream) = (admitting(FREE).await, live().await);
    let gate = Running::new(channels(&portal, &upstream));
    let mut viewers = Vec::new();
    for n in 0..5 {
        viewers.push(watch(&gate, &format!("/one/mpegts?token={n}")).await);
    }
    assert_eq!(gate.sessions.counters().open, 5);
    let portal = Server::noting(|question| {
        let user = question.parameter("token").unwrap();
        let response = http::Response::builder().header("X-UserId", user).header("X-Max-Sessions", "1");
        response.body(full("")).unwrap()
    })
    .await;
    let gate = Running::new(channels(&portal, &upstream));
    let mut viewers = Vec::new();
    for n in 0..5 {
        viewers.push(watch(&gate, &format!("/one/mpegts?token={n}")).await);
    }
    assert_eq!(gate.sessions.counters().open, 5);
}

#[tokio::test]
async fn a_policy_limits_sessions_of_a_token_and_of_an_address() {
    let upstream = live().await;
    let rules = |name| Rules::new(name).token(Action::Allow, "t").token(Action::Allow, "u");
    let quickly = SessionLimits {
        ban: Duration::from_millis(1500),
        grace: Duration::from_millis(100),
        ..SessionLimits::default()
    };
    let made = Made::new()
        .judged("tokens", rules("tokens").most_per_token(2))
        .judged("addresses", rules("addresses").allow_default().most_per_address(2))
        .gate(LOOPBACK, &upstream.url());
    let gate = Running::with(made, quick(), quickly);
    let places = [[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]];
    let mut viewers = Vec::new();
    for place in &places[..2] {
        viewers.push(watch_from(*place, &gate, "/tokens/mpegts?token=t").await);
    }
    // Only the head: what is admitted never ends.
    let third = || async {
        let mut client = Client::connect_from(places[2], gate.address).await;
        client.send("GET /tokens/x?token=t HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.head().await.status
    };
    assert_eq!(third().await, 403);
    viewers.push(watch_from(places[2], &gate, "/tokens/mpegts?token=u").await);
    // The address counts, whatever it shows, on the streams of that policy.
    for query in ["?token=t", "?token=other"] {
        viewers.push(watch_from(places[0], &gate, &format!("/addresses/mpegts{query}")).await);
    }
    assert_eq!(said(&get(&gate, "/addresses/x").await), over());
    viewers.push(watch_from(places[1], &gate, "/addresses/mpegts").await);
    assert_eq!(gate.sessions.counters().open, 6);
    // Such a refusal is short: a place that is free is there for the next one.
    viewers.remove(0);
    until("it has gone", || gate.sessions.counters().transfers == 5).await;
    let deadline = Instant::now() + Duration::from_secs(5);
    while third().await != 200 {
        assert!(Instant::now() < deadline, "it comes in when there is room");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_stream_has_so_many_viewers() {
    let upstream = live().await;
    let mut made = Made::new()
        .stream("cam", Access::Open, Access::Open)
        .stream("other", Access::Open, Access::Closed)
        .gate(LOOPBACK, &upstream.url());
    let at = Origin { file: "nicgate.conf".into(), line: 1, column: 1 };
    made.config.streams.get_mut("cam").unwrap().max_sessions = Some((2, at));
    let limits = SessionLimits {
        ban: Duration::from_millis(500),
        idle: Duration::from_millis(300),
        ..SessionLimits::default()
    };
    let gate = Running::with(made, quick(), limits);
    let mut first = watch(&gate, "/cam/mpegts?token=a").await;
    let second = watch(&gate, "/cam/mpegts?token=b").await;
    for target in ["/cam/x?token=c", "/cam/index.m3u8?token=d", "/cam/x"] {
        assert_eq!(said(&get(&gate, target).await), over(), "{target}");
    }
    // Who publishes, or watches another stream, is none of them; nor is another request of one of them.
    drop(watch(&gate, "/other/mpegts?token=c").await);
    drop(watch(&gate, "/cam/0.ts?token=a").await);
    let mut publisher = Client::connect(gate.address).await;
    publisher.send("PUT /cam/0.ts HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await;
    assert_eq!(publisher.head().await.status, 200);
    assert_eq!(said(&get(&gate, "/cam/x?token=e").await), over());
    assert!(goes_on(&mut first).await);
    // When one of them has gone for good, there is room for one.
    drop(second);
    until("it has gone", || gate.sessions.list().iter().all(|one| one.key.token.as_deref() != Some("b")))
        .await;
    drop(watch(&gate, "/cam/mpegts?token=f").await);
}

#[tokio::test]
async fn shadow_mode_refuses_nobody() {
    let (portal, upstream) = (admitting(ONE).await, live().await);
    let mut made = channels(&portal, &upstream);
    made.config.shadow = true;
    let gate = Running::new(made);
    let mut first = watch(&gate, "/one/mpegts?token=a").await;
    let mut second = watch(&gate, "/two/mpegts?token=b").await;
    assert!(goes_on(&mut first).await && goes_on(&mut second).await);
    assert_eq!(gate.sessions.counters().over_limit, 0);
}
