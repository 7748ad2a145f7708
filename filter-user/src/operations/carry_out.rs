//! Carrying requests out.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;

use super::{
    Controller, ControllerStatus, Counters, Fault, Next, Released, ReloadError, Reloaded, Reply, Request,
    Seconds, SessionList, Status,
    ownership::{Held, Ownership, moved},
    shrunk::{emptied, shrunk},
};
use crate::{
    bans::BanTable,
    config::{Part, Refused},
    gate::{Gates, ServerStatus, UpstreamStatus},
    kernel::wall_clock,
    limits::LimitCount,
    model::Limit,
    session::Sessions,
    state::{self, Recording},
    watch::{
        Alarm, BanCounters, BanError, BrokeOff, Code, Done, Enforced, Enforcer, MONITOR_BACKLOG, Monitors,
        Subscription, alarms_of,
    },
};

/// No audit for this long is an alarm: one takes a second with the largest tables.
const AUDIT_OVERDUE: Duration = Duration::from_secs(30);

/// What operations work on.
pub struct Parts {
    /// The configuration file.
    pub path: PathBuf,
    /// Where the last good configuration is kept.
    pub last_good: PathBuf,
    /// The gates.
    pub gates: Gates,
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// The owner of filters and bans.
    pub enforcer: Enforcer,
    /// Who hands out sampled drops.
    pub monitors: Arc<Monitors>,
}

/// Carries out what operators ask for.
pub struct Operations {
    parts: Parts,
    started: Instant,
    ownership: Ownership,
    /// One reload at a time; nothing else waits for it.
    reloading: tokio::sync::Mutex<()>,
    history: Mutex<History>,
    /// Since when each alarm has been there that does not know it itself.
    since: Mutex<BTreeMap<(Code, String), u64>>,
    /// Somebody looked and saw that the kernel's maps hold less than they should.
    missing: AtomicBool,
}

/// What became of the loads so far; times are seconds since 1970.
struct History {
    loaded_at: u64,
    /// When what is enforced in place of the configuration was kept.
    last_good_of: Option<u64>,
    reloads: u64,
    last_error: Option<(String, u64)>,
    /// Why the configuration in force is not kept for the next start.
    not_kept: Option<(String, u64)>,
    /// Parts of it that were refused.
    refused: Vec<Refused>,
}

impl Operations {
    /// With a first configuration in force, of which these parts were refused: the one in the files or, with the reason
    /// why not and the time of its keeping (seconds since 1970), the last good one.
    pub fn new(parts: Parts, refused: Vec<Refused>, in_place: Option<(String, u64)>) -> Self {
        let now = wall_clock().as_secs();
        let (last_error, last_good_of) = in_place.map(|(error, kept)| ((error, now), kept)).unzip();
        let history =
            History { loaded_at: now, last_good_of, reloads: 0, last_error, not_kept: None, refused };
        Self {
            parts,
            started: Instant::now(),
            missing: AtomicBool::new(false),
            ownership: Ownership::new(),
            reloading: tokio::sync::Mutex::default(),
            history: Mutex::new(history),
            since: Mutex::default(),
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gates.
    pub fn gates(&self) -> &Gates {
        &self.parts.gates
    }

    /// Whether the contents of the kernel's maps are to be put right at once, because somebody saw that something is
    /// missing there; true once.
    pub fn take_missing(&self) -> bool {
        self.missing.swap(false, Ordering::Relaxed)
    }

    /// The owner of filters and bans.
    pub fn enforcer(&self) -> &Enforcer {
        &self.parts.enforcer
    }

    /// The sessions.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.parts.sessions
    }

    /// Where the bans are kept.
    pub fn bans_file(&self) -> PathBuf {
        self.parts.enforcer.view().bans.state.clone()
    }

    /// Waits for everything that is being carried out, and keeps the rest waiting until the guard is gone or what is
    /// enforced has been given up.
    pub async fn hold(&self) -> Held<'_> {
        self.ownership.hold().await
    }

