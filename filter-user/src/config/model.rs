use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

use crate::policy::{Origin, Policy, PolicyId};

/// Where the configuration's files come from, so that loading itself does no I/O.
pub trait Files {
    /// The contents of one file.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>>;

    /// The files whose names match a shell pattern (`*`, `?`, `[…]`), sorted.
    ///
    /// # Errors
    ///
    /// When the pattern is wrong, or a folder cannot be read.
    fn matching(&self, pattern: &Path) -> std::io::Result<Vec<PathBuf>>;
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A protected port, shown as `80/tcp`, or `192.0.2.1:80/tcp` when only one local address is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The transport protocol.
    pub proto: Proto,
    /// The local port.
    pub port: u16,
    /// The local address; `None` for every address that no other service on this port names.
    pub address: Option<IpAddr>,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => write!(f, "{}/{}", self.port, self.proto),
            Some(address) => write!(f, "{}/{}", SocketAddr::new(address, self.port), self.proto),
        }
    }
}

impl Serialize for ServiceKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a port admits requests that no policy judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenReason {
    /// This stream can be played without a policy.
    PlayWithoutPolicy(Arc<str>, Origin),
    /// This stream can be published to without a policy.
    PublishWithoutPolicy(Arc<str>, Origin),
    /// Streams of this other server (`source HOST { }`) appear here under any name, without a policy.
    OtherServer(Arc<str>, Origin),
    /// The port serves the streams of the configuration, and there are none.
    NoStreams,
}

/// How nicgate serves a port itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Where admitted requests go; scheme `http`.
    pub upstream: Url,
}

/// Who serves a protected port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// nicgate's own HTTP listener.
    Gate(Gate),
    /// Another server; nicgate protects it at the NIC only.
    Guard,
}

/// A protected port and the policies that its requests can meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The port.
    pub key: ServiceKey,
    /// Who serves it.
    pub kind: ServiceKind,
    /// P(S): every policy that a request to the port can be judged by; sorted, without duplicates.
    pub policies: Vec<PolicyId>,
    /// Set when a request to the port can meet no policy at all, so that nothing may be dropped.
    pub open: Option<OpenReason>,
    /// The directive.
    pub origin: Origin,
}

/// Who judges an operation on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// A policy judges.
    Policy(PolicyId),
    /// Everyone is admitted: there is no `on_play` or `on_publish`.
    Open,
    /// Nobody is admitted: the operation does not exist on this stream.
    Closed,
}

/// A stream, a VOD location, or a prefix under which streams appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name; requests whose normalised path has the name as a prefix on a `/` boundary are its own.
    pub name: Arc<str>,
    /// Who judges playing.
    pub on_play: Access,
    /// Who judges publishing. `Closed` when the stream takes no published input.
    pub on_publish: Access,
    /// Where the block begins.
    pub origin: Origin,
}

/// The mode in which the XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceMode {
    /// Native when the driver can, else generic with a warning.
    #[default]
    Auto,
    /// In the driver; refused when it cannot.
    Native,
    /// After the socket buffer is allocated: works everywhere, about ten times slower.
    Generic,
    /// On the NIC itself.
    Offload,
}

/// How the NIC's program looks up addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Sorted pieces under an index: one or two cache lines for an address, whatever the table's size.
    #[default]
    Flat,
    /// The kernel's longest-prefix-match trie.
    Lpm,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flat => "flat",
            Self::Lpm => "lpm",
        })
    }
}

/// An interface whose packets are filtered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: Arc<str>,
    /// How to attach.
    pub mode: InterfaceMode,
    /// Nothing is enforced anew unless this interface can be filtered; otherwise it is waited for.
    pub required: bool,
    /// The directive.
    pub origin: Origin,
}

/// A port that the media server itself listens on, found in its own configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The directive's name: `http`, `rtmp`, `admin_http` …
    pub directive: Arc<str>,
    /// The port.
    pub key: ServiceKey,
    /// The directive.
    pub origin: Origin,
}

/// A whole configuration: everything that nicgate enforces.
#[derive(Clone, Debug)]
pub struct Config {
    /// Every `auth_backend`, and one implied policy for each `on_play` that names a URL; by [`PolicyId`].
    pub policies: Vec<Policy>,
    /// Every stream, by name; use [`Config::stream_for`] to find one.
    pub streams: HashMap<Arc<str>, Stream>,
    /// Every protected port, in file order.
    pub services: Vec<Service>,
    /// Where the program is attached, in file order.
    pub interfaces: Vec<Interface>,
    /// Addresses that nothing may drop at the NIC.
    pub never_drop: Vec<(IpNet, Origin)>,
    /// How the NIC's program looks up addresses.
    pub engine: Engine,
    /// Judge and count, drop nothing.
    pub shadow: bool,
    /// The country database.
    pub geoip: Option<(PathBuf, Origin)>,
    /// The query parameter that carries the token; `token` unless `auth_token` says otherwise.
    pub token_name: Arc<str>,
    /// Refuse requests without a token.
    pub no_auto_token: bool,
    /// How long a backend may take in all, connect included.
    pub backend_timeout: Duration,
    /// Ports of the media server itself.
    pub listeners: Vec<Listener>,
    /// Every file that was read, the main one first.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// The policy behind an id.
    pub fn policy(&self, id: PolicyId) -> &Policy {
        &self.policies[id.0 as usize]
    }

    /// Finds a policy by its name.
    pub fn policy_named(&self, name: &str) -> Option<PolicyId> {
        self.policies.iter().position(|policy| &**policy.name() == name).map(|i| PolicyId(i as u32))
    }

    /// The stream whose name is the longest prefix of `path` on a `/` boundary.
    ///
    /// `path` is normalised and has no leading `/`.
    pub fn stream_for(&self, path: &str) -> Option<&Stream> {
        let mut candidate = path;
        loop {
            if let Some(stream) = self.streams.get(candidate) {
                return Some(stream);
            }
            match candidate.rfind('/') {
                Some(slash) => candidate = &candidate[..slash],
                // `prefix "";` in a template: every name.
                None => return self.streams.get(""),
            }
        }
    }

    /// Whether any rule looks at countries.
    pub fn uses_countries(&self) -> bool {
        self.policies.iter().any(Policy::uses_countries)
    }
}
