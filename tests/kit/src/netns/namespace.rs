//! One network namespace: made, entered, commands run in it, removed.

use std::{
    fs::File,
    io::{self, Write},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// A network namespace. Clones mean the same one.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: Arc<str>,
    // Held open, so that it outlives its name while something still runs in it.
    file: Arc<File>,
}

impl Namespace {
    /// Makes one, with its loopback up, duplicate address detection and reverse path filters off.
    ///
    /// # Errors
    ///
    /// When `ip` is missing or refuses.
    pub(super) fn create(name: &str) -> anyhow::Result<Self> {
        ip(&["netns", "add", name])?;
        let file = File::open(format!("/run/netns/{name}")).with_context(|| format!("cannot open {name}"))?;
        let namespace = Self { name: name.into(), file: Arc::new(file) };
        namespace.run(|| {
            // Before there are interfaces, so that all of them are made this way. Detection would leave an
            // address unusable for its first second; the filter would drop sources that arrive with a tag.
            let settings = ["ipv6/conf/all/accept_dad", "ipv6/conf/default/accept_dad"];
            settings.iter().try_for_each(|setting| sysctl(setting, "0"))?;
            ["ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter"].iter().try_for_each(|s| sysctl(s, "0"))
        })?;
        namespace.batch("link set lo up\n")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a closure inside, on a thread of its own; threads that it starts are inside too. A panic comes back
    /// to the caller.
    ///
    /// The rest of the process, `/sys` and the BPF file system stay as they are.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter().expect("a process that made a namespace may enter it");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread inside.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = self.clone();
        thread::spawn(move || {
            namespace.enter().expect("a process that made a namespace may enter it");
            work()
        })
    }

    /// A command that will run inside, with no standard input.
    ///
    /// Only its network is another. `ip netns exec` would also remount `/sys`, and so hide the BPF file system.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        let file = Arc::clone(&self.file);
        // SAFETY: between fork and exec only setns(2) is called, which is async-signal-safe.
        unsafe { command.pre_exec(move || enter(&file)) };
        command
    }

    /// Starts a process inside that ends with the returned guard.
    ///
    /// # Errors
    ///
    /// When the program cannot be run.
    pub fn start(&self, command: &mut Command) -> anyhow::Result<Process> {
        let child =
            command.spawn().with_context(|| format!("cannot run {}", command.get_program().display()))?;
        Ok(Process { child })
    }

    /// Writes a setting under `/proc/sys/net`.
    ///
    /// # Errors
    ///
    /// When the kernel has no such setting or refuses the value.
    pub fn sysctl(&self, setting: &str, value: &str) -> anyhow::Result<()> {
        self.run(|| sysctl(setting, value))
    }

    /// Runs `ip` commands inside, one a line.
    ///
    /// # Errors
    ///
    /// When one of them fails: its message.
    pub fn batch(&self, commands: &str) -> anyhow::Result<()> {
        // Not `ip -n`, which remounts `/sys` as `ip netns exec` does.
        let mut ip = self.command("ip");
        ip.args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ip.spawn().context("cannot run ip: `cargo xtask setup` installs iproute2")?;
        // When this fails, ip has ended, and says why.
        let _ = child.stdin.take().expect("it was piped").write_all(commands.as_bytes());
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "ip in {} failed: {}\n{commands}",
                self.name,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    fn enter(&self) -> io::Result<()> {
        enter(&self.file)
    }
}

/// Puts the calling thread into the namespace.
fn enter(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` lives.
    match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs `ip` outside any namespace.
pub(super) fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.context("cannot run ip: `cargo xtask setup` installs iproute2")?;
    if !output.status.success() {
        bail!("`ip {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// `/proc/sys/net` shows the namespace of the thread that opens a file in it.
fn sysctl(setting: &str, value: &str) -> anyhow::Result<()> {
    let path = format!("/proc/sys/net/{setting}");
    std::fs::write(&path, value).with_context(|| format!("cannot write {value} to {path}"))
}

/// A running process. Dropping it terminates it, by force after five seconds.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn signal(&self, signal: libc::c_int) -> io::Result<()> {
        // SAFETY: kill takes no pointers, and the child was not waited for, so that its id is still its own.
        match unsafe { libc::kill(self.child.id() as libc::pid_t, signal) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits until it ends; `None` when it has not after `limit`.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        let _ = self.signal(libc::SIGTERM);
        if !matches!(self.wait(Duration::from_secs(5)), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