    /// Leaves filters and bans to another process; hold everything meanwhile.
    ///
    /// # Errors
    ///
    /// They cannot be left; nothing was then.
    pub async fn leave(&self) -> anyhow::Result<()> {
        self.parts.enforcer.run("hand-over", Enforced::leave).await?
    }

    /// Takes filters and bans back, as far as they were left.
    pub async fn take_back(&self) {
        // One that breaks off leaves an alarm.
        let _ = self.parts.enforcer.run("hand-over", Enforced::take_back).await;
    }

    /// Has something done unless another process has taken over.
    pub async fn as_owner<T>(&self, work: impl AsyncFnOnce() -> T) -> Option<T> {
        let _owner = self.ownership.work().await?;
        Some(work().await)
    }

    /// Waits for a reload that is going on, and keeps others from beginning as long as the guard lives.
    pub async fn hold_reloads(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.reloading.lock().await
    }

    /// Watches one drop in `sample`.
    pub fn monitor(&self, sample: u32) -> Subscription {
        self.parts.monitors.subscribe(sample)
    }

    /// Carries a request out that has one reply.
    pub async fn carry_out(&self, request: Request) -> Reply<Value> {
        match request {
            Request::Reload {} => self.reload().await.erased(),
            // It only looks, and must not wait.
            Request::Status {} => self.status().await.erased(),
            request => match self.ownership.work().await {
                Some(_owner) => self.carry_out_as_owner(request).await,
                None => moved(),
            },
        }
    }

    fn counters(&self, bans: BanCounters) -> Counters {
        Counters {
            bans,
            gates: self.parts.gates.counters(),
            upstreams: self.parts.gates.upstreams(),
            sessions: self.parts.sessions.counters(),
            backends: self.parts.sessions.backends(),
            limits: self.limits(),
        }
    }

    async fn carry_out_as_owner(&self, request: Request) -> Reply<Value> {
        let enforcer = &self.parts.enforcer;
        match request {
            Request::Release { interfaces } => {
                let released = interfaces.clone();
                let done = enforcer.run("release", move |enforced| enforced.release(&interfaces)).await;
                reply(done.map(|()| Released { released })).erased()
            }
            Request::Stats {} => {
                let bans = enforcer.run("count of bans", |enforced| enforced.bans().counters()).await;
                reply(bans.map(|bans| self.counters(bans))).erased()
            }
            Request::Sessions { filter, sort } => {
                let list =
                    move |sessions: &Arc<Sessions>| SessionList { sessions: sessions.list_of(&filter, sort) };
                self.with_sessions(list).await
            }
            Request::Kick { filter, .. } | Request::Reauthorise { filter } if filter.is_everything() => {
                let message = "say which sessions: by id, stream, user or address".to_owned();
                Reply::refused(Fault::Request, message)
            }
            Request::Kick { filter, seconds } => {
                self.with_sessions(move |sessions| sessions.kick(&filter, Duration::from_secs(seconds))).await
            }
            Request::Reauthorise { filter } => {
                self.with_sessions(move |sessions| sessions.reauthorise(&filter)).await
            }
            Request::Ban(order) => {
                changed(enforcer.run("ban", move |enforced| enforced.bans().ban(&order)).await)
            }
            Request::BanMany { bans } => {
                changed(enforcer.run("ban", move |enforced| enforced.bans().ban_many(&bans)).await)
            }
            Request::Unban { prefix, service, all } => {
                let unban = move |enforced: &mut Enforced| match (prefix, all) {
                    (None, true) => Ok(enforced.bans().unban_all()),
                    (Some(prefix), false) => enforced.bans().unban(&prefix, service.as_deref()),
                    _ => Err(BanError::NotOne),
                };
                changed(enforcer.run("unban", unban).await)
            }
            Request::Bans {} => {
                reply(enforcer.run("list of bans", |enforced| enforced.bans().list()).await).erased()
            }
            Request::Reload {}
            | Request::Status {}
            | Request::Monitor { .. }
            | Request::Upgrade {}
            | Request::HandOver(_) => {
                Reply::refused(Fault::Request, "it is carried out in another place".to_owned())
            }
        }
    }

