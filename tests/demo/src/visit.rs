//! Who comes, what they send, and what comes back.

use std::{
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use kit::{
    frame::{Transport, frame},
    http::{Get, Response},
    netns::{EDGE_V4, EDGE_V6},
};
use socket2::{Domain, Socket, Type};

use crate::scene::{GUARDED_UDP, SEGMENT, Scene};

/// How long a client waits for a host that drops its packets. It sends one SYN in this time.
const PATIENCE: Duration = Duration::from_millis(600);
/// How long a client waits where it expects an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// One line of the table, before it happens.
pub(crate) struct Visit {
    pub(crate) who: &'static str,
    pub(crate) from: IpAddr,
    pub(crate) sends: Sends,
    pub(crate) expected: Expected,
}

/// What a client sends.
#[derive(Clone, Copy)]
pub(crate) enum Sends {
    /// One GET for a stream's playlist.
    Get { stream: &'static str, token: Option<&'static str>, agent: Option<&'static str> },
    /// A player: the playlist, then every segment in it.
    Play { stream: &'static str, token: &'static str },
    /// A connection to another server's port.
    Connect { port: u16 },
    /// A frame of its own making, with VLAN tags.
    Frame { tags: &'static [u16], transport: Transport, port: u16 },
}

/// What is to happen.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) stopped: Stopped,
    /// The step of the judgement that decides; `None` where no policy judges.
    pub(crate) stage: Option<&'static str>,
    /// The rules that may be the one; where policies share a port, one of each. Empty: any.
    pub(crate) rules: &'static [&'static str],
}

/// Where a request or packet ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// Dropped by the XDP program.
    Nic,
    /// Answered by the gate with this status.
    Gate(u16),
    /// It reached the server behind.
    Admitted,
    /// Nobody answered, and nothing counted a drop.
    Lost,
}

impl Stopped {
    /// For the table.
    pub(crate) fn shown(self) -> String {
        match self {
            Self::Nic => "NIC".to_owned(),
            Self::Gate(status) => format!("gate, {status}"),
            Self::Admitted => "admitted".to_owned(),
            Self::Lost => "lost".to_owned(),
        }
    }
}

/// What the client saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Answer(u16),
    Connected,
    Arrived,
    Silence,
    Fault(String),
}

impl Seen {
    /// For the table.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Answer(status) => status.to_string(),
            Self::Connected => "connected".to_owned(),
            Self::Arrived => "arrived".to_owned(),
            Self::Silence => "silence".to_owned(),
            Self::Fault(fault) => fault.clone(),
        }
    }
}

impl Visit {
    /// Sends it, and waits for what comes back.
    pub(crate) fn send(&self, scene: &Scene) -> anyhow::Result<Seen> {
        let patience = if self.expected.stopped == Stopped::Nic { PATIENCE } else { ANSWER };
        match self.sends {
            Sends::Get { stream, token, agent } => {
                let mut get = self.get(&format!("/{stream}/index.m3u8"), token).timeout(patience);
                if let Some(agent) = agent {
                    get = get.header("User-Agent", agent);
                }
                Ok(answer(get.send(scene.host(self.from)?)))
            }
            Sends::Play { stream, token } => Ok(self.play(scene, stream, token)?),
            Sends::Connect { port } => {
                let edge = SocketAddr::new(self.edge(), port);
                Ok(scene
                    .host(self.from)?
                    .run(|| connect(self.from, edge, patience))
                    .map_or_else(fault, |()| Seen::Connected))
            }
            Sends::Frame { tags, transport, port } => {
                // A port that no other frame of this source has, so that its arrival can be told.
                let source = SocketAddr::new(
                    self.from,
                    40_000 + tags.len() as u16 * 100 + tags.first().unwrap_or(&0) % 100,
                );
                let destination = SocketAddr::new(self.edge(), port);
                scene.lab.wire()?.send(&frame(tags, source, destination, transport))?;
                let listened = port == GUARDED_UDP
                    && transport == Transport::Udp
                    && self.edge() == IpAddr::from(EDGE_V4);
                let arrived = listened && scene.datagram_arrives(source, patience);
                Ok(if arrived { Seen::Arrived } else { Seen::Silence })
            }
        }
    }

    /// What was sent, for the table.
    pub(crate) fn sent(&self) -> String {
        match self.sends {
            Sends::Get { stream, token, agent } => {
                let token = token.map_or(String::new(), |token| format!(", token={token}"));
                let agent = agent.map_or(String::new(), |agent| format!(" by {agent}"));
                format!("GET {stream}{token}{agent}")
            }
            Sends::Play { stream, token } => format!("HLS {stream}, token={token}"),
            Sends::Connect { port } => format!("connection to {port}/tcp"),
            Sends::Frame { tags, transport, port } => {
                let tags: String = tags.iter().map(|tag| format!(", VLAN {tag}")).collect();
                match transport {
                    Transport::TcpSyn => format!("SYN to {port}/tcp{tags}"),
                    Transport::Udp => format!("datagram to {port}/udp{tags}"),
                }
            }
        }
    }

    /// The service as nicgate names it.
    pub(crate) fn service(&self) -> String {
        match self.sends {
            Sends::Get { .. } | Sends::Play { .. } => "80/tcp".to_owned(),
            Sends::Connect { port } | Sends::Frame { port, transport: Transport::TcpSyn, .. } => {
                format!("{port}/tcp")
            }
            Sends::Frame { port, transport: Transport::Udp, .. } => format!("{port}/udp"),
        }
    }

    fn play(&self, scene: &Scene, stream: &str, token: &str) -> anyhow::Result<Seen> {
        let host = scene.host(self.from)?;
        let get = |path: String, token| self.get(&path, token).timeout(ANSWER).send(host);
        let playlist = match get(format!("/{stream}/index.m3u8"), Some(token)) {
            Ok(playlist) if playlist.status == 200 => playlist.text(),
            other => return Ok(answer(other)),
        };
        for segment in playlist.lines().filter(|line| !line.starts_with('#')) {
            // As players do: the reference as it stands, into which the gate has written the token.
            match get(format!("/{stream}/{segment}"), None) {
                Ok(response) if response.status == 200 && response.body.len() == SEGMENT => {}
                Ok(response) if response.status == 200 => {
                    return Ok(Seen::Fault(format!(
                        "{segment} has {} of {SEGMENT} bytes",
                        response.body.len()
                    )));
                }
                other => return Ok(answer(other)),
            }
        }
        Ok(Seen::Answer(200))
    }

    fn get(&self, path: &str, token: Option<&str>) -> Get {
        let token = token.map_or(String::new(), |token| format!("?token={token}"));
        Get::new((self.edge(), 80), format!("{path}{token}")).from(self.from)
    }

    /// The edge's address of the client's family.
    fn edge(&self) -> IpAddr {
        if self.from.is_ipv4() { EDGE_V4.into() } else { EDGE_V6.into() }
    }
}

fn answer(response: io::Result<Response>) -> Seen {
    response.map_or_else(fault, |response| Seen::Answer(response.status))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_or_else hands over")]
fn fault(error: io::Error) -> Seen {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Seen::Silence,
        io::ErrorKind::ConnectionRefused => Seen::Fault("refused".to_owned()),
        io::ErrorKind::ConnectionReset => Seen::Fault("reset".to_owned()),
        _ => Seen::Fault(error.to_string()),
    }
}

/// Connects, and reads the server's first byte.
fn connect(from: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), patience)?;
    socket.set_read_timeout(Some(patience))?;
    (&socket).read_exact(&mut [0])
}
