//! Carrying requests out.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;

use super::{
    Controller, ControllerStatus, Counters, Fault, Released, Reply, Request, SessionList, Status,
    confirm::Pending,
    history::History,
    ownership::{Held, Ownership, moved},
};
use crate::{
    bans::BanTable,
    config::Refused,
    gate::{Gates, ServerStatus, UpstreamStatus},
    kernel::wall_clock,
    limits::LimitCount,
    model::Limit,
    session::Sessions,
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
    pub(super) parts: Parts,
    started: Instant,
    pub(super) ownership: Ownership,
    /// One reload at a time; nothing else waits for it.
    pub(super) reloading: tokio::sync::Mutex<()>,
    history: Mutex<History>,
    /// What was loaded and waits to be confirmed.
    pub(super) pending: Pending,
    /// Since when each alarm has been there that does not know it itself.
    since: Mutex<BTreeMap<(Code, String), u64>>,
    /// Somebody looked and saw that the kernel's maps hold less than they should.
    missing: AtomicBool,
}

impl Operations {
    /// With a first configuration in force, of which these parts were refused: the one in the files or, with the reason
    /// why not and the time of its keeping (seconds since 1970), the last good one.
    pub fn new(parts: Parts, refused: Vec<Refused>, in_place: Option<(String, u64)>) -> Self {
        Self {
            parts,
            started: Instant::now(),
            missing: AtomicBool::new(false),
            ownership: Ownership::new(),
            reloading: tokio::sync::Mutex::default(),
            history: Mutex::new(History::new(refused, in_place)),
            pending: Pending::default(),
            since: Mutex::default(),
        }
    }

    pub(super) fn history(&self) -> MutexGuard<'_, History> {
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
            Request::Reload { confirm_seconds, operator } => {
                self.reload(confirm_seconds.map(Duration::from_secs), operator).await.erased()
            }
            Request::Diff { config, operator } => self.diff(config, operator).await.erased(),
            Request::Confirm {} => self.confirm().await.erased(),
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
            Request::Reload { .. }
            | Request::Diff { .. }
            | Request::Confirm {}
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
        alarms.extend(history.alarms(wall_clock().as_secs()));
        let controller = Controller {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            config: self.parts.path.clone(),
            loaded_at: history.loaded_at,
            last_good_of: history.last_good_of,
            reloads: history.reloads,
            last_reload_error: history.last_error.as_ref().map(|(error, _)| error.clone()),
            confirm_within_seconds: self.pending.seconds_left(),
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
