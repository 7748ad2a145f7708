//! Building programs, and where cargo puts them, as cargo itself says.

use std::{
    io::BufReader,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use cargo_metadata::{Message, TargetKind};

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
    Ok(programs(&["filter-user"], &["nicgate"], profile)?.remove(0))
}

/// The packages whose programs `xtask` runs: benchmarks, the demo, and what the tests start.
const TOOLS: [&str; 3] = ["benchmarks", "demo", "suite"];

/// Builds programs of the packages in `tests/` and returns where they are, in the same order.
///
/// # Errors
///
/// When one does not compile; cargo has said why.
pub(crate) fn tools(names: &[&str], profile: Profile) -> anyhow::Result<Vec<PathBuf>> {
    programs(&TOOLS, names, profile)
}

/// Builds `nicgate` and programs of the packages in `tests/` together, so that what both are made of is compiled once;
/// returns where `nicgate` is, and the others in the same order.
///
/// # Errors
///
/// When one does not compile; cargo has said why.
pub(crate) fn nicgate_and_tools(names: &[&str], profile: Profile) -> anyhow::Result<(PathBuf, Vec<PathBuf>)> {
    let packages = [&["filter-user"], &TOOLS[..]].concat();
    let mut built = programs(&packages, &[&["nicgate"], names].concat(), profile)?;
    Ok((built.remove(0), built))
}

/// Builds integration tests of the package `suite`, without running them, and returns where they are.
///
/// # Errors
///
/// When they do not compile; cargo has said why.
pub(crate) fn integration_tests(name: &str) -> anyhow::Result<PathBuf> {
    let mut cargo = machine::cargo();
    cargo.args(["test", "--package", "suite", "--no-run", "--test", name]);
    Ok(executables(cargo, &TargetKind::Test, &[name])?.remove(0))
}

fn programs(packages: &[&str], names: &[&str], profile: Profile) -> anyhow::Result<Vec<PathBuf>> {
    let mut cargo = machine::cargo();
    cargo.arg("build");
    for package in packages {
        cargo.args(["--package", package]);
    }
    for name in names {
        cargo.args(["--bin", name]);
    }
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    executables(cargo, &TargetKind::Bin, names)
}

/// Runs cargo and returns where it put the executables of these names, in the same order.
fn executables(mut cargo: Command, kind: &TargetKind, names: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let shown = step::shown(&cargo);
    // Messages for programs on stdout; cargo's progress and the compiler's complaints stay on stderr.
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut running = cargo.spawn().with_context(|| format!("cannot run `{shown}`"))?;
    let output = BufReader::new(running.stdout.take().expect("it was piped"));
    let mut built = vec![None; names.len()];
    for message in Message::parse_stream(output) {
        let Message::CompilerArtifact(artifact) = message? else { continue };
        let place = names.iter().position(|name| *name == artifact.target.name);
        if let (Some(place), true) = (place, artifact.target.kind.contains(kind)) {
            built[place] = artifact.executable.map(PathBuf::from);
        }
    }
    if !running.wait()?.success() {
        bail!("`{shown}` failed");
    }
    let found = names.iter().zip(built);
    found
        .map(|(name, path)| path.with_context(|| format!("cargo does not say where it put {name}")))
        .collect()
}
