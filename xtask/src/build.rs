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
    Ok(directory(profile).join("nicgate"))
}

/// Builds programs of the package `tests` and returns where they are, in the same order.
///
/// # Errors
///
/// When one does not compile; cargo has said why.
pub(crate) fn tools(names: &[&str], profile: Profile) -> anyhow::Result<Vec<PathBuf>> {
    let mut cargo = machine::cargo();
    cargo.args(["build", "--package", "tests"]);
    for name in names {
        cargo.args(["--bin", name]);
    }
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    run(cargo)?;
    Ok(names.iter().map(|name| directory(profile).join(name)).collect())
}

/// Builds `nicgate` and programs of the package `tests` together, so that what both are made of is compiled once;
/// returns where `nicgate` is, and the others in the same order.
///
/// # Errors
///
/// When one does not compile; cargo has said why.
pub(crate) fn nicgate_and_tools(names: &[&str], profile: Profile) -> anyhow::Result<(PathBuf, Vec<PathBuf>)> {
    let mut cargo = machine::cargo();
    cargo.args(["build", "--package", "filter-user", "--package", "tests", "--bin", "nicgate"]);
    for name in names {
        cargo.args(["--bin", name]);
    }
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    run(cargo)?;
    let directory = directory(profile);
    Ok((directory.join("nicgate"), names.iter().map(|name| directory.join(name)).collect()))
}

/// Where cargo puts programs.
fn directory(profile: Profile) -> PathBuf {
    machine::target().join(if profile == Profile::Release { "release" } else { "debug" })
}

fn run(mut cargo: std::process::Command) -> anyhow::Result<()> {
    if !cargo.status()?.success() {
        bail!("`{}` failed", step::shown(&cargo));
    }
    Ok(())
}
