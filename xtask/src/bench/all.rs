//! All benchmarks, one after the other, and what became of the goals.

use std::{
    ffi::OsString,
    fmt::{self, Write},
    fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::{Map, Value};

use super::tool;
use crate::machine;

/// A benchmark as part of all of them.
struct Part {
    name: &'static str,
    tool: &'static str,
    /// What makes it short enough to be a part.
    arguments: &'static [&'static str],
    database: bool,
    /// Where what its goals mean, and what stops it short of one, is told.
    told: &'static str,
}

const PARTS: [Part; 5] = [
    Part {
        name: "compile",
        tool: "bench-compile",
        arguments: &["--runs", "3"],
        database: true,
        told: "BENCHMARKS.md, compile",
    },
    Part {
        name: "verdict",
        tool: "bench-verdict",
        arguments: &["--runs", "5"],
        database: true,
        told: "BENCHMARKS.md, verdict",
    },
    Part {
        name: "flood",
        tool: "bench-flood",
        arguments: &["--runs", "3", "--seconds", "1"],
        database: false,
        told: "BENCHMARKS.md, flood",
    },
    Part {
        name: "reload",
        tool: "bench-reload",
        arguments: &["--runs", "3"],
        database: true,
        told: "BENCHMARKS.md, reload",
    },
    Part {
        name: "sessions",
        tool: "bench-sessions",
        arguments: &["--runs", "3"],
        database: false,
        told: "BENCHMARKS.md, sessions",
    },
];

/// What became of a part.
struct Outcome {
    part: &'static Part,
    took: Duration,
    /// Its figures; null when it failed.
    figures: Value,
}

/// Measures everything. What fails does not keep the rest from being measured.
///
/// # Errors
///
/// When the machine cannot be set up, or something does not build.
pub(super) fn run(json: Option<&Path>, plot: Option<&Path>) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let tools: Vec<&str> = PARTS.iter().map(|part| part.tool).collect();
    tool::prepare(&tools)?;
    let prepared = started.elapsed();
    let mut code = ExitCode::SUCCESS;
    let mut outcomes = Vec::new();
    for part in &PARTS {
        println!("\n== {} ==", part.name);
        let started = Instant::now();
        let figures = measure(part, plot)?;
        if figures.is_null() {
            code = ExitCode::FAILURE;
        }
        outcomes.push(Outcome { part, took: started.elapsed(), figures });
    }
    println!("\n{}", table(&outcomes));
    println!("{}", times(prepared, &outcomes));
    if let Some(path) = json {
        let parts: Map<String, Value> =
            outcomes.into_iter().map(|outcome| (outcome.part.name.to_owned(), outcome.figures)).collect();
        fs::write(path, format!("{:#}\n", Value::from(parts)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(code)
}

fn measure(part: &Part, plot: Option<&Path>) -> anyhow::Result<Value> {
    let file = machine::scratch()?.join(format!("bench-{}.json", part.name));
    // The figures of an earlier run are not this one's.
    let _ = fs::remove_file(&file);
    let mut arguments: Vec<OsString> = part.arguments.iter().map(OsString::from).collect();
    arguments.extend(["--json".into(), file.clone().into()]);
    arguments.extend(plot.into_iter().flat_map(|directory| ["--plot".into(), directory.into()]));
    if part.database {
        arguments = tool::with_database(&arguments)?;
    }
    if tool::run(part.tool, &arguments)? != ExitCode::SUCCESS {
        return Ok(Value::Null);
    }
    let text = fs::read_to_string(&file).with_context(|| format!("{} left no figures", part.tool))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
}

/// A goal as a part's figures have it.
#[derive(Debug, PartialEq)]
struct Goal<'a> {
    what: &'a str,
    wanted: &'a str,
    seen: &'a str,
    met: Option<bool>,
}

impl<'a> Goal<'a> {
    /// From `{"goal": …, "wanted": …, "seen": …, "met": …}`, or from a sentence `SEEN (goal: WANTED)` as `goal`.
    fn read(goal: &'a Value) -> Option<Self> {
        let (what, met) = (goal["goal"].as_str()?, goal["met"].as_bool());
        if let (Some(wanted), Some(seen)) = (goal["wanted"].as_str(), goal["seen"].as_str()) {
            return Some(Self { what, wanted, seen, met });
        }
        let Some((seen, wanted)) = what.split_once(" (goal: ") else {
            return Some(Self { what, wanted: "", seen: "", met });
        };
        Some(Self { what: seen, wanted: wanted.trim_end_matches(')'), seen: "", met })
    }
}

impl fmt::Display for Goal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        write!(f, "{:<82} {:>16} {:>12}  {verdict:<12}", self.what, self.wanted, self.seen)
    }
}

