//! The command line.
//!
//! Results go to stdout, messages to stderr. Exit status: 0 fine, 1 the configuration or the request is
//! wrong, 2 usage, 3 the system refused.

mod attach;
mod bans;
mod check;
mod compile;
mod control;
mod directives;
mod explain;
mod failure;
mod monitor;
mod output;
mod sessions;
mod stats;
mod status;

use std::{net::IpAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use failure::Failure;
use output::Output;
use sessions::SessionsArgs;

use crate::{
    bans::parse_duration,
    control::DEFAULT_PATH,
    daemon::{DEFAULT_STATE, Options},
    operations::Request,
    watch::BanOrder,
};

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

    /// The controller's socket.
    #[arg(long, global = true, value_name = "PATH", env = "NICGATE_CONTROL", default_value = DEFAULT_PATH)]
    control: PathBuf,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration: what is wrong, or what will be enforced where and why.
    Check {
        /// List every rule, also those that are alike.
        #[arg(long)]
        all: bool,
        /// Print only what is wrong.
        #[arg(short, long, conflicts_with = "all")]
        quiet: bool,
    },
    /// Explain what becomes of one request, step by step, and of its packets at the NIC.
    Explain(ExplainArgs),
    /// Print what the NIC drops, as prefixes.
    Compile {
        /// Only this service, such as 80/tcp.
        #[arg(long, value_name = "PORT/PROTO")]
        service: Option<String>,
    },
    /// Print the reference of directives: how each is written, what it does, and what holds without it.
    Directives {
        /// Only this one.
        name: Option<String>,
    },
    /// Run the controller in the foreground: attach, serve, reload on SIGHUP, stop on SIGTERM.
    ///
    /// The filter stays on the interfaces when the controller stops, however it stops; `nicgate detach` takes
    /// it off.
    Run {
        #[command(flatten)]
        state: StateArgs,
        /// Take over from the controller that runs, if one does: nobody who connects meanwhile is refused. If this
        /// fails, the former one goes on.
        #[arg(long)]
        replace: bool,
        /// How long requests in hand may take to finish on SIGTERM.
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
        stop_drain: Duration,
    },
    /// Start the program again, perhaps another version of it, and let the new process take over from the one that
    /// runs: nobody who connects meanwhile is refused. If this fails, the former one goes on.
    Upgrade,
    /// Make the controller load the configuration again; a wrong one changes nothing.
    Reload,
    /// Show what is attached, loaded and served. Exits with 0 only when everything is in force that the
    /// configuration wants, else with 3.
    Status {
        /// Print nothing: only the exit status tells.
        #[arg(short, long)]
        quiet: bool,
    },
    /// Show the counters: packets by outcome, port and rule, requests by rule.
    Stats {
        /// Only these interfaces.
        interfaces: Vec<String>,
    },
    /// Show the NIC's counters and their rates, again and again.
    Top {
        /// Only these interfaces.
        interfaces: Vec<String>,
        /// Seconds between two looks.
        #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
        interval: Duration,
    },
    /// Show drops as they happen, sampled.
    Monitor {
        /// Show one drop in this many.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        sample: u32,
    },
    /// List the open sessions, end them, or have the backends asked about them again.
    Sessions(SessionsArgs),
    /// Shut addresses out: at the NIC, and at nicgate's own gates, where live transfers are cut.
    ///
    /// A ban takes effect at once, without a reload, and outlives reloads, the controller and the machine's
    /// restart. To ban again what is banned replaces its time and its reason. A longer-lived ban around it
    /// stays in force when it ends.
    ///
    /// Addresses in `never_drop` are not dropped at the NIC; gates refuse them all the same.
    Ban {
        /// An address, or a prefix such as 198.51.100.0/24 or 2001:db8::/32.
        #[arg(value_name = "ADDR|PREFIX", required_unless_present = "file")]
        prefix: Option<String>,
        /// Ban every address and prefix of this file, one a line (`#` and `;` begin comments), or of the standard
        /// input with `-`: all of them as one change, or none.
        #[arg(long, value_name = "FILE", conflicts_with = "prefix")]
        file: Option<PathBuf>,
        /// For how long, such as 30s, 10m, 2h, 7d or 1h30m; for ever unless it is given.
        #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
        time: Option<Duration>,
        /// Why; shown by `bans` and `monitor`, and logged.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Only on this protected port; on all of them unless it is given.
        #[arg(long, value_name = "PORT/PROTO")]
        service: Option<String>,
        /// Really ban every address of a family: 0.0.0.0/0 or ::/0.
        #[arg(long)]
        yes: bool,
    },
    /// Let addresses in again.
    Unban {
        /// What was banned, as `bans` shows it.
        #[arg(value_name = "ADDR|PREFIX", required_unless_present = "all")]
        prefix: Option<String>,
        /// The port of a ban on one port.
        #[arg(long, value_name = "PORT/PROTO")]
        service: Option<String>,
        /// End every ban.
        #[arg(long, conflicts_with_all = ["prefix", "service"])]
        all: bool,
        /// With --all, name each.
        #[arg(short, long)]
        verbose: bool,
    },
    /// List the bans: what is left of their time, and what they stopped.
    Bans,
    /// Put the filter on the configured interfaces (or update it there) without a controller.
    Attach {
        /// Only these of the configured interfaces.
        interfaces: Vec<String>,
        #[command(flatten)]
        state: StateArgs,
    },
    /// Take the filter off.
    Detach {
        /// The interfaces.
        interfaces: Vec<String>,
        /// Every interface that nicgate filters.
        #[arg(long, conflicts_with = "interfaces")]
        all: bool,
    },
}

