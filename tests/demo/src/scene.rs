//! The edge host with its media server, the backends, the clients, and the configuration.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming};
use kit::{
    mmdb::{self, Layout},
    netns::{EDGE_V4, Lab, Namespace, Process},
    oracle::Prefix,
    server::Server,
};

use crate::nicgate::Nicgate;

/// The token that the first backend allows.
pub(crate) const FIRST_TOKEN: &str = "good";
/// The token that the second backend allows.
pub(crate) const SECOND_TOKEN: &str = "second";
/// The port of another server that nicgate guards.
pub(crate) const GUARDED_TCP: u16 = 1935;
/// The datagram port that nicgate guards.
pub(crate) const GUARDED_UDP: u16 = 9998;
/// A port that nicgate has nothing to do with.
pub(crate) const OTHER: u16 = 2222;
/// Bytes of a segment: a whole number of MPEG-TS packets.
pub(crate) const SEGMENT: usize = 188 * 500;

const FLUSSONIC: &str = r#"# What the media server is configured with. nicgate reads what concerns access.
http 8080;
geoip "GEOIP";

auth_backend viewers {
  deny ip 198.51.100.0/24;
  deny ip 2001:db8:bad::/48;
  allow country SE;
  deny country GB;
  deny ua "Ripper";
  backend http://127.0.0.1:9001/auth;
  backend http://127.0.0.1:9002/auth;
}

stream news {
  input udp://239.255.0.1:1234;
  on_play auth://viewers;
}

stream sport {
  input udp://239.255.0.2:1234;
  on_play auth://partners;
}
"#;

const NICGATE: &str = r#"include "flussonic.conf";

interface INTERFACE { mode native; }
gate 80 { upstream http://127.0.0.1:8080; }
guard tcp 1935 auth://viewers;
guard udp 9998 auth://viewers;
never_drop 198.51.100.250;

auth_backend partners {
  drop ip 198.51.100.0/24;
  drop ip 2001:db8:bad::/48;
  drop country GB;
  allow token partner-key;
  deny ip 203.0.113.66;
  backend http://127.0.0.1:9002/auth;
  allow default;
}
"#;

/// Everything that is up.
pub(crate) struct Scene {
    // Dropped in this order: the controller before the network that it runs on.
    controller: Option<Process>,
    pub(crate) nicgate: Nicgate,
    second_backend: Option<Server>,
    servers: Vec<Server>,
    hosts: Vec<(Vec<IpAddr>, Namespace)>,
    questions: Arc<AtomicU64>,
    datagrams: Arc<Mutex<Vec<SocketAddr>>>,
    files: Files,
    pub(crate) lab: Lab,
}

impl Scene {
    /// Makes the network, the servers and the configuration.
    pub(crate) fn build() -> anyhow::Result<Self> {
        let mut lab = Lab::new("demo")?;
        let mut hosts = Vec::new();
        for (name, addresses) in [
            (
                "viewers",
                &[
                    "203.0.113.10",
                    "203.0.113.11",
                    "203.0.113.12",
                    "203.0.113.13",
                    "203.0.113.14",
                    "2001:db8:cafe::10",
                ][..],
            ),
            ("sweden", &["203.0.113.130"]),
            ("britain", &["203.0.113.200"]),
            ("partner", &["203.0.113.66"]),
            ("blocked", &["198.51.100.9", "198.51.100.200", "2001:db8:bad::9"]),
            ("office", &["198.51.100.250"]),
        ] {
            let addresses = addresses
                .iter()
                .map(|address| Ok(address.parse()?))
                .collect::<anyhow::Result<Vec<IpAddr>>>()?;
            let host = lab.client(name, &addresses)?;
            hosts.push((addresses, host));
        }
        let files = Files::write(lab.interface())?;
        let questions = Arc::new(AtomicU64::new(0));
        let edge = lab.edge().clone();
        let origin = Server::start(&edge, ([127, 0, 0, 1], 8080), origin)?;
        let counted = Arc::clone(&questions);
        let first = Server::start(&edge, ([127, 0, 0, 1], 9001), move |request| {
            counted.fetch_add(1, Ordering::Relaxed);
            backend(request, FIRST_TOKEN)
        })?;
        let second = Server::start(&edge, ([127, 0, 0, 1], 9002), |request| backend(request, SECOND_TOKEN))?;
        accept(&edge, GUARDED_TCP)?;
        accept(&edge, OTHER)?;
        let datagrams = receive(&edge)?;
        let nicgate = Nicgate::new(&edge, &files.configuration())?;
        Ok(Self {
            controller: None,
            nicgate,
            second_backend: Some(second),
            servers: vec![origin, first],
            hosts,
            questions,
            datagrams,
            files,
            lab,
        })
    }

    /// Starts the controller.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        self.controller = Some(self.nicgate.run(&self.log())?);
        Ok(())
    }

    /// What the controller has said.
    pub(crate) fn messages(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.files.directory.join("nicgate.log")
    }

    /// Ends the second backend, so that connections to it are refused.
    pub(crate) fn kill_second_backend(&mut self) {
        self.second_backend = None;
    }

    /// Starts a backend that takes its time for every answer, at 127.0.0.1:9003.
    pub(crate) fn start_slow_backend(&mut self, takes: Duration) -> anyhow::Result<()> {
        let slow = Server::start(self.lab.edge(), ([127, 0, 0, 1], 9003), move |request| {
            // One at a time: the server has one thread.
            std::thread::sleep(takes);
            backend(request, FIRST_TOKEN)
        })?;
        self.servers.push(slow);
        Ok(())
    }

    /// Writes a file beside the configuration.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.files.directory.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether the second backend answers.
    pub(crate) fn second_backend_lives(&self) -> bool {
        self.second_backend.is_some()
    }

    /// How often the first backend was asked.
    pub(crate) fn questions(&self) -> u64 {
        self.questions.load(Ordering::Relaxed)
    }

    /// The host that has an address.
    pub(crate) fn host(&self, address: IpAddr) -> anyhow::Result<&Namespace> {
        let found = self.hosts.iter().find(|(addresses, _)| addresses.contains(&address));
        found.map(|(_, host)| host).with_context(|| format!("no client has {address}"))
    }

    /// The clients' namespaces.
    pub(crate) fn client_names(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|(_, host)| host.name())
    }

    /// Whether a datagram from this source reaches the guarded port within `limit`.
    pub(crate) fn datagram_arrives(&self, source: SocketAddr, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            if self.datagrams.lock().is_ok_and(|seen| seen.contains(&source)) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// How many datagrams of an address have arrived.
    pub(crate) fn datagrams_from(&self, address: IpAddr) -> usize {
        self.datagrams.lock().map_or(0, |seen| seen.iter().filter(|source| source.ip() == address).count())
    }

    /// The main configuration file.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.files.configuration()
    }

    /// Where the configuration and the log are.
    pub(crate) fn directory(&self) -> &Path {
        &self.files.directory
    }

    /// Changes both files by a replacement, which must change something.
    pub(crate) fn edit(&mut self, from: &str, to: &str) -> anyhow::Result<()> {
        self.files.edit(from, to)
    }

    /// The file and the line that a rule stands on.
    pub(crate) fn place(&self, rule: &str) -> anyhow::Result<(&'static str, u64)> {
        self.files.place(rule)
    }
}

