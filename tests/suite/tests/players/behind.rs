//! Players behind proxies of other make: each viewer is one session with its own address, and one question to the backend.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::net::{IpAddr, Ipv4Addr};

use filter_user::model::AddressHeader;
use kit::{configurations::Running, fronts::Front, raw_client::Client};

use crate::{
    media::{Folder, Nginx, make},
    players::Player,
    plays::{WAYS, Way, first_questions, made, once, sessions},
};

/// Where the proxies connect from; nobody is admitted there.
const PROXY: &str = "127.0.0.10";
/// Where players connect from, and somebody else.
const VIEWER: Ipv4Addr = Ipv4Addr::LOCALHOST;
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A proxy, and how it says whom it speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proxy {
    NginxNames,
    NginxAnnounces,
    HaproxyNames,
    HaproxyAnnounces,
}

impl Proxy {
    fn announces(self) -> bool {
        matches!(self, Self::NginxAnnounces | Self::HaproxyAnnounces)
    }

    fn in_front_of(self, gate: &Running) -> Front {
        let to = gate.address;
        match self {
            Self::NginxNames => Front::nginx(&format!(
                "http {{ server {{ listen 127.0.0.1:PORT; location / {{ proxy_pass http://{to}; proxy_bind {PROXY}; \
                 proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $http_host; \
                 proxy_set_header X-Forwarded-For $remote_addr; }} }} }}"
            )),
            Self::NginxAnnounces => Front::nginx(&format!(
                "stream {{ server {{ listen 127.0.0.1:PORT; proxy_pass {to}; proxy_bind {PROXY}; \
                 proxy_protocol on; }} }}"
            )),
            Self::HaproxyNames => {
                let lines = "  http-request set-header X-Forwarded-For %[src]\n  \
                             http-request del-header x_forwarded_for";
                Front::haproxy(to, lines, &format!("source {PROXY}"))
            }
            Self::HaproxyAnnounces => {
                Front::haproxy(to, "", &format!("source {PROXY} send-proxy-v2 proxy-v2-options crc32c"))
            }
        }
    }
}

async fn plays_behind(player: Player, proxy: Proxy) {
    let label = format!("{player:?}-{proxy:?}");
    let nginx = Nginx::start(&label);
    make(&nginx.root);
    let folder = Folder::new(&label);
    let expected = player.play(&format!("{}/cam/ts.m3u8", nginx.url()), folder.path()).await;
    assert!(expected > 0, "it plays without a gate");
    for way in WAYS {
        let what = format!("{label} {way:?}");
        let backend = once().await;
        let trusted = format!("{PROXY}/32");
        let made = made(way, &nginx.url(), &backend);
        let gate = Running::new(if proxy.announces() {
            made.trusting(&[], &[&trusted])
        } else {
            made.trusting(&[(&trusted, AddressHeader::XForwardedFor)], &[])
        });
        let front = proxy.in_front_of(&gate);
        let query = if way == Way::Auto { "" } else { "?token=good" };
        let url = format!("http://{}/cam/ts.m3u8{query}", front.address);
        assert_eq!(player.play(&url, folder.path()).await, expected, "{what}");

        let viewers = sessions(&gate);
        assert_eq!(viewers.len(), 1, "{what}: one viewer: {viewers:?}");
        let ((stream, address, token), count) = viewers.first_key_value().unwrap();
        assert_eq!((&**stream, address.parse(), *count), ("cam", Ok(IpAddr::from(VIEWER)), 1), "{what}");
        let token = token.as_deref().expect("every viewer has a token");
        let asked = first_questions(&backend);
        let expected = if way == Way::SingleUse { vec![VIEWER.to_string()] } else { Vec::new() };
        assert_eq!(asked, expected, "{what}: one question for one viewer");

        // Somebody else behind the same proxy is somebody else.
        let mut other = Client::connect_from(OTHER, front.address).await;
        let reply = other.get(&format!("/cam/ts.m3u8?token={token}")).await;
        assert_eq!(reply.status, if way == Way::Token { 200 } else { 403 }, "{what}");
        let addresses: Vec<_> = sessions(&gate).into_keys().map(|(_, address, _)| address).collect();
        let expected = if way == Way::Token { vec![VIEWER, OTHER] } else { vec![VIEWER] };
        assert_eq!(addresses, expected.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>(), "{what}");
        let counters = gate.gates.counters().remove(0);
        assert_eq!((counters.proxies_refused, counters.proxied), (0, counters.requests), "{what}");
    }
    let fine = |line: &String| line.starts_with('2');
    assert!(nginx.answered().iter().all(fine), "{:#?}", nginx.answered());
}

/// A test for each player and proxy.
macro_rules! behind {
    ($($name:ident: $player:ident, $proxy:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            plays_behind(Player::$player, Proxy::$proxy).await;
        }
    )*};
}

behind! {
    ffmpeg_plays_behind_nginx_that_names: Ffprobe, NginxNames;
    ffmpeg_plays_behind_nginx_that_announces: Ffprobe, NginxAnnounces;
    ffmpeg_plays_behind_haproxy_that_names: Ffprobe, HaproxyNames;
    ffmpeg_plays_behind_haproxy_that_announces: Ffprobe, HaproxyAnnounces;
    gstreamer_plays_behind_nginx_that_names: GStreamer, NginxNames;
    gstreamer_plays_behind_nginx_that_announces: GStreamer, NginxAnnounces;
    gstreamer_plays_behind_haproxy_that_names: GStreamer, HaproxyNames;
    gstreamer_plays_behind_haproxy_that_announces: GStreamer, HaproxyAnnounces;
    vlc_plays_behind_nginx_that_names: Vlc, NginxNames;
    vlc_plays_behind_nginx_that_announces: Vlc, NginxAnnounces;
    vlc_plays_behind_haproxy_that_names: Vlc, HaproxyNames;
    vlc_plays_behind_haproxy_that_announces: Vlc, HaproxyAnnounces;
}