/// Every goal of every part.
fn table(outcomes: &[Outcome]) -> String {
    let mut text =
        format!("{:<82} {:>16} {:>12}  {:<12}  why, and what was tried\n", "goal", "wanted", "seen", "");
    let (mut met, mut all) = (0, 0);
    for Outcome { part, figures, .. } in outcomes {
        if figures.is_null() {
            let _ = writeln!(text, "{}: FAILED", part.name);
        }
        for goal in figures["goals"].as_array().into_iter().flatten().filter_map(Goal::read) {
            all += 1;
            met += u32::from(goal.met == Some(true));
            let _ = writeln!(text, "{goal}  {}", part.told);
        }
    }
    let _ = writeln!(text, "{met} of {all} goals met");
    text
}

/// How long it all took.
fn times(prepared: Duration, outcomes: &[Outcome]) -> String {
    let mut text = format!("{:<28} {:>6.0} s\n", "setting up and building", prepared.as_secs_f64());
    for Outcome { part, took, .. } in outcomes {
        let _ = writeln!(text, "{:<28} {:>6.0} s", part.name, took.as_secs_f64());
    }
    let all = prepared + outcomes.iter().map(|outcome| outcome.took).sum::<Duration>();
    let _ = write!(text, "{:<28} {:>6.0} s", "in all", all.as_secs_f64());
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::{Goal, Outcome, PARTS, table, times};

    fn outcome(figures: Value) -> Outcome {
        Outcome { part: &PARTS[1], took: Duration::from_secs(61), figures }
    }

    #[test]
    fn goals_come_in_two_shapes() {
        let full = json!({"goal": "cost", "wanted": "at most 15 ns", "seen": "34 ns", "met": false});
        let goal = Goal { what: "cost", wanted: "at most 15 ns", seen: "34 ns", met: Some(false) };
        assert_eq!(Goal::read(&full), Some(goal));
        let sentence = json!({"goal": "nicgate in 0.45 s (goal: under 1.5 s)", "met": true});
        let goal = Goal { what: "nicgate in 0.45 s", wanted: "under 1.5 s", seen: "", met: Some(true) };
        assert_eq!(Goal::read(&sentence), Some(goal));
        assert_eq!(Goal::read(&json!({"met": true})), None);
    }

    #[test]
    fn the_table_has_every_goal_and_counts_those_that_are_met() {
        let goals = json!([
            {"goal": "one", "wanted": "1", "seen": "1", "met": true},
            {"goal": "two", "wanted": "2", "seen": "1", "met": false},
            {"goal": "three", "wanted": "3", "seen": "no xdp-filter", "met": null},
        ]);
        let text = table(&[outcome(json!({"goals": goals})), outcome(Value::Null)]);
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(text.contains("MISSED") && text.contains("not measured"), "{text}");
        assert!(text.contains("verdict: FAILED") && text.ends_with("1 of 3 goals met\n"), "{text}");
    }

    #[test]
    fn times_add_up() {
        let text = times(Duration::from_secs(100), &[outcome(json!({})), outcome(json!({}))]);
        assert!(text.ends_with("222 s"), "{text}");
    }
}