    /// Does something with the sessions, which takes a while when they are many.
    async fn with_sessions<T: Serialize + Send + 'static>(
        &self,
        job: impl FnOnce(&Arc<Sessions>) -> T + Send + 'static,
    ) -> Reply<Value> {
        let sessions = self.parts.sessions.clone();
        match tokio::task::spawn_blocking(move || job(&sessions)).await {
            Ok(done) => Reply::done(done).erased(),
            Err(error) => Reply::refused(Fault::System, format!("it broke off: {error}")),
        }
    }

    /// Loads the configuration again and enforces it, or changes nothing.
    pub async fn reload(&self) -> Reply<Reloaded> {
        // One at a time; the others wait.
        let _reloading = self.reloading.lock().await;
        let Some(_owner) = self.ownership.work().await else { return moved() };
        let begin = Instant::now();
        match self.try_reload(begin).await {
            Ok((mut next, notes, result)) => {
                self.keep(next.read.take()).await;
                {
                    let mut history = self.history();
                    history.reloads += 1;
                    history.loaded_at = wall_clock().as_secs();
                    history.last_good_of = None;
                    history.last_error = None;
                    history.refused.clone_from(&next.report.refused);
                }
                next.log_report();
                notes.iter().for_each(|note| tracing::warn!("{note}"));
                let seconds = begin.elapsed().as_secs_f64();
                tracing::info!(seconds, "the configuration was loaded again");
                let report = next.report.render(false);
                let notes = notes.iter().map(|note| format!("warning: {note}"));
                let report = Some(report.trim_end().to_owned()).filter(|report| !report.is_empty());
                let message = report.into_iter().chain(notes).collect::<Vec<_>>().join("\n");
                // What was refused is the configuration's fault, although all the rest was done.
                let whole = next.report.refused.is_empty();
                let fault = (!whole).then_some(Fault::Request);
                Reply { ok: whole, message, result: Some(result), fault }
            }
            Err(error) => {
                let message = format!("{error}");
                tracing::error!(error = %message, "the configuration was not loaded again; what was enforced still is");
                self.history().last_error = Some((message.clone(), wall_clock().as_secs()));
                Reply::refused(error.fault(), message)
            }
        }
    }

    async fn try_reload(&self, begin: Instant) -> Result<(Next, Vec<String>, Reloaded), ReloadError> {
        let next = Next::load(self.parts.path.clone(), self.files()).await?;
        let shrunk = shrunk(&self.parts.sessions.snapshot().config, &next.snapshot.config);
        if let Some(emptied) = emptied(&shrunk, &next.snapshot.config) {
            return Err(ReloadError::ListEmptied(emptied));
        }
        let prepared = self.parts.gates.prepare(&next.snapshot);
        let mut notes: Vec<String> = prepared.not_bound().map(ToString::to_string).collect();
        let (snapshot, layout) = (next.snapshot.clone(), next.layout.clone());
        let change = self
            .parts
            .enforcer
            .run("reload", move |enforced| enforced.change(&snapshot.config, &layout))
            .await
            .map_err(ReloadError::BrokeOff)?
            .map_err(ReloadError::Kernel)?;
        let transfers = self.parts.gates.commit(prepared);
        notes.extend(shrunk.iter().map(ToString::to_string));
        notes.extend(change.notes);
        let seconds = Seconds::new(next.took, change.spent, begin.elapsed());
        Ok((next, notes, Reloaded { interfaces: change.published, transfers, seconds }))
    }

    /// Where the next configuration comes from. What is kept stands in for lists and databases that cannot be used, as
    /// long as it is what is in force.
    fn files(&self) -> Recording {
        match self.history().not_kept {
            None => Recording::with_former(&self.parts.last_good, &self.parts.path),
            Some(_) => Recording::default(),
        }
    }

    /// Keeps what was read for a configuration that is in force now, for a start with one that cannot be loaded.
    pub async fn keep(&self, read: Option<Recording>) {
        let Some(read) = read else { return };
        let kept = keep(&self.parts.last_good, &self.parts.path, read).await;
        let error = kept.err().map(|error| (format!("{error:#}"), wall_clock().as_secs()));
        if let Some((error, _)) = &error {
            tracing::error!("the configuration is in force, but is not kept for the next start: {error}");
        }
        self.history().not_kept = error;
    }

    async fn status(&self) -> Reply<Status> {
        let view = self.parts.enforcer.view();
        let looked = {
            let view = view.clone();
            tokio::task::spawn_blocking(move || view.look()).await
        };
        let interfaces = match looked {
            Ok(interfaces) => interfaces,
            Err(error) => return Reply::refused(Fault::System, format!("looking broke off: {error}")),
        };
        let mut alarms = view.alarms.clone();
        let missing = alarms_of(&interfaces);
        if missing.iter().any(|alarm| matches!(alarm.code, Code::PrefixesMissing | Code::BansMissing)) {
            self.missing.store(true, Ordering::Relaxed);
        }
        alarms.extend(missing);
        let upstreams = self.parts.gates.upstreams();
        alarms.extend(self.alarms_of_gates(&upstreams));
        if view.audited.elapsed() > AUDIT_OVERDUE {
            let what = "what is enforced has not been compared with what should be for a while".to_owned();
            let remedy = "see what the kernel is busy with; restart nicgate if it stays";
            alarms.push(Alarm::new(Code::WatchBroken, what, remedy));
        }
        let history = self.history();
        if let Some((error, at)) = &history.last_error {
            let what = refused(error, history.last_good_of, wall_clock().as_secs());
            let remedy = "correct the configuration and `nicgate reload`";
            alarms.push(Alarm::new(Code::ReloadFailed, what, remedy).since(*at));
        }
        alarms.extend(history.refused.iter().map(|part| refused_part(part, wall_clock().as_secs())));
        if let Some((error, at)) = &history.not_kept {
            let what = format!("the configuration in force is not kept for the next start: {error}");
            let remedy = "make room or permit writing, then `nicgate reload`";
            alarms.push(Alarm::new(Code::LastGoodNotKept, what, remedy).since(*at));
        }
        let controller = Controller {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            config: self.parts.path.clone(),
            loaded_at: history.loaded_at,
            last_good_of: history.last_good_of,
            reloads: history.reloads,
            last_reload_error: history.last_error.as_ref().map(|(error, _)| error.clone()),
        };
        drop(history);
        Reply::done(Status {
            controller: ControllerStatus { running: true, controller: Some(controller) },
            alarms: self.dated(alarms),
            mended: view.mended,
            interfaces,
            bans: Some(view.bans.clone()),
            gates: self.parts.gates.counters(),
            upstreams,
            sessions: Some(self.parts.sessions.counters()),
            backends: self.parts.sessions.backends(),
            limits: self.limits(),
        })
    }

    /// What is wrong with the gates and the media servers behind them.
    fn alarms_of_gates(&self, upstreams: &[UpstreamStatus]) -> Vec<Alarm> {
        let not_bound = self.parts.gates.not_bound().into_iter().map(|error| {
            let what = format!("nobody can connect to gate {}: {}", error.service, error);
            Alarm::new(Code::PortNotBound, what, "nicgate tries again every second")
        });
        let out = upstreams.iter().filter(|upstream| upstream.is_out()).map(out_of_servers);
        not_bound.chain(out).collect()
    }

    /// The limits of nicgate's own, and how often each was reached.
    fn limits(&self) -> Vec<LimitCount> {
        let set = self.parts.sessions.snapshot().config.limits;
        self.parts.sessions.hits().counts(|limit| match limit {
            Limit::Bans => Some(BanTable::LIMIT as u64),
            Limit::OpenFiles => Some(self.parts.gates.open_files()),
            // Each backend has its own.
            Limit::QueueTimeout => None,
            Limit::Events => Some(MONITOR_BACKLOG as u64),
            _ => set.get(limit).or(limit.setting().map(|setting| setting.default)),
        })
    }

    /// Gives alarms that do not know their beginning the time at which they were first seen.
    fn dated(&self, alarms: Vec<Alarm>) -> Vec<Alarm> {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        // What an alarm is about stands before its first colon; figures behind it change.
        let key = |alarm: &Alarm| {
            let subject = alarm.what.split(':').next().unwrap_or_default();
            (alarm.code, subject.to_owned())
        };
        since.retain(|known, _| alarms.iter().any(|alarm| key(alarm) == *known));
        let now = wall_clock().as_secs();
        let date = |alarm: Alarm| match alarm.since {
            Some(_) => alarm,
            None => {
                let first = *since.entry(key(&alarm)).or_insert(now);
                alarm.since(first)
            }
        };
        alarms.into_iter().map(date).collect()
    }
}

