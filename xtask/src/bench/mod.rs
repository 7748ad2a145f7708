//! `cargo xtask bench`: nicgate's offload compiler beside Debian's iprange, on the same file in the same run.

mod country;
mod measure;
mod prefixes;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Context;

use crate::{
    build, machine,
    setup::{self, Purpose},
};
use measure::{Measured, rounds};
use report::{Goal, Report};

/// How often each command is run.
const ROUNDS: usize = 5;

/// Measures, prints a table, and writes the figures to `json`.
///
/// # Errors
///
/// When the machine cannot be set up, or a measured command fails.
pub(crate) fn run(lines: u32, json: Option<&Path>) -> anyhow::Result<ExitCode> {
    setup::ensure(Purpose::Bench)?;
    let nicgate = build::nicgate(build::Profile::Release)?;
    let mut report = Report::default();
    list(&nicgate, lines, &mut report)?;
    match country::database()? {
        Ok(database) => countries(&nicgate, &database, &mut report)?,
        Err(reason) => report.skip("allow country RU US", &reason),
    }
    print!("{report}");
    if let Some(path) = json {
        fs::write(path, report.json()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A list file, against iprange.
fn list(nicgate: &Path, lines: u32, report: &mut Report) -> anyhow::Result<()> {
    let directory = machine::scratch()?;
    let file = directory.join(format!("prefixes-{lines}.txt"));
    prefixes::write(&file, lines)?;
    let configuration = configuration(
        &directory,
        "bench-list.conf",
        &format!("auth_backend blocklist {{\n  deny ip file \"{}\";\n  allow default;\n}}\n", file.display()),
        "blocklist",
    )?;
    println!("{lines} random prefixes, {ROUNDS} rounds of each command in turn …");
    let mut iprange = machine::command("iprange");
    iprange.arg(&file);
    let commands =
        [iprange, offline(nicgate, "check", &configuration), offline(nicgate, "compile", &configuration)];
    let [iprange, check, compile] = rounds(commands, ROUNDS)?;
    let goals = |measured: &Measured| vec![Goal::ratio(measured, &iprange, 2.0), Goal::memory(measured, 600)];
    let what = format!("{lines} prefixes");
    let (check_goals, compile_goals) = (goals(&check), goals(&compile));
    report.add(&what, "iprange", iprange, Vec::new());
    report.add(&what, "nicgate check", check, check_goals);
    report.add(&what, "nicgate compile", compile, compile_goals);
    Ok(())
}

/// Two large countries of the full database.
fn countries(nicgate: &Path, database: &Path, report: &mut Report) -> anyhow::Result<()> {
    let configuration = configuration(
        &machine::scratch()?,
        "bench-country.conf",
        &format!("geoip \"{}\";\nauth_backend home {{\n  allow country RU US;\n}}\n", database.display()),
        "home",
    )?;
    println!("allow country RU US on the full database, {ROUNDS} rounds …");
    let [compile] = rounds([offline(nicgate, "compile", &configuration)], ROUNDS)?;
    let goals = vec![Goal::seconds(&compile, 2.0), Goal::memory(&compile, 600)];
    report.add("allow country RU US", "nicgate compile", compile, goals);
    Ok(())
}

fn configuration(directory: &Path, name: &str, text: &str, policy: &str) -> anyhow::Result<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, format!("{text}guard tcp 1935 auth://{policy};\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn offline(nicgate: &Path, subcommand: &str, configuration: &Path) -> Command {
    let mut command = machine::command(nicgate);
    command.arg(subcommand).arg("-c").arg(configuration);
    command
}
