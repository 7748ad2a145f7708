//! The process at the other end, by a descriptor that means it and no later one of the same number.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{Interest, unix::AsyncFd};

/// Another process.
#[derive(Debug)]
pub(in crate::daemon) struct Process {
    id: i32,
    /// Readable when the process has ended and has let go of everything that it held.
    handle: AsyncFd<OwnedFd>,
}

impl Process {
    /// The process of this number. Call it inside a tokio runtime.
    pub(super) fn open(id: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(id).ok_or(io::ErrorKind::InvalidInput)?;
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        // SAFETY: an `OwnedFd` is open and the same for as long as it lives, which is inside of what is made here.
        let handle = unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }?;
        Ok(Self { id, handle })
    }

    /// Its number.
    pub(in crate::daemon) fn id(&self) -> i32 {
        self.id
    }

    /// Waits until it has ended.
    pub(super) async fn gone(&self) {
        // An error would be one of waiting; nothing is waited for then.
        let _ = self.handle.readable().await;
    }

    /// Sees to it that it ends: at once, or after this long by force.
    pub(super) async fn end(&self, patience: Duration) {
        if tokio::time::timeout(patience, self.gone()).await.is_ok() {
            return;
        }
        tracing::error!(pid = self.id, "the process that was to take over does not end: killing it");
        if let Err(error) = pidfd_send_signal(self.handle.get_ref(), Signal::KILL) {
            tracing::error!(pid = self.id, %error, "it cannot be killed");
            return;
        }
        self.gone().await;
    }
}
