use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Context as _, anyhow};

use super::Failure;
use crate::daemon::control::{Reply, Request};

/// Sends one request to the controller and returns what it answers with.
pub(super) struct Client {
    lines: BufReader<UnixStream>,
}

impl Client {
    /// Connects; `None` when no controller runs.
    pub(super) fn connect(path: &Path) -> Result<Option<Self>, Failure> {
        match UnixStream::connect(path) {
            Ok(stream) => Ok(Some(Self { lines: BufReader::new(stream) })),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(error) => {
                let hint = if error.kind() == io::ErrorKind::PermissionDenied { "; run as root" } else { "" };
                Err(Failure::System(
                    anyhow!(error)
                        .context(format!("cannot reach the controller at {}{hint}", path.display())),
                ))
            }
        }
    }

    /// Connects to a controller that has to be there.
    pub(super) fn require(path: &Path) -> Result<Self, Failure> {
        Self::connect(path)?.ok_or_else(|| {
            Failure::System(anyhow!(
                "no controller answers at {}: start it with `nicgate run`, or name its socket with --control",
                path.display()
            ))
        })
    }

    /// Sends the request.
    pub(super) fn send(&mut self, request: &Request) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(request).map_err(|error| Failure::System(error.into()))?;
        line.push(b'\n');
        self.lines.get_mut().write_all(&line).context("writing to the controller").map_err(Failure::System)
    }

    /// The next line; `None` when the controller closed the connection.
    pub(super) fn line(&mut self) -> Result<Option<String>, Failure> {
        let mut line = String::new();
        let read = self
            .lines
            .read_line(&mut line)
            .context("reading from the controller")
            .map_err(Failure::System)?;
        Ok((read > 0).then_some(line))
    }

    /// Sends a request that has one answer.
    pub(super) fn ask(mut self, request: &Request) -> Result<Reply, Failure> {
        self.send(request)?;
        let line =
            self.line()?.ok_or_else(|| Failure::System(anyhow!("the controller closed the connection")))?;
        serde_json::from_str(&line)
            .context("the controller is of another version: restart it")
            .map_err(Failure::System)
    }
}
