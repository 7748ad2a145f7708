//! An edge host with an upstream, a viewer and a banned host: what the tests of the controller start from.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::{
    bpf,
    http::{self, Get},
    netns::{EDGE_V4, EDGE_V6, Lab, Namespace},
    nicgate::{Controller, PATIENCE, Said, Site},
    server::Server,
};

/// The gate's port.
pub const GATE: u16 = 8000;
/// The guarded UDP port.
pub const GUARD: u16 = 9998;
/// The viewer's addresses.
pub const VIEWER: [&str; 2] = ["203.0.113.10", "2001:db8:10::10"];
/// The banned host's addresses.
pub const BANNED: [&str; 2] = ["198.51.100.66", "2001:db8:66::66"];
/// Rules that deny [`BANNED`] by address and decide nothing else by it; they stand on lines 6 to 9.
pub const RULES: &str = "deny token bad;\ndeny ip 198.51.100.66;\ndeny ip 2001:db8:66::/64;\nallow default;";
/// How long a file of the upstream is: more than all the buffers on its way to a viewer hold.
pub const LARGE: usize = 48 << 20;

/// The hosts.
#[derive(Debug)]
pub struct Edge {
    /// Files, control socket and pins.
    pub site: Site,
    /// The networks.
    pub lab: Lab,
    /// A host whose address no rule names.
    pub viewer: Namespace,
    /// A host that [`RULES`] deny.
    pub banned: Namespace,
    upstream: Server,
}

impl Edge {
    /// Makes the hosts, and starts the upstream: it answers `/live/large` with [`LARGE`] bytes and everything
    /// else with its path.
    ///
    /// # Panics
    ///
    /// When the networks cannot be made.
    pub fn new(label: &str) -> Self {
        let parse = |list: [&str; 2]| list.map(|address| address.parse::<IpAddr>().expect("an address"));
        let mut lab = Lab::new(label).expect("root can make network namespaces");
        let viewer = lab.client("viewer", &parse(VIEWER)).expect("the lab stands");
        let banned = lab.client("banned", &parse(BANNED)).expect("the lab stands");
        let large = Bytes::from(vec![b'x'; LARGE]);
        let upstream = Server::start(lab.edge(), ([127, 0, 0, 1], 0), move |request| {
            let path = request.uri().path();
            let body = if path == "/live/large" { large.clone() } else { Bytes::from(path.to_owned()) };
            Response::new(Full::new(body))
        });
        Self { site: Site::new(), viewer, banned, upstream: upstream.expect("a free port"), lab }
    }

    /// A configuration with these rules in `auth_backend viewers`, and more directives behind it.
    pub fn text(&self, rules: &str, more: &str) -> String {
        format!(
            "interface {} {{ mode native; }}\n{}guard udp {GUARD} auth://viewers;\n\
             stream live {{ input fake://; on_play auth://viewers; }}\nauth_backend viewers {{\n{rules}\n}}\n{more}",
            self.lab.interface(),
            self.gate(GATE),
        )
    }

    /// The directive of a gate in front of the upstream.
    pub fn gate(&self, port: u16) -> String {
        format!("gate {port} {{ upstream http://{}; }}\n", self.upstream.address())
    }

    /// Writes the configuration.
    pub fn configure(&self, rules: &str, more: &str) {
        self.site.configure(&self.text(rules, more));
    }

    /// Starts the controller.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[track_caller]
    pub fn start(&self) -> Controller {
        self.site.start(self.lab.edge()).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs a command on the edge host.
    pub fn nicgate(&self, arguments: &[&str]) -> Said {
        self.site.run_in(self.lab.edge(), arguments)
    }

    /// The status of the first interface, whether or not everything is in force.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.nicgate(&["status", "--json"]).json()["interfaces"][0].clone()
    }

    /// The codes of what is not in force; the exit status agrees with them.
    ///
    /// # Panics
    ///
    /// When no controller runs.
    #[track_caller]
    pub fn alarms(&self) -> Vec<String> {
        let said = self.nicgate(&["status", "--json"]);
        let status = said.json();
        let alarms = status["alarms"].as_array().expect("a controller runs");
        assert_eq!(said.status, Some(if alarms.is_empty() { 0 } else { 3 }), "{status:#}");
        alarms.iter().map(|alarm| alarm["code"].as_str().expect("a code").to_owned()).collect()
    }

    /// The counters of the first interface.
    #[track_caller]
    pub fn stats(&self) -> Value {
        self.nicgate(&["stats", "--json"]).with(0).json()["interfaces"][0].clone()
    }

    /// How many packets a rule dropped; `None` when there is no such rule.
    #[track_caller]
    pub fn dropped_by(&self, text: &str) -> Option<u64> {
        let stats = self.stats();
        let rule = stats["rules"].as_array()?.iter().find(|rule| rule["text"] == text)?;
        rule["packets"].as_u64()
    }

    /// Asks the gate from one of the hosts, over IPv4.
    ///
    /// # Errors
    ///
    /// As [`Get::send`].
    pub fn get(&self, from: &Namespace, target: &str) -> io::Result<http::Response> {
        Get::new((EDGE_V4, GATE), target).timeout(PATIENCE).send(from)
    }

