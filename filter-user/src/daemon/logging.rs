//! The log.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, field::MakeExt as _, fmt::format::debug_fn};

use crate::config::printable;

/// What chooses what is logged, in the syntax of `RUST_LOG`.
const VARIABLE: &str = "NICGATE_LOG";

/// Logs to stderr: for people on a terminal, JSON otherwise. [`VARIABLE`] chooses what; without it everything from
/// `info` up.
pub(super) fn init() {
    let chosen = std::env::var(VARIABLE).ok().filter(|chosen| !chosen.is_empty());
    let parsed = chosen.as_deref().map(EnvFilter::try_new);
    let (filter, wrong) = match parsed {
        None => (EnvFilter::new("info"), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new("info"), Some(error)),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        // They would be told on stderr with a panic if stderr is what fails: whoever read the log went away.
        .log_internal_errors(false);
    // Names in a configuration and what clients send are somebody else's text; JSON escapes it.
    let fields = debug_fn(|writer, field, value| {
        let value = format!("{value:?}");
        let value = printable(&value, &['\n', '\t']);
        if field.name() == "message" { write!(writer, "{value}") } else { write!(writer, "{field}={value}") }
    });
    let for_people = fields.delimited(" ");
    // A second initialisation only happens when the controller runs twice in one process, as in tests.
    let _ = if io::stderr().is_terminal() {
        builder.fmt_fields(for_people).try_init()
    } else {
        builder.json().try_init()
    };
    if let Some(error) = wrong {
        tracing::warn!("{VARIABLE} cannot be read, so that everything from `info` up is logged: {error}");
    }
}
