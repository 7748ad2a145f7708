//! The offload compiler, offline: a long list beside Debian's iprange, and two countries of a full database.

mod measure;
mod prefixes;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command, ExitCode},
};

use anyhow::Context;
use benchmarks::{goal::Goal, plot, progress::Progress, results::Written, samples::Spread};
use clap::Parser;
use kit::machine::{self, Machine};
use serde_json::{Value, json};

use measure::{Measured, rounds};

const MEBIBYTE: u64 = 1 << 20;
const MEGABYTE: f64 = 1e6;

#[derive(Parser)]
#[command(name = "bench-compile", about = "Times `nicgate check` and `nicgate compile`, beside iprange")]
struct Arguments {
    #[command(flatten)]
    written: Written,
    /// Runs of each command
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// How many prefixes the list has
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    lines: u32,
    /// A country database, for `allow country RU US`
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
    /// The nicgate to measure
    #[arg(long, value_name = "FILE", env = "NICGATE_BIN", default_value = "nicgate")]
    nicgate: PathBuf,
}

/// A command on an input.
struct Row {
    input: String,
    command: &'static str,
    seconds: Spread,
    /// The largest resident set of any run, in bytes.
    peak: u64,
}

impl Row {
    fn new(input: &str, command: &'static str, measured: Measured) -> anyhow::Result<Self> {
        let Measured { times, peak } = measured;
        let seconds = Spread::of(times.iter().map(|time| time.as_secs_f64())).context("no runs")?;
        Ok(Self { input: input.to_owned(), command, seconds, peak })
    }
}

fn main() -> ExitCode {
    machine::finish(run(&Arguments::parse()).map(|()| ExitCode::SUCCESS))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let this = Machine::this().beside(&["iprange"]);
    println!("{this}");
    println!("{} runs of each command in turn; times of whole processes", arguments.runs);
    let directory = Directory::new()?;
    let mut rows = list(arguments, &directory)?;
    match &arguments.database {
        Some(database) => rows.push(countries(arguments, &directory, database)?),
        None => println!("without a country database (--database): no countries"),
    }
    let goals = goals(&rows);
    println!("\n{:<22} {:<16} {:>24} {:>9}", "input", "command", "ms", "peak");
    for Row { input, command, seconds, peak } in &rows {
        println!("{input:<22} {command:<16} {:>24.0} {:>5} MiB", seconds.scaled(1e3), peak / MEBIBYTE);
    }
    for goal in &goals {
        println!("{goal}");
    }
    arguments.written.figures(|| for_programs(&this, &rows, &goals))?;
    if let Some(directory) = &arguments.written.plot {
        let names: Vec<String> = rows.iter().map(|row| format!("{}: {}", row.command, row.input)).collect();
        let bars: Vec<(&str, Spread)> =
            names.iter().zip(&rows).map(|(name, row)| (name.as_str(), row.seconds.scaled(1e3))).collect();
        let svg = plot::bars("From a file to a compiled table, offline", "ms", &bars);
        plot::write(directory, "compile.svg", &svg)?;
    }
    Ok(())
}

/// A list file, against iprange.
fn list(arguments: &Arguments, directory: &Directory) -> anyhow::Result<Vec<Row>> {
    let Arguments { lines, runs, nicgate, .. } = arguments;
    let file = directory.0.join("prefixes.txt");
    prefixes::write(&file, *lines)?;
    let policy =
        format!("auth_backend blocklist {{\n  deny ip file \"{}\";\n  allow default;\n}}\n", file.display());
    let configuration = directory.configuration("list.conf", &policy, "blocklist")?;
    let mut iprange = Command::new("iprange");
    iprange.arg(&file);
    let commands =
        [iprange, offline(nicgate, "check", &configuration), offline(nicgate, "compile", &configuration)];
    let mut progress = Progress::new(3 * (*runs as usize + 1));
    let [iprange, check, compile] = rounds(commands, *runs, |command| progress.step(command))?;
    let input = format!("{lines} prefixes");
    Ok(vec![
        Row::new(&input, "iprange", iprange)?,
        Row::new(&input, "nicgate check", check)?,
        Row::new(&input, "nicgate compile", compile)?,
    ])
}

