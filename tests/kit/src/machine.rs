//! What figures were measured on.

use std::{
    fs, io,
    process::{Command, ExitCode, Stdio},
};

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
    virtual_machine: bool,
    kernel: String,
    /// What is measured, with its version.
    versions: Vec<String>,
}

impl Machine {
    /// As the kernel describes it, with this build of nicgate.
    pub fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: field(&cpuinfo, "model name").unwrap_or("unknown processor").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            virtual_machine: field(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
            kernel: kernel.trim().to_owned(),
            versions: vec![format!(
                "nicgate {} (map layout {})",
                env!("CARGO_PKG_VERSION"),
                filter_ebpf::layout::VERSION
            )],
        }
    }

    /// With the versions of what nicgate is compared with, by their commands; one that is missing says so.
    #[must_use]
    pub fn beside(mut self, commands: &[&str]) -> Self {
        self.versions.extend(commands.iter().map(|command| version(command)));
        self
    }

    /// The processor and the kernel, for a plot.
    pub fn short(&self) -> String {
        format!("{}, Linux {}", self.processor, self.kernel)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let Self { processor, cores, virtual_machine, kernel, versions } = self;
        json!({
            "processor": processor,
            "cores": cores,
            "virtual_machine": virtual_machine,
            "kernel": kernel,
            "versions": versions,
        })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { processor, cores, virtual_machine, kernel, versions } = self;
        let kind = if *virtual_machine { "virtual machine" } else { "no virtual machine" };
        write!(f, "{processor}, {cores} cores, {kind}, Linux {kernel}; {}", versions.join(", "))
    }
}

/// The first value of a field of `/proc/cpuinfo`.
fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// The first line of what a command says of its version.
fn version(command: &str) -> String {
    let output = Command::new(command).arg("--version").stdin(Stdio::null()).output();
    let Ok(output) = output else { return format!("no {command}") };
    // xdp-filter has options only after its own commands.
    let output = match output.status.success() {
        true => output,
        false => match Command::new(command).args(["load", "--version"]).stdin(Stdio::null()).output() {
            Ok(output) => output,
            Err(_) => return command.to_owned(),
        },
    };
    // iprange says it on stderr.
    let said = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    let text = String::from_utf8_lossy(said);
    match text.lines().next().map(str::trim) {
        Some(line) if line.starts_with(command) => line.to_owned(),
        Some(line) if !line.is_empty() && output.status.success() => format!("{command} {line}"),
        _ => command.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Machine, field, series};

    #[test]
    fn reads_the_first_of_all_processors() {
        let text =
            "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor\n\nmodel name\t: other\n";
        assert_eq!(field(text, "model name"), Some("AMD EPYC"));
        assert_eq!(field(text, "flags"), Some("fpu hypervisor"));
        assert_eq!(field(text, "model"), None);
    }

    #[test]
    fn what_is_missing_is_said_to_be() {
        let machine = Machine::this().beside(&["no-such-command"]);
        assert!(machine.to_string().ends_with(", no no-such-command"), "{machine}");
        assert!(machine.json()["versions"][0].as_str().unwrap().starts_with("nicgate "));
    }

    #[test]
    fn a_release_begins_with_its_series() {
        assert_eq!(series("6.12.117+deb12-amd64\n"), Some((6, 12)));
        assert_eq!(series("5.10-rc3"), Some((5, 10)));
        assert_eq!(series("custom"), None);
    }
}
