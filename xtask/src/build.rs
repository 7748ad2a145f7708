//! Building the binary.

use std::path::PathBuf;

use anyhow::bail;

use crate::{machine, step};

/// How the binary is optimised.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For tests and the demo.
    Debug,
    /// For use and for measuring.
    Release,
}

/// Builds `nicgate` and returns where it is.
///
/// # Errors
///
/// When it does not compile; cargo has said why.
pub(crate) fn nicgate(profile: Profile) -> anyhow::Result<PathBuf> {
    let mut cargo = machine::cargo();
    cargo.args(["build", "--package", "filter-user", "--bin", "nicgate"]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    run(cargo)?;
    let directory = if profile == Profile::Release { "release" } else { "debug" };
    Ok(machine::target().join(directory).join("nicgate"))
}

/// Builds the demo's program and returns where it is.
///
/// # Errors
///
/// When it does not compile; cargo has said why.
pub(crate) fn demo() -> anyhow::Result<PathBuf> {
    let mut cargo = machine::cargo();
    cargo.args(["build", "--package", "tests", "--bin", "demo"]);
    run(cargo)?;
    Ok(machine::target().join("debug/demo"))
}

fn run(mut cargo: std::process::Command) -> anyhow::Result<()> {
    if !cargo.status()?.success() {
        bail!("`{}` failed", step::shown(&cargo));
    }
    Ok(())
}
