//! Putting everything into force, alone or in the place of another process.

use std::path::Path;

use anyhow::Context as _;

use super::{
    Options, RunError,
    hand_over::{Former, Released, take_sessions},
    service_manager::ServiceManager,
};
use crate::{
    control::ControlSocket,
    gate::{Gates, Inherited, Limits},
    operations::{Next, Operations, Parts, ReloadError},
    session::{SessionLimits, Sessions},
    state::{self, Recording},
    watch::{Enforced, Enforcer, Monitors, lockouts, ssh_client},
};

/// Puts everything into force. `sockets` were passed by the service manager.
pub(super) async fn start(
    options: &Options,
    manager: &ServiceManager,
    sockets: Vec<Inherited>,
) -> Result<(Operations, ControlSocket), RunError> {
    let former = match options.replace {
        true => Former::find(&options.control, &absolute(&options.bans)?).await?,
        false => None,
    };
    let started = match &former {
        Some(former) => take_over(options, manager, former, sockets).await,
        None => begin(options, sockets).await,
    };
    if let (Err(error), Some(former)) = (&started, former) {
        former.abandon(error.to_string()).await;
    }
    started
}

/// The same path in every process.
pub(super) fn absolute(path: &Path) -> anyhow::Result<std::path::PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))
}

/// Without another process.
async fn begin(options: &Options, sockets: Vec<Inherited>) -> Result<(Operations, ControlSocket), RunError> {
    let last_good = state::folder_beside(&options.bans);
    let (next, refused) = first(&options.config, &last_good).await.map_err(RunError::Configuration)?;
    next.log_report();
    // Before anything is enforced, so that a second controller stops here.
    let socket = ControlSocket::bind(&options.control)?;
    let operations = enforce(options, next, refused, sockets, None).await?;
    Ok((operations, socket))
}

/// In the place of another process, which goes on until everything is in force here.
async fn take_over(
    options: &Options,
    manager: &ServiceManager,
    former: &Former,
    mut sockets: Vec<Inherited>,
) -> Result<(Operations, ControlSocket), RunError> {
    // What the other one enforces is better than the last good configuration.
    let last_good = state::folder_beside(&options.bans);
    let next = load(&options.config, &last_good).await.map_err(RunError::Configuration)?;
    next.log_report();
    let (mut socket, former) = match former.release().await? {
        Some(Released { socket, gates }) => {
            manager.inherited(gates.iter().filter_map(|inherited| inherited.gate));
            sockets.extend(gates);
            (socket, Some(former))
        }
        None => (ControlSocket::bind(&options.control)?, None),
    };
    let operations = enforce(options, next, None, sockets, former).await?;
    socket.own();
    Ok((operations, socket))
}

/// Puts a configuration into force, with the reason why another one is not.
async fn enforce(
    options: &Options,
    mut next: Next,
    refused: Option<(String, u64)>,
    sockets: Vec<Inherited>,
    former: Option<&Former>,
) -> Result<Operations, RunError> {
    let sessions = Sessions::new(next.snapshot.clone(), SessionLimits::default());
    let gates = Gates::new(sessions.clone(), Limits { open_files: raise_file_limit(), ..Limits::default() });
    gates.inherit(sockets);
    let prepared = gates.prepare(&next.snapshot);
    for error in prepared.not_bound() {
        tracing::error!("{error}; trying again every second");
    }
    let monitors = Monitors::new(sessions.hits().clone());
    let begin = {
        let (snapshot, layout) = (next.snapshot.clone(), next.layout.clone());
        let (bans, sessions, monitors) = (options.bans.clone(), sessions.clone(), monitors.clone());
        move || Enforced::begin(&snapshot.config, &layout, &bans, sessions, monitors)
    };
    let enforcer = Enforcer::start(begin).await?;
    if let Some(former) = former
        && let Some(file) = former.commit().await?
    {
        take_sessions(file, &sessions, &gates).await;
    }
    gates.commit(prepared);
    gates.close_unused();
    if let Some(former) = former {
        former.retire().await;
        // Where it listened in another way, the port is free now.
        gates.bind_again();
    }
    let read = next.take_read();
    let last_good = state::folder_beside(&options.bans);
    let parts = Parts { path: options.config.clone(), last_good, gates, sessions, enforcer, monitors };
    let operations = Operations::new(parts, next.take_refused(), refused);
    operations.keep(read).await;
    // Nothing waits for it: least of all what is being put into force.
    let compiled = next.layout.compiled().clone();
    tokio::task::spawn_blocking(move || {
        lockouts(&compiled, ssh_client()).iter().for_each(|warning| tracing::warn!("{warning}"));
    });
    Ok(operations)
}

/// The configuration; a list or database of it that cannot be used keeps what was last enforced.
async fn load(path: &Path, last_good: &Path) -> Result<Next, ReloadError> {
    Next::load(path.to_owned(), Recording::with_former(last_good, path)).await
}

/// What to enforce first: the configuration or, when it cannot be loaded, the last one that was enforced; then also
/// why, and when it was kept. After a restart of the machine the alternative would be to leave it open.
async fn first(path: &Path, last_good: &Path) -> Result<(Next, Option<(String, u64)>), ReloadError> {
    let error = match load(path, last_good).await {
        Ok(next) => return Ok((next, None)),
        Err(error) => error,
    };
    let kept = match state::read(last_good, path) {
        Ok(kept) => kept,
        Err(why) => {
            tracing::debug!("no last good configuration in {}: {why:#}", last_good.display());
            return Err(error);
        }
    };
    let saved_at = kept.saved_at;
    let Ok(next) = Next::load_kept(path.to_owned(), kept).await else { return Err(error) };
    let message = format!("{error}");
    tracing::error!(
        error = %message, saved_at,
        "the configuration cannot be loaded; the last good one is enforced in its place, as it was then"
    );
    Ok((next, Some((message, saved_at))))
}

/// Raises the soft limit of open files to the hard one: many systems start services with 1024. Returns what it is then.
fn raise_file_limit() -> u64 {
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    raised.unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files could not be raised");
        rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX)
    })
}
