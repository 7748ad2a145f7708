//! `cargo xtask setup`: finds what is missing on this machine, and installs it.

mod apt;
mod pieces;

use std::time::Instant;

use anyhow::{Context, bail};

use crate::{machine, step};
use pieces::{Install, PIECES, Piece};

/// What the pieces are wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Building the binary.
    Build,
    /// The demo.
    Demo,
    /// The tests, and all that the demo needs.
    Test,
    /// The check of licences.
    Licences,
    /// The benchmarks.
    Bench,
    /// The virtual machines.
    Machine,
    /// All of these.
    Everything,
}

/// Installs what is missing for `purpose`; `false` when nothing was.
///
/// # Errors
///
/// When a piece cannot be installed: the piece, what it is for, the command that was tried, and the end of
/// its output.
pub(crate) fn ensure(purpose: Purpose) -> anyhow::Result<bool> {
    let missing: Vec<&Piece> =
        PIECES.iter().filter(|piece| piece.wanted_for(purpose) && !(piece.present)()).collect();
    if missing.is_empty() {
        return Ok(false);
    }
    if machine::find("apt-get").is_none() {
        bail!("{}", by_hand(&missing));
    }
    let update = missing.iter().any(|piece| piece.source.reads_package_lists());
    let total = missing.len() + usize::from(update);
    if update {
        announce(1, total, "package lists", "so that current packages are found", "apt-get update");
        timed(|| step::run(apt::command(&["update"])?.arg("--quiet"), "setup-apt-update"))
            .with_context(|| format!("cannot install {}: no package lists", listed(&missing)))?;
    }
    for (number, piece) in (1 + usize::from(update)..).zip(&missing) {
        let install = piece.source.resolve().with_context(|| failed(piece))?;
        announce(number, total, piece.name, piece.why, &install.says());
        timed(|| run(&install, piece)).with_context(|| failed(piece))?;
        if !(piece.present)() {
            bail!(
                "{} was installed without an error (`{}`), and still does not work",
                failed(piece),
                install.says()
            );
        }
    }
    println!("setup: everything is there now");
    Ok(true)
}

fn announce(number: usize, total: usize, name: &str, why: &str, how: &str) {
    println!("[{number}/{total}] {name} ({why}): {how} …");
}

fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let started = Instant::now();
    work()?;
    println!("      done in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn failed(piece: &Piece) -> String {
    format!("cannot install {} ({})", piece.name, piece.why)
}

fn listed(pieces: &[&Piece]) -> String {
    let names: Vec<String> = pieces.iter().map(|piece| format!("{} ({})", piece.name, piece.why)).collect();
    names.join(", ")
}

fn run(install: &Install, piece: &Piece) -> anyhow::Result<()> {
    let log = format!("setup-{}", piece.log);
    match install {
        Install::Packages(packages) => step::run(apt::command(&["install", "--yes"])?.args(*packages), &log),
        Install::Nightly => {
            let mut rustup = machine::command("rustup");
            rustup.args([
                "toolchain",
                "install",
                "nightly",
                "--profile",
                "minimal",
                "--component",
                "rust-src",
            ]);
            step::run(&mut rustup, &log)
        }
        Install::Cargo(program) => {
            let mut cargo = machine::cargo();
            // From outside the workspace, so that its own settings do not apply. Only bpf-linker looks at the variable.
            cargo.current_dir("/").env("LLVM_PREFIX", pieces::LLVM_PREFIX);
            cargo.args(["install", program.name, "--version", program.version, "--force"]);
            cargo.args(program.arguments);
            step::run(&mut cargo, &log)
        }
        Install::Components => {
            step::run(machine::command("rustup").args(["component", "add", "rustfmt", "clippy"]), &log)
        }
    }
}

/// For a distribution that this program knows nothing of.
fn by_hand(missing: &[&Piece]) -> String {
    let mut text = "there is no apt-get here, so these must be installed by hand:".to_owned();
    for piece in missing {
        text.push_str(&format!("\n  {} ({}): {}", piece.name, piece.why, piece.by_hand));
    }
    text
}
