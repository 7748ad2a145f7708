//! Debian's and Ubuntu's packages.

use std::process::{Command, Stdio};

use crate::machine;

/// `apt-get` as root, never asking anything.
///
/// # Errors
///
/// When this is not root and sudo cannot be used.
pub(super) fn command(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = machine::root_command("env", "installing packages")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=a", "apt-get"]).args(arguments);
    Ok(command)
}

/// Whether the package lists have the package.
pub(super) fn available(package: &str) -> bool {
    let output = machine::command("apt-cache").args(["policy", package]).stderr(Stdio::null()).output();
    output.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines()
            .any(|line| line.trim().strip_prefix("Candidate: ").is_some_and(|version| version != "(none)"))
    })
}

/// Whether every one of the packages is installed.
pub(super) fn installed(packages: &[&str]) -> bool {
    let query =
        machine::command("dpkg-query").args(["-W", "-f=${db:Status-Status}\n"]).args(packages).output();
    query.is_ok_and(|output| {
        output.status.success()
            && String::from_utf8_lossy(&output.stdout).lines().all(|line| line == "installed")
    })
}
