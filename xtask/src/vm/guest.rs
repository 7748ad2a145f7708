//! What a guest holds: nicgate, the tests and benchmarks, a shell, and one script.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{CHECKS, FIGURES, archive::Archive, elf, kernel, kernel::Kernel};
use crate::{build, machine};

/// The modules of the tests in `tests/suite/tests/kernel` that hold on any kernel.
const TESTS: [&str; 3] = ["verdicts", "attach", "netns_harness"];

/// The programs that a command may name.
const PROGRAMS: [&str; 4] = [CHECKS, FIGURES, "bench-pktgen", "hold_filter"];

/// What the tests run, of this machine.
const COMMANDS: [&str; 2] = ["ip", "readlink"];

/// The modules that are loaded before the command runs.
const MODULES: [&str; 3] = ["veth", "bridge", "pktgen"];

/// Random cases of a test, where each is emulated; proptest's own variable.
const CASES: &str = "PROPTEST_CASES=12";

/// The end of the guest's output, before the command's exit status.
pub(super) const EXIT: &str = "nicgate-vm: exit ";

/// What was built for it.
pub(super) struct Guest {
    nicgate: PathBuf,
    tests: PathBuf,
    programs: Vec<PathBuf>,
}

impl Guest {
    /// Builds it.
    ///
    /// # Errors
    ///
    /// When something does not compile.
    pub(super) fn build() -> anyhow::Result<Self> {
        let nicgate = build::nicgate(build::Profile::Debug)?;
        let programs = build::tools(&PROGRAMS, build::Profile::Debug)?;
        Ok(Self { nicgate, tests: build::integration_tests("kernel")?, programs })
    }

    /// nicgate's binary.
    pub(super) fn nicgate(&self) -> &Path {
        &self.nicgate
    }

    /// The command that checks a kernel.
    pub(super) fn checks(&self) -> Vec<String> {
        let programs = [self.program(CHECKS), &self.tests].map(|path| path.to_string_lossy().into_owned());
        programs.into_iter().chain(TESTS.map(str::to_owned)).collect()
    }

    /// The command that prints what the verifier says.
    pub(super) fn figures(&self) -> Vec<String> {
        vec![self.program(FIGURES).to_string_lossy().into_owned()]
    }

    fn program(&self, name: &str) -> &PathBuf {
        self.programs.iter().find(|program| program.ends_with(name)).expect("it is one of those built")
    }

    /// The initial file system for a kernel, that runs `command` and turns the machine off.
    ///
    /// # Errors
    ///
    /// When a part of it cannot be had.
    pub(super) fn archive(&self, kernel: &Kernel, command: &[String]) -> anyhow::Result<Vec<u8>> {
        let mut archive = Archive::default();
        for directory in ["/dev", "/proc", "/sys", "/run", "/tmp", "/root", "/modules"] {
            archive.directory(directory)?;
        }
        archive.device("/dev/console", 5, 1)?;
        let busybox = kernel::busybox()?;
        let contents =
            std::fs::read(&busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
        archive.file("/bin/busybox", &contents)?;
        for command in COMMANDS {
            let program = machine::find(command).with_context(|| format!("there is no {command} here"))?;
            elf::add(&mut archive, &program)?;
        }
        for program in [&self.nicgate, &self.tests].into_iter().chain(&self.programs) {
            elf::add(&mut archive, program)?;
        }
        let modules = kernel.modules()?.load_order(&MODULES)?;
        for (name, contents) in &modules {
            archive.file(&format!("/modules/{name}.ko"), contents)?;
        }
        let names: Vec<&str> = modules.iter().map(|(name, _)| &**name).collect();
        archive.file("/init", self.script(&names, command).as_bytes())?;
        archive.finish()
    }

    /// The kernel's messages go to the first serial line, the command's output to the second.
    fn script(&self, modules: &[&str], command: &[String]) -> String {
        let programs = self.programs.iter().chain([&self.nicgate]).filter_map(|program| program.parent());
        let mut path: Vec<String> = programs.map(|path| path.display().to_string()).collect();
        path.dedup();
        let path = path.join(":");
        let nicgate = self.nicgate.display();
        let cases = if machine::accelerator() == "kvm" { "" } else { CASES };
        let insert: String = modules.iter().map(|name| format!("insmod /modules/{name}.ko\n")).collect();
        let command: Vec<String> = command.iter().map(|word| quoted(word)).collect();
        format!(
            "#!/bin/busybox sh\n\
             /bin/busybox --install -s /bin\n\
             export PATH={path}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root\n\
             export NICGATE_BIN={nicgate} RUST_BACKTRACE=1 {cases}\n\
             mount -t proc proc /proc\n\
             mount -t sysfs sysfs /sys\n\
             mount -t devtmpfs devtmpfs /dev\n\
             mount -t tmpfs tmpfs /run\n\
             stty -F /dev/ttyS1 raw -echo\n\
             exec >/dev/ttyS1 2>&1 </dev/null\n\
             {insert}\
             ip link set lo up\n\
             {}\n\
             echo \"{EXIT}$?\"\n\
             exec >/dev/null 2>&1\n\
             poweroff -f\n",
            command.join(" ")
        )
    }
}

/// A word as the shell reads it back.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_word_reaches_the_shell_as_it_is() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
