//! How long a command takes, and how much memory.

use std::{
    io,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::step;

/// A command that was run several times.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Wall-clock time of each run, ascending.
    pub(crate) times: Vec<Duration>,
    /// The largest resident set of any run, in bytes.
    pub(crate) peak: u64,
}

impl Measured {
    /// The middle one of the times.
    pub(crate) fn median(&self) -> Duration {
        self.times[self.times.len() / 2]
    }
}

/// Runs every command once in each round, so that a change of the machine's mood meets all of them.
///
/// # Errors
///
/// When one of them fails.
pub(crate) fn rounds<const N: usize>(
    mut commands: [Command; N],
    rounds: usize,
) -> anyhow::Result<[Measured; N]> {
    let mut measured = std::array::from_fn(|_| Measured { times: Vec::new(), peak: 0 });
    for _ in 0..rounds {
        for (command, measured) in commands.iter_mut().zip(&mut measured) {
            let (time, peak) = once(command)?;
            measured.times.push(time);
            measured.peak = measured.peak.max(peak);
        }
    }
    measured.iter_mut().for_each(|measured| measured.times.sort());
    Ok(measured)
}

fn once(command: &mut Command) -> anyhow::Result<(Duration, u64)> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot run `{}`", step::shown(command)))?;
    let (status, usage) = wait(child.id() as libc::pid_t)?;
    let time = started.elapsed();
    if status != 0 {
        bail!("`{}` failed; run it to see why", step::shown(command));
    }
    // Linux counts in units of 1024 bytes.
    Ok((time, u64::try_from(usage.ru_maxrss)? * 1024))
}

/// Waits for a child, with what it used. `std` waits without asking.
fn wait(pid: libc::pid_t) -> io::Result<(libc::c_int, libc::rusage)> {
    let mut status = 0;
    // SAFETY: a structure of integers, for which zeroes are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values, and nothing else waits for this child.
    match unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok((status, usage)),
    }
}
