use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

/// Logs to stderr: for people on a terminal, JSON otherwise. `NICGATE_LOG` chooses what, in the syntax of
/// `RUST_LOG`; without it everything from `info` up.
pub(super) fn init() {
    let filter = EnvFilter::try_from_env("NICGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        // They would be told on stderr with a panic if stderr is what fails: whoever read the log went away.
        .log_internal_errors(false);
    // A second initialisation only happens when the controller runs twice in one process, as in tests.
    let _ = if io::stderr().is_terminal() { builder.try_init() } else { builder.json().try_init() };
}
