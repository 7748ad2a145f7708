//! The control socket: one JSON request a connection, one JSON reply; `monitor` is answered by a line for
//! each event until the client goes away.

use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _},
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
// The braces are for serde, which lets unknown fields pass in variants without them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Load the configuration again and enforce it.
    Reload {},
    /// Leave these interfaces without a filter until the next reload: it is about to be taken off.
    Release {
        /// Their names.
        interfaces: Vec<String>,
    },
    /// What is attached, loaded and served.
    Status {},
    /// The gate's counters; those of the NIC are in the pinned maps.
    Stats {},
    /// Every session.
    Sessions {},
    /// Shut addresses out.
    Ban {
        /// An address or a prefix.
        prefix: String,
        /// Only on this service, such as `80/tcp`.
        #[serde(default)]
        service: Option<String>,
        /// For how long; without it, for ever.
        #[serde(default)]
        seconds: Option<u64>,
        /// Why, for people.
        #[serde(default)]
        reason: Option<String>,
        /// Every address of a family is meant.
        #[serde(default)]
        yes: bool,
    },
    /// Let them in again.
    Unban {
        /// An address or a prefix, as it was banned.
        #[serde(default)]
        prefix: Option<String>,
        /// The service, as it was banned.
        #[serde(default)]
        service: Option<String>,
        /// Everybody, everywhere.
        #[serde(default)]
        all: bool,
    },
    /// Every ban.
    Bans {},
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
    /// Whose turn it is when it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The configuration or the request is wrong.
    Request,
    /// The system refused.
    System,
}

impl Reply {
    /// It was done.
    pub fn done(result: Value) -> Self {
        Self { ok: true, message: String::new(), result, fault: None }
    }

    /// It was not done.
    pub fn refused(fault: Fault, message: String) -> Self {
        Self { ok: false, message, result: Value::Null, fault: Some(fault) }
    }
}

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Says that the socket's name is ours, until this process ends in whatever way.
    _lock: File,
}

impl ControlSocket {
    /// Listens; only the owner can connect.
    pub(super) fn bind(path: &Path) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let lock = lock(path)?;
        if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
            bail!("{} exists and is no socket: remove it, or name another with --control", path.display());
        }
        let listener =
            make(path).with_context(|| format!("cannot make the control socket {}", path.display()))?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
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

/// Keeps other controllers off the socket's name. The lock is of a file beside it, which stays: whoever
/// removed it could remove one that another process has just locked.
fn lock(path: &Path) -> anyhow::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options().create(true).append(true).mode(0o600).open(&name);
    let file = file.with_context(|| format!("cannot make {}", name.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another nicgate answers on {}: stop it first, or `nicgate reload` to make it load the configuration",
            path.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", name.display()))
        }
    }
}

/// Made in a directory that only the owner enters, so that nobody can connect before the permissions are
/// right; then put in the place of what a dead process left.
fn make(path: &Path) -> io::Result<UnixListener> {
    let private = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_dir_all(&private);
    DirBuilder::new().mode(0o700).create(&private)?;
    let socket = private.join("s");
    let listener = UnixListener::bind(&socket).and_then(|listener| {
        fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
        fs::rename(&socket, path)?;
        Ok(listener)
    });
    let _ = fs::remove_dir_all(&private);
    listener
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