    /// Whether the gate's port drops connections from a host.
    #[track_caller]
    pub fn drops(&self, from: &Namespace) -> bool {
        let address = |ip: IpAddr| SocketAddr::new(ip, GATE);
        let both = [address(EDGE_V4.into()), address(EDGE_V6.into())].map(|server| {
            match Get::new(server, "/live/x").timeout(Duration::from_millis(700)).send(from) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => true,
                Ok(_) => false,
                Err(error) => panic!("{error}"),
            }
        });
        assert_eq!(both[0], both[1], "IPv4 and IPv6 are treated alike");
        both[0]
    }

    /// Where what filters the first interface is pinned.
    pub fn pins(&self) -> PathBuf {
        self.site.bpffs().join("nicgate").join(self.lab.interface())
    }

    /// Deletes every ban from the kernel's maps behind the controller's back; how many entries there were.
    ///
    /// # Panics
    ///
    /// When nothing is pinned.
    #[track_caller]
    pub fn lose_bans(&self) -> usize {
        let folders = std::fs::read_dir(self.pins()).expect("the interface is filtered").flatten();
        let maps = folders.map(|entry| entry.path()).find(|path| path.is_dir()).expect("maps are pinned");
        let lost = ["BANS_V4", "BANS_V6"].map(|name| bpf::delete_all_pinned(&maps.join(name)));
        lost.into_iter().map(|lost| lost.expect("root may delete")).sum()
    }

    /// A socket of the edge host on a guarded port, with room for everything that a test sends.
    pub fn receiver(&self, port: u16) -> UdpSocket {
        self.lab.edge().run(|| {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).expect("a socket");
            socket.set_only_v6(false).expect("both families");
            // Beyond the limit of ordinary users, which is what SO_RCVBUFFORCE is for.
            let size: libc::c_int = 64 << 20;
            let length = size_of::<libc::c_int>() as libc::socklen_t;
            // SAFETY: the pointer and the length are those of an integer that lives until the call returns.
            let result = unsafe {
                libc::setsockopt(
                    std::os::fd::AsRawFd::as_raw_fd(&socket),
                    libc::SOL_SOCKET,
                    libc::SO_RCVBUFFORCE,
                    (&raw const size).cast(),
                    length,
                )
            };
            assert_eq!(result, 0, "{}", io::Error::last_os_error());
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into()).expect("a free port");
            socket.into()
        })
    }

    /// A port of the edge host that is taken.
    #[track_caller]
    pub fn taken_port(&self) -> TcpListener {
        self.lab.edge().run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))).expect("a free port")
    }

    /// Begins to fetch the large file and leaves it in the pipe.
    #[track_caller]
    pub fn fetch(&self, from: &Namespace) -> Fetch {
        let mut stream = from.run(|| TcpStream::connect((EDGE_V4, GATE))).expect("the gate listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream
            .write_all(b"GET /live/large HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")
            .expect("the gate reads");
        let mut head = vec![0; 12];
        stream.read_exact(&mut head).expect("the gate answers");
        assert_eq!(head, b"HTTP/1.1 200");
        Fetch(stream)
    }

    /// Sends bytes to the control socket and returns all that comes back.
    ///
    /// # Errors
    ///
    /// When nobody listens or nothing comes.
    pub fn control(&self, request: &[u8]) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.site.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Reloads through the control socket.
    #[track_caller]
    pub fn reload(&self) -> Value {
        let answer = self.control(b"{\"command\":\"reload\"}\n").expect("the controller answers");
        serde_json::from_str(&answer).expect("one JSON object")
    }
}

/// A transfer that has begun.
#[derive(Debug)]
pub struct Fetch(TcpStream);

impl Fetch {
    /// Reads on to the end; whether all of the file came.
    pub fn finish(mut self) -> bool {
        let mut rest = Vec::new();
        let whole = self.0.read_to_end(&mut rest).is_ok();
        whole && rest.len() >= LARGE
    }
}

/// Sends a datagram from a host to a guarded port of the edge, over IPv4 and IPv6.
///
/// # Panics
///
/// When it cannot be sent.
pub fn knock(from: &Namespace, port: u16, payload: &[u8]) {
    from.run(|| {
        for (own, edge) in [("0.0.0.0:0", IpAddr::from(EDGE_V4)), ("[::]:0", IpAddr::from(EDGE_V6))] {
            let socket = UdpSocket::bind(own).expect("a free port");
            socket.send_to(payload, (edge, port)).expect("the edge is reachable");
        }
    });
}

/// Everything that arrives until a datagram with this payload does, from IPv4 and from IPv6.
///
/// # Panics
///
/// When it does not come.
pub fn arrivals(socket: &UdpSocket, last: &[u8]) -> Vec<(IpAddr, Vec<u8>)> {
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut all = Vec::new();
    let mut buffer = [0; 2048];
    let mut ends = 0;
    while ends < 2 {
        let (length, from) = socket.recv_from(&mut buffer).expect("the last datagram comes");
        if &buffer[..length] == last {
            ends += 1;
        } else {
            all.push((from.ip().to_canonical(), buffer[..length].to_vec()));
        }
    }
    all
}
