//! Listening sockets.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::model::ServiceKey;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// A gate could not listen.
#[derive(Debug)]
pub struct ListenError {
    /// The gate.
    pub service: ServiceKey,
    /// Where it was to listen.
    pub address: SocketAddr,
    /// What the operating system said.
    pub source: io::Error,
    /// A gate of this process that holds the port until the process is started again.
    pub held_by: Option<ServiceKey>,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, address, source, held_by } = self;
        write!(f, "gate {service}: cannot listen on {address}: {source}")?;
        match (source.kind(), held_by) {
            (io::ErrorKind::AddrInUse, Some(own)) => {
                write!(f, "; nicgate's own gate {own} holds the port until `nicgate run` is started again")
            }
            (io::ErrorKind::AddrInUse, None) => {
                write!(f, "; another server owns the port: move it to another port, or use `guard`")
            }
            (io::ErrorKind::PermissionDenied, _) => {
                write!(f, "; ports below 1024 need root or CAP_NET_BIND_SERVICE")
            }
            (io::ErrorKind::AddrNotAvailable, _) => write!(f, "; no interface has this address"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Listens for both families when the key names no address, for IPv4 alone where IPv6 is off.
///
/// Call it inside a tokio runtime.
pub(super) fn listen(key: ServiceKey) -> Result<TcpListener, ListenError> {
    let port = key.port;
    let error = |address, source| ListenError { service: key, address, source, held_by: None };
    if let Some(address) = key.address {
        let address = SocketAddr::new(address, port);
        return bind(address, true).map_err(|source| error(address, source));
    }
    let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    match bind(both, false) {
        Ok(listener) => Ok(listener),
        Err(source) if matches!(source.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
            let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
            tracing::warn!(service = %key, "IPv6 is off here: listening on {v4} only");
            bind(v4, true).map_err(|source| error(v4, source))
        }
        Err(source) => Err(error(both, source)),
    }
}

fn bind(address: SocketAddr, v6_only: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(v6_only)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
