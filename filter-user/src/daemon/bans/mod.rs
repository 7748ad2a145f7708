//! The controller's runtime bans: the book, the file that it outlives a restart in, the kernel's maps and the
//! gates, which all have to say the same.
//!
//! The kernel ends bans by itself; what the controller does when one has run out is tidying up.

mod ledger;
mod names;
mod words;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::Notify;

use self::ledger::{Ledger, RETRY, prefixes};
pub(super) use self::names::{Named, Names};
use super::{
    control::{Fault, Reply},
    enforced::away,
};
use crate::{
    bans::Desired,
    config::{Config, ServiceKind},
    kernel::BanMaps,
    session::Sessions,
};

/// The timer looks at the clock this often at least: it does not run while the machine sleeps.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What `nicgate ban` asks for.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) prefix: String,
    pub(super) service: Option<String>,
    pub(super) seconds: Option<u64>,
    pub(super) reason: Option<String>,
    pub(super) yes: bool,
}

/// The bans in force.
pub(super) struct Bans {
    ledger: Mutex<Ledger>,
    changed: Notify,
    names: Names,
}

impl Bans {
    /// Reads the file. The gates refuse by it from now on.
    ///
    /// # Errors
    ///
    /// Another controller has the file.
    pub(super) fn open(path: &Path, sessions: Arc<Sessions>) -> anyhow::Result<Self> {
        let ledger = Ledger::open(path, sessions)?;
        let names = Names::default();
        names.replace(&ledger.book);
        Ok(Self { ledger: Mutex::new(ledger), changed: Notify::new(), names })
    }

    pub(super) fn names(&self) -> Names {
        self.names.clone()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Whoever broke off left a book that is whole; the next change brings the rest in line with it.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an interface that is attached to now has to hold; `None` for what it holds already.
    pub(super) fn desired(&self, config: &Config) -> Option<Desired> {
        let ledger = self.ledger();
        (!ledger.adopt).then(|| ledger.book.desired(&prefixes(&config.never_drop)))
    }

    /// Takes note of a configuration that is in force, and of the interfaces that are filtered now.
    pub(super) async fn configure(self: &Arc<Self>, config: Option<&Config>, maps: Vec<(String, BanMaps)>) {
        let known = config.map(|config| {
            let gate = |kind: &ServiceKind| matches!(kind, ServiceKind::Gate(_));
            let services = config.services.iter().map(|service| (service.key, gate(&service.kind)));
            (config.never_drop.clone(), services.collect())
        });
        let bans = self.clone();
        let configured = away(move || {
            let mut ledger = bans.ledger();
            if let Some((never_drop, services)) = known {
                (ledger.never_drop, ledger.services) = (never_drop, services);
            }
            ledger.maps = maps;
            if std::mem::take(&mut ledger.adopt) {
                ledger.adopt_held();
                bans.names.replace(&ledger.book);
            }
            ledger.verify();
            ledger.enforce();
        });
        if let Err(error) = configured.await {
            tracing::error!("the bans may not be in force on every interface: {error:#}");
        }
        self.changed.notify_one();
    }

    /// Compares the kernel's bans with the book and puts them right; returns on how many interfaces they were
    /// not.
    pub(super) async fn verify(self: &Arc<Self>) -> u64 {
        let bans = self.clone();
        let verified = away(move || {
            let mut ledger = bans.ledger();
            let wrong = ledger.verify();
            if wrong > 0 {
                ledger.enforce();
            }
            wrong
        });
        verified.await.unwrap_or_default()
    }

    /// `nicgate ban`.
    pub(super) async fn ban(self: &Arc<Self>, order: Order) -> Reply {
        self.change(move |ledger| ledger.ban(&order)).await
    }

    /// `nicgate unban`.
    pub(super) async fn unban(
        self: &Arc<Self>,
        prefix: Option<String>,
        service: Option<String>,
        all: bool,
    ) -> Reply {
        self.change(move |ledger| match (prefix, all) {
            (None, true) => ledger.unban_all(),
            (Some(prefix), false) => ledger.unban(&prefix, service.as_deref()),
            _ => Err("name one prefix, or all".to_owned()),
        })
        .await
    }

    /// `nicgate bans`.
    pub(super) async fn list(self: &Arc<Self>) -> Reply {
        let bans = self.clone();
        match away(move || bans.ledger().list()).await {
            Ok(list) => Reply::done(list),
            Err(error) => Reply::refused(Fault::System, format!("{error:#}")),
        }
    }

    /// Their part of the status.
    pub(super) async fn status(self: &Arc<Self>) -> Value {
        let bans = self.clone();
        away(move || bans.ledger().status()).await.unwrap_or_default()
    }

    /// Their part of the counters.
    pub(super) async fn counters(self: &Arc<Self>) -> Value {
        let bans = self.clone();
        away(move || bans.ledger().counters()).await.unwrap_or_default()
    }

    async fn change(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Ledger) -> Result<Reply, String> + Send + 'static,
    ) -> Reply {
        let bans = self.clone();
        let done = away(move || {
            let mut ledger = bans.ledger();
            let reply = work(&mut ledger);
            bans.names.replace(&ledger.book);
            reply
        });
        let reply = match done.await {
            Ok(Ok(reply)) => reply,
            Ok(Err(message)) => Reply::refused(Fault::Request, message),
            Err(error) => Reply::refused(Fault::System, format!("{error:#}")),
        };
        self.changed.notify_one();
        reply
    }

    /// Tidies up after bans that have run out, and tries again what failed. Never ends.
    pub(super) async fn tend(self: Arc<Self>) {
        loop {
            let bans = self.clone();
            let next = away(move || {
                let mut ledger = bans.ledger();
                let next = ledger.tick();
                bans.names.replace(&ledger.book);
                next
            });
            let next = next.await.unwrap_or(Some(RETRY));
            let changed = self.changed.notified();
            match next {
                Some(wait) => drop(tokio::time::timeout(wait.min(LONGEST_WAIT), changed).await),
                None => changed.await,
            }
        }
    }
}
