//! Playing: every player, from every kind of server, in every way of being admitted.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Mutex,
};

use filter_user::model::Action;
use http::{Response, StatusCode};
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running},
    origins::{Seen, Server, full},
    raw_client::Client,
};

use crate::{
    media::{Folder, Nginx, RATE, SECONDS, ffmpeg, flussonic, make},
    players::Player,
};

/// How a viewer is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By a token of a list, and not without.
    Token,
    /// By a backend that knows each token once.
    SingleUse,
    /// By the address, without a token.
    Auto,
}

pub(crate) const WAYS: [Way; 3] = [Way::Token, Way::SingleUse, Way::Auto];

/// A backend that admits each token the first time that a session begins with it.
pub(crate) async fn once() -> Server {
    let used = Mutex::new(BTreeSet::new());
    let used = std::sync::Arc::new(used);
    Server::noting(move |seen| {
        let new = seen.parameter("request_type").as_deref() == Some("new_session");
        let token = seen.parameter("token");
        let fine = token.is_some_and(|token| token == "good" && (!new || used.lock().unwrap().insert(token)));
        let status = if fine { StatusCode::OK } else { StatusCode::FORBIDDEN };
        Response::builder().status(status).body(full("")).unwrap()
    })
    .await
}

/// The address in each first question that the backend was asked.
pub(crate) fn first_questions(backend: &Server) -> Vec<String> {
    let first = |seen: &&Seen| seen.parameter("request_type").as_deref() == Some("new_session");
    backend.requests().iter().filter(first).map(|seen| seen.parameter("ip").unwrap_or_default()).collect()
}

/// A gate in front of `upstream` that admits in this way.
fn gate(way: Way, upstream: &str, backend: &Server) -> Running {
    Running::new(made(way, upstream, backend))
}

/// Its configuration.
pub(crate) fn made(way: Way, upstream: &str, backend: &Server) -> Made {
    let rules = match way {
        Way::Token => Rules::new("p").token(Action::Allow, "good"),
        Way::SingleUse => Rules::new("p").backend(&backend.url()),
        Way::Auto => Rules::new("p").ip(Action::Allow, "127.0.0.1/32"),
    };
    Made::new().judged("cam", rules).gate(LOOPBACK, upstream)
}

/// Asks from another address, as whoever was given the link would.
async fn steal(gate: &Running, target: &str) -> u16 {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
    let stream = socket.connect(gate.address).await.unwrap();
    let mut client = Client { stream, buffer: Vec::new() };
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", gate.address)).await;
    client.head().await.status
}

/// Every session by what makes it one but the protocol, with how many there are of each.
pub(crate) fn sessions(gate: &Running) -> BTreeMap<(String, String, Option<String>), usize> {
    let mut all = BTreeMap::new();
    for session in gate.sessions.list() {
        let key = &session.key;
        let token = key.token.as_deref().map(str::to_owned);
        *all.entry((key.stream.to_string(), key.address.to_string(), token)).or_default() += 1;
    }
    all
}

/// Plays `file` through gates in front of `upstream`, in each way, and compares with what comes `directly`.
async fn in_every_way(player: Player, label: &str, file: &str, upstream: &str, directly: &str) {
    let folder = Folder::new(label);
    let expected = player.play(directly, folder.path()).await;
    // VLC's own copy leaves out what comes before the first whole picture and sound.
    assert!(expected + 3 >= SECONDS * RATE && expected <= SECONDS * RATE, "{expected} frames directly");
    for way in WAYS {
        let backend = once().await;
        let gate = gate(way, upstream, &backend);
        let query = if way == Way::Auto { "" } else { "?token=good" };
        let url = format!("http://{}/cam/{file}{query}", gate.address);
        assert_eq!(player.play(&url, folder.path()).await, expected, "{player:?} {file} {way:?}");
        let viewers = sessions(&gate);
        assert_eq!(viewers.len(), 1, "{player:?} {file} {way:?}: one viewer: {viewers:?}");
        let (.., token) = viewers.keys().next().unwrap();
        let token = token.as_deref().expect("every viewer has a token").to_owned();
        assert_eq!(token == "good", way != Way::Auto);
        if way == Way::SingleUse {
            assert_eq!(first_questions(&backend).len(), 1, "{player:?} {file}: asked about once");
        }
        // What the player was given is worth nothing to whoever comes from another address.
        if way != Way::Token {
            assert_eq!(
                steal(&gate, &format!("/cam/{file}?token={token}")).await,
                403,
                "{player:?} {file} {way:?}"
            );
            assert_eq!(steal(&gate, &format!("/cam/ts0.ts?token={token}")).await, 403);
        }
        // Without any, nothing is to be had where one is needed.
        if way != Way::Auto {
            assert_eq!(player.play(&format!("http://{}/cam/{file}", gate.address), folder.path()).await, 0);
        }
        assert_eq!(sessions(&gate).len(), 1, "nobody else was let in");
    }
}

