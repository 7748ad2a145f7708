//! `cargo xtask`: sets nicgate's toolchain up, builds, demonstrates, tests and benchmarks it.
//!
//! It depends on nothing that it installs, so it runs on a machine that has only Rust.

mod bench;
mod build;
mod demo;
mod machine;
mod setup;
mod step;
mod tally;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::setup::Purpose;

/// What there is in a machine.
const VM_HELP: &str = "In a machine are nicgate, bench-pktgen, kernel-matrix, ip and busybox's commands. \
                       qemu is the only thing that this installs; kernels are unpacked into target/vm.";

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Sets up, builds, demonstrates, tests and benchmarks nicgate")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the build, the tests and the demo need, if it is missing
    Setup,
    /// Build the nicgate binary, the XDP program inside it
    Build {
        /// Build with optimisations, into target/release
        #[arg(long)]
        release: bool,
    },
    /// Show it at work: hosts in network namespaces, real traffic, a table of what was expected and seen
    Demo {
        /// Leave everything up afterwards, for playing with it
        #[arg(long)]
        keep: bool,
    },
    /// Format, clippy, rustdoc, licences, every test, and the checks of `vm` on every kernel
    Test {
        /// Also run every fuzz target for a minute, and fail where there is no virtual machine
        #[arg(long)]
        long: bool,
        /// Run only the tests whose name contains this, without the format, clippy, licence, documentation and kernel checks
        #[arg(long, value_name = "NAME")]
        filter: Option<String>,
    },
    /// Check nicgate on Debian's kernels, in virtual machines; or run one command in one
    #[command(after_help = VM_HELP)]
    Vm {
        /// A series of kernels, or all: 6.1 is Debian 12's own, 6.12 the one of its backports
        #[arg(long, default_value = "all", value_name = "SERIES")]
        kernel: String,
        /// Run this in the machine, instead of the checks
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// What the kernel's verifier says of each variant of the program, beside what tests/verifier.txt records
    Verifier {
        /// A series of kernels, in a virtual machine; running, for this machine's; or all
        #[arg(long, default_value = "running", value_name = "SERIES")]
        kernel: String,
        /// Record it
        #[arg(long)]
        accept: bool,
    },
    /// Measure
    Bench {
        /// What to measure
        #[command(subcommand)]
        what: bench::What,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Setup => {
            if !setup::ensure(Purpose::Everything)? {
                println!("setup: everything is there");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Build { release } => {
            setup::ensure(Purpose::Build)?;
            let binary =
                build::nicgate(if release { build::Profile::Release } else { build::Profile::Debug })?;
            println!("built {}", binary.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo { keep } => demo::run(keep),
        Command::Vm { kernel, command } => vm::run(&kernel, &command),
        Command::Verifier { kernel, accept } => vm::verifier(&kernel, accept),
        Command::Test { long, filter } => test::run(long, filter.as_deref()),
        Command::Bench { what } => bench::run(what),
    }
}
