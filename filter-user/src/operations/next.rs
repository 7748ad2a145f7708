//! The next configuration: read, compiled and laid out, before any of it is enforced.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::Fault;
use crate::{
    config::{Refused, Report, Severity},
    kernel,
    load::{LoadError, Loaded, Source, load_from},
    model::Countries,
    session::Snapshot,
    state::{LastGood, Recording},
    table::{Layout, TooLarge},
    watch::{BrokeOff, Spent},
};

/// Why a configuration is not enforced.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It is wrong, or its database is.
    #[error("{0}")]
    Load(LoadError),
    /// A list of addresses to be denied has lost all its entries, and `list_guard` is on.
    #[error(
        "error: {0}; `list_guard` keeps what was enforced before: restore the list, or write `list_guard off;`"
    )]
    ListEmptied(String),
    /// The kernel's tables cannot hold it.
    #[error("error: the kernel's tables cannot hold this configuration: {0}")]
    TooLarge(TooLarge),
    /// It cannot be put into force.
    #[error("error: {0}")]
    Kernel(kernel::Error),
    /// Putting it into force broke off.
    #[error("error: {0}")]
    BrokeOff(#[from] BrokeOff),
    /// Reading it broke off.
    #[error("error: loading the configuration broke off: {0}")]
    LoadBrokeOff(#[from] tokio::task::JoinError),
}

impl ReloadError {
    /// Whose turn it is.
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Load(_) | Self::ListEmptied(_) | Self::TooLarge(_) => Fault::Request,
            Self::Kernel(error) if error.is_request() => Fault::Request,
            Self::Kernel(_) | Self::BrokeOff(_) | Self::LoadBrokeOff(_) => Fault::System,
        }
    }
}

/// A configuration that is ready to be enforced.
pub struct Next {
    /// What requests are judged by.
    pub snapshot: Arc<Snapshot>,
    /// What the kernel is to hold.
    pub layout: Arc<Layout>,
    pub(super) report: Report,
    pub(super) took: Preparation,
    /// What it was made of; `None` when that is kept already.
    pub(super) read: Option<Recording>,
}

/// How long the parts of getting ready took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Preparation {
    /// Files read, values parsed, rules indexed.
    pub(super) read: Duration,
    /// From rules to classes of addresses.
    pub(super) compile: Duration,
    /// From classes to what the kernel's maps hold.
    pub(super) lay_out: Duration,
}

/// Where the time of a reload went, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Files read, values parsed, rules indexed.
    pub read: f64,
    /// From rules to classes of addresses.
    pub compile: f64,
    /// From classes to what the kernel's maps hold.
    pub lay_out: f64,
    /// Writing the kernel's maps.
    pub write: f64,
    /// Waiting for the last packets of the table that is written over.
    pub wait: f64,
    /// What is none of these: gates, sessions, notes about rules.
    pub rest: f64,
    /// All of it.
    pub total: f64,
}

impl Seconds {
    pub(super) fn new(preparation: Preparation, spent: Spent, total: Duration) -> Self {
        let Preparation { read, compile, lay_out } = preparation;
        let Spent { write, wait } = spent;
        let rest = total.saturating_sub(read + compile + lay_out + write + wait);
        Self {
            read: read.as_secs_f64(),
            compile: compile.as_secs_f64(),
            lay_out: lay_out.as_secs_f64(),
            write: write.as_secs_f64(),
            wait: wait.as_secs_f64(),
            rest: rest.as_secs_f64(),
            total: total.as_secs_f64(),
        }
    }
}

impl Next {
    /// Reads from `files` and compiles, away from the threads that serve requests.
    ///
    /// # Errors
    ///
    /// The configuration is wrong, its database is, or the kernel's tables cannot hold it.
    pub async fn load(path: PathBuf, files: Recording) -> Result<Self, ReloadError> {
        let (mut next, read) = Self::load_from(path, files).await?;
        next.read = Some(read);
        Ok(next)
    }

    /// The same of what was kept.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub async fn load_kept(path: PathBuf, kept: LastGood) -> Result<Self, ReloadError> {
        Self::load_from(path, kept).await.map(|(next, _)| next)
    }

    async fn load_from<S: Source + Send + 'static>(
        path: PathBuf,
        source: S,
    ) -> Result<(Self, S), ReloadError> {
        tokio::task::spawn_blocking(move || {
            let begin = Instant::now();
            let (loaded, report) = load_from(&path, &source, &|_| ()).map_err(ReloadError::Load)?;
            let read = begin.elapsed();
            let compiled = loaded.compile();
            let compile = begin.elapsed() - read;
            let layout = Layout::new(loaded.config.engine, compiled).map_err(ReloadError::TooLarge)?;
            let lay_out = begin.elapsed() - read - compile;
            let Loaded { config, database } = loaded;
            let countries: Box<dyn Countries> = match database {
                Some(database) => Box::new(database),
                None => Box::new(()),
            };
            let snapshot = Arc::new(Snapshot { config, countries });
            let next = Self {
                snapshot,
                layout: Arc::new(layout),
                report,
                took: Preparation { read, compile, lay_out },
                read: None,
            };
            Ok((next, source))
        })
        .await
        .map_err(ReloadError::LoadBrokeOff)?
    }

    /// Takes what it was made of; `None` when that is kept already.
    pub fn take_read(&mut self) -> Option<Recording> {
        self.read.take()
    }

    /// Takes the parts that were refused.
    pub fn take_refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.report.refused)
    }

    /// Warnings go to the log, each as one event.
    pub fn log_report(&self) {
        for diagnostic in &self.report.diagnostics {
            let place = &diagnostic.origin;
            match diagnostic.severity {
                Severity::Error | Severity::Warning => {
                    tracing::warn!(%place, code = diagnostic.code, "{}", diagnostic.message);
                }
                Severity::Note => tracing::info!(%place, code = diagnostic.code, "{}", diagnostic.message),
            }
        }
    }
}
