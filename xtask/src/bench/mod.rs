//! `cargo xtask bench`: each benchmark compares nicgate with what else there is, on the same input in the same run.

mod country;
mod measure;
mod prefixes;
mod report;
mod tool;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Context;
use clap::Subcommand;

use crate::{
    build, machine,
    setup::{self, Purpose},
};
use measure::{Measured, rounds};
use report::{Goal, Report};
use tool::Own;

/// How often each command is run.
const ROUNDS: usize = 5;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum What {
    /// The offload compiler, beside Debian's iprange
    Compile {
        /// Write the figures to a file, too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// How many prefixes the list has
        #[arg(long, default_value_t = 1_000_000, value_name = "N")]
        lines: u32,
    },
    /// One lookup and one packet, by engine, address family and number of prefixes, beside a bare drop
    Verdict(Own),
    /// A flood, beside iptables, nftables, xdp-filter and a bare drop, and what a viewer gets meanwhile
    Flood(Own),
    /// The replacement of a whole list, beside nft and ipset
    Reload(Own),
    /// The kernel's packet generator against an interface that you name
    Pktgen(Own),
    /// Everything that aims at nothing outside this machine
    All {
        /// Write the figures to a file, too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Write plots into a directory
        #[arg(long, value_name = "DIR")]
        plot: Option<PathBuf>,
    },
}

/// Measures.
///
/// # Errors
///
/// When the machine cannot be set up, or a measured command fails.
pub(crate) fn run(what: What) -> anyhow::Result<ExitCode> {
    match what {
        What::Compile { json, lines } => compile(lines, json.as_deref()),
        What::Verdict(own) => tool::run("bench-verdict", &own.arguments),
        What::Flood(own) => tool::run("bench-flood", &own.arguments),
        What::Reload(own) => tool::run("bench-reload", &tool::with_database(&own.arguments)?),
        What::Pktgen(own) => tool::run("bench-pktgen", &own.arguments),
        What::All { json, plot } => all(json.as_deref(), plot.as_deref()),
    }
}

/// One after the other; what fails does not keep the rest from being measured.
fn all(json: Option<&Path>, plot: Option<&Path>) -> anyhow::Result<ExitCode> {
    let scratch = machine::scratch()?;
    let part = |name: &str| scratch.join(format!("bench-{name}.json"));
    let own = |name: &str| {
        let mut own = vec!["--json".into(), part(name).into()];
        own.extend(plot.into_iter().flat_map(|directory| ["--plot".into(), directory.into()]));
        own
    };
    println!("compile:");
    let mut worst = compile(1_000_000, Some(&part("compile")))?;
    for (name, tool, own) in [
        // It draws no plot.
        ("verdict", "bench-verdict", vec!["--json".into(), part("verdict").into()]),
        ("flood", "bench-flood", own("flood")),
        ("reload", "bench-reload", tool::with_database(&own("reload"))?),
    ] {
        println!("\n{name}:");
        // The figures of an earlier run are not this one's.
        let _ = fs::remove_file(part(name));
        if tool::run(tool, &own)? != ExitCode::SUCCESS {
            worst = ExitCode::FAILURE;
        }
    }
    if let Some(path) = json {
        let parts = ["compile", "verdict", "flood", "reload"].map(|name| {
            let text = fs::read_to_string(part(name)).unwrap_or_else(|_| "null".to_owned());
            format!("\"{name}\": {}", text.trim_end())
        });
        fs::write(path, format!("{{{}}}\n", parts.join(",\n")))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(worst)
}

/// The offload compiler: a table, and the figures in `json`.
fn compile(lines: u32, json: Option<&Path>) -> anyhow::Result<ExitCode> {
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
