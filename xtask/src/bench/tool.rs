//! The benchmarks that are programs of their own, because they need root, network namespaces and XDP.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
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

/// Sets the machine up and builds these, and nicgate, with optimisations.
///
/// # Errors
///
/// When the machine cannot be set up, or something does not build.
pub(crate) fn prepare(names: &[&str]) -> anyhow::Result<()> {
    setup::ensure(Purpose::Bench)?;
    build::nicgate_and_tools(names, Profile::Release)?;
    Ok(())
}

/// Runs the program with optimisations, as root, where the operator is, so that file names mean the same.
///
/// # Errors
///
/// When the machine cannot be set up, or something does not build.
pub(crate) fn run(name: &str, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let status = command(name, &with_plots(arguments, &plots()))?.status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where plots go when no directory is named.
pub(crate) fn plots() -> PathBuf {
    machine::target().join("plots")
}

/// The arguments with a directory after a `--plot` that has none.
fn with_plots(arguments: &[OsString], directory: &Path) -> Vec<OsString> {
    let mut all = Vec::new();
    let mut rest = arguments.iter().peekable();
    while let Some(argument) = rest.next() {
        all.push(argument.clone());
        if argument == "--plot" && rest.peek().is_none_or(|next| next.to_string_lossy().starts_with('-')) {
            all.push(directory.into());
        }
    }
    all
}

fn command(name: &str, arguments: &[OsString]) -> anyhow::Result<Command> {
    setup::ensure(Purpose::Bench)?;
    let (nicgate, mut tools) = build::nicgate_and_tools(&[name], Profile::Release)?;
    let mut command = machine::root_command("env", "the benchmark (network namespaces and XDP programs)")?;
    command.arg(format!("NICGATE_BIN={}", nicgate.display())).arg(tools.remove(0)).args(arguments);
    command.current_dir(env::current_dir()?);
    Ok(command)
}

/// The arguments with the country database, if it can be had and none is named.
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

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, path::Path};

    use super::with_plots;

    #[test]
    fn plots_go_where_the_operator_says_or_else_to_their_place() {
        let filled = |text: &str| {
            let words: Vec<OsString> = text.split_whitespace().map(OsString::from).collect();
            let all = with_plots(&words, Path::new("/t/plots"));
            all.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(filled("--plot"), "--plot /t/plots");
        assert_eq!(filled("--plot --runs 3"), "--plot /t/plots --runs 3");
        assert_eq!(filled("--plot here --runs 3"), "--plot here --runs 3");
        assert_eq!(filled("--runs 3"), "--runs 3");
    }
}
