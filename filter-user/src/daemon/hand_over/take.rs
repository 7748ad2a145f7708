//! Taking over from another process.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};

use super::{
    message::{FromFormer, FromNext, PROTOCOL},
    process::Process,
};
use crate::{
    control::{Channel, Client, ClientError, ControlSocket},
    gate::Inherited,
    operations::{HandingOver, Heir, Reply, Request},
};

/// How long the former process may take to let go, once nothing else is asked of it.
const RETIRE_TIME: Duration = Duration::from_secs(10);

/// The process that hands over.
#[derive(Debug)]
pub(in crate::daemon) struct Former {
    channel: Channel,
    process: Process,
    control: PathBuf,
}

/// What it lets go of.
#[derive(Debug)]
pub(in crate::daemon) struct Released {
    /// Its control socket.
    pub(in crate::daemon) socket: ControlSocket,
    /// Its gates' sockets, on which it goes on accepting for a while.
    pub(in crate::daemon) gates: Vec<Inherited>,
}

impl Former {
    /// The process that answers at this control socket; `None` when there is none.
    ///
    /// # Errors
    ///
    /// It does not hand over.
    pub(in crate::daemon) async fn find(control: &Path, state: &Path) -> anyhow::Result<Option<Self>> {
        let heir = Heir {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: state.to_owned(),
        };
        let path = control.to_owned();
        let asked = tokio::task::spawn_blocking(move || ask(&path, heir)).await?;
        let Some((reply, channel)) = asked? else { return Ok(None) };
        let (Some(HandingOver { pid, version }), Some(channel)) = (reply.result, channel) else {
            bail!("the nicgate that runs does not hand over: {}", reply.message);
        };
        tracing::info!(pid, version, "taking over from another process");
        let channel = Channel::new(channel)?;
        let pid = i32::try_from(pid).context("there is no such process")?;
        let process = Process::open(pid).context("the process that runs cannot be watched")?;
        Ok(Some(Self { channel, process, control: control.to_owned() }))
    }

    /// Makes it let go of filters and bans; it goes on serving the gates. `None` when it has ended.
    ///
    /// # Errors
    ///
    /// It keeps everything.
    pub(in crate::daemon) async fn release(&self) -> anyhow::Result<Option<Released>> {
        if !self.say(&FromNext::Release).await {
            return self.ended().await;
        }
        let (mut socket, mut gates) = (None, Vec::new());
        loop {
            match self.channel.receive().await? {
                None => return self.ended().await,
                Some((FromFormer::Control, parts)) => {
                    let parts = <[OwnedFd; 2]>::try_from(parts);
                    let parts =
                        parts.map_err(|_| anyhow!("the control socket did not come with its parts"))?;
                    socket = Some(ControlSocket::of_parts(parts, &self.control)?);
                }
                Some((FromFormer::Gates(keys), sockets)) => {
                    let inherited = keys.into_iter().zip(sockets);
                    gates.extend(inherited.map(|(gate, socket)| Inherited { gate: Some(gate), socket }));
                }
                Some((FromFormer::Released, _)) => {
                    let socket = socket.context("the control socket did not come")?;
                    return Ok(Some(Released { socket, gates }));
                }
                Some((FromFormer::Kept { why }, _)) => {
                    bail!("the nicgate that runs does not hand over: {why}")
                }
                Some((message, _)) => bail!("the nicgate that runs says {message:?} at the wrong time"),
            }
        }
    }

    /// Makes it accept no connection any more, and returns the file of its sessions. It may have ended.
    ///
    /// # Errors
    ///
    /// It has taken everything back.
    pub(in crate::daemon) async fn commit(&self) -> anyhow::Result<Option<OwnedFd>> {
        if !self.say(&FromNext::Commit).await {
            return self.ended().await;
        }
        let mut sessions = None;
        loop {
            match self.channel.receive().await? {
                None => return self.ended().await,
                Some((FromFormer::Sessions, mut file)) => sessions = file.pop(),
                Some((FromFormer::Handed, _)) => return Ok(sessions),
                Some((message, _)) => bail!("the nicgate that runs says {message:?} at the wrong time"),
            }
        }
    }

    /// Tells it that everything is served here, and waits until it has let go of its sockets.
    pub(in crate::daemon) async fn retire(&self) {
        if !self.say(&FromNext::Serving).await {
            return;
        }
        match tokio::time::timeout(RETIRE_TIME, self.channel.receive()).await {
            Ok(Ok(Some((FromFormer::Retired, _)) | None)) => {}
            other => tracing::warn!(?other, "the former process does not say that it has let go"),
        }
    }

    /// Tells it to go on.
    pub(in crate::daemon) async fn abandon(self, why: String) {
        self.say(&FromNext::Abandon { why }).await;
    }

    /// Says something; false when nobody listens any more.
    async fn say(&self, message: &FromNext) -> bool {
        self.channel.send(message, &[]).await.is_ok()
    }

    /// It has ended without handing over, so that everything is free when nothing of it is left.
    async fn ended<T>(&self) -> anyhow::Result<Option<T>> {
        let ended = tokio::time::timeout(RETIRE_TIME, self.process.gone()).await;
        ended.context("the nicgate that runs has broken off handing over, and goes on")?;
        tracing::warn!("the former process has ended before it had handed over everything");
        Ok(None)
    }
}

/// What the process says that runs, and its end of the channel.
type Answer = (Reply<HandingOver>, Option<OwnedFd>);

/// Asks the process that answers at a control socket.
fn ask(control: &Path, heir: Heir) -> Result<Option<Answer>, ClientError> {
    let Some(client) = Client::connect(control)? else { return Ok(None) };
    client.ask_for_descriptor(&Request::HandOver(heir)).map(Some)
}