/// What an upstream without a server that works means.
fn out_of_servers(status: &UpstreamStatus) -> Alarm {
    let why = |server: &ServerStatus| {
        let last = server.last_failure.as_deref().unwrap_or("no answer");
        format!("{} ({last})", server.server)
    };
    let servers: Vec<_> = status.servers.iter().map(why).collect();
    let what = format!("no server of the upstream {} works: {}", status.upstream, servers.join(", "));
    let remedy = "see whether the media server runs; nicgate goes on trying it";
    Alarm::new(Code::UpstreamDown, what, remedy)
}

async fn keep(folder: &Path, path: &Path, read: Recording) -> anyhow::Result<()> {
    let (folder, path) = (folder.to_owned(), path.to_owned());
    tokio::task::spawn_blocking(move || state::keep(&folder, &path, &read)).await?
}

/// What a refused load means, with when the last good configuration was kept if it is in force; times are seconds
/// since 1970. The clock may have been put back since then.
fn refused(error: &str, kept: Option<u64>, now: u64) -> String {
    let in_force = kept.map_or_else(
        || "what was enforced before still is".to_owned(),
        |kept| format!("the last good one is in force, kept {} s ago", now.saturating_sub(kept)),
    );
    format!("the configuration was refused, {in_force}: {error}")
}