/// nginx serving files.
async fn from_nginx(player: Player, file: &str) {
    let label = format!("{player:?}-{file}");
    let nginx = Nginx::start(&label);
    make(&nginx.root);
    let directly = format!("{}/cam/{file}", nginx.url());
    in_every_way(player, &label, file, &nginx.url(), &directly).await;
    assert!(nginx.answered().iter().all(|line| line.starts_with('2')), "{:#?}", nginx.answered());
}

/// A server that writes tokens into its playlists itself.
async fn from_flussonic(player: Player, file: &str) {
    let label = format!("{player:?}-flussonic-{file}");
    let folder = Folder::new(&format!("{label}-files"));
    make(folder.path());
    let server = flussonic(folder.path().to_owned()).await;
    let directly = format!("{}/cam/{file}", server.url());
    in_every_way(player, &label, file, &server.url(), &directly).await;
}

/// A test for each player and server.
macro_rules! plays {
    ($($name:ident: $from:ident, $player:ident, $file:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $from(Player::$player, $file).await;
        }
    )*};
}

plays! {
    ffmpeg_plays_hls_of_nginx: from_nginx, Ffprobe, "ts.m3u8";
    ffmpeg_plays_a_master_playlist_of_nginx: from_nginx, Ffprobe, "master.m3u8";
    ffmpeg_plays_dash_of_nginx: from_nginx, Ffprobe, "all.mpd";
    ffmpeg_plays_hls_with_tokens_of_its_own: from_flussonic, Ffprobe, "ts.m3u8";
    ffmpeg_plays_a_master_playlist_with_tokens_of_its_own: from_flussonic, Ffprobe, "master.m3u8";
    gstreamer_plays_hls_of_nginx: from_nginx, GStreamer, "ts.m3u8";
    gstreamer_plays_a_master_playlist_of_nginx: from_nginx, GStreamer, "master.m3u8";
    gstreamer_plays_dash_of_nginx: from_nginx, GStreamer, "all.mpd";
    gstreamer_plays_hls_with_tokens_of_its_own: from_flussonic, GStreamer, "ts.m3u8";
    vlc_plays_hls_of_nginx: from_nginx, Vlc, "ts.m3u8";
    vlc_plays_a_master_playlist_of_nginx: from_nginx, Vlc, "master.m3u8";
    vlc_plays_dash_of_nginx: from_nginx, Vlc, "all.mpd";
    vlc_plays_hls_with_tokens_of_its_own: from_flussonic, Vlc, "ts.m3u8";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_playlist_that_is_asked_for_again_and_again_is_one_viewer() {
    let nginx = Nginx::start("live");
    let cam = nginx.root.join("cam");
    std::fs::create_dir_all(&cam).unwrap();
    let arguments = ["-f", "hls", "-hls_time", "0.5", "-hls_list_size", "4", "live.m3u8"];
    let mut live = ffmpeg(&cam, "-re", &arguments);
    live.args(["-t", "3"]);
    let mut publisher = live.spawn().unwrap();
    let list = cam.join("live.m3u8");
    kit::wait::until("the playlist is there", || list.exists()).await;
    let backend = once().await;
    let gate = gate(Way::Auto, &nginx.url(), &backend);
    let folder = Folder::new("live");
    let frames = Player::Ffprobe.play(&format!("http://{}/cam/live.m3u8", gate.address), folder.path()).await;
    assert!(publisher.wait().unwrap().success());
    assert!(frames >= RATE, "{frames} frames");
    let asked = nginx.answered().iter().filter(|line| line.contains("/cam/live.m3u8")).count();
    assert!(asked >= 3, "it was asked for again: {asked}");
    assert_eq!(sessions(&gate).len(), 1, "{:?}", sessions(&gate));
}
