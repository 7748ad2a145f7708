//! The controller: owns what is enforced, loads it again on request, answers the control socket.
//!
//! A reload is prepared completely (files read, database read, tables compiled, ports bound) before any of
//! it is enforced; what fails leaves everything as it was.

mod alarm;
mod bans;
pub mod control;
mod enforced;
mod logging;
mod monitor;
mod reload;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use serde_json::json;
use tokio::{
    net::UnixStream,
    signal::unix::{SignalKind, signal},
    sync::Mutex,
};

pub use self::reload::ReloadError;
use self::{
    alarm::{Alarm, Code},
    bans::{Bans, Order},
    control::{ControlSocket, Fault, Reply, Request, read_request, write_line},
    enforced::{Change, Enforced, wanted},
    monitor::Monitors,
    reload::{Next, Seconds},
};
use crate::{
    gate::{Gates, Limits, ListenError},
    kernel::LinkEvents,
    session::{SessionLimits, Sessions},
    state::{self, Recording},
};

/// How long requests in hand may take to finish when the controller stops.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Why the controller did not start or had to stop.
#[derive(Debug)]
pub enum RunError {
    /// The configuration is wrong.
    Configuration(ReloadError),
    /// The system refused.
    System(anyhow::Error),
}

/// The running controller.
struct Daemon {
    path: PathBuf,
    /// Where what was enforced last is kept.
    last_good: PathBuf,
    started: Instant,
    gates: Gates,
    sessions: Arc<Sessions>,
    monitors: Monitors,
    bans: Arc<Bans>,
    state: Mutex<State>,
}

struct State {
    /// `None` only while a reload holds it on another thread.
    enforced: Option<Enforced>,
    loaded_at: SystemTime,
    reloads: u64,
    last_reload_error: Option<String>,
    /// When the last reload failed.
    failed_at: Option<SystemTime>,
    /// How many times the audit has put something right.
    mended: u64,
}

/// How often the audit looks whether every filter is in its place.
const AUDIT_INTERVAL: Duration = Duration::from_secs(1);
/// How many audits go by between two that count what the kernel's maps hold.
const AUDITS_BETWEEN_CONTENTS: u32 = 60;

/// Where the bans are kept unless the operator says otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/nicgate/bans.json";

/// Runs until SIGTERM or SIGINT. The filter stays on the interfaces when this returns.
///
/// # Errors
///
/// The configuration is wrong, or the system refuses to attach, to listen, or to make the control socket.
pub async fn run(path: &Path, control: &Path, bans_file: &Path) -> Result<(), RunError> {
    logging::init();
    raise_file_limit();
    let mut terminate =
        signal(SignalKind::terminate()).context("waiting for signals").map_err(RunError::System)?;
    let mut interrupt =
        signal(SignalKind::interrupt()).context("waiting for signals").map_err(RunError::System)?;
    let mut hangup = signal(SignalKind::hangup()).context("waiting for signals").map_err(RunError::System)?;

    let last_good = state::folder_beside(bans_file);
    let (mut next, refused_at_start) = start_with(path, &last_good).await.map_err(RunError::Configuration)?;
    next.log_report();
    // Before anything is enforced, so that a second controller stops here.
    let socket = ControlSocket::bind(control).map_err(RunError::System)?;
    let sessions = Sessions::new(next.snapshot.clone(), SessionLimits::default());
    let gates = Gates::new(sessions.clone(), Limits::default());
    let prepared = gates.prepare(&next.snapshot).map_err(|error| RunError::System(refused(&error)))?;
    let bans = Arc::new(Bans::open(bans_file, sessions.clone()).map_err(RunError::System)?);
    let monitors = Monitors::new(bans.names());
    let config = &next.snapshot.config;
    let enforced = Enforced::start(&next, &monitors, bans.desired(config)).await.map_err(RunError::System)?;
    bans.configure(Some(config), enforced.bans()).await;
    tokio::spawn(bans.clone().tend());
    gates.commit(prepared);
    keep(&last_good, path, next.read.take()).await;
    let failed_at = refused_at_start.is_some().then(SystemTime::now);
    let daemon = Arc::new(Daemon {
        path: path.to_owned(),
        last_good,
        started: Instant::now(),
        gates,
        sessions,
        monitors,
        bans,
        state: Mutex::new(State {
            enforced: Some(enforced),
            loaded_at: SystemTime::now(),
            reloads: 0,
            last_reload_error: refused_at_start,
            failed_at,
            mended: 0,
        }),
    });
    tokio::spawn(daemon.clone().watch());
    tracing::info!(config = %path.display(), control = %control.display(), "nicgate is running");

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                let daemon = daemon.clone();
                tokio::spawn(async move { daemon.reload().await });
            }
            stream = socket.accept() => match stream {
                Ok(stream) => {
                    let daemon = daemon.clone();
                    tokio::spawn(async move { daemon.serve(stream).await });
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
        () = daemon.stop() => {}
        // Who asks twice does not want to wait.
        _ = terminate.recv() => tracing::warn!("stopping at once"),
        _ = interrupt.recv() => tracing::warn!("stopping at once"),
    }
    Ok(())
}

