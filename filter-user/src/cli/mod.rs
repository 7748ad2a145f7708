//! The command line.
//!
//! Results go to stdout, messages to stderr. Exit status: 0 fine, 1 the configuration or the request is
//! wrong, 2 usage, 3 the system refused.

mod check;
mod compile;
mod explain;
mod failure;
mod output;

use std::{net::IpAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use failure::Failure;
use output::Output;

/// Access rules for media servers, enforced at the NIC and in userspace.
#[derive(Debug, Parser)]
#[command(name = "nicgate", version, max_term_width = 100)]
#[command(after_help = "Exit status: 0 fine, 1 the configuration or the request is wrong, 2 usage, \
                        3 the system refused.")]
struct Cli {
    /// The configuration file.
    #[arg(short, long, global = true, value_name = "FILE", default_value = "/etc/nicgate/nicgate.conf")]
    config: PathBuf,

    /// Print JSON with stable field names.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration: what is wrong, or what will be enforced where and why.
    Check,
    /// Explain what becomes of one request, step by step, and of its packets at the NIC.
    Explain(ExplainArgs),
    /// Print what the NIC drops, as prefixes.
    Compile {
        /// Only this service, such as 80/tcp.
        #[arg(long, value_name = "PORT/PROTO")]
        service: Option<String>,
    },
}

#[derive(Args, Debug)]
struct ExplainArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The source address.
    #[arg(long, value_name = "ADDR")]
    ip: IpAddr,
    /// The token that the client shows.
    #[arg(long)]
    token: Option<String>,
    /// The User-Agent that the client shows.
    #[arg(long, value_name = "UA")]
    ua: Option<String>,
    /// What the backends would answer: one word for each, in file order.
    #[arg(long, value_name = "WORD,…", value_delimiter = ',')]
    assume_backends: Option<Vec<AnswerWord>>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// The `auth_backend` that judges.
    #[arg(long, value_name = "NAME")]
    auth: Option<String>,
    /// The stream that is asked for; its `on_play` judges.
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AnswerWord {
    /// 2xx.
    Allow,
    /// 4xx.
    #[value(alias = "ban")]
    Deny,
    /// 5xx, or no answer.
    Down,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let Cli { config, json, command } = Cli::parse();
    let output = Output::new(json);
    let result = match command {
        Command::Check => check::run(&config, &output),
        Command::Explain(args) => explain::run(&config, &args, &output),
        Command::Compile { service } => compile::run(&config, service.as_deref(), &output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&output),
    }
}
