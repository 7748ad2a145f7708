//! How long it takes until another list is enforced: nicgate, nftables and ipset, with the same list.

mod filters;
mod lists;
mod phases;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use benchmarks::{plot, results::Written, samples::Spread};
use clap::Parser;
use kit::{
    machine::{self, Machine},
    rights,
};
use serde_json::{Value, json};

use filters::{Filter, OfIpset, OfNft, OfNicgate, Rules};
use lists::{LONGEST, Which};
use phases::Breakdown;

#[derive(Parser)]
#[command(
    name = "bench-reload",
    about = "Times the replacement of a whole list by another one, until it is enforced"
)]
struct Arguments {
    #[command(flatten)]
    written: Written,
    /// How many prefixes the list has
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(LONGEST)))]
    prefixes: u32,
    /// Runs of each filter
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Time nicgate only
    #[arg(long)]
    alone: bool,
    /// A country database, for `allow country`
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
}

/// One filter's times.
struct Row {
    name: &'static str,
    entries: u64,
    seconds: Spread,
    breakdown: Option<Breakdown>,
}

fn main() -> ExitCode {
    machine::finish(run(&Arguments::parse()).map(|()| ExitCode::SUCCESS))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !rights::is_root() {
        bail!("the benchmark needs root, for network namespaces and XDP programs");
    }
    machine::take_precedence()?;
    let Arguments { prefixes, runs, .. } = *arguments;
    let this = Machine::this();
    println!("{this}");
    println!("{prefixes} IPv4 prefixes, all of them replaced by {prefixes} others, {runs} runs of each");
    let mut filters: Vec<(&str, Box<dyn Filter>)> =
        vec![("nicgate reload", Box::new(OfNicgate::start(Rules::List(prefixes))?))];
    if !arguments.alone {
        filters.push(("ipset restore", Box::new(OfIpset::start(prefixes)?)));
        filters.push(("nft -f", Box::new(OfNft::start(prefixes)?)));
    }
    if let Some(database) = &arguments.database {
        let database = fs::canonicalize(database).with_context(|| format!("no {}", database.display()))?;
        filters.push(("country RU US", Box::new(OfNicgate::start(Rules::Country(database))?)));
    }
    let mut rows = measure(&mut filters, runs)?;
    let country = if arguments.database.is_some() { rows.pop() } else { None };
    let goals = goals(&rows, country.as_ref());
    if let Some(directory) = &arguments.written.plot {
        draw(directory, prefixes, &rows)?;
    }
    rows.extend(country);
    print(&rows, &goals);
    arguments.written.figures(|| for_programs(&this, prefixes, &rows, &goals))?;
    Ok(())
}

/// The two lists in turn, every filter once in each round, so that a change of the machine's mood meets all of
/// them. The first round is not counted.
fn measure(filters: &mut [(&'static str, Box<dyn Filter>)], runs: u32) -> anyhow::Result<Vec<Row>> {
    let mut times = vec![Vec::new(); filters.len()];
    let mut which = Which::B;
    for round in 0..=runs {
        for ((name, filter), times) in filters.iter_mut().zip(&mut times) {
            let took = filter.reload(which).with_context(|| (*name).to_owned())?.as_secs_f64();
            if round > 0 {
                println!("round {round}: {name}, {took:.2} s");
                times.push(took);
            }
        }
        which = which.other();
    }
    let rows = filters.iter().zip(times).map(|((name, filter), times)| {
        let seconds = Spread::of(times).context("no runs")?;
        Ok(Row { name, entries: filter.entries()?, seconds, breakdown: filter.breakdown(runs as usize)? })
    });
    rows.collect()
}

/// What is to be reached, and whether it is.
fn goals(rows: &[Row], country: Option<&Row>) -> Vec<(String, bool)> {
    let [nicgate, others @ ..] = rows else { return Vec::new() };
    let own = nicgate.seconds.median();
    let mut goals = vec![(format!("nicgate in {own:.2} s (goal: under 1.5 s)"), own < 1.5)];
    for other in others {
        let ratio = other.seconds.median() / own;
        goals.push((format!("{ratio:.1} × as fast as {} (goal: at least 10)", other.name), ratio >= 10.0));
    }
    if let Some(country) = country {
        let seconds = country.seconds.median();
        goals.push((format!("the country database in {seconds:.2} s (goal: under 1 s)"), seconds < 1.0));
    }
    goals
}

fn print(rows: &[Row], goals: &[(String, bool)]) {
    println!("\n{:<16} {:>10} {:>24}", "", "entries", "seconds");
    for Row { name, entries, seconds, .. } in rows {
        println!("{name:<16} {entries:>10} {seconds:>24.3}");
    }
    for (goal, met) in goals {
        println!("{goal}: {}", if *met { "met" } else { "MISSED" });
    }
    if let Some(breakdown) = rows.iter().find_map(|row| row.breakdown.as_ref()) {
        breakdown.print();
    }
}

fn for_programs(machine: &Machine, prefixes: u32, rows: &[Row], goals: &[(String, bool)]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let breakdown = row.breakdown.as_ref().map(Breakdown::for_programs);
            json!({
                "name": row.name,
                "entries": row.entries,
                "seconds": row.seconds.json(),
                "phases": breakdown,
            })
        })
        .collect();
    let goals: Vec<Value> = goals.iter().map(|(goal, met)| json!({"goal": goal, "met": met})).collect();
    json!({"machine": machine.json(), "prefixes": prefixes, "results": rows, "goals": goals})
}

fn draw(directory: &Path, prefixes: u32, rows: &[Row]) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let bars: Vec<(&str, Spread)> = rows.iter().map(|row| (row.name, row.seconds.clone())).collect();
    let path = directory.join("reload.svg");
    let title = format!("{prefixes} prefixes replaced by {prefixes} others, until they are enforced");
    fs::write(&path, plot::bars(&title, "seconds", &bars))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}