/// The configuration's files, in a directory that goes with this value.
struct Files {
    directory: PathBuf,
    // Name and text, so that lines are counted in what was written.
    texts: [(&'static str, String); 2],
}

impl Files {
    fn write(interface: &str) -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("nicgate-demo-{}", std::process::id()));
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let geoip = directory.join("countries.mmdb");
        let network = |last, country| {
            (Prefix { address: Ipv4Addr::new(203, 0, 113, last).into(), len: 26 }, mmdb::nested(country))
        };
        let countries = [network(128, "SE"), network(192, "GB")];
        fs::write(&geoip, mmdb::write(Layout { record_bits: 24, ip_version: 6 }, &countries))?;
        let texts = [
            ("flussonic.conf", FLUSSONIC.replace("GEOIP", &geoip.to_string_lossy())),
            ("nicgate.conf", NICGATE.replace("INTERFACE", interface)),
        ];
        let files = Self { directory, texts };
        files.save()?;
        Ok(files)
    }

    fn save(&self) -> anyhow::Result<()> {
        for (name, text) in &self.texts {
            let path = self.directory.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn edit(&mut self, from: &str, to: &str) -> anyhow::Result<()> {
        let found = self.texts.iter().any(|(_, text)| text.contains(from));
        anyhow::ensure!(found, "the configuration has no {from:?}");
        for (_, text) in &mut self.texts {
            *text = text.replace(from, to);
        }
        self.save()
    }

    fn place(&self, rule: &str) -> anyhow::Result<(&'static str, u64)> {
        for (name, text) in &self.texts {
            let line = text.lines().position(|line| line.trim().trim_end_matches(';') == rule);
            if let Some(line) = line {
                return Ok((name, line as u64 + 1));
            }
        }
        anyhow::bail!("the configuration has no rule {rule:?}")
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("nicgate.conf")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The media server: a playlist of three segments, and the segments.
fn origin(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut parts = request.uri().path().trim_start_matches('/').split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("news" | "sport" | "quiz"), Some("index.m3u8"), None) => {
            let segments = (0..3).map(|n| format!("#EXTINF:2.0,\nsegment-{n}.ts\n")).collect::<String>();
            let playlist = format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n{segments}");
            Response::new(Full::new(Bytes::from(playlist)))
        }
        (Some("news" | "sport"), Some(name), None) if name.ends_with(".ts") => {
            Response::new(Full::new(Bytes::from(vec![0x47; SEGMENT])))
        }
        _ => status(StatusCode::NOT_FOUND),
    }
}

/// A portal's script: it allows one token and bans every other.
fn backend(request: &Request<Incoming>, token: &str) -> Response<Full<Bytes>> {
    let query = request.uri().query().unwrap_or("");
    let allowed = query.split('&').any(|pair| pair.strip_prefix("token=") == Some(token));
    status(if allowed { StatusCode::OK } else { StatusCode::FORBIDDEN })
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// A server of some other kind: takes connections, and says a word on each.
fn accept(edge: &Namespace, port: u16) -> anyhow::Result<()> {
    let listener = edge.run(|| TcpListener::bind((EDGE_V4, port)))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut &stream, b"hello\n");
        }
    });
    Ok(())
}

/// The guarded datagram port, and who got through to it.
fn receive(edge: &Namespace) -> anyhow::Result<Arc<Mutex<Vec<SocketAddr>>>> {
    let socket = edge.run(|| UdpSocket::bind((EDGE_V4, GUARDED_UDP)))?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    std::thread::spawn(move || {
        while let Ok((_, source)) = socket.recv_from(&mut [0; 2048]) {
            if let Ok(mut seen) = record.lock() {
                seen.push(source);
            }
        }
    });
    Ok(seen)
}
