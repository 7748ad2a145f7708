use std::{io, process::ExitCode};

use super::Output;
use crate::{config::Report, daemon::ReloadError, load::LoadError};

/// Why a command failed, by whose turn it is.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration is wrong; everything is in the report.
    Configuration(Report),
    /// The configuration or the request is wrong.
    Request(anyhow::Error),
    /// The system refused: permissions, driver, kernel.
    System(anyhow::Error),
    /// Whoever reads the output went away; there is nobody to tell.
    OutputClosed,
}

impl Failure {
    /// Tells the operator, and gives the exit status.
    pub(super) fn report(self, output: &Output) -> ExitCode {
        match self {
            Self::Configuration(report) => {
                output.report(&report);
                ExitCode::from(1)
            }
            Self::Request(error) => {
                output.error(&error);
                ExitCode::from(1)
            }
            Self::System(error) => {
                output.error(&error);
                ExitCode::from(3)
            }
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<io::Error> for Failure {
    /// For errors of writing to stdout; others are given a context first.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::System(anyhow::Error::new(error).context("writing the output"))
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Configuration(report) => Self::Configuration(report),
            LoadError::Database(error) => Self::Request(error),
        }
    }
}

impl From<ReloadError> for Failure {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::Load(error) => error.into(),
            ReloadError::System(error) => Self::System(error),
        }
    }
}
