//! The `nicgate` binary: commands, and controllers with files, a socket and pins of their own.

use std::{
    ffi::{CString, OsStr},
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::netns::{Namespace, Process};

/// Sites are named `nicgate-site-PID-NUMBER`.
const PREFIX: &str = "nicgate-site-";

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary: `NICGATE_BIN`, else the one beside this executable or its directory's parent.
///
/// # Errors
///
/// When there is none: what to run.
pub fn find() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("NICGATE_BIN") {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "NICGATE_BIN is {}, which does not exist", path.display());
        return Ok(path);
    }
    let own = std::env::current_exe().context("this program does not know its own path")?;
    let beside = own.ancestors().skip(1).take(2).map(|directory| directory.join("nicgate"));
    beside
        .into_iter()
        .find(|path| path.is_file())
        .context("there is no nicgate beside this program: `cargo build -p filter-user` makes one")
}

/// The binary, for tests.
///
/// # Panics
///
/// When there is none: what to run.
pub fn binary() -> PathBuf {
    find().unwrap_or_else(|error| panic!("{error:#}"))
}

/// A directory with configurations, a control socket, and a BPF file system for pins.
#[derive(Debug)]
pub struct Site {
    directory: PathBuf,
}

/// What a command said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Results.
    pub stdout: String,
    /// Messages.
    pub stderr: String,
}

impl Said {
    /// Results as JSON.
    ///
    /// # Panics
    ///
    /// When they are something else.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Itself, when the status is as expected.
    ///
    /// # Panics
    ///
    /// When it is another.
    #[track_caller]
    #[must_use]
    pub fn with(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self:#?}");
        self
    }
}

impl Site {
    /// An empty one.
    ///
    /// # Panics
    ///
    /// When the temporary directory cannot be written to.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        ["bpf", "state"]
            .iter()
            .try_for_each(|name| fs::create_dir_all(directory.join(name)))
            .expect("the temporary directory can be written to");
        Self { directory }
    }

    /// A file here.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Where the control socket is.
    pub fn socket(&self) -> PathBuf {
        self.path("control.sock")
    }

    /// Where the BPF file system is.
    pub fn bpffs(&self) -> PathBuf {
        self.path("bpf")
    }

    /// Where a controller keeps what outlives it.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes a file; returns its path.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).expect("the directory is ours");
        path
    }

    /// Writes `nicgate.conf`, which commands read unless they are told otherwise.
    pub fn configure(&self, text: &str) -> PathBuf {
        self.write("nicgate.conf", text)
    }

    pub(crate) fn prepare(&self, mut command: Command, arguments: &[impl AsRef<OsStr>]) -> Command {
        command
            .env("NICGATE_CONTROL", self.socket())
            .env("NICGATE_BPFFS", self.bpffs())
            .env("NICGATE_STATE", self.state().join("bans.json"))
            .env_remove("NICGATE_LOG")
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .args(arguments)
            .args(["-c", "nicgate.conf"]);
        command
    }

    /// A command with the site's files and sockets.
    pub fn prepared(&self, command: Command) -> Command {
        self.prepare(command, &[] as &[&str])
    }

    /// Runs a command outside any namespace.
    pub fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Said {
        said(&mut self.prepare(Command::new(binary()), arguments))
    }

    /// A command that will run outside any namespace.
    pub fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        self.prepare(Command::new(binary()), arguments)
    }

    /// Runs a command in a namespace.
    pub fn run_in(&self, namespace: &Namespace, arguments: &[impl AsRef<OsStr>]) -> Said {
        said(&mut self.prepare(namespace.command(binary()), arguments))
    }

    /// A command that will run in a namespace.
    pub fn command_in(&self, namespace: &Namespace, arguments: &[impl AsRef<OsStr>]) -> Command {
        self.prepare(namespace.command(binary()), arguments)
    }

    /// Starts `nicgate run` in a namespace and waits until it serves.
    ///
    /// # Errors
    ///
    /// When it ends or does not get that far; with its log.
    pub fn start(&self, namespace: &Namespace) -> anyhow::Result<Controller> {
        self.start_command(namespace, self.command_in(namespace, &["run"]))
    }

    /// The same of another command line.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_command(&self, namespace: &Namespace, mut command: Command) -> anyhow::Result<Controller> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let log = self.path(&format!("log-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        command.stderr(File::create(&log)?).stdout(Stdio::null());
        let mut process = namespace.start(&mut command)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&log)?;
            if text.contains("nicgate is running") {
                return Ok(Controller { process, log });
            }
            if let Some(status) = process.child().try_wait()? {
                bail!("nicgate run ended with {status}:\n{}", fs::read_to_string(&log)?);
            }
            if Instant::now() > deadline {
                bail!("nicgate run does not get to serving:\n{text}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

/// A running controller. Dropping it terminates it.
#[derive(Debug)]
pub struct Controller {
    process: Process,
    log: PathBuf,
}

impl Controller {
    /// What it has logged so far, a JSON object a line.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    ///
    /// When it is gone already, or does not end.
    pub fn end(mut self, signal: libc::c_int) -> anyhow::Result<ExitStatus> {
        self.process.signal(signal)?;
        let status = self.process.wait(PATIENCE)?;
        status.with_context(|| format!("nicgate run does not end:\n{}", self.log()))
    }
}

/// A process that is no child of this one. It ends when this is dropped.
#[derive(Debug)]
pub struct Stray(OwnedFd);

impl Stray {
    /// The process of this number.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn new(id: i32) -> Self {
        let id = Pid::from_raw(id).expect("a process's number");
        Self(pidfd_open(id, PidfdFlags::empty()).expect("the process runs"))
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.0, signal)?)
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.signal(Signal::KILL);
    }
}

/// Waits until something holds.
///
/// # Panics
///
/// When it never does.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn said(command: &mut Command) -> Said {
    let output = command.output().expect("the binary was found");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("nicgate writes text");
    Said { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn remove(directory: &Path) {
    for name in ["bpf", "state"] {
        let path = directory.join(name);
        let target = CString::new(path.as_os_str().as_bytes()).expect("a path without zero bytes");
        // Commands may mount it at the same time, one over the other.
        // SAFETY: the path is a string with a terminating zero that lives until the call returns.
        while unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) } == 0 {}
    }
    if let Err(error) = fs::remove_dir_all(directory) {
        eprintln!("cannot remove {}: {error}", directory.display());
    }
}

/// Removes what processes that no longer run have left behind.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&entry.path());
        }
    }
}
