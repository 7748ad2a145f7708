use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::watch};

use super::{Limits, counters::GateState, guard::Guard, seats::Seat, serve, upstream::Upstreams, wire::Wire};
use crate::session::Sessions;

/// How a listener and its connections stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Accepting and serving.
    Serving,
    /// Not accepting; requests in hand are finished.
    Draining,
    /// Everything ends now.
    Closed,
}

/// Follows the phase of the listener that a connection came through.
#[derive(Clone, Debug)]
pub(super) struct Phases(pub(super) watch::Receiver<Phase>);

impl Phases {
    /// Waits until `phase` or a later one is reached; a listener that is gone is closed.
    pub(super) async fn reach(&mut self, phase: Phase) {
        // An error means that the sender is gone, which is as good as closed.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}

/// What every connection shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) sessions: Arc<Sessions>,
    pub(super) upstreams: Upstreams,
    pub(super) limits: Limits,
}

/// One client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) gate: Arc<GateState>,
    /// The client; IPv4-mapped addresses as IPv4.
    pub(super) client: IpAddr,
    pub(super) wire: Wire,
    pub(super) phases: Phases,
    pub(super) seat: Arc<Seat>,
}

impl Connection {
    pub(super) async fn run(self, stream: TcpStream) {
        let connection = Arc::new(self);
        let limits = connection.shared.limits;
        let guard = Guard::new(stream, connection.wire.clone(), limits);
        let mut phases = connection.phases.clone();
        let client = connection.client;
        let service = service_fn(move |request: Request<Incoming>| {
            let connection = connection.clone();
            async move { Ok::<_, Infallible>(serve::serve(&connection, request).await) }
        });
        let serving = http1::Builder::new()
            // The guard has the deadlines and the limits; hyper only needs room for what it hands on.
            .header_read_timeout(None::<Duration>)
            .max_buf_size(2 * limits.head_bytes.max(64 * 1024))
            .serve_connection(TokioIo::new(guard), service)
            .with_upgrades();
        let mut serving = std::pin::pin!(serving);
        let mut next = Phase::Draining;
        loop {
            tokio::select! {
                ended = serving.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%client, %error, "a connection ended early");
                    }
                    return;
                }
                () = phases.reach(next) => match next {
                    Phase::Draining => {
                        serving.as_mut().graceful_shutdown();
                        next = Phase::Closed;
                    }
                    Phase::Serving | Phase::Closed => return,
                },
            }
        }
    }
}
