//! Connections that were upgraded.

use std::{io, sync::Arc};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    connection::{Connection, Phase, Phases},
    connection_limits::Place,
    counters::{GateState, add},
    upstream::InFlight,
};
use crate::{http::Upgrade, session::Transfer};

/// Lets the next request in unless the upgrade was accepted.
pub(super) struct PendingUpgrade<'a>(Option<&'a Connection>);

impl<'a> PendingUpgrade<'a> {
    /// Of a request that asks for one, or of any other.
    pub(super) fn of(connection: &'a Connection, asked: bool) -> Self {
        Self(asked.then_some(connection))
    }

    /// Whether one is asked for and not decided.
    pub(super) fn waits(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn accept(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.wire.decide(Upgrade::Accepted);
        }
    }
}

impl Drop for PendingUpgrade<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.wire.decide(Upgrade::Refused);
        }
    }
}

/// How much is copied at once, in bytes.
const COPY_SIZE: usize = 16 * 1024;

/// Carries an upgraded connection until either side ends, it is cut, or the gate is closed.
pub(super) async fn carry(
    client: OnUpgrade,
    upstream: OnUpgrade,
    transfer: Transfer,
    gate: Arc<GateState>,
    mut phases: Phases,
    place: Arc<Place>,
    in_flight: Option<InFlight>,
) {
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok((client, upstream)) => (TokioIo::new(client), TokioIo::new(upstream)),
        Err(error) => {
            tracing::debug!(%error, "an upgraded connection did not begin");
            return;
        }
    };
    let (from_client, to_client) = tokio::io::split(client);
    let (from_upstream, to_upstream) = tokio::io::split(upstream);
    let meter = transfer.meter();
    let both = async {
        tokio::try_join!(
            copy(from_client, to_upstream, |bytes| {
                add(&gate.bytes_received, bytes);
                meter.moved(bytes);
            }),
            copy(from_upstream, to_client, |bytes| {
                add(&gate.bytes_sent, bytes);
                meter.moved(bytes);
            }),
        )
    };
    tokio::select! {
        ended = both => {
            if let Err(error) = ended {
                tracing::debug!(%error, "an upgraded connection broke off");
            }
        }
        why = transfer.cut() => {
            add(&gate.cut, 1);
            tracing::info!(session = %transfer.session_id(), ?why, "cut an upgraded connection");
        }
        () = phases.reach(Phase::Closed) => {}
    }
    drop((place, in_flight));
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: impl Fn(u64),
) -> io::Result<()> {
    let mut buffer = vec![0; COPY_SIZE];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        count(read as u64);
    }
}
