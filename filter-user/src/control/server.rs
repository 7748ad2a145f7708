//! The controller's end of the socket.

use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, Interest},
    net::{UnixListener, UnixStream},
};

use super::descriptors;
use crate::{
    operations::{Fault, Heir, Operations, Reply, Request},
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
    /// Says that the socket's name is ours, until this process and those that it was handed to have ended in whatever
    /// way.
    lock: File,
    /// Whether the name goes with this value: no other process answers there.
    ours: bool,
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
        Ok(Self { listener, path: path.to_owned(), lock, ours: true })
    }

    /// What [`Self::parts`] of another process gave, which owns the name until [`Self::own`]. Call it inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// The descriptors are something else.
    pub fn of_parts([listener, lock]: [OwnedFd; 2], path: &Path) -> io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        Ok(Self { listener, path: path.to_owned(), lock: lock.into(), ours: false })
    }

    /// The listening socket and the lock of its name. Whoever has both owns the name together with this process; the
    /// lock ends with the last of them.
    pub fn parts(&self) -> [BorrowedFd<'_>; 2] {
        [self.listener.as_fd(), self.lock.as_fd()]
    }

    /// The other process does not answer there any more.
    pub fn own(&mut self) {
        self.ours = true;
    }

    /// Leaves the name to another process.
    pub fn hand_over(mut self) {
        self.ours = false;
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
        if self.ours {
            let _ = fs::remove_file(&self.path);
        }
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

/// A request that concerns the process itself.
#[derive(Debug)]
pub enum Passed {
    /// To start the program again, and to hand over to the new process.
    Upgrade(Asker),
    /// To hand over to the process that asks.
    HandOver(Heir, Asker),
}

/// The connection on which a request is to be answered.
#[derive(Debug)]
pub struct Asker(UnixStream);

impl Asker {
    /// The process that asks, by its number here; `None` when it is of another PID namespace, or another user's.
    pub fn process(&self) -> Option<i32> {
        let asker = self.0.peer_cred().ok()?;
        let own = rustix::process::geteuid();
        asker.pid().filter(|_| asker.uid() == own.as_raw() || asker.uid() == 0)
    }

    /// Answers, with a descriptor beside the answer.
    pub async fn answer<T: Serialize>(self, reply: &Reply<T>, descriptor: Option<BorrowedFd<'_>>) {
        let line = serde_json::to_vec(reply).map(|mut line| {
            line.push(b'\n');
            line
        });
        let sent = match line {
            Ok(line) => {
                let send = || descriptors::send(&self.0, &line, descriptor.as_slice());
                self.0.async_io(Interest::WRITABLE, send).await
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "the client of the control socket went away");
        }
    }
}

/// Answers one connection, or returns what concerns the process itself.
pub async fn serve(operations: &Operations, mut stream: UnixStream) -> Option<Passed> {
    let reply = match read_request(&mut stream).await {
        Ok(Request::Monitor { sample }) => {
            let subscription = operations.monitor(sample);
            show_drops(subscription, &mut stream).await;
            return None;
        }
        Ok(Request::Upgrade {}) => return Some(Passed::Upgrade(Asker(stream))),
        Ok(Request::HandOver(heir)) => return Some(Passed::HandOver(heir, Asker(stream))),
        Ok(request) => operations.carry_out(request).await,
        Err(error) => Reply::<Value>::refused(Fault::Request, format!("{error:#}")),
    };
    if let Err(error) = write_line(&mut stream, &reply).await {
        tracing::debug!(%error, "the client of the control socket went away");
    }
    None
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
