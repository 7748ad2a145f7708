//! Loading the configuration again.

use std::{
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Fault, Next, Operations, ReloadError, Reloaded, Reply, Seconds,
    confirm::Former,
    ownership::moved,
    shrunk::{emptied, shrunk},
};
use crate::{
    kernel::wall_clock,
    offload::Compiled,
    session::{Rejudged, Snapshot},
    state::{self, Recording},
    table::Layout,
    watch::{Change, lockouts},
};

/// The longest time that a confirmation can be waited for.
const LONGEST_CONFIRM: Duration = Duration::from_secs(24 * 3600);

/// A configuration that was put into force.
struct Enforcing {
    change: Change,
    transfers: Rejudged,
    /// What the NIC dropped by before.
    former: Arc<Compiled>,
    notes: Vec<String>,
}

/// What a reload has come to.
struct Done {
    next: Next,
    former: Former,
    notes: Vec<String>,
    result: Reloaded,
}

impl Operations {
    /// Loads the configuration again and enforces it, or changes nothing. With `confirm`, the former one comes back
    /// after that time unless [`Self::confirm`] is called before. `operator` is warned of being locked out.
    pub async fn reload(&self, confirm: Option<Duration>, operator: Option<IpAddr>) -> Reply<Reloaded> {
        if confirm.is_some_and(|time| time.is_zero() || time > LONGEST_CONFIRM) {
            let why = "a confirmation is waited for between a second and a day".to_owned();
            return Reply::refused(Fault::Request, why);
        }
        // One at a time; the others wait.
        let _reloading = self.reloading.lock().await;
        let Some(_owner) = self.ownership.work().await else { return moved() };
        let begin = Instant::now();
        match self.try_reload(begin, operator).await {
            Ok(done) => self.reloaded(done, confirm, begin).await,
            Err(error) => {
                let message = format!("{error}");
                tracing::error!(error = %message, "the configuration was not loaded again; what was enforced still is");
                self.history().last_error = Some((message.clone(), wall_clock().as_secs()));
                Reply::refused(error.fault(), message)
            }
        }
    }

    async fn reloaded(&self, done: Done, confirm: Option<Duration>, begin: Instant) -> Reply<Reloaded> {
        let Done { mut next, former, notes, mut result } = done;
        // What waits to be confirmed is not kept: a start with a broken configuration goes back further.
        let (keep, left) = self.pending.loaded(former, confirm, next.read.take());
        result.confirm_within_seconds = left;
        self.keep(keep).await;
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
        tracing::info!(seconds, confirm_within_seconds = left, "the configuration was loaded again");
        let message = next.report.render_with(&notes);
        // What was refused is the configuration's fault, although all the rest was done.
        let whole = next.report.refused.is_empty();
        let fault = (!whole).then_some(Fault::Request);
        Reply { ok: whole, message, result: Some(result), fault }
    }

    async fn try_reload(&self, begin: Instant, operator: Option<IpAddr>) -> Result<Done, ReloadError> {
        let next = Next::load(self.parts.path.clone(), self.files()).await?;
        let before = self.parts.sessions.snapshot();
        let shrunk = shrunk(&before.config, &next.snapshot.config);
        if let Some(emptied) = emptied(&shrunk, &next.snapshot.config) {
            return Err(ReloadError::ListEmptied(emptied));
        }
        let enforcing = self.enforce(&next.snapshot, &next.layout).await?;
        let Enforcing { change, transfers, former, mut notes } = enforcing;
        notes.extend(shrunk.iter().map(ToString::to_string));
        notes.extend(change.notes);
        // What operators are warned of is not a part of the time that a reload takes.
        let seconds = Seconds::new(next.took, change.spent, begin.elapsed());
        let compiled = next.layout.compiled().clone();
        let looked = tokio::task::spawn_blocking(move || lockouts(&compiled, operator)).await;
        notes.extend(
            looked.unwrap_or_else(|error| vec![format!("looking at connections broke off: {error}")]),
        );
        let former = {
            let history = self.history();
            let (refused, last_good_of) = (history.refused.clone(), history.last_good_of);
            Former { snapshot: before, compiled: former, refused, last_good_of }
        };
        let interfaces = change.published;
        let result = Reloaded { interfaces, transfers, seconds, confirm_within_seconds: None };
        Ok(Done { next, former, notes, result })
    }

    /// Puts a configuration into force: at the NIC, and for requests.
    async fn enforce(
        &self,
        snapshot: &Arc<Snapshot>,
        layout: &Arc<Layout>,
    ) -> Result<Enforcing, ReloadError> {
        let prepared = self.parts.gates.prepare(snapshot);
        let notes = prepared.not_bound().map(ToString::to_string).collect();
        let (snapshot, layout) = (snapshot.clone(), layout.clone());
        let (former, change) = self
            .parts
            .enforcer
            .run("reload", move |enforced| {
                let former = enforced.compiled().clone();
                (former, enforced.change(&snapshot.config, &layout))
            })
            .await
            .map_err(ReloadError::BrokeOff)?;
        let change = change.map_err(ReloadError::Kernel)?;
        let transfers = self.parts.gates.commit(prepared);
        Ok(Enforcing { change, transfers, former, notes })
    }

    /// Puts back what was in force before a reload that nobody confirmed.
    pub(super) async fn put_back(&self, former: &Former) -> Result<(), ReloadError> {
        let (engine, compiled) = (former.snapshot.config.engine, former.compiled.clone());
        let layout = tokio::task::spawn_blocking(move || Layout::new(engine, compiled))
            .await
            .map_err(ReloadError::LoadBrokeOff)?
            .map_err(ReloadError::TooLarge)?;
        let enforcing = self.enforce(&former.snapshot, &Arc::new(layout)).await?;
        enforcing.notes.iter().chain(&enforcing.change.notes).for_each(|note| tracing::warn!("{note}"));
        let mut history = self.history();
        let now = wall_clock().as_secs();
        let why = "nobody confirmed it in time (`nicgate confirm`)".to_owned();
        history.loaded_at = now;
        history.last_error = Some((why, now));
        history.last_good_of = former.last_good_of;
        history.refused.clone_from(&former.refused);
        Ok(())
    }

    /// Where the next configuration comes from. What is kept stands in for lists and databases that cannot be used, as
    /// long as it is what is in force.
    pub(super) fn files(&self) -> Recording {
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
}

async fn keep(folder: &Path, path: &Path, read: Recording) -> anyhow::Result<()> {
    let (folder, path) = (folder.to_owned(), path.to_owned());
    tokio::task::spawn_blocking(move || state::keep(&folder, &path, &read)).await?
}
