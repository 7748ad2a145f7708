//! The benchmarks that are programs of their own, because they need root, network namespaces and XDP.

use std::{
    env,
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::Args;

use super::country;
use crate::{
    build::{self, Profile},
    machine,
    setup::{self, Purpose},
};

/// A benchmark's own arguments, `--help` among them.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Own {
    /// The benchmark's own arguments; `--help` shows them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub(crate) arguments: Vec<OsString>,
}

/// Runs the program with optimisations, as root, where the operator is, so that file names mean the same.
///
/// # Errors
///
/// When the machine cannot be set up, or something does not build.
pub(crate) fn run(name: &str, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let status = command(name, arguments)?.status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn command(name: &str, arguments: &[OsString]) -> anyhow::Result<Command> {
    setup::ensure(Purpose::Bench)?;
    let nicgate = build::nicgate(Profile::Release)?;
    let tool: PathBuf = build::tools(&[name], Profile::Release)?.remove(0);
    let mut command = machine::root_command("env", "the benchmark (network namespaces and XDP programs)")?;
    command.arg(format!("NICGATE_BIN={}", nicgate.display())).arg(tool).args(arguments);
    command.current_dir(env::current_dir()?);
    Ok(command)
}

/// The arguments that give `bench-reload` the country database, if it can be had and none is named.
///
/// # Errors
///
/// When there is no room for it.
pub(crate) fn with_database(arguments: &[OsString]) -> anyhow::Result<Vec<OsString>> {
    let mut all = arguments.to_vec();
    let named = |name: &str| arguments.iter().any(|argument| argument.to_string_lossy().starts_with(name));
    if !named("--database") && !named("--help") {
        match country::database()? {
            Ok(path) => all.extend(["--database".into(), path.into()]),
            Err(reason) => println!("without the country database: {reason}"),
        }
    }
    Ok(all)
}