#[derive(Args, Debug)]
struct StateArgs {
    /// Where bans are kept.
    #[arg(long, value_name = "FILE", env = "NICGATE_STATE", default_value = DEFAULT_STATE)]
    state: PathBuf,
}

#[derive(Args, Debug)]
struct ExplainArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The source address; behind a trusted proxy, the one that the proxy names.
    #[arg(long, value_name = "ADDR")]
    ip: IpAddr,
    /// The trusted proxy that the request comes through: the network card sees its address.
    #[arg(long, value_name = "ADDR")]
    via: Option<IpAddr>,
    /// The client publishes; without it, it plays.
    #[arg(long, requires = "stream")]
    publish: bool,
    /// The token that the client shows.
    #[arg(long)]
    token: Option<String>,
    /// The User-Agent that the client shows.
    #[arg(long, value_name = "UA")]
    ua: Option<String>,
    /// What the backends would answer: one word for each, in file order.
    #[arg(long, value_name = "WORD,…", value_delimiter = ',')]
    assume_backends: Option<Vec<AnswerWord>>,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// The `auth_backend` that judges.
    #[arg(long, value_name = "NAME")]
    auth: Option<String>,
    /// The stream that is asked for; its `on_play` judges, or its `on_publish` with --publish.
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
    let Cli { config, json, control, command } = Cli::parse();
    let output = Output::new(json);
    let result = match command {
        Command::Check { all, quiet } => check::run(&config, all, quiet, &output),
        Command::Explain(args) => explain::run(&config, &args, &output),
        Command::Compile { service } => compile::run(&config, service.as_deref(), &output),
        Command::Directives { name } => directives::run(name.as_deref(), &output),
        Command::Run { state: StateArgs { state: bans }, replace, stop_drain } => {
            control::run(Options { config, control, bans, replace, stop_drain })
        }
        Command::Upgrade => control::upgrade(&control, &output),
        Command::Reload => control::reload(&control, &output),
        Command::Status { quiet } => status::status(&control, quiet, &output),
        Command::Stats { interfaces } => stats::stats(&control, &interfaces, &output),
        Command::Top { interfaces, interval } => stats::top(&interfaces, interval, &output),
        Command::Monitor { sample } => monitor::monitor(&control, sample, &output),
        Command::Sessions(args) => sessions::run(&control, args, &output),
        Command::Ban { prefix, file, time, reason, service, yes } => {
            let seconds = time.map(|time| time.as_secs());
            let prefix = prefix.unwrap_or_default();
            let order = BanOrder { prefix, service, seconds, reason, yes };
            match file {
                Some(file) => bans::ban_file(&control, &file, &order, &output),
                None => bans::ban(&control, order, &output),
            }
        }
        Command::Unban { prefix, service, all, verbose } => {
            bans::unban(&control, &Request::Unban { prefix, service, all }, verbose, &output)
        }
        Command::Bans => bans::list(&control, &output),
        Command::Attach { interfaces, state } => {
            attach::attach(&config, &control, &interfaces, &state.state, &output)
        }
        Command::Detach { interfaces, all } => attach::detach(&control, &interfaces, all, &output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&output),
    }
}

/// Reads a time between two looks: seconds, also parts of one, or a time as for bans.
fn interval(text: &str) -> Result<Duration, String> {
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    let read = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?,
        Err(_) => parse_duration(text)?,
    };
    if range.contains(&read) { Ok(read) } else { Err("it is not between 0.1 and 3600 seconds".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_seconds_or_times_and_nothing_else() {
        for (text, milliseconds) in [("1", 1000), ("0.5", 500), ("2s", 2000), ("1m", 60_000), ("1e1", 10_000)]
        {
            assert_eq!(interval(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for wrong in ["nan", "inf", "-1", "0", "0.01", "3601", "2h", "", "soon"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
