use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};

use serde::Serialize;

use super::{control::Fault, enforced::Spent};
use crate::{
    config::{Report, Severity},
    kernel::Layout,
    load::{LoadError, Loaded, Source, load_from},
    policy::Countries,
    session::Snapshot,
    state::{LastGood, Recording},
};

/// Why a configuration is not enforced.
#[derive(Debug)]
pub enum ReloadError {
    /// It is wrong, or its database is.
    Load(LoadError),
    /// The kernel's tables cannot hold it.
    TooLarge(anyhow::Error),
    /// The system refuses it.
    System(anyhow::Error),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(error) => write!(f, "{error}"),
            Self::TooLarge(error) | Self::System(error) => write!(f, "error: {error:#}"),
        }
    }
}

impl ReloadError {
    /// Whose turn it is.
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Load(_) | Self::TooLarge(_) => Fault::Request,
            Self::System(_) => Fault::System,
        }
    }
}

/// A configuration that is ready to be enforced.
pub(super) struct Next {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) layout: Arc<Layout>,
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
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Seconds {
    read: f64,
    compile: f64,
    lay_out: f64,
    write: f64,
    wait: f64,
    /// What is none of these: gates, sessions, notes about rules.
    rest: f64,
    total: f64,
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
    /// Reads and compiles, away from the threads that serve requests.
    pub(super) async fn load(path: PathBuf) -> Result<Self, ReloadError> {
        let (mut next, read) = Self::load_from(path, Recording::default()).await?;
        next.read = Some(read);
        Ok(next)
    }

    /// The same of what was kept.
    pub(super) async fn load_kept(path: PathBuf, kept: LastGood) -> Result<Self, ReloadError> {
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
            let layout = Layout::new(loaded.config.engine, compiled)
                .context("the kernel's tables cannot hold this configuration")
                .map_err(ReloadError::TooLarge)?;
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
        .map_err(|error| ReloadError::System(anyhow!("loading the configuration broke off: {error}")))?
    }

    /// Warnings go to the log, each as one event.
    pub(super) fn log_report(&self) {
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
