//! What the running kernel's verifier says of each variant of the program, as `tests/verifier.txt` has it.

use std::process::ExitCode;

use kit::{machine, verifier};

fn main() -> ExitCode {
    machine::finish(print())
}

fn print() -> anyhow::Result<ExitCode> {
    for row in verifier::measure()? {
        println!("{}", row.line());
    }
    Ok(ExitCode::SUCCESS)
}
