//! The operator's end of the socket.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::de::DeserializeOwned;

use super::descriptors;
use crate::operations::{Fault, Reply, Request};

/// How often a controller that has just handed over is followed to the next one.
const FOLLOWS: u32 = 20;
const FOLLOW_PAUSE: Duration = Duration::from_millis(50);
/// How long a controller may take to say whether it hands over.
const ANSWER_TIME: Duration = Duration::from_secs(10);

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
    path: PathBuf,
}

impl Client {
    /// Connects; `None` when no controller runs.
    ///
    /// # Errors
    ///
    /// There is one, and it cannot be reached.
    pub fn connect(path: &Path) -> Result<Option<Self>, ClientError> {
        match UnixStream::connect(path) {
            Ok(stream) => Ok(Some(Self { lines: BufReader::new(stream), path: path.to_owned() })),
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

    /// Sends a request that has one answer. A controller that has just handed over is followed to the next one.
    ///
    /// # Errors
    ///
    /// The connection broke, or the controller is of another version.
    pub fn ask<T: DeserializeOwned>(mut self, request: &Request) -> Result<Reply<T>, ClientError> {
        let mut follows = 0;
        loop {
            self.send(request)?;
            let line = self.line()?.ok_or(ClientError::Closed)?;
            let reply: Reply<T> = serde_json::from_str(&line)?;
            if reply.fault != Some(Fault::Moved) || follows == FOLLOWS {
                return Ok(reply);
            }
            follows += 1;
            thread::sleep(FOLLOW_PAUSE);
            self = Self::require(&self.path)?;
        }
    }

    /// Sends a request whose answer may come with a descriptor.
    ///
    /// # Errors
    ///
    /// The connection broke, or the controller is of another version.
    pub fn ask_for_descriptor<T: DeserializeOwned>(
        mut self,
        request: &Request,
    ) -> Result<(Reply<T>, Option<OwnedFd>), ClientError> {
        self.lines.get_ref().set_read_timeout(Some(ANSWER_TIME))?;
        self.send(request)?;
        let (mut line, mut descriptor) = (Vec::new(), None);
        while line.last() != Some(&b'\n') {
            let mut bytes = [0; 4096];
            let (length, descriptors) = descriptors::receive(self.lines.get_ref(), &mut bytes)?;
            if length == 0 {
                return Err(ClientError::Closed);
            }
            line.extend_from_slice(&bytes[..length]);
            descriptor = descriptors.into_iter().next().or(descriptor);
        }
        Ok((serde_json::from_slice(&line)?, descriptor))
    }
}
