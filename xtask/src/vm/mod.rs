//! `cargo xtask vm`: nicgate on Debian's own kernels, in virtual machines that live for one command.

mod archive;
mod boot;
mod elf;
mod guest;
mod kernel;
mod matrix;
mod module;
mod record;

use std::{process::ExitCode, thread, time::Duration};

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

/// How long the checks may take, which are done in two or three minutes on two cores that do nothing else.
const CHECKS_LIMIT: Duration = Duration::from_secs(10 * 60);

/// What every machine checks, and this one beside them.
const CHECKS: &str = "kernel-matrix";

/// What prints the verifier's figures of the kernel that it runs on.
const FIGURES: &str = "verifier-figures";

/// Stands for this machine's kernel where a series is named.
const RUNNING: &str = "running";

/// Runs a command in one machine, or the checks in each and here.
///
/// # Errors
///
/// When the kernels cannot be had, nothing builds, or a machine does not start.
pub(crate) fn run(series: &str, command: &[String]) -> anyhow::Result<ExitCode> {
    if command.is_empty() {
        let matrix = Machines::get(series)?.compare()?;
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

/// The checks on every kernel, each counted as a test. Where a virtual machine cannot be had, and it need not be, that
/// is said, and nothing counted.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn tally(needed: bool) -> anyhow::Result<Tally> {
    println!("vm: the same checks on other kernels");
    let kernels = match kernels("all") {
        Err(error) if !needed => {
            println!("vm: skipped, because there is no machine to be had: {error:#}");
            return Ok(Tally::default());
        }
        kernels => kernels?,
    };
    let machines = Machines { guest: Guest::build()?, kernels };
    let matrix = machines.compare()?;
    print!("{matrix}");
    Ok(Tally { passed: matrix.passed(), failed: matrix.failed() })
}

/// Measures what the verifier says of each variant of the program, shows it beside what was recorded, and records it
/// if it is accepted.
///
/// # Errors
///
/// As [`run`]; a variant that does not load, on whichever kernel, leaves the record as it is.
pub(crate) fn verifier(series: &str, accept: bool) -> anyhow::Result<ExitCode> {
    let machines = if series == RUNNING { None } else { Some(Machines::get(series)?) };
    let mut measured = Vec::new();
    match &machines {
        None => {
            let program = crate::build::tools(&[FIGURES], crate::build::Profile::Debug)?;
            measured.extend(record::here(&program[0])?);
        }
        Some(Machines { guest, kernels }) => {
            let command = guest.figures();
            for lines in each(kernels, |kernel| record::there(kernel, guest, &command)) {
                measured.extend(lines?);
            }
            if series == "all" {
                measured.extend(record::here(command[0].as_ref())?);
            }
        }
    }
    record::show(&measured)?;
    if accept {
        record::accept(&measured)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The emulator and what it boots, fetched where they are missing.
fn kernels(series: &str) -> anyhow::Result<Vec<Kernel>> {
    setup::ensure(Purpose::Machine)?;
    let chosen: Vec<&str> = if series == "all" { SERIES.to_vec() } else { vec![series] };
    let kernels = chosen.into_iter().map(Kernel::fetch).collect::<anyhow::Result<Vec<_>>>()?;
    kernel::busybox()?;
    Ok(kernels)
}

/// All that it takes to start machines.
struct Machines {
    guest: Guest,
    kernels: Vec<Kernel>,
}

impl Machines {
    fn get(series: &str) -> anyhow::Result<Self> {
        let kernels = kernels(series)?;
        Ok(Self { guest: Guest::build()?, kernels })
    }

    /// The checks on each kernel, and then here.
    fn compare(&self) -> anyhow::Result<Matrix> {
        let checks = self.guest.checks();
        let mut matrix = Matrix::default();
        for column in each(&self.kernels, |kernel| check(kernel, &self.guest, &checks)) {
            matrix.add(column?);
        }
        matrix.add(here(&self.guest, &checks)?);
        Ok(matrix)
    }
}

/// Does something with each kernel, side by side: an emulated machine is busy on one core most of the time.
fn each<T: Send>(kernels: &[Kernel], work: impl Fn(&Kernel) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let running: Vec<_> = kernels.iter().map(|kernel| scope.spawn(|| work(kernel))).collect();
        let joined = running.into_iter().map(thread::ScopedJoinHandle::join);
        joined.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

fn check(kernel: &Kernel, guest: &Guest, checks: &[String]) -> anyhow::Result<matrix::Column> {
    println!("Linux {} in qemu …", kernel.release());
    let mut column = matrix::Column::new(kernel.release());
    let outcome = boot::run(kernel, guest, checks, CHECKS_LIMIT, |line| column.read(line))?;
    match outcome {
        Outcome::Died(why) => column.died(&why),
        Outcome::Exited(status) if status != 0 && column.failed() == 0 => {
            column.died(&format!("{CHECKS} ended with {status}"));
        }
        Outcome::Exited(_) => {}
    }
    Ok(column)
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
