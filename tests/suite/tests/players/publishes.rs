//! Publishing: ffmpeg puts its files through a gate, wherever its token stands, and all of it arrives.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use filter_user::model::{Access, Action, ServiceKind, TokenFrom};
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running},
    origins::{Server, full},
};

use crate::{
    media::{Folder, Nginx, RATE, SECONDS, ffmpeg, run},
    players::Player,
};

/// A gate that takes publications with the token `good`, wherever it stands, and lets anybody play.
fn gate(upstream: &str) -> Running {
    let mut made = Made::new();
    let policy = made.policy(Rules::new("publishers").token(Action::Allow, "good"));
    let mut made = made.stream("cam", Access::Open, Access::Policy(policy)).gate(LOOPBACK, upstream);
    if let ServiceKind::Gate(gate) = &mut made.config.services[0].kind {
        gate.token_from = TokenFrom { query: true, header: true, cookie: true, path: true };
    }
    Running::new(made)
}

/// Publishes with these arguments, in a thread of its own: the gate runs in this process.
async fn publish(arguments: Vec<String>) {
    let folder = Folder::new(&format!("publish-{}", arguments.len()));
    tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&mut ffmpeg(folder.path(), "", &arguments));
    })
    .await
    .unwrap();
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Publishes files to nginx, and plays what arrived.
async fn arrives(label: &str, file: &str, arguments: Vec<String>, gate: &Running, nginx: &Nginx) {
    publish(arguments).await;
    let publishers: Vec<_> =
        gate.sessions.list().into_iter().map(|session| (session.key.operation, session.key.token)).collect();
    let distinct: std::collections::BTreeSet<_> =
        publishers.iter().map(|(operation, token)| (operation.as_str(), token.as_deref())).collect();
    assert_eq!(distinct, [("publish", Some("good"))].into(), "{label}: one session: {publishers:?}");
    let folder = Folder::new(label);
    let frames = Player::Ffprobe.play(&format!("{}/cam/{file}", nginx.url()), folder.path()).await;
    assert_eq!(frames, SECONDS * RATE, "{label}: what was sent is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_publishes_hls() {
    let nginx = Nginx::start("hls");
    let gate = gate(&nginx.url());
    let address = gate.address;
    let to = words(&format!(
        "-f hls -hls_time 1 -hls_list_size 0 -method PUT http://{address}/token=good/cam/a.m3u8"
    ));
    arrives("hls-path", "a.m3u8", to, &gate, &nginx).await;
    let mut to = words("-f hls -hls_time 1 -hls_list_size 0 -method PUT -headers");
    to.extend(["Authorization: Bearer good\r\n".to_owned(), format!("http://{address}/cam/b.m3u8")]);
    arrives("hls-header", "b.m3u8", to, &gate, &nginx).await;
    // Old segments are taken away again.
    let to = words(&format!(
        "-f hls -hls_time 0.5 -g 5 -hls_list_size 2 -hls_delete_threshold 1 -hls_flags delete_segments -method PUT \
         http://{address}/token=good/cam/c.m3u8"
    ));
    publish(to).await;
    // ffmpeg does not wait for the answers to its last requests.
    let deleted = || nginx.answered().iter().filter(|line| line.starts_with("204 DELETE /cam/c")).count();
    kit::wait::until("old segments are taken away", || deleted() >= 2).await;
    assert!(nginx.answered().iter().all(|line| line.starts_with('2')), "{:#?}", nginx.answered());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_publishes_dash() {
    let nginx = Nginx::start("dash");
    let gate = gate(&nginx.url());
    let to =
        words(&format!("-f dash -seg_duration 1 -method PUT http://{}/token=good/cam/a.mpd", gate.address));
    arrives("dash-path", "a.mpd", to, &gate, &nginx).await;
    assert!(nginx.answered().iter().all(|line| line.starts_with('2')), "{:#?}", nginx.answered());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_publishes_mpegts_in_one_request() {
    let upstream = Server::noting(|_| http::Response::new(full(""))).await;
    let gate = gate(&upstream.url());
    publish(words(&format!("-f mpegts http://{}/cam/mpegts?token=good", gate.address))).await;
    kit::wait::until("it has arrived", || upstream.count() == 1).await;
    let sent = upstream.requests().remove(0);
    assert_eq!((&*sent.method, sent.body.len() % 188), ("POST", 0));
    let folder = Folder::new("mpegts");
    let kept = folder.path().join("kept.ts");
    std::fs::write(&kept, &sent.body).unwrap();
    let frames = Player::Ffprobe.play(&kept.display().to_string(), folder.path()).await;
    assert_eq!(frames, SECONDS * RATE, "what was sent is there");
    assert_eq!(gate.sessions.counters().opened, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_publishes_because_somebody_at_the_same_address_does() {
    let nginx = Nginx::start("stranger");
    let gate = gate(&nginx.url());
    // The playlist has the token, and its segments, which ffmpeg names itself, have none.
    publish(words(&format!(
        "-f hls -hls_time 1 -hls_list_size 0 -method PUT http://{}/cam/a.m3u8?token=good",
        gate.address
    )))
    .await;
    let put = nginx.answered();
    assert!(put.iter().any(|line| line.contains("PUT /cam/a.m3u8")), "{put:#?}");
    assert!(put.iter().all(|line| line.contains("a.m3u8")), "no segment was let in: {put:#?}");
}
