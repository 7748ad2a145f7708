//! Why a command failed, and with which exit status.

use std::{io, process::ExitCode};

use super::Output;
use crate::{
    config::{Diagnostic, Report},
    control::ClientError,
    kernel,
    load::LoadError,
    operations::{Fault, ReloadError},
};

/// Why a command failed, by whose turn it is.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration is wrong; everything is in the report.
    Configuration(Report),
    /// The configuration or the request is wrong.
    Request(anyhow::Error),
    /// The system refused: permissions, driver, kernel.
    System(anyhow::Error),
    /// As one of the others, by its exit status; the operator has been told.
    Told(u8),
    /// Whoever reads the output went away; there is nobody to tell.
    OutputClosed,
}

impl Failure {
    /// The controller has not done it, and says why.
    pub(super) fn refused(fault: Fault, why: anyhow::Error) -> Self {
        match fault {
            Fault::Request => Self::Request(why),
            Fault::System | Fault::Moved => Self::System(why),
        }
    }

    /// The same where the operator has been told why.
    pub(super) fn told(fault: Fault) -> Self {
        Self::Told(match fault {
            Fault::Request => 1,
            Fault::System | Fault::Moved => 3,
        })
    }

    /// Tells the operator, and gives the exit status. With `--json` the result on stdout is an object with
    /// `ok`, `error` and `diagnostics`, so that what reads it finds JSON whatever happened.
    pub(super) fn report(self, output: &Output) -> ExitCode {
        let (status, error, diagnostics) = match self {
            Self::Configuration(report) => {
                output.report(&report);
                (1, "the configuration is wrong".to_owned(), report.diagnostics)
            }
            Self::Request(error) => {
                output.error(&error);
                (1, format!("{error:#}"), Vec::new())
            }
            Self::System(error) => {
                output.error(&error);
                (3, format!("{error:#}"), Vec::new())
            }
            Self::Told(status) => return ExitCode::from(status),
            Self::OutputClosed => return ExitCode::SUCCESS,
        };
        if output.json {
            // The exit status tells as much to whoever cannot be written to.
            let _ = output.print_json(&Told { ok: false, error, diagnostics });
        }
        ExitCode::from(status)
    }
}

/// A failure for programs.
#[derive(serde::Serialize)]
struct Told {
    ok: bool,
    error: String,
    diagnostics: Vec<Diagnostic>,
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
        Self::Configuration(error.0)
    }
}

impl From<ReloadError> for Failure {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::Load(error) => error.into(),
            ReloadError::TooLarge(_) | ReloadError::ListEmptied(_) => {
                Self::Request(anyhow::Error::msg(error.to_string()))
            }
            ReloadError::Kernel(error) => error.into(),
            ReloadError::BrokeOff(_) | ReloadError::LoadBrokeOff(_) => {
                Self::System(anyhow::Error::msg(error.to_string()))
            }
        }
    }
}

impl From<kernel::Error> for Failure {
    fn from(error: kernel::Error) -> Self {
        if error.is_request() { Self::Request(error.into()) } else { Self::System(error.into()) }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::System(error.into())
    }
}
