//! What figures were measured on.

use std::{fs, io, process::ExitCode};

use serde_json::{Value, json};

/// How a benchmark ends: what went wrong on stderr, and the exit status.
pub fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Gives this process, and what it starts from now on, the highest of the ordinary priorities, so that other work
/// on the machine disturbs a measurement little. Call it before there are other threads.
///
/// # Errors
///
/// When this is not root.
pub fn take_precedence() -> io::Result<()> {
    // SAFETY: takes no pointers; 0 is the calling thread, which new ones take after.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The running kernel's series: 6 and 18 for `6.18.44`.
///
/// # Panics
///
/// When the kernel does not tell its release.
pub fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    series(&release).unwrap_or_else(|| panic!("the kernel's release has no two numbers: {release}"))
}

fn series(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether the running kernel knows packets in several buffers; those before Linux 5.18 do not.
pub fn knows_frags() -> bool {
    kernel() >= (5, 18)
}

/// This machine, for the head of a table and for programs.
#[derive(Clone, Debug)]
pub struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
}

impl Machine {
    /// As the kernel describes it.
    pub fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: processor.map_or("unknown", |(_, name)| name).trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({"processor": self.processor, "cores": self.cores, "kernel": self.kernel})
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} cores, Linux {}", self.processor, self.cores, self.kernel)
    }
}

#[cfg(test)]
mod tests {
    use super::series;

    #[test]
    fn a_release_begins_with_its_series() {
        assert_eq!(series("6.12.117+deb12-amd64\n"), Some((6, 12)));
        assert_eq!(series("5.10-rc3"), Some((5, 10)));
        assert_eq!(series("custom"), None);
    }
}
