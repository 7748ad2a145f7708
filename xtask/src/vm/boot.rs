//! One machine, from its start to its end.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{
    guest::{EXIT, Guest},
    kernel,
    kernel::Kernel,
};
use crate::machine;

/// All that the accelerator has, but for the promise that copying byte by byte is fast, which no emulator keeps.
const PROCESSOR: &str = "max,-erms,-fsrm";

/// Parameters of the kernel that save an emulated machine half of its time, and change nothing that is checked: no
/// guards against other tenants, grace periods that do not wait for ticks, and a clock that is read without leaving
/// the machine.
const QUICK: &str = "mitigations=off rcupdate.rcu_expedited=1 tsc=reliable clocksource=tsc init_on_alloc=0 nokaslr \
                     apparmor=0 audit=0 nowatchdog";

/// How a machine ended.
pub(super) enum Outcome {
    /// The command ran to its end.
    Exited(u8),
    /// It did not: the kernel's last words, or that time was up.
    Died(String),
}

/// Boots, runs the command, gives each line of its output to `see`, and waits until the machine is off.
///
/// # Errors
///
/// When the machine cannot be made or started.
pub(super) fn run(
    kernel: &Kernel,
    guest: &Guest,
    command: &[String],
    limit: Duration,
    mut see: impl FnMut(&str),
) -> anyhow::Result<Outcome> {
    let name = format!("{}-{}", kernel.release(), std::process::id());
    let archive = kernel::directory()?.join(format!("{name}.cpio"));
    let console = kernel::directory()?.join(format!("{}.console", kernel.release()));
    fs::write(&archive, guest.archive(kernel, command)?)
        .with_context(|| format!("cannot write {}", archive.display()))?;
    let mut qemu = machine::command("qemu-system-x86_64");
    qemu.args(["-accel", machine::accelerator(), "-cpu", PROCESSOR, "-smp", "2", "-m", "2048"]);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    qemu.arg("-serial").arg(format!("file:{}", console.display())).args(["-serial", "stdio"]);
    qemu.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(&archive);
    qemu.args(["-append", &format!("console=ttyS0 panic=-1 loglevel=5 {QUICK}")]);
    qemu.stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut machine =
        qemu.spawn().context("cannot run qemu-system-x86_64; `cargo xtask setup` installs it")?;
    let (sender, lines) = mpsc::channel();
    let output = machine.stdout.take().expect("it was piped");
    let reader = thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()).is_err() {
                return;
            }
        }
    });
    let messages = machine.stderr.take().expect("it was piped");
    let messages = thread::spawn(move || std::io::read_to_string(messages).unwrap_or_default());
    let mut status = None;
    let in_time = loop {
        match lines.recv_timeout(limit.saturating_sub(started.elapsed())) {
            Ok(line) => match line.strip_prefix(EXIT) {
                Some(number) => status = number.parse().ok(),
                None => see(&line),
            },
            Err(mpsc::RecvTimeoutError::Disconnected) => break true,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                machine.kill()?;
                break false;
            }
        }
    };
    machine.wait()?;
    let _ = reader.join();
    let messages = messages.join().unwrap_or_default();
    fs::remove_file(&archive)?;
    Ok(match status {
        Some(status) => Outcome::Exited(status),
        None if !in_time => Outcome::Died(format!("it was not done after {} minutes", limit.as_secs() / 60)),
        None => {
            let text = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
            let tail: Vec<&str> = text.lines().rev().take(12).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            Outcome::Died(format!(
                "{}\n{}\nall of its console is in {}",
                messages.trim(),
                tail.join("\n"),
                console.display()
            ))
        }
    })
}
