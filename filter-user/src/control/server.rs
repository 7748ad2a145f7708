//! The controller's end of the socket.

use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};

use crate::{
    operations::{Fault, Operations, Reply, Request},
    state::lock_beside,
    watch::Subscription,
};

/// The longest request, in bytes, but for [`MANY`]: a short line.
const LONGEST_REQUEST: u64 = 4096;
/// How a request for many bans begins, and how long it can be: as many as there can be, with the longest reasons.
const MANY: (&str, u64) = (r#"{"command":"ban_many","#, 32 << 20);

/// A client that connects and says nothing, or says it too slowly, is let go.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Says that the socket's name is ours, until this process ends in whatever way.
    _lock: File,
}

impl ControlSocket {
    /// Listens; only the owner can connect. Call it inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// Another controller has the name, or the socket cannot be made.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
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

    /// The next client.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Keeps other controllers off the socket's name.
fn lock(path: &Path) -> anyhow::Result<File> {
    lock_beside(path).map_err(|error| match error {
        TryLockError::WouldBlock => anyhow::anyhow!(
            "another nicgate answers on {}: stop it first, or `nicgate reload` to make it load the configuration",
            path.display()
        ),
        TryLockError::Error(error) => {
            anyhow::Error::new(error).context(format!("cannot lock {}.lock", path.display()))
        }
    })
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

/// Answers one connection.
pub async fn serve(operations: &Operations, mut stream: UnixStream) {
    let reply = match read_request(&mut stream).await {
        Ok(Request::Monitor { sample }) => {
            let subscription = operations.monitor(sample);
            return show_drops(subscription, &mut stream).await;
        }
        Ok(request) => operations.carry_out(request).await,
        Err(error) => Reply::<Value>::refused(Fault::Request, format!("{error:#}")),
    };
    if let Err(error) = write_line(&mut stream, &reply).await {
        tracing::debug!(%error, "the client of the control socket went away");
    }
}

/// Reads the one request of a connection.
async fn read_request(stream: &mut UnixStream) -> anyhow::Result<Request> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(LONGEST_REQUEST));
    let read = async {
        reader.read_line(&mut line).await?;
        if !line.ends_with('\n') && line.starts_with(MANY.0) {
            reader.get_mut().set_limit(MANY.1);
            reader.read_line(&mut line).await?;
        }
        io::Result::Ok(())
    };
    tokio::time::timeout(REQUEST_DEADLINE, read)
        .await
        .context("no request came")?
        .context("reading the request")?;
    serde_json::from_str(&line).context("not a request that this version of nicgate knows")
}

/// Writes a line for each event until the client goes away.
async fn show_drops(mut drops: Subscription, stream: &mut UnixStream) {
    let (mut gone, mut lines) = stream.split();
    let mut ignored = [0; 64];
    loop {
        let event = tokio::select! {
            event = drops.next() => event,
            read = gone.read(&mut ignored) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            },
        };
        let written = match event {
            Some(Ok(observed)) => write_line(&mut lines, &observed).await,
            Some(Err(missed)) => write_line(&mut lines, &missed).await,
            None => return,
        };
        if written.is_err() {
            return;
        }
    }
}

/// Writes one line of JSON.
async fn write_line(stream: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    Ok(())
}
