use std::{fmt, path::PathBuf, sync::Arc};

use anyhow::{Context as _, anyhow};

use super::control::Fault;
use crate::{
    config::{Report, Severity},
    kernel,
    load::{LoadError, Loaded, load},
    offload::Compiled,
    policy::Countries,
    session::Snapshot,
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
    pub(super) compiled: Arc<Compiled>,
    pub(super) report: Report,
}

impl Next {
    /// Reads and compiles, away from the threads that serve requests.
    pub(super) async fn load(path: PathBuf) -> Result<Self, ReloadError> {
        tokio::task::spawn_blocking(move || {
            let (loaded, report) = load(&path, &|_| ()).map_err(ReloadError::Load)?;
            let compiled = loaded.compile();
            kernel::fits(&compiled)
                .context("the kernel's tables cannot hold this configuration")
                .map_err(ReloadError::TooLarge)?;
            let Loaded { config, database } = loaded;
            let countries: Box<dyn Countries> = match database {
                Some(database) => Box::new(database),
                None => Box::new(()),
            };
            let snapshot = Arc::new(Snapshot { config, countries });
            Ok(Self { snapshot, compiled: Arc::new(compiled), report })
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
