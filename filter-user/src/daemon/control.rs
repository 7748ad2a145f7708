//! The control socket: one JSON request a connection, one JSON reply; `monitor` is answered by a line for
//! each event until the client goes away.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, net::UnixStream as StdUnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};

/// Where the socket is unless the operator says otherwise.
pub const DEFAULT_PATH: &str = "/run/nicgate/control.sock";

/// A request is a short line; more than this is not one.
const LONGEST_REQUEST: u64 = 4096;

/// A client that connects and says nothing is let go.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// What can be asked of a running controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Load the configuration again and enforce it.
    Reload,
    /// What is attached, loaded and served.
    Status,
    /// The gate's counters; those of the NIC are in the pinned maps.
    Stats,
    /// Every session.
    Sessions,
    /// One line for each sampled drop.
    Monitor {
        /// One in this many drops.
        sample: u32,
    },
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Whether it was done.
    pub ok: bool,
    /// For people: diagnostics of the configuration, warnings.
    #[serde(default)]
    pub message: String,
    /// For programs.
    #[serde(default)]
    pub result: Value,
}

impl Reply {
    /// It was done.
    pub fn done(result: Value) -> Self {
        Self { ok: true, message: String::new(), result }
    }

    /// It was not done.
    pub fn refused(message: String) -> Self {
        Self { ok: false, message, result: Value::Null }
    }
}

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Listens; only the owner can connect.
    pub(super) fn bind(path: &Path) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        if StdUnixStream::connect(path).is_ok() {
            bail!(
                "another nicgate answers on {}: stop it first, or `nicgate reload` to make it load the configuration",
                path.display()
            );
        }
        // Made under another name, so that nobody can connect before the permissions are right, and a
        // socket that a dead process left is replaced.
        let temporary = path.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary)
            .with_context(|| format!("cannot make the control socket {}", path.display()))?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&temporary, path))
            .with_context(|| format!("cannot make the control socket {}", path.display()))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Reads the one request of a connection.
pub(super) async fn read_request(stream: &mut UnixStream) -> anyhow::Result<Request> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(LONGEST_REQUEST));
    tokio::time::timeout(REQUEST_DEADLINE, reader.read_line(&mut line))
        .await
        .context("no request came")?
        .context("reading the request")?;
    serde_json::from_str(&line).context("not a request that this version of nicgate knows")
}

/// Writes one line of JSON.
pub(super) async fn write_line(
    stream: &mut (impl AsyncWrite + Unpin),
    value: &impl Serialize,
) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    Ok(())
}
