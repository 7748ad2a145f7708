//! How long a command takes, and how much memory.

use std::{
    io,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// A command that was run several times.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Wall-clock time of each run.
    pub(crate) times: Vec<Duration>,
    /// The largest resident set of any run, in bytes.
    pub(crate) peak: u64,
}

/// Runs every command once in each round, so that a change of the machine's mood meets all of them. The first round
/// is not counted: it reads the files from the disk. `before` is told each command.
///
/// # Errors
///
/// When one of them fails.
pub(crate) fn rounds<const N: usize>(
    mut commands: [Command; N],
    rounds: u32,
    mut before: impl FnMut(&str),
) -> anyhow::Result<[Measured; N]> {
    let mut measured = std::array::from_fn(|_| Measured { times: Vec::new(), peak: 0 });
    for round in 0..=rounds {
        for (command, measured) in commands.iter_mut().zip(&mut measured) {
            before(&shown(command));
            let (time, peak) = once(command)?;
            if round > 0 {
                measured.times.push(time);
                measured.peak = measured.peak.max(peak);
            }
        }
    }
    Ok(measured)
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.display().to_string()).collect::<Vec<_>>().join(" ")
}

fn once(command: &mut Command) -> anyhow::Result<(Duration, u64)> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot run `{}`", shown(command)))?;
    let (status, usage) = wait(child.id() as libc::pid_t)?;
    let time = started.elapsed();
    if status != 0 {
        bail!("`{}` failed; run it to see why", shown(command));
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
