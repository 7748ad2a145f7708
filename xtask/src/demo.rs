//! `cargo xtask demo`.

use std::process::ExitCode;

use crate::{build, machine, setup};

/// Sets up, builds, and runs the demo as root.
pub(crate) fn run(keep: bool) -> anyhow::Result<ExitCode> {
    setup::ensure(setup::Purpose::Demo)?;
    let nicgate = build::nicgate(build::Profile::Debug)?;
    let demo = build::tools(&["demo"], build::Profile::Debug)?.remove(0);
    let nicgate = format!("NICGATE_BIN={}", nicgate.display());
    // Through env, because sudo may be set up to keep no variable.
    let mut command = machine::root_command("env", "the demo (network namespaces and an XDP program)")?;
    command.arg(nicgate).arg(demo);
    if keep {
        command.arg("--keep");
    }
    let status = command.status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
