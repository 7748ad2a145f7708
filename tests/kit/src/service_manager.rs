//! The part of systemd that a service speaks with: it is told that the service is ready, keeps descriptors in its
//! store, and passes them to the next process.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::{net::UnixDatagram, process::CommandExt},
    },
    path::PathBuf,
    process::Command,
    time::Duration,
};

use rustix::{
    cmsg_space,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};

use crate::{
    netns::Namespace,
    nicgate::{PATIENCE, Site, binary},
};

/// The first descriptor that a service finds.
const FIRST: RawFd = 3;

/// A service manager with one service.
#[derive(Debug)]
pub struct ServiceManager {
    path: PathBuf,
    socket: UnixDatagram,
    /// What the service has said, a line each.
    pub said: Vec<String>,
    /// What it has put into the store, by name.
    pub store: Vec<(String, OwnedFd)>,
}

impl ServiceManager {
    /// One that listens at a place of the site's.
    ///
    /// # Panics
    ///
    /// When the directory cannot be written to.
    pub fn new(site: &Site) -> Self {
        let path = site.path("notify");
        let socket = UnixDatagram::bind(&path).expect("the directory is ours");
        Self { path, socket, said: Vec::new(), store: Vec::new() }
    }

    /// A command of nicgate that finds what is in the store.
    pub fn command(&self, site: &Site, namespace: &Namespace, arguments: &[&str]) -> Command {
        // Only the process itself knows its number.
        let mut shell = namespace.command("sh");
        shell.args(["-c", "export LISTEN_PID=$$; exec \"$0\" \"$@\""]).arg(binary());
        let names: Vec<&str> = self.store.iter().map(|(name, _)| name.as_str()).collect();
        let mut command = site.prepare(shell, arguments);
        command
            .env("NOTIFY_SOCKET", &self.path)
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
        let descriptors: Vec<RawFd> =
            self.store.iter().map(|(_, descriptor)| descriptor.as_raw_fd()).collect();
        // SAFETY: between fork and exec only fcntl(2) and dup2(2) are called, which are async-signal-safe; the
        // descriptors are open in the child if they are in the store when the command runs, else the calls fail.
        unsafe { command.pre_exec(move || pass(&descriptors)) };
        command
    }

    /// Takes note of what has been said, until something of it begins with this.
    ///
    /// # Panics
    ///
    /// When it is not said.
    #[track_caller]
    pub fn until(&mut self, begin: &str) {
        self.socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        while !self.said.iter().any(|line| line.starts_with(begin)) {
            self.hear().unwrap_or_else(|error| panic!("{begin} was not said ({error}): {:?}", self.said));
        }
    }

    /// Takes note of everything that has been said so far.
    pub fn catch_up(&mut self) {
        self.socket.set_read_timeout(Some(Duration::from_millis(1))).expect("not zero");
        while self.hear().is_ok() {}
    }

    fn hear(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(16))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let read = &mut [IoSliceMut::new(&mut bytes)];
        let length = recvmsg(&self.socket, read, &mut beside, RecvFlags::CMSG_CLOEXEC)?.bytes;
        let passed: Vec<OwnedFd> = beside
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored").to_owned();
        if text.lines().any(|line| line == "FDSTOREREMOVE=1") {
            self.store.retain(|(other, _)| *other != name);
        }
        if text.lines().any(|line| line == "FDSTORE=1") {
            for descriptor in passed {
                // As systemd does: what is there already is not kept twice.
                if !self.store.iter().any(|(_, kept)| same(kept, &descriptor)) {
                    self.store.push((name.clone(), descriptor));
                }
            }
        }
        self.said.extend(text.lines().map(str::to_owned));
        Ok(())
    }
}

fn same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let number = |descriptor| rustix::fs::fstat(descriptor).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    number(one).is_some() && number(one) == number(other)
}

/// Puts descriptors where a service looks for them; they stay open at `exec`.
fn pass(descriptors: &[RawFd]) -> io::Result<()> {
    let checked = |result| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // Out of the way first: they may be where others belong.
    let mut moved = [-1; 64];
    for (place, descriptor) in moved.iter_mut().zip(descriptors) {
        // SAFETY: takes no pointers.
        *place = checked(unsafe { libc::fcntl(*descriptor, libc::F_DUPFD_CLOEXEC, 200) })?;
    }
    for (number, moved) in (FIRST..).zip(&moved[..descriptors.len()]) {
        // SAFETY: takes no pointers.
        checked(unsafe { libc::dup2(*moved, number) })?;
    }
    Ok(())
}
