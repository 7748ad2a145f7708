//! Listening sockets that were made elsewhere: by a service manager, or by the process before this one. They outlive
//! processes, so that nobody who connects while one follows another is refused.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
};

use socket2::{SockRef, Type};

use crate::{address::canonical, model::ServiceKey};

/// A listening socket, and for which gate it was made if that is known.
#[derive(Debug)]
pub struct Inherited {
    /// The gate.
    pub gate: Option<ServiceKey>,
    /// The socket.
    pub socket: OwnedFd,
}

/// What can be used in place of new sockets.
#[derive(Debug, Default)]
pub(super) struct Pool(Vec<Inherited>);

impl Pool {
    pub(super) fn add(&mut self, sockets: impl IntoIterator<Item = Inherited>) {
        for inherited in sockets {
            match listens_at(&inherited.socket) {
                Some(_) => self.0.push(inherited),
                None => {
                    tracing::warn!("a socket that was passed to nicgate is no listening TCP socket: closed");
                }
            }
        }
    }

    /// The socket for a gate: the one that was made for it, else one that listens where it would.
    pub(super) fn take(&mut self, gate: ServiceKey) -> Option<TcpListener> {
        let own = self.0.iter().position(|inherited| inherited.gate == Some(gate));
        let at = own.or_else(|| {
            let fits = |(_, inherited): &(usize, &Inherited)| {
                listens_at(&inherited.socket).is_some_and(|at| serves(&at, gate))
            };
            let fitting = self.0.iter().enumerate().filter(fits);
            // One for both families before one for IPv4.
            fitting.max_by_key(|(_, inherited)| is_v6(&inherited.socket)).map(|(at, _)| at)
        })?;
        let listener = TcpListener::from(self.0.swap_remove(at).socket);
        // Else waiting for a connection would stop everything.
        listener.set_nonblocking(true).ok().map(|()| listener)
    }

    /// Closes what no gate uses.
    pub(super) fn close(&mut self) {
        for Inherited { gate, socket } in self.0.drain(..) {
            let address = listens_at(&socket).map(tracing::field::display);
            match gate {
                Some(gate) => {
                    tracing::info!(service = %gate, address, "no gate any more: its socket is closed");
                }
                None => tracing::warn!(address, "a socket was passed to nicgate on which no gate listens"),
            }
        }
    }
}

fn is_v6(socket: &OwnedFd) -> bool {
    SockRef::from(socket).local_addr().is_ok_and(|address| address.is_ipv6())
}

fn listens_at(socket: &OwnedFd) -> Option<SocketAddr> {
    let socket = SockRef::from(socket);
    let listens = socket.r#type().ok()? == Type::STREAM && socket.is_listener().ok()?;
    let address = socket.local_addr().ok()?.as_socket()?;
    // It would serve half of what `::` says.
    let half = address.ip() == std::net::Ipv6Addr::UNSPECIFIED && socket.only_v6().ok()?;
    (listens && !half).then_some(address)
}

fn serves(at: &SocketAddr, gate: ServiceKey) -> bool {
    let ip = canonical(at.ip());
    at.port() == gate.port && gate.address.map_or_else(|| ip.is_unspecified(), |address| ip == address)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn inherited(gate: Option<&str>, listener: TcpListener) -> Inherited {
        Inherited { gate: gate.map(|gate| gate.parse().unwrap()), socket: listener.into() }
    }

    #[test]
    fn a_gate_gets_the_socket_that_listens_where_it_would_and_no_other() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let any = TcpListener::bind("0.0.0.0:0").unwrap();
        let (at, any_at) = (one.local_addr().unwrap(), any.local_addr().unwrap());
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let udp_port = datagrams.local_addr().unwrap().port();
        let mut pool = Pool::default();
        pool.add([
            inherited(None, one),
            inherited(None, any),
            Inherited { gate: None, socket: datagrams.into() },
        ]);
        let key = |text: String| text.parse::<ServiceKey>().unwrap();
        for other in [
            format!("{}/tcp", at.port()),
            format!("127.0.0.2:{}/tcp", at.port()),
            format!("127.0.0.1:{}/tcp", any_at.port()),
            format!("127.0.0.1:{udp_port}/tcp"),
        ] {
            assert!(pool.take(key(other.clone())).is_none(), "{other}");
        }
        let taken = pool.take(key(format!("127.0.0.1:{}/tcp", at.port()))).unwrap();
        assert_eq!(taken.local_addr().unwrap(), at);
        assert!(pool.take(key(format!("127.0.0.1:{}/tcp", at.port()))).is_none(), "once");
        let taken = pool.take(key(format!("{}/tcp", any_at.port()))).unwrap();
        assert_eq!(taken.local_addr().unwrap(), any_at);
        assert_eq!(taken.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_socket_that_was_made_for_a_gate_goes_before_its_address() {
        let chosen = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = chosen.local_addr().unwrap();
        let mut pool = Pool::default();
        // A gate on port 0 listens where the system chose.
        pool.add([inherited(Some("127.0.0.1:0/tcp"), chosen)]);
        assert_eq!(pool.take("127.0.0.1:0/tcp".parse().unwrap()).unwrap().local_addr().unwrap(), at);
    }
}
