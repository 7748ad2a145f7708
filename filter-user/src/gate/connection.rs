//! One client's connection.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::sync::watch;

use super::{
    Limits, connection_limits::Place, counters::GateState, player_token::PlayerTokens, upstream::Upstreams,
};
use crate::{
    http::Wire,
    session::{Presence, Sessions},
};

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
    /// Whether `phase` or a later one is reached.
    pub(super) fn reached(&self, phase: Phase) -> bool {
        *self.0.borrow() >= phase
    }

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
    pub(super) player_tokens: PlayerTokens,
    /// Where the configuration sets no other ones.
    pub(super) limits: Limits,
}

/// One client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) gate: Arc<GateState>,
    /// As they were when the connection was made.
    pub(super) limits: Limits,
    /// Who made the connection; IPv4-mapped addresses as IPv4.
    pub(super) peer: IpAddr,
    /// Whom it is for: the client that a trusted proxy announced, else the peer. A header of a request can still name
    /// another one.
    pub(super) client: SocketAddr,
    /// Where it came to.
    pub(super) local: SocketAddr,
    /// Whether a trusted proxy announced it.
    pub(super) announced: bool,
    /// Whether the client reached that proxy over TLS.
    pub(super) tls: bool,
    pub(super) wire: Wire,
    pub(super) phases: Phases,
    /// Lets sessions know whether it is still there.
    pub(super) presence: Presence,
    pub(super) place: Arc<Place>,
}
