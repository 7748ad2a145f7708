//! Limits of nicgate's own in a running controller: open files, and what `status` and `stats` say.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use kit::nicgate::{Site, binary, until};
use serde_json::Value;

/// A controller with a gate and no interface, with so few open files; it ends when it is dropped.
struct Few {
    site: Site,
    process: Child,
    gate: SocketAddr,
}

impl Few {
    /// `limits` is for `ulimit`.
    fn start(limits: &str, more: &str) -> Self {
        let free = |listener: TcpListener| listener.local_addr().unwrap();
        let gate = free(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let nobody = free(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let site = Site::new();
        site.configure(&format!("gate {gate} {{ upstream http://{nobody}; }}\nstream open {{ }}\n{more}\n"));
        let log = fs::File::create(site.path("log")).unwrap();
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!("ulimit {limits} && exec \"$0\" run -c nicgate.conf"),
            binary().to_str().unwrap(),
        ]);
        for (name, value) in site.command(&[] as &[&str]).get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.env_remove("NICGATE_LOG").current_dir(site.path("")).stdin(Stdio::null()).stderr(log);
        let process = command.spawn().unwrap();
        let few = Self { site, process, gate };
        until("it runs", || few.log().contains("nicgate is running"));
        few
    }

    fn log(&self) -> String {
        fs::read_to_string(self.site.path("log")).unwrap()
    }

    /// The soft and the hard limit of open files.
    fn open_files(&self) -> (u64, u64) {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.process.id())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        (numbers[0], numbers[1])
    }

    /// A connection that got an answer and stays.
    fn idle(&self, from: Ipv4Addr) -> Option<TcpStream> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&self.gate.into()).unwrap();
        let mut stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer).unwrap_or(0);
        answer[..read].starts_with(b"HTTP/1.1 404").then_some(stream)
    }

    fn stats(&self) -> Value {
        self.site.run(&["stats", "--json"]).with(0).json()
    }
}

impl Drop for Few {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn hits(stats: &Value, limit: &str) -> u64 {
    let limits = stats["limits"].as_array().unwrap();
    limits.iter().find(|one| one["limit"] == limit).unwrap()["hits"].as_u64().unwrap()
}

#[test]
fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let few = Few::start("-S -n 256", "limit connections 64;");
    let (soft, hard) = few.open_files();
    assert_eq!(soft, hard);
    assert!(hard > 256, "this machine's hard limit shows nothing");
    assert!(!few.log().contains("files can be open"), "it is enough: {}", few.log());
}

#[test]
fn few_open_files_are_said_and_idle_connections_make_room() {
    let few = Few::start("-n 700", "");
    assert_eq!(few.open_files(), (700, 700));
    assert!(few.log().contains("no more than 700 files can be open"), "{}", few.log());
    // (700 - 384) / 2 connections; five addresses hold as many.
    let held: Vec<_> =
        (0..158).map(|n| few.idle(Ipv4Addr::new(127, 0, 1, 1 + n % 5)).expect("there is room")).collect();
    std::thread::sleep(Duration::from_millis(1100));
    let begun = Instant::now();
    let more: Vec<_> = (0..20).map(|_| few.idle(Ipv4Addr::new(127, 0, 2, 1))).collect();
    assert!(more.iter().all(Option::is_some), "a sixth is served all the same");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let gate = &few.stats()["gates"][0];
    assert!(gate["connections_closed_idle"].as_u64() >= Some(20), "{gate}");
    assert_eq!(gate["connections_refused"], 0);
    drop(held);
}

#[test]
fn what_reaches_a_limit_is_counted_by_its_name_and_said_once() {
    let few = Few::start("-n 4096", "limit connections_per_address 2;");
    let from = Ipv4Addr::new(127, 0, 3, 1);
    let held = [few.idle(from).unwrap(), few.idle(from).unwrap()];
    for _ in 0..5 {
        assert!(few.idle(from).is_none(), "nobody has waited for a second yet");
    }
    let stats = few.stats();
    assert_eq!(hits(&stats, "connections_per_address"), 5);
    let shown =
        stats["limits"].as_array().unwrap().iter().find(|one| one["limit"] == "connections_per_address");
    assert_eq!(shown.unwrap()["value"], 2);
    let lines = few.log().lines().filter(|line| line.contains("a limit is reached")).count();
    assert_eq!(lines, 1, "{}", few.log());
    let people = few.site.run(&["stats"]).with(0).stdout;
    assert!(people.contains("connections_per_address"), "{people}");
    drop(held);
}
