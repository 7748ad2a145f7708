//! Long steps: their output goes to a log file, and the terminal shows that they go on.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::machine;

/// How many lines of a failed step's output the error shows.
const TAIL: usize = 20;

/// How often a step without a terminal says that it goes on.
const QUIET: Duration = Duration::from_secs(30);

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let set = command.get_envs().filter(|(name, _)| *name != "PATH");
    let set = set.filter_map(|(name, value)| Some(format!("{}={}", name.display(), value?.display())));
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| word.display().to_string()).filter(|word| !word.starts_with("PATH="));
    set.chain(words).collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end with its output in `target/xtask/LOG.log`.
///
/// # Errors
///
/// When it cannot start or fails: the command, and the end of its output.
pub(crate) fn run(command: &mut Command, log: &str) -> anyhow::Result<()> {
    let path = machine::scratch()?.join(format!("{log}.log"));
    let file = fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    command.stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn().with_context(|| format!("cannot run `{}`", shown(command)))?;
    let started = Instant::now();
    let bar =
        ProgressBar::new_spinner().with_style(ProgressStyle::with_template("      {elapsed}  {wide_msg}")?);
    let mut spoke = started;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(Duration::from_millis(50));
        // Hidden where there is no terminal.
        if !bar.is_hidden() && spoke.elapsed() > Duration::from_secs(1) {
            bar.set_message(last_line(&path));
            spoke = Instant::now();
        } else if bar.is_hidden() && spoke.elapsed() > QUIET {
            println!(
                "      goes on, {} s so far; its output is in {}",
                started.elapsed().as_secs(),
                path.display()
            );
            spoke = Instant::now();
        }
    };
    bar.finish_and_clear();
    if !status.success() {
        bail!(
            "`{}` failed ({status}):\n{}\nall of its output is in {}",
            shown(command),
            tail(&path),
            path.display()
        );
    }
    Ok(())
}

/// Runs a command with its output passed on line by line, each line also given to `see`.
pub(crate) fn watched(command: &mut Command, mut see: impl FnMut(&str)) -> anyhow::Result<ExitStatus> {
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot run `{}`", shown(command)))?;
    // The parent's ends of the pipe would keep it open for ever.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        std::io::stdout().write_all(&line)?;
        see(&String::from_utf8_lossy(&line));
        line.clear();
    }
    std::io::stdout().flush()?;
    Ok(child.wait()?)
}

fn last_line(path: &Path) -> String {
    let text = read_lossy(path);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").trim().to_owned()
}

fn tail(path: &Path) -> String {
    let text = read_lossy(path);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(TAIL)..];
    shown.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
