//! The controller: makes the parts, wires them, and takes them apart.
//!
//! A reload is prepared completely (files read, database read, tables compiled, ports bound) before any of
//! it is enforced; what fails leaves everything as it was.

mod logging;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    control::{self, ControlSocket},
    gate::{Gates, Limits},
    kernel::LinkEvents,
    operations::{Next, Operations, Parts, ReloadError},
    session::{SessionLimits, Sessions},
    state::{self, Recording},
    watch::{Enforced, Enforcer, Monitors},
};

/// How long requests in hand may take to finish when the controller stops.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// How often the audit looks whether every filter is in its place.
const AUDIT_INTERVAL: Duration = Duration::from_secs(1);
/// How many audits go by between two that count what the kernel's maps hold.
const AUDITS_BETWEEN_CONTENTS: u32 = 60;

/// Where the bans are kept unless the operator says otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/nicgate/bans.json";

/// Why the controller did not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong.
    #[error(transparent)]
    Configuration(ReloadError),
    /// The system refused.
    #[error("{0:#}")]
    System(#[from] anyhow::Error),
}

/// Runs until SIGTERM or SIGINT. The filter stays on the interfaces when this returns.
///
/// # Errors
///
/// The configuration is wrong and no last good one is kept, or the system refuses to attach or to make the control
/// socket.
pub async fn run(path: &Path, control: &Path, bans_file: &Path) -> Result<(), RunError> {
    logging::init();
    let open_files = raise_file_limit();
    let mut terminate = signal(SignalKind::terminate()).context("waiting for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for signals")?;
    let mut hangup = signal(SignalKind::hangup()).context("waiting for signals")?;

    let (operations, socket) = start(path, control, bans_file, open_files).await?;
    let operations = Arc::new(operations);
    tokio::spawn(watch(operations.clone()));
    tracing::info!(config = %path.display(), control = %control.display(), "nicgate is running");

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                let operations = operations.clone();
                tokio::spawn(async move { operations.reload().await });
            }
            stream = socket.accept() => match stream {
                Ok(stream) => {
                    let operations = operations.clone();
                    tokio::spawn(async move { control::serve(&operations, stream).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(socket);
    tracing::info!("stopping: requests in hand may finish; the filter stays on the interfaces");
    tokio::select! {
        () = stop(&operations) => {}
        // Who asks twice does not want to wait.
        _ = terminate.recv() => tracing::warn!("stopping at once"),
        _ = interrupt.recv() => tracing::warn!("stopping at once"),
    }
    Ok(())
}

/// Puts everything into force.
async fn start(
    path: &Path,
    control: &Path,
    bans_file: &Path,
    open_files: u64,
) -> Result<(Operations, ControlSocket), RunError> {
    let last_good = state::folder_beside(bans_file);
    let (mut next, refused) = first(path, &last_good).await.map_err(RunError::Configuration)?;
    next.log_report();
    // Before anything is enforced, so that a second controller stops here.
    let socket = ControlSocket::bind(control)?;
    let sessions = Sessions::new(next.snapshot.clone(), SessionLimits::default());
    let gates = Gates::new(sessions.clone(), Limits { open_files, ..Limits::default() });
    let prepared = gates.prepare(&next.snapshot);
    for error in prepared.not_bound() {
        tracing::error!("{error}; trying again every second");
    }
    let monitors = Monitors::new(sessions.hits().clone());
    let begin = {
        let (snapshot, layout) = (next.snapshot.clone(), next.layout.clone());
        let (bans_file, sessions, monitors) = (bans_file.to_owned(), sessions.clone(), monitors.clone());
        move || Enforced::begin(&snapshot.config, &layout, &bans_file, sessions, monitors)
    };
    let enforcer = Enforcer::start(begin).await?;
    gates.commit(prepared);
    let read = next.take_read();
    let parts = Parts { path: path.to_owned(), last_good, gates, sessions, enforcer, monitors };
    let operations = Operations::new(parts, next.take_refused(), refused);
    operations.keep(read).await;
    Ok((operations, socket))
}

/// What to enforce first: the configuration or, when it cannot be loaded, the last one that was enforced; then also
/// why, and when it was kept. After a restart of the machine the alternative would be to leave it open.
async fn first(path: &Path, last_good: &Path) -> Result<(Next, Option<(String, u64)>), ReloadError> {
    let files = Recording::with_former(last_good, path);
    let error = match Next::load(path.to_owned(), files).await {
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

/// Compares what is enforced with what should be, whenever the kernel says that an interface has changed, and
/// every [`AUDIT_INTERVAL`]. Never ends.
async fn watch(operations: Arc<Operations>) {
    let events = LinkEvents::listen().inspect_err(|error| {
        tracing::warn!(%error, "the kernel's messages about interfaces cannot be read; changes are noticed within {AUDIT_INTERVAL:?}");
    });
    let mut events = events.ok();
    let mut round = 0u32;
    let mut timer = tokio::time::interval(AUDIT_INTERVAL);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let ticked = match &events {
            Some(listening) => tokio::select! {
                _ = timer.tick() => true,
                changed = listening.changed() => {
                    if let Err(error) = changed {
                        tracing::warn!(%error, "the kernel's messages about interfaces have ended");
                        events = None;
                    }
                    false
                }
            },
            None => {
                timer.tick().await;
                true
            }
        };
        round = round.wrapping_add(u32::from(ticked));
        let due = ticked && round.is_multiple_of(AUDITS_BETWEEN_CONTENTS);
        let contents = due || operations.take_missing();
        // One that breaks off leaves an alarm, and the next one is soon.
        let _ = operations.enforcer().run("audit", move |enforced| enforced.audit(contents)).await;
        operations.gates().bind_again();
    }
}

/// Lets a reload and the requests in hand finish.
async fn stop(operations: &Operations) {
    // Held to the end, so that no reload opens a gate that is being closed.
    let reloads = tokio::time::timeout(DRAIN_TIME, operations.hold_reloads()).await;
    if reloads.is_err() {
        tracing::warn!("a reload is still going on; it is broken off");
    }
    let closed = operations.gates().drain(DRAIN_TIME).await;
    if closed > 0 {
        tracing::warn!(connections = closed, "connections were closed before their requests were finished");
    }
}

/// Raises the soft limit of open files to the hard one: many systems start services with 1024. Returns what it is then.
fn raise_file_limit() -> u64 {
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    raised.unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files could not be raised");
        rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX)
    })
}
