//! Handing over to another process.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};

use super::{
    message::{FromFormer, FromNext, PROTOCOL},
    process::Process,
    sessions,
};
use crate::{
    control::{Asker, Channel},
    operations::{Fault, HandedOver, HandingOver, Heir, Operations, Reply},
};

/// How long the next process may take to put its filters in force, once everything is left to it.
const ATTACH_TIME: Duration = Duration::from_secs(60);
/// How long it may take to serve the gates, while nobody is accepted.
const SERVE_TIME: Duration = Duration::from_secs(30);
/// How long it may take to end when it does not take over.
const END_TIME: Duration = Duration::from_secs(10);

/// The process that has taken over.
#[derive(Debug)]
pub(in crate::daemon) struct Successor {
    channel: Channel,
    process: Process,
    version: String,
}

/// Hands over to the process that asks. When this fails, everything is as it was before.
///
/// `control` are the parts of the control socket.
pub(in crate::daemon) async fn give(
    operations: &Operations,
    control: &[OwnedFd; 2],
    heir: &Heir,
    asker: Asker,
) -> anyhow::Result<Successor> {
    let process = match agree(operations, heir, &asker) {
        Ok(process) => process,
        Err(error) => {
            asker.answer(&Reply::<()>::refused(Fault::Request, format!("{error:#}")), None).await;
            return Err(error);
        }
    };
    let (own, theirs) = Channel::pair().context("making a channel")?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let reply = Reply::done(HandingOver { pid: std::process::id(), version });
    asker.answer(&reply, Some(theirs.as_fd())).await;
    drop(theirs);
    let channel = Channel::new(own).context("making a channel")?;
    let successor = Successor { channel, process, version: heir.version.clone() };
    tracing::info!(
        pid = successor.process.id(),
        version = heir.version,
        "another process is about to take over"
    );
    successor.expect(None, |message| matches!(message, FromNext::Release)).await?;
    let held = operations.hold().await;
    match successor.take_over(operations, control).await {
        Ok(()) => {
            held.give_up();
            Ok(successor)
        }
        Err(error) => {
            // What it holds can only be taken back when it is gone.
            successor.process.end(END_TIME).await;
            operations.gates().resume();
            operations.take_back().await;
            Err(error)
        }
    }
}

/// Whether the process that asks can take over.
fn agree(operations: &Operations, heir: &Heir, asker: &Asker) -> anyhow::Result<Process> {
    if heir.protocol != PROTOCOL {
        bail!(
            "this process, of version {}, does not know how version {} takes over: stop it, and then start the other",
            env!("CARGO_PKG_VERSION"),
            heir.version
        );
    }
    if operations.waits_for_confirmation() {
        bail!("what was loaded last waits to be confirmed, or goes back: `nicgate confirm`, or wait");
    }
    let state = operations.bans_file();
    if !same_file(&heir.state, &state) {
        bail!(
            "this process keeps its bans in {}, and they would be lost: name that file with --state",
            state.display()
        );
    }
    let process =
        asker.process().context("the process that asks is another user's, or in another PID namespace")?;
    Process::open(process).context("the process that asks cannot be watched")
}

/// Whether two paths lead to one file, which need not be there yet.
fn same_file(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let path = std::path::absolute(path).ok()?;
        let folder = path.parent()?.canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    };
    place(one).is_some_and(|one| Some(one) == place(other))
}

impl Successor {
    /// The process.
    pub(in crate::daemon) fn id(&self) -> i32 {
        self.process.id()
    }

    /// What has come of it, for operators.
    pub(in crate::daemon) fn handed_over(&self, operations: &Operations) -> HandedOver {
        HandedOver {
            pid: self.process.id(),
            version: self.version.clone(),
            former: std::process::id(),
            finishing: operations.gates().connections(),
        }
    }

    /// Lets it take over, step by step.
    async fn take_over(&self, operations: &Operations, control: &[OwnedFd; 2]) -> anyhow::Result<()> {
        if let Err(error) = operations.leave().await {
            let _ = self.say(&FromFormer::Kept { why: format!("{error:#}") }, &[]).await;
            return Err(error);
        }
        self.say(&FromFormer::Control, &[control[0].as_fd(), control[1].as_fd()]).await?;
        for sockets in operations.gates().sockets().chunks(Channel::MOST_DESCRIPTORS) {
            let gates = sockets.iter().map(|(gate, _)| *gate).collect();
            let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
            self.say(&FromFormer::Gates(gates), &sockets).await?;
        }
        self.say(&FromFormer::Released, &[]).await?;
        self.expect(Some(ATTACH_TIME), |message| matches!(message, FromNext::Commit)).await?;
        operations.gates().pause().await;
        self.tell_of_sessions(operations).await?;
        self.say(&FromFormer::Handed, &[]).await?;
        self.expect(Some(SERVE_TIME), |message| matches!(message, FromNext::Serving)).await
    }

    /// Gives it the sessions. Without them players are asked about anew, which is no reason to stay.
    async fn tell_of_sessions(&self, operations: &Operations) -> anyhow::Result<()> {
        let (sessions, key) = (operations.sessions().clone(), operations.gates().token_key());
        let written = tokio::task::spawn_blocking(move || sessions::write(&sessions, key)).await;
        match written.map_err(Into::into).flatten() {
            Ok((file, count)) => {
                tracing::info!(sessions = count, "sessions are handed over");
                self.say(&FromFormer::Sessions, &[file.as_fd()]).await
            }
            Err(error) => {
                tracing::warn!("sessions are not handed over, and players are asked about anew: {error:#}");
                Ok(())
            }
        }
    }

    /// Tells it that it is on its own.
    pub(in crate::daemon) async fn retire(&self) {
        // It may be gone already, and has been followed by another one.
        let _ = self.say(&FromFormer::Retired, &[]).await;
    }

    async fn say(&self, message: &FromFormer, descriptors: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
        self.channel.send(message, descriptors).await.context("the process that was to take over has ended")
    }

    /// Waits for the next message to be the wanted one.
    async fn expect(&self, limit: Option<Duration>, wanted: fn(&FromNext) -> bool) -> anyhow::Result<()> {
        let next = self.channel.receive::<FromNext>();
        let next = match limit {
            Some(limit) => tokio::time::timeout(limit, next)
                .await
                .map_err(|_| anyhow!("the process that was to take over has taken longer than {limit:?}"))?,
            None => next.await,
        };
        match next.context("the process that was to take over speaks differently")? {
            Some((message, _)) if wanted(&message) => Ok(()),
            Some((FromNext::Abandon { why }, _)) => {
                bail!("the process that was to take over does not: {why}")
            }
            Some((message, _)) => {
                bail!("the process that was to take over says {message:?} at the wrong time")
            }
            None => bail!("the process that was to take over has ended"),
        }
    }
}
