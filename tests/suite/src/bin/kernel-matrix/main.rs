//! `kernel-matrix TESTS MODULE…`: what nicgate does on the running kernel, one line a check:
//! `check`, `ok`, `failed` or `skipped`, the check's name and details, between tabs.
//!
//! The arguments are the compiled tests of the kernel and which of their modules to run, the verdicts once for each
//! engine.

use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use filter_user::{
    kernel::{Mode, Unattached},
    model::{Engine, InterfaceMode},
};
use kit::{
    device,
    filtered_edge::Guarded,
    pktgen, rights,
    verifier::{self, Comparison},
};

/// The module whose tests are all there for each engine, in a module of its name.
const PER_ENGINE: &str = "verdicts";

/// Frames from the kernel's generator: a multiple of the number of sources, half of which are denied.
const FRAMES: u64 = 12_800;
/// So slowly that the queue of a virtual interface never overflows, even when the machine is emulated.
const RATE: u64 = 5_000;

/// How a check came out.
enum Outcome {
    Passed(String),
    Skipped(String),
}

fn main() -> ExitCode {
    rights::need_root();
    let mut arguments = std::env::args().skip(1);
    let Some(tests) = arguments.next() else {
        eprintln!("usage: kernel-matrix TESTS MODULE…");
        return ExitCode::FAILURE;
    };
    let (per_engine, modules): (Vec<String>, Vec<String>) =
        arguments.partition(|module| module == PER_ENGINE);
    // Before there is any other thread.
    let mut good = say("verifier", verifies());
    for engine in [Engine::Flat, Engine::Lpm] {
        let mut check = |name: &str, outcome| good &= say(&format!("{engine}: {name}"), outcome);
        check("loads", loads(engine));
        check("attaches native", attaches(InterfaceMode::Native, Mode::Native, engine));
        check("attaches generic", attaches(InterfaceMode::Generic, Mode::Generic, engine));
        for module in &per_engine {
            check(module, tests_pass(&tests, &format!("{module}::{engine}::")));
        }
        check("pktgen", counts_exactly(engine));
    }
    for module in &modules {
        good &= say(module, tests_pass(&tests, &format!("{module}::")));
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a check; whether it did not fail.
fn say(check: &str, outcome: anyhow::Result<Outcome>) -> bool {
    let one_line = |text: &str| text.replace(['\n', '\t'], " ");
    match outcome {
        Ok(Outcome::Passed(detail)) => println!("check\tok\t{check}\t{}", one_line(&detail)),
        Ok(Outcome::Skipped(why)) => println!("check\tskipped\t{check}\t{}", one_line(&why)),
        Err(error) => {
            // In full first: the verifier's own words may be many lines.
            let text = format!("{error:#}");
            println!("{text}");
            let short: String = text.lines().next().unwrap_or_default().chars().take(60).collect();
            println!("check\tfailed\t{check}\t{}", one_line(&short));
            return false;
        }
    }
    true
}

/// Every variant of the program loads, and costs what was accepted.
fn verifies() -> anyhow::Result<Outcome> {
    let measured = verifier::measure()?;
    let variants = measured.len();
    match verifier::compare(&verifier::parse(verifier::RECORD)?, &measured) {
        Comparison::Close(_) => Ok(Outcome::Passed(format!("{variants} variants as recorded"))),
        Comparison::NotRecorded => Ok(Outcome::Passed(format!("{variants} variants, none recorded"))),
        Comparison::Grown(wrong) => bail!("{}", wrong.join("\n")),
    }
}

fn loads(engine: Engine) -> anyhow::Result<Outcome> {
    let instructions = Unattached::new(engine)?.verified_instructions()?;
    Ok(Outcome::Passed(instructions.map_or_else(String::new, |count| format!("{count} verified"))))
}

fn attaches(wish: InterfaceMode, expected: Mode, engine: Engine) -> anyhow::Result<Outcome> {
    let guarded = Guarded::new("attach", wish, engine)?;
    let report = guarded.report.clone();
    guarded.detach()?;
    if report.mode != expected {
        bail!("it was attached in {} mode", report.mode);
    }
    let notes: Vec<String> = report.notes.iter().map(|note| format!("; {note}")).collect();
    Ok(Outcome::Passed(format!("{:?}{}", report.link, notes.concat())))
}

fn tests_pass(path: &str, names: &str) -> anyhow::Result<Outcome> {
    let mut command = Command::new(path);
    command.arg("--test-threads=1").arg(names);
    let output = command.output().with_context(|| format!("cannot run {path}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let count = |word: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix("test result: "))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|found| found.trim_end_matches(';') == word)?;
        words[at.checked_sub(1)?].parse().ok()
    };
    match (count("passed"), count("failed")) {
        (Some(passed), Some(0)) if output.status.success() && passed > 0 => {
            Ok(Outcome::Passed(format!("{passed} of {passed}")))
        }
        (passed, failed) => {
            print!("{text}{}", String::from_utf8_lossy(&output.stderr));
            match (passed, failed) {
                (Some(passed), Some(failed)) => bail!("{passed} of {}", passed + failed),
                _ => bail!("it ended with {}", output.status),
            }
        }
    }
}

/// Every frame that the kernel's generator sent was dropped or passed, and half of them each.
fn counts_exactly(engine: Engine) -> anyhow::Result<Outcome> {
    if let Err(error) = pktgen::available() {
        println!("{error:#}");
        return Ok(Outcome::Skipped("this kernel has none".to_owned()));
    }
    let guarded = Guarded::new("pktgen", InterfaceMode::Native, engine)?;
    let order = pktgen::Order { count: FRAMES, rate: Some(RATE), ..guarded.order() };
    let router = guarded.lab().router();
    let before = router.run(|| device::counters(&order.interface))?;
    let sent: u64 = pktgen::send(Some(router), &order)?.iter().map(|sent| sent.packets).sum();
    let lost = router.run(|| device::counters(&order.interface))?.sending_dropped - before.sending_dropped;
    let arrived = guarded.arrived()?;
    guarded.detach()?;
    let detail = format!("{sent} = {} dropped + {} passed", arrived.dropped, arrived.passed);
    if (sent, lost) != (FRAMES, 0) || (arrived.dropped, arrived.passed) != (FRAMES / 2, FRAMES / 2) {
        bail!("{sent} sent, {lost} lost on the way, {} dropped, {} passed", arrived.dropped, arrived.passed);
    }
    Ok(Outcome::Passed(detail))
}