/// Two large countries of the full database.
fn countries(arguments: &Arguments, directory: &Directory, database: &Path) -> anyhow::Result<Row> {
    let Arguments { runs, nicgate, .. } = arguments;
    let database = fs::canonicalize(database).with_context(|| format!("no {}", database.display()))?;
    let policy =
        format!("geoip \"{}\";\nauth_backend home {{\n  allow country RU US;\n}}\n", database.display());
    let configuration = directory.configuration("country.conf", &policy, "home")?;
    let mut progress = Progress::new(*runs as usize + 1);
    let commands = [offline(nicgate, "compile", &configuration)];
    let [compile] = rounds(commands, *runs, |command| progress.step(command))?;
    Row::new("country RU US", "nicgate compile", compile)
}

fn offline(nicgate: &Path, subcommand: &str, configuration: &Path) -> Command {
    let mut command = Command::new(nicgate);
    command.arg(subcommand).arg("-c").arg(configuration);
    command
}

/// What is to be reached, and whether it is.
fn goals(rows: &[Row]) -> Vec<Goal> {
    let mut goals = Vec::new();
    let of = |command: &str| rows.iter().find(|row| row.command == command);
    for command in ["nicgate check", "nicgate compile"] {
        let (Some(own), Some(iprange)) = (of(command), of("iprange")) else { continue };
        let ratio = own.seconds.median() / iprange.seconds.median();
        let what = format!("{command} ÷ iprange, {}", own.input);
        goals.push(Goal::at_most(&what, ratio, 2.0, 2, ""));
        let what = format!("{command}, peak memory, {}", own.input);
        goals.push(Goal::at_most(&what, own.peak as f64 / MEGABYTE, 600.0, 0, " MB"));
    }
    if let Some(country) = rows.iter().find(|row| row.input.starts_with("country")) {
        let what = format!("{}, {}", country.command, country.input);
        goals.push(Goal::at_most(&what, country.seconds.median(), 2.0, 2, " s"));
    }
    goals
}

fn for_programs(machine: &Machine, rows: &[Row], goals: &[Goal]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|Row { input, command, seconds, peak }| {
            json!({"input": input, "command": command, "seconds": seconds.json(), "peak_bytes": peak})
        })
        .collect();
    let goals: Vec<Value> = goals.iter().map(Goal::json).collect();
    json!({"machine": machine.json(), "results": rows, "goals": goals})
}

/// A directory of this run's own, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("nicgate-bench-compile-{}", process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    /// A configuration in which a port is guarded by one policy.
    fn configuration(&self, name: &str, text: &str, policy: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, format!("{text}guard tcp 1935 auth://{policy};\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, Spread, goals};

    fn row(input: &str, command: &'static str, seconds: f64) -> Row {
        Row { input: input.to_owned(), command, seconds: Spread::of([seconds]).unwrap(), peak: 5_000_000 }
    }

    #[test]
    fn commands_are_judged_by_iprange() {
        let rows = [
            row("list", "iprange", 0.1),
            row("list", "nicgate check", 0.25),
            row("list", "nicgate compile", 0.2),
            row("country RU US", "nicgate compile", 2.5),
        ];
        let told: Vec<String> = goals(&rows).iter().map(ToString::to_string).collect();
        assert_eq!(told[0], "nicgate check ÷ iprange, list: 2.50 (goal: at most 2): MISSED");
        assert_eq!(told[1], "nicgate check, peak memory, list: 5 MB (goal: at most 600 MB): met");
        assert_eq!(told[2], "nicgate compile ÷ iprange, list: 2.00 (goal: at most 2): met");
        assert_eq!(told[4], "nicgate compile, country RU US: 2.50 s (goal: at most 2 s): MISSED");
    }
}
