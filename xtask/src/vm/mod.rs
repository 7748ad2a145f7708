//! `cargo xtask vm`: nicgate on Debian's own kernels, in virtual machines that live for one command.

mod archive;
mod boot;
mod elf;
mod guest;
mod kernel;
mod matrix;
mod module;

use std::{process::ExitCode, time::Duration};

use anyhow::bail;

use crate::{
    machine,
    setup::{self, Purpose},
    tally::Tally,
};
use boot::Outcome;
use guest::Guest;
use kernel::Kernel;
use matrix::Matrix;

/// The series that are checked: Debian 12's own kernel and the one of its backports.
const SERIES: [&str; 2] = ["6.1", "6.12"];

/// How long a command may take in a machine; emulation makes everything ten to thirty times slower.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// What every machine checks, and this one beside them.
const CHECKS: &str = "kernel-matrix";

/// Runs a command in one machine, or the checks in each and here.
///
/// # Errors
///
/// When the kernels cannot be had, nothing builds, or a machine does not start.
pub(crate) fn run(series: &str, command: &[String]) -> anyhow::Result<ExitCode> {
    if command.is_empty() {
        let matrix = compare(series)?;
        print!("{matrix}");
        return Ok(if matrix.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    setup::ensure(Purpose::Machine)?;
    let guest = Guest::build()?;
    // One command has one exit status: the newest kernel's, unless another one is named.
    let series = if series == "all" { SERIES[SERIES.len() - 1] } else { series };
    let kernel = Kernel::fetch(series)?;
    match boot::run(&kernel, &guest, command, LIMIT, |line| println!("{line}"))? {
        Outcome::Exited(status) => Ok(ExitCode::from(status)),
        Outcome::Died(why) => bail!("the machine with Linux {} died: {why}", kernel.release()),
    }
}

/// The checks on every kernel, each counted as a test.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn tally() -> anyhow::Result<Tally> {
    println!("vm: the same checks on other kernels");
    let matrix = compare("all")?;
    print!("{matrix}");
    Ok(Tally { passed: matrix.passed(), failed: matrix.failed() })
}

fn compare(series: &str) -> anyhow::Result<Matrix> {
    setup::ensure(Purpose::Machine)?;
    let guest = Guest::build()?;
    let chosen: Vec<&str> = if series == "all" { SERIES.to_vec() } else { vec![series] };
    let kernels = chosen.into_iter().map(Kernel::fetch).collect::<anyhow::Result<Vec<_>>>()?;
    let checks = guest.checks();
    let mut matrix = Matrix::default();
    for kernel in &kernels {
        println!("Linux {} in qemu …", kernel.release());
        let mut column = matrix::Column::new(kernel.release());
        let outcome = boot::run(kernel, &guest, &checks, LIMIT, |line| column.read(line))?;
        if let Outcome::Died(why) = outcome {
            column.died(&why);
        }
        matrix.add(column);
    }
    matrix.add(here(&guest, &checks)?);
    Ok(matrix)
}

/// The checks on the running kernel.
fn here(guest: &Guest, checks: &[String]) -> anyhow::Result<matrix::Column> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("Linux {}, the running one …", release.trim());
    let mut column = matrix::Column::new(release.trim());
    let mut command = machine::root_command("env", "loading XDP programs")?;
    command.arg(format!("NICGATE_BIN={}", guest.nicgate().display())).args(checks);
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        column.read(line);
    }
    if !output.status.success() && column.failed() == 0 {
        column.died(&format!("{CHECKS} ended with {}", output.status));
    }
    Ok(column)
}