/// The alarm of a part that was refused alone, at a time in seconds since 1970.
fn refused_part(refused: &Refused, now: u64) -> Alarm {
    let Refused { part, path, origin, why, read_at } = refused;
    let code = match part {
        Part::List => Code::ListRefused,
        Part::Database => Code::DatabaseRefused,
    };
    let what = format!(
        "the {part} {} ({origin}) is refused: {why}; its contents of {} s ago are in force",
        path.display(),
        now.saturating_sub(*read_at)
    );
    Alarm::new(code, what, "correct it and `nicgate reload`")
}

fn reply<T>(done: Result<T, BrokeOff>) -> Reply<T> {
    match done {
        Ok(result) => Reply::done(result),
        Err(error) => Reply::refused(Fault::System, error.to_string()),
    }
}

/// The reply to a change of bans, which says what of it failed.
fn changed<T: Serialize>(changed: Result<Result<Done<T>, BanError>, BrokeOff>) -> Reply<Value> {
    match changed {
        Ok(Ok(Done { result, message, in_force })) => {
            let fault = (!in_force).then_some(Fault::System);
            Reply { ok: in_force, message, result: Some(result), fault }.erased()
        }
        Ok(Err(error)) => Reply::refused(Fault::Request, error.to_string()),
        Err(error) => Reply::refused(Fault::System, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_load_tells_what_is_in_force() {
        let before = "the configuration was refused, what was enforced before still is: bad";
        assert_eq!(refused("bad", None, 1000), before);
        for (now, ago) in [(1000, 100), (900, 0), (800, 0)] {
            let kept = format!(
                "the configuration was refused, the last good one is in force, kept {ago} s ago: bad"
            );
            assert_eq!(refused("bad", Some(900), now), kept);
        }
    }
}
