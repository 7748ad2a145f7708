//! The session table: what an open session takes, what a request of one costs, and what threads gain.

mod viewers;

use std::process::{Command, ExitCode};

use anyhow::Context;
use benchmarks::{goal::Goal, progress::Progress, results::Written, samples::Spread};
use clap::Parser;
use kit::machine::{self, Machine};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use viewers::{Kind, Viewers};

/// The small table that the large one is compared with.
const FEW: u32 = 1000;
/// Threads that ask at once.
const THREADS: [usize; 4] = [1, 2, 4, 16];

#[derive(Parser)]
#[command(name = "bench-sessions", about = "Measures the table of sessions: memory, requests, threads")]
struct Arguments {
    #[command(flatten)]
    written: Written,
    /// Runs of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// How many sessions the large table has
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1000..=5_000_000))]
    sessions: u32,
    /// Only open sessions of this kind, and print what they took
    #[arg(long, hide = true)]
    memory: Option<Kind>,
}

/// What a table of one kind of sessions took.
#[derive(Serialize, Deserialize)]
struct Table {
    kind: Kind,
    sessions: u32,
    /// Resident bytes for each.
    resident: f64,
    /// The table's own estimate for each.
    estimate: f64,
    /// Seconds until all were open.
    opened: f64,
}

/// What one measurement is of.
struct Row {
    sessions: u32,
    threads: usize,
    /// Nanoseconds of one thread for one request.
    nanos: Spread,
    /// Millions of requests a second of all threads together.
    millions: Spread,
}

fn main() -> ExitCode {
    machine::finish(run(&Arguments::parse()).map(|()| ExitCode::SUCCESS))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(kind) = arguments.memory {
        println!("{}", serde_json::to_string(&taken(kind, arguments.sessions)?)?);
        return Ok(());
    }
    let this = Machine::this();
    println!("{this}");
    println!(
        "{} runs of each measurement in turn; requests of random sessions that are open",
        arguments.runs
    );
    let tables: Vec<Table> =
        Kind::ALL.into_iter().map(|kind| in_another(kind, arguments.sessions)).collect::<Result<_, _>>()?;
    let (few, many) = (Viewers::open(Kind::Token, FEW)?, Viewers::open(Kind::Token, arguments.sessions)?);
    let rows = requests(arguments, &[&few, &many])?;
    let goals = goals(&tables, &rows);
    println!(
        "\n{:<28} {:>10} {:>16} {:>16} {:>10}",
        "session", "open", "resident bytes", "estimated bytes", "opened in"
    );
    for Table { kind, sessions, resident, estimate, opened } in &tables {
        println!("{:<28} {sessions:>10} {resident:>16.0} {estimate:>16.0} {opened:>8.1} s", kind.name());
    }
    println!(
        "\n{:>10} {:>8} {:>26} {:>26}",
        "open", "threads", "ns a request, each", "million a second, all"
    );
    for Row { sessions, threads, nanos, millions } in &rows {
        println!("{sessions:>10} {threads:>8} {nanos:>26.0} {millions:>26.2}");
    }
    for goal in &goals {
        println!("{goal}");
    }
    arguments.written.figures(|| for_programs(&this, &tables, &rows, &goals))
}

/// Opens sessions in a process of their own, in which nothing was freed before.
fn in_another(kind: Kind, sessions: u32) -> anyhow::Result<Table> {
    let this = std::env::current_exe().context("this program has no path")?;
    let sessions = sessions.to_string();
    let arguments = ["--memory", kind.word(), "--sessions", &sessions];
    let output = Command::new(this).args(arguments).output().context("cannot start another process")?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no sessions were opened: {}", String::from_utf8_lossy(&output.stderr)))
}

/// What sessions take that are opened now.
fn taken(kind: Kind, sessions: u32) -> anyhow::Result<Table> {
    let before = viewers::resident()?;
    let viewers = Viewers::open(kind, sessions)?;
    let of = |bytes: u64| bytes as f64 / f64::from(sessions);
    Ok(Table {
        kind,
        sessions,
        resident: of(viewers.resident.saturating_sub(before)),
        estimate: of(viewers.counters().bytes),
        opened: viewers.took.as_secs_f64(),
    })
}

