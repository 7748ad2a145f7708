//! The operator's end of the socket.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use crate::operations::{Reply, Request};

/// Why the controller could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// None runs.
    #[error(
        "no controller answers at {}: start it with `nicgate run`, or name its socket with --control", .0.display()
    )]
    NotRunning(PathBuf),
    /// It cannot be reached.
    #[error("cannot reach the controller at {}{}: {error}", path.display(), run_as_root(.error))]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// It broke off.
    #[error("talking to the controller: {0}")]
    Broken(#[from] io::Error),
    /// It went away without an answer.
    #[error("the controller closed the connection")]
    Closed,
    /// It speaks differently.
    #[error("the controller is of another version, restart it: {0}")]
    OtherVersion(#[from] serde_json::Error),
}

fn run_as_root(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied { "; run as root" } else { "" }
}

/// Sends one request to the controller and returns what it answers with.
#[derive(Debug)]
pub struct Client {
    lines: BufReader<UnixStream>,
}

impl Client {
    /// Connects; `None` when no controller runs.
    ///
    /// # Errors
    ///
    /// There is one, and it cannot be reached.
    pub fn connect(path: &Path) -> Result<Option<Self>, ClientError> {
        match UnixStream::connect(path) {
            Ok(stream) => Ok(Some(Self { lines: BufReader::new(stream) })),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(error) => Err(ClientError::Unreachable { path: path.to_owned(), error }),
        }
    }

    /// Connects to a controller that has to be there.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be reached.
    pub fn require(path: &Path) -> Result<Self, ClientError> {
        Self::connect(path)?.ok_or_else(|| ClientError::NotRunning(path.to_owned()))
    }

    /// Sends the request.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        Ok(self.lines.get_mut().write_all(&line)?)
    }

    /// The next line; `None` when the controller closed the connection.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub fn line(&mut self) -> Result<Option<String>, ClientError> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line)?;
        Ok((read > 0).then_some(line))
    }

    /// Sends a request that has one answer.
    ///
    /// # Errors
    ///
    /// The connection broke, or the controller is of another version.
    pub fn ask<T: DeserializeOwned>(mut self, request: &Request) -> Result<Reply<T>, ClientError> {
        self.send(request)?;
        let line = self.line()?.ok_or(ClientError::Closed)?;
        Ok(serde_json::from_str(&line)?)
    }
}
