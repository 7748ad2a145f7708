//! `cargo xtask bench`: each benchmark compares nicgate with what else there is, on the same input in the same run.

mod all;
mod country;
mod tool;

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;

use tool::Own;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum What {
    /// The offload compiler, beside Debian's iprange
    Compile(Own),
    /// One lookup and one packet, by engine, list and number of prefixes, beside LPM_TRIE, xdp-filter and a bare drop
    Verdict(Own),
    /// A flood, beside iptables, nftables, xdp-filter and a bare drop, and what a viewer gets meanwhile
    Flood(Own),
    /// The replacement of a whole list, beside nft and ipset
    Reload(Own),
    /// The table of sessions: memory, requests, threads
    Sessions(Own),
    /// The kernel's packet generator against an interface that you name
    Pktgen(Own),
    /// Everything that aims at nothing outside this machine
    All {
        /// Write the figures to a file, too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Write plots into a directory, by default target/plots
        #[arg(long, value_name = "DIR", num_args = 0..=1)]
        plot: Option<Option<PathBuf>>,
    },
}

/// Measures.
///
/// # Errors
///
/// When the machine cannot be set up, or a benchmark cannot be run.
pub(crate) fn run(what: What) -> anyhow::Result<ExitCode> {
    match what {
        What::Compile(own) => tool::run("bench-compile", &tool::with_database(&own.arguments)?),
        What::Verdict(own) => tool::run("bench-verdict", &tool::with_database(&own.arguments)?),
        What::Flood(own) => tool::run("bench-flood", &own.arguments),
        What::Reload(own) => tool::run("bench-reload", &tool::with_database(&own.arguments)?),
        What::Sessions(own) => tool::run("bench-sessions", &own.arguments),
        What::Pktgen(own) => tool::run("bench-pktgen", &own.arguments),
        What::All { json, plot } => {
            all::run(json.as_deref(), plot.map(|directory| directory.unwrap_or_else(tool::plots)).as_deref())
        }
    }
}
