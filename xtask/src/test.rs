//! `cargo xtask test`: everything that can be checked, and one closing line.

use std::process::{Command, ExitCode};

use anyhow::Context;

use crate::{
    build, machine,
    setup::{self, Purpose},
    step,
    tally::Tally,
    vm,
};

/// How long `--long` runs each fuzz target, in milliseconds; bolero reads this variable.
const FUZZ_TIME: (&str, &str) = ("BOLERO_RANDOM_TEST_TIME_MS", "60000");

/// How many steps the random walk over faults takes in a long run; it reads this variable.
const WALK: (&str, &str) = ("NICGATE_WALK_STEPS", "5000");

/// Runs the checks and prints `N passed, N failed` last.
///
/// # Errors
///
/// When the machine cannot be set up.
pub(crate) fn run(long: bool, filter: Option<&str>) -> anyhow::Result<ExitCode> {
    setup::ensure(Purpose::Test)?;
    let root = Root::available()?;
    let mut tally = Tally::default();
    if filter.is_none() {
        tally.add(check("format", machine::cargo().args(["fmt", "--all", "--check"]))?);
        let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        tally.add(check("clippy", machine::cargo().args(lints))?);
        // The host's clippy reads the XDP program as well: its crates build for the host, and only there is
        // a clippy. Without unwinding, as for the kernel.
        let program = ["clippy", "-p", "filter-ebpf", "--features", "program", "--bin", "nicgate-xdp"];
        let config = ["--config", "profile.dev.panic=\"abort\"", "--", "-D", "warnings"];
        tally.add(check("clippy, XDP program", machine::cargo().args(program).args(config))?);
        let documents = ["doc", "--workspace", "--no-deps", "--quiet"];
        tally.add(check(
            "documentation",
            machine::cargo().args(documents).env("RUSTDOCFLAGS", "-D warnings"),
        )?);
        tally.add(licences(long)?);
    }
    match build::nicgate(build::Profile::Debug) {
        Ok(binary) => {
            let run = TestRun { root, nicgate: binary.to_string_lossy().into_owned() };
            tally.add(run.everything(filter)?);
            if filter.is_none() {
                tally.add(run.documentation()?);
            }
            if long {
                tally.add(run.fuzz()?);
                tally.add(run.walk()?);
            }
            if filter.is_none() || long {
                // Three minutes of two cores. Only a long run insists on machines: elsewhere qemu or the kernels
                // may not be to be had.
                tally.add(vm::tally(long)?);
            }
        }
        Err(error) => {
            println!("{error:#}: no test was run");
            tally.add(Tally::one(false));
        }
    }
    println!("{tally}");
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tests that make network namespaces or load XDP programs: these of the package `suite`, and modules of this name
/// anywhere.
const AS_ROOT: ([&str; 4], &str) = (["controller", "kernel", "verifier", "walk"], "as_root");

/// How tests become root.
enum Root {
    /// This process is root.
    Already,
    /// Through cargo's variable of this name, with this value.
    Runner(String, String),
    /// Not at all: the tests that need root are skipped.
    Never,
}

impl Root {
    /// What there is; says so when there is nothing.
    fn available() -> anyhow::Result<Self> {
        match machine::root_prefix("running the tests (network namespaces and XDP programs)") {
            Ok(None) => Ok(Self::Already),
            Ok(Some(words)) => {
                let output =
                    machine::command("rustc").arg("-vV").output().context("cannot run `rustc -vV`")?;
                let text = String::from_utf8_lossy(&output.stdout);
                let host = text.lines().find_map(|line| line.strip_prefix("host: "));
                let host = host.context("`rustc -vV` names no host")?.to_uppercase().replace('-', "_");
                Ok(Self::Runner(format!("CARGO_TARGET_{host}_RUNNER"), words.join(" ")))
            }
            Err(error) => {
                let (binaries, module) = AS_ROOT;
                println!("skipped: the tests of {}, and those in {module}: {error:#}", binaries.join(", "));
                Ok(Self::Never)
            }
        }
    }
}

/// A check that passes or fails as a whole.
fn check(name: &str, command: &mut Command) -> anyhow::Result<Tally> {
    println!("{name}: {}", step::shown(command));
    let passed =
        command.status().with_context(|| format!("cannot run `{}`", step::shown(command)))?.success();
    if !passed {
        println!("{name}: failed");
    }
    Ok(Tally::one(passed))
}

/// What deny.toml says of the licences and sources of all that nicgate is made of. Where the check cannot be had, and it
/// need not be, that is said, and nothing counted.
fn licences(needed: bool) -> anyhow::Result<Tally> {
    if let Err(error) = setup::ensure(Purpose::Licences) {
        if needed {
            return Err(error);
        }
        println!("licences: skipped, because there is no cargo-deny to be had: {error:#}");
        return Ok(Tally::default());
    }
    // The check sees the crates of every system, builds have fetched only those of this one.
    let fetched = machine::cargo().args(["fetch", "--quiet"]).status()?;
    if !fetched.success() && !needed {
        println!("licences: skipped, because the crates of other systems cannot be fetched");
        return Ok(Tally::default());
    }
    check("licences", machine::cargo().args(["deny", "--offline", "check", "licenses", "bans", "sources"]))
}

struct TestRun {
    root: Root,
    nicgate: String,
}

impl TestRun {
    fn everything(&self, filter: Option<&str>) -> anyhow::Result<Tally> {
        let mut command = self.tests("all()", &[]);
        command.args(filter);
        self.counted(&mut command)
    }

    fn documentation(&self) -> anyhow::Result<Tally> {
        self.counted(machine::cargo().args(["test", "--workspace", "--doc", "--no-fail-fast"]))
    }

    fn fuzz(&self) -> anyhow::Result<Tally> {
        println!("fuzz: every target for a minute");
        // A filter that matches nothing means that there are no fuzz targets: a fault, which nextest reports.
        let mut command = self.tests("test(/^fuzz_/)", &["fuzz_"]);
        command.env(FUZZ_TIME.0, FUZZ_TIME.1);
        self.counted(&mut command)
    }

    fn walk(&self) -> anyhow::Result<Tally> {
        println!("walk: {} steps, about an hour", WALK.1);
        let mut command = self.tests("binary(walk)", &["nobody_slips_in"]);
        self.counted(command.env(WALK.0, WALK.1))
    }

    /// The tests of a filter of nextest's, where it is installed. Building it would take longer than it saves, so
    /// `cargo test` is the other way, with its own filter. Without rights, only those that need none.
    fn tests(&self, filter: &str, names: &[&str]) -> Command {
        let mut command = machine::cargo();
        let (binaries, module) = AS_ROOT;
        let never = matches!(self.root, Root::Never);
        if nextest() {
            command.args(["nextest", "run", "--workspace", "--no-fail-fast", "--status-level", "slow"]);
            let these = binaries.map(|name| format!("binary({name})")).join(" | ");
            let without = format!("({filter}) & not ({these} | test(/(^|::){module}::/))");
            command.args(["--filterset", if never { &without } else { filter }]);
        } else {
            command.args(["test", "--workspace", "--lib", "--bins", "--no-fail-fast"]);
            if never {
                for name in ["gate", "judgement", "offline", "players"] {
                    command.args(["--test", name]);
                }
            } else {
                command.arg("--tests");
            }
            command.arg("--").args(names);
            if never {
                command.args(["--skip", &format!("{module}::")]);
            }
        }
        command
    }

    fn counted(&self, command: &mut Command) -> anyhow::Result<Tally> {
        command.env("NICGATE_BIN", &self.nicgate);
        if let Root::Runner(variable, value) = &self.root {
            command.env(variable, value);
        }
        println!("tests: {}", step::shown(command));
        let mut tally = Tally::default();
        let status = step::watched(command, |line| {
            if let Some(count) = Tally::read(line) {
                tally.add(count);
            }
        })?;
        // Tests that do not compile, or a runner that dies, fail without a count.
        if !status.success() && tally.failed == 0 {
            println!("`{}` failed ({status})", step::shown(command));
            tally.failed += 1;
        }
        Ok(tally)
    }
}

fn nextest() -> bool {
    machine::find("cargo-nextest").is_some()
}
