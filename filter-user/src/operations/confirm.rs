//! A reload that goes back unless it is confirmed: whoever has locked himself out cannot confirm.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{Confirmed, Fault, Operations, Reply, ownership::moved};
use crate::{config::Refused, offload::Compiled, session::Snapshot, state::Recording};

/// How soon going back is tried again when it fails.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What was in force before a reload.
#[derive(Clone)]
pub(super) struct Former {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) compiled: Arc<Compiled>,
    pub(super) refused: Vec<Refused>,
    pub(super) last_good_of: Option<u64>,
}

/// What was loaded and waits to be confirmed, if anything does.
#[derive(Default)]
pub(super) struct Pending {
    waiting: Mutex<Option<Waiting>>,
    changed: Notify,
}

struct Waiting {
    /// What was in force when the first of several reloads began that wait.
    former: Former,
    due: Instant,
    /// What the configuration in force was made of, to be kept once it is confirmed.
    read: Option<Recording>,
}

impl Waiting {
    fn seconds_left(&self) -> u64 {
        self.due.saturating_duration_since(Instant::now()).as_secs_f64().ceil() as u64
    }
}

impl Pending {
    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A configuration is in force that was made of `read`. Gives that back unless it waits to be confirmed, and says for
    /// how many seconds it does. While something waits, a further reload confirms nothing: a job that loads lists every
    /// minute must not speak for an operator.
    pub(super) fn loaded(
        &self,
        former: Former,
        confirm: Option<Duration>,
        read: Option<Recording>,
    ) -> (Option<Recording>, Option<u64>) {
        let mut waiting = self.waiting();
        let due = confirm.map(|time| Instant::now() + time);
        let now_waiting = match (waiting.take(), due) {
            (None, None) => return (read, None),
            (None, Some(due)) => Waiting { former, due, read },
            (Some(earlier), due) => {
                let (former, due) = (earlier.former, due.unwrap_or(earlier.due));
                Waiting { former, due, read: read.or(earlier.read) }
            }
        };
        let left = now_waiting.seconds_left();
        *waiting = Some(now_waiting);
        self.changed.notify_one();
        (None, Some(left))
    }

    /// In how many seconds what was loaded last is taken back, if it waits to be confirmed.
    pub(super) fn seconds_left(&self) -> Option<u64> {
        self.waiting().as_ref().map(Waiting::seconds_left)
    }

    fn due(&self) -> Option<Instant> {
        self.waiting().as_ref().map(|waiting| waiting.due)
    }

    /// What is to be put back now.
    fn overdue(&self) -> Option<Former> {
        let waiting = self.waiting();
        waiting.as_ref().filter(|waiting| waiting.due <= Instant::now()).map(|waiting| waiting.former.clone())
    }

    fn end(&self) -> Option<Waiting> {
        self.changed.notify_one();
        self.waiting().take()
    }

    fn put_off(&self) {
        if let Some(waiting) = &mut *self.waiting() {
            waiting.due = Instant::now() + TRY_AGAIN;
        }
    }
}

impl Operations {
    /// Whether what was loaded last waits to be confirmed.
    pub fn waits_for_confirmation(&self) -> bool {
        self.pending.due().is_some()
    }

    /// What was loaded last stays in force.
    pub async fn confirm(&self) -> Reply<Confirmed> {
        let _reloading = self.reloading.lock().await;
        let Some(_owner) = self.ownership.work().await else { return moved() };
        let Some(waiting) = self.pending.end() else {
            let why =
                "nothing waits to be confirmed: no reload with --confirm is under way, or its time is over";
            return Reply::refused(Fault::Request, why.to_owned());
        };
        tracing::info!("what was loaded last was confirmed");
        let seconds_left = waiting.seconds_left();
        self.keep(waiting.read).await;
        Reply::done(Confirmed { seconds_left })
    }

    /// Puts back whatever is not confirmed in time. Never ends.
    pub async fn mind_confirmations(&self) {
        loop {
            match self.pending.due() {
                None => self.pending.changed.notified().await,
                Some(due) => tokio::select! {
                    () = sleep_until(due) => self.put_back_overdue().await,
                    () = self.pending.changed.notified() => {}
                },
            }
        }
    }

    async fn put_back_overdue(&self) {
        let _reloading = self.reloading.lock().await;
        // Nothing is handed over while it waits to be confirmed.
        let owner = self.ownership.work().await;
        let Some(former) = self.pending.overdue().filter(|_| owner.is_some()) else {
            return self.pending.put_off();
        };
        match self.put_back(&former).await {
            Ok(()) => {
                self.pending.end();
                tracing::error!(
                    "the configuration was not confirmed in time; the former one is in force again"
                );
            }
            Err(error) => {
                self.pending.put_off();
                tracing::error!(%error, "the configuration was not confirmed, and the former one cannot be put back yet; trying again");
            }
        }
    }
}
