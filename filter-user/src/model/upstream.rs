//! Media servers behind gates.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use url::Url;

/// Media servers that have the same streams: each admitted request goes to one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name; for the one server of a gate that names no upstream, its address.
    pub name: Arc<str>,
    /// The servers, at least one; none is there twice.
    pub servers: Vec<UpstreamServer>,
    /// How servers are looked at while nobody asks for anything, if so.
    pub health: Option<HealthCheck>,
    /// Whether each connection begins with a header of the PROXY protocol that names the client.
    pub proxy_protocol: bool,
}

/// One media server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamServer {
    /// Where it is.
    pub address: ServerAddress,
    /// How many requests it has at once beside one of a server of weight 1.
    pub weight: u32,
    /// After so many failures in a row it gets no requests for `fail_timeout`, while others work.
    pub max_fails: u32,
    /// For how long.
    pub fail_timeout: Duration,
}

/// Where a media server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// `http://HOST:PORT/`
    Tcp(Url),
    /// A Unix socket.
    Unix(PathBuf),
}

/// How servers are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for: a path, with a query if need be.
    pub path: Box<str>,
    /// How often.
    pub interval: Duration,
    /// How long the answer may take, connecting included.
    pub timeout: Duration,
}

impl UpstreamServer {
    /// A server with the default settings.
    pub fn new(address: ServerAddress) -> Self {
        Self { address, weight: 1, max_fails: 3, fail_timeout: Duration::from_secs(10) }
    }
}

impl Upstream {
    /// One server without a name of its own.
    pub fn one(address: ServerAddress) -> Self {
        Self {
            name: address.to_string().into(),
            servers: vec![UpstreamServer::new(address)],
            health: None,
            proxy_protocol: false,
        }
    }

    /// The servers that have a URL.
    pub fn urls(&self) -> impl Iterator<Item = &Url> {
        self.servers.iter().filter_map(|server| match &server.address {
            ServerAddress::Tcp(url) => Some(url),
            ServerAddress::Unix(_) => None,
        })
    }
}

impl From<Url> for Upstream {
    fn from(url: Url) -> Self {
        Self::one(ServerAddress::Tcp(url))
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(url) => {
                let port = url.port_or_known_default().unwrap_or(80);
                write!(f, "{}:{port}", url.host_str().unwrap_or_default())
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