/// Asks in turn, round by round, after one that does not count.
fn requests(arguments: &Arguments, tables: &[&Viewers]) -> anyhow::Result<Vec<Row>> {
    let places: Vec<_> =
        tables.iter().flat_map(|viewers| THREADS.map(|threads| (*viewers, threads))).collect();
    let mut seconds = vec![Vec::new(); places.len()];
    let mut progress = Progress::new(places.len() * (arguments.runs as usize + 1));
    for round in 0..=arguments.runs {
        for ((viewers, threads), seconds) in places.iter().zip(&mut seconds) {
            progress.step(&format!("{} sessions, {threads} threads", viewers.count));
            let took = viewers.ask(*threads)?;
            if round > 0 {
                seconds.push(took.as_secs_f64());
            }
        }
    }
    let row = |((viewers, threads), seconds): (&(&Viewers, usize), Vec<f64>)| {
        let each = |seconds: f64| seconds * 1e9 * (*threads as f64) / viewers.asked(*threads);
        Ok(Row {
            sessions: viewers.count,
            threads: *threads,
            nanos: Spread::of(seconds.iter().map(|seconds| each(*seconds))).context("no runs")?,
            millions: Spread::of(seconds.iter().map(|seconds| viewers.asked(*threads) / seconds / 1e6))
                .context("no runs")?,
        })
    };
    places.iter().zip(seconds).map(row).collect()
}

/// What is to be reached, and whether it is.
fn goals(tables: &[Table], rows: &[Row]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for Table { kind, resident, .. } in tables {
        let what = format!("resident bytes of a session, {}", kind.name());
        goals.push(Goal::at_most(&what, *resident, 500.0, 0, ""));
    }
    let of = |large: bool, threads: usize| {
        rows.iter().find(|row| (row.sessions > FEW) == large && row.threads == threads)
    };
    if let (Some(many), Some(few)) = (of(true, 1), of(false, 1)) {
        let what = format!("a request, {} ÷ {FEW} sessions", many.sessions);
        goals.push(Goal::at_most(&what, many.nanos.median() / few.nanos.median(), 2.0, 2, ""));
    }
    if let (Some(one), Some(sixteen)) = (of(true, 1), of(true, 16)) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(16);
        let what = format!("16 threads ÷ 1 thread, {} sessions, {cores} cores", one.sessions);
        let wanted = 0.8 * cores as f64;
        goals.push(Goal::at_least(&what, sixteen.millions.median() / one.millions.median(), wanted, 2, ""));
    }
    goals
}

fn for_programs(machine: &Machine, tables: &[Table], rows: &[Row], goals: &[Goal]) -> Value {
    let tables: Vec<Value> = tables
        .iter()
        .map(|Table { kind, sessions, resident, estimate, opened }| {
            json!({
                "kind": kind.name(), "sessions": sessions, "resident_bytes": resident,
                "estimated_bytes": estimate, "opened_seconds": opened,
            })
        })
        .collect();
    let rows: Vec<Value> = rows
        .iter()
        .map(|Row { sessions, threads, nanos, millions }| {
            json!({"sessions": sessions, "threads": threads, "nanoseconds": nanos.json(), "millions": millions.json()})
        })
        .collect();
    let goals: Vec<Value> = goals.iter().map(Goal::json).collect();
    json!({"machine": machine.json(), "tables": tables, "results": rows, "goals": goals})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sessions: u32, threads: usize, nanos: f64, millions: f64) -> Row {
        let of = |value| Spread::of([value]).unwrap();
        Row { sessions, threads, nanos: of(nanos), millions: of(millions) }
    }

    #[test]
    fn the_large_table_is_judged_by_the_small_one_and_threads_by_one() {
        let table =
            Table { kind: Kind::Token, sessions: 1_000_000, resident: 501.0, estimate: 460.0, opened: 9.0 };
        let rows = [row(FEW, 1, 500.0, 2.0), row(1_000_000, 1, 900.0, 1.0), row(1_000_000, 16, 900.0, 0.5)];
        let told: Vec<String> = goals(&[table], &rows).iter().map(ToString::to_string).collect();
        assert!(told[0].ends_with("501 (goal: at most 500): MISSED"), "{}", told[0]);
        assert_eq!(told[1], "a request, 1000000 ÷ 1000 sessions: 1.80 (goal: at most 2): met");
        assert!(told[2].contains(": 0.50 (goal") && told[2].ends_with("MISSED"), "{}", told[2]);
    }
}