/// What to enforce first: the configuration or, when it cannot be loaded, the last one that was enforced; then also
/// why. After a restart of the machine the alternative would be to leave it open.
async fn start_with(path: &Path, last_good: &Path) -> Result<(Next, Option<String>), ReloadError> {
    let error = match Next::load(path.to_owned()).await {
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
    Ok((next, Some(message)))
}

/// Keeps what was read for a configuration that is enforced now.
async fn keep(last_good: &Path, path: &Path, read: Option<Recording>) {
    let Some(read) = read else { return };
    let (folder, path) = (last_good.to_owned(), path.to_owned());
    let kept = tokio::task::spawn_blocking(move || state::keep(&folder, &path, &read)).await;
    if let Ok(Err(error)) = kept {
        tracing::error!("the configuration is in force, but is not kept for the next start: {error:#}");
    }
}

/// The message names the cause already; as a source it would be told twice.
fn refused(error: &ListenError) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

impl Daemon {
    /// Lets a reload and the requests in hand finish.
    async fn stop(&self) {
        // Held to the end, so that no reload opens a gate that is being closed.
        let reloads = tokio::time::timeout(DRAIN_TIME, self.state.lock()).await;
        if reloads.is_err() {
            tracing::warn!("a reload is still going on; it is broken off");
        }
        let closed = self.gates.drain(DRAIN_TIME).await;
        if closed > 0 {
            tracing::warn!(
                connections = closed,
                "connections were closed before their requests were finished"
            );
        }
    }

    /// Answers one connection of the control socket.
    async fn serve(&self, mut stream: UnixStream) {
        let reply = match read_request(&mut stream).await {
            Ok(Request::Monitor { sample }) => {
                self.monitors.serve(&mut stream, sample).await;
                return;
            }
            Ok(Request::Reload {}) => self.reload().await,
            Ok(Request::Release { interfaces }) => self.release(&interfaces).await,
            Ok(Request::Status {}) => self.status().await,
            Ok(Request::Ban { prefix, service, seconds, reason, yes }) => {
                self.bans.ban(Order { prefix, service, seconds, reason, yes }).await
            }
            Ok(Request::Unban { prefix, service, all }) => self.bans.unban(prefix, service, all).await,
            Ok(Request::Bans {}) => self.bans.list().await,
            Ok(Request::Stats {}) => Reply::done(json!({
                "bans": self.bans.counters().await,
                "gates": self.gates.counters(),
                "sessions": self.sessions.counters(),
            })),
            Ok(Request::Sessions {}) => Reply::done(json!({"sessions": self.sessions.list()})),
            Err(error) => Reply::refused(Fault::Request, format!("{error:#}")),
        };
        if let Err(error) = write_line(&mut stream, &reply).await {
            tracing::debug!(%error, "the client of the control socket went away");
        }
    }

    /// Compares what is enforced with what should be, whenever the kernel says that an interface has changed, and
    /// every [`AUDIT_INTERVAL`]. Never ends.
    async fn watch(self: Arc<Self>) {
        let events = LinkEvents::listen().inspect_err(|error| {
            tracing::warn!(%error, "the kernel's messages about interfaces cannot be read; changes are noticed within {AUDIT_INTERVAL:?}");
        });
        let mut events = events.ok();
        for round in 0u32.. {
            let timer = tokio::time::sleep(AUDIT_INTERVAL);
            match &events {
                Some(listening) => tokio::select! {
                    () = timer => {}
                    changed = listening.changed() => if let Err(error) = changed {
                        tracing::warn!(%error, "the kernel's messages about interfaces have ended");
                        events = None;
                    }
                },
                None => timer.await,
            }
            self.audit(round % AUDITS_BETWEEN_CONTENTS == AUDITS_BETWEEN_CONTENTS - 1).await;
        }
    }

    async fn audit(&self, contents: bool) {
        // A reload looks by itself, and the next audit is soon.
        let Ok(mut state) = self.state.try_lock() else { return };
        let snapshot = self.sessions.snapshot();
        let bans = self.bans.desired(&snapshot.config);
        let Some(enforced) = state.enforced.take() else { return };
        let (enforced, audit) =
            enforced.audit(wanted(&snapshot.config), &self.monitors, bans, contents).await;
        state.enforced = enforced;
        state.mended += audit.mended;
        if let Some(enforced) = &state.enforced
            && audit.changed
        {
            self.bans.configure(None, enforced.bans()).await;
        }
        if contents {
            state.mended += self.bans.verify().await;
        }
    }

    /// Leaves interfaces alone that the operator takes the filter off.
    async fn release(&self, interfaces: &[String]) -> Reply {
        let mut state = self.state.lock().await;
        if let Some(enforced) = &mut state.enforced {
            enforced.release(interfaces);
        }
        Reply::done(json!({"released": interfaces}))
    }

    /// Loads the configuration again and enforces it, or changes nothing.
    async fn reload(&self) -> Reply {
        // One at a time; the others wait.
        let mut state = self.state.lock().await;
        let begin = Instant::now();
        match self.try_reload(&mut state, begin).await {
            Ok((mut next, notes, result)) => {
                keep(&self.last_good, &self.path, next.read.take()).await;
                state.reloads += 1;
                state.loaded_at = SystemTime::now();
                state.last_reload_error = None;
                state.failed_at = None;
                next.log_report();
                notes.iter().for_each(|note| tracing::warn!("{note}"));
                let seconds = begin.elapsed().as_secs_f64();
                tracing::info!(seconds, "the configuration was loaded again");
                let report = next.report.render(false);
                let notes = notes.iter().map(|note| format!("warning: {note}"));
                let report = Some(report.trim_end().to_owned()).filter(|report| !report.is_empty());
                let message = report.into_iter().chain(notes).collect::<Vec<_>>().join("\n");
                Reply { message, ..Reply::done(result) }
            }
            Err(error) => {
                let message = format!("{error}");
                tracing::error!(error = %message, "the configuration was not loaded again; what was enforced still is");
                state.last_reload_error = Some(message.clone());
                state.failed_at = Some(SystemTime::now());
                Reply::refused(error.fault(), message)
            }
        }
    }

    async fn try_reload(
        &self,
        state: &mut State,
        begin: Instant,
    ) -> Result<(Next, Vec<String>, serde_json::Value), ReloadError> {
        let next = Next::load(self.path.clone()).await?;
        let prepared =
            self.gates.prepare(&next.snapshot).map_err(|error| ReloadError::System(refused(&error)))?;
        let Some(enforced) = state.enforced.take() else {
            return Err(ReloadError::System(anyhow::anyhow!(
                "an earlier reload broke off; restart the controller"
            )));
        };
        let config = &next.snapshot.config;
        let (enforced, result) = enforced.change(&next, &self.monitors, self.bans.desired(config)).await;
        state.enforced = enforced;
        // Bans go on being made meanwhile: whatever interfaces there are now get them all.
        if let Some(enforced) = &state.enforced {
            self.bans.configure(result.is_ok().then_some(config), enforced.bans()).await;
        }
        let Change { published, notes, spent } = result.map_err(ReloadError::System)?;
        let transfers = self.gates.commit(prepared);
        let seconds = Seconds::new(next.took, spent, begin.elapsed());
        let result = json!({"interfaces": published, "transfers": transfers, "seconds": seconds});
        Ok((next, notes, result))
    }

    async fn status(&self) -> Reply {
        let mut state = self.state.lock().await;
        let mut interfaces = json!([]);
        let mut alarms = Vec::new();
        if let Some(enforced) = state.enforced.take() {
            alarms = enforced.alarms();
            let (enforced, status) = enforced.status().await;
            state.enforced = enforced;
            interfaces = status;
        }
        let bans = self.bans.status().await;
        alarms.extend(alarms_of(&interfaces, &bans));
        if let Some(error) = &state.last_reload_error {
            alarms.push(Alarm {
                code: Code::ReloadFailed,
                what: format!("the configuration was refused, the last good one is in force: {error}"),
                since: state.failed_at.into(),
                remedy: "correct the configuration and `nicgate reload`".to_owned(),
            });
        }
        let loaded_at = state.loaded_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Reply::done(json!({
            "controller": {
                "running": true,
                "pid": std::process::id(),
                "version": env!("CARGO_PKG_VERSION"),
                "uptime_seconds": self.started.elapsed().as_secs(),
                "config": self.path,
                "loaded_at": loaded_at.as_secs(),
                "reloads": state.reloads,
                "last_reload_error": state.last_reload_error,
            },
            "alarms": alarms,
            "mended": state.mended,
            "interfaces": interfaces,
            "bans": bans,
            "gates": self.gates.counters(),
            "sessions": self.sessions.counters(),
        }))
    }
}

/// Each connection of a viewer takes two descriptors, and many systems start services with 1024.
fn raise_file_limit() {
    let enough = 2 * Limits::default().connections as u64;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit >= enough => {}
        Ok(limit) => tracing::warn!(
            limit,
            "no more than {limit} files can be open, which is {} connections: raise the hard limit (LimitNOFILE={enough})",
            limit / 2
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

/// What is not in force by the figures of the status.
fn alarms_of(interfaces: &serde_json::Value, bans: &serde_json::Value) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    let mut say = |code, what: String, remedy: &str| {
        alarms.push(Alarm { code, what, since: None.into(), remedy: remedy.to_owned() });
    };
    for interface in interfaces.as_array().into_iter().flatten() {
        let name = interface["interface"].as_str().unwrap_or("?");
        if let Some(error) = interface["error"].as_str() {
            say(Code::NotAttached, format!("{name}: {error}"), "nicgate tries again every second");
            continue;
        }
        if interface["mode"].is_null() {
            let what = format!("{name} is not filtered: the program is not on the interface");
            say(Code::NotAttached, what, "nicgate attaches to it as soon as that can be done");
        }
        for (part, code) in
            [("v4", Code::PrefixesMissing), ("v6", Code::PrefixesMissing), ("bans", Code::BansMissing)]
        {
            let (desired, installed) = (&interface[part]["desired"], &interface[part]["installed"]);
            if desired != installed {
                let what = format!("{name}: {installed} of {desired} prefixes of {part} are in the kernel");
                say(code, what, "nicgate puts them back within a minute; `nicgate reload` does so at once");
            }
        }
    }
    if let Some(error) = bans["not_saved"].as_str() {
        say(
            Code::BansNotSaved,
            format!("bans are not saved: {error}"),
            "nicgate tries again every few seconds",
        );
    }
    for error in bans["not_in_force"].as_array().into_iter().flatten().filter_map(|error| error.as_str()) {
        say(
            Code::BansMissing,
            format!("not all bans are in force on {error}"),
            "nicgate tries again every few seconds",
        );
    }
    alarms
}
