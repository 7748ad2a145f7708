//! The program's own debug lines.

use std::io;

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

use super::error::{Context as _, Result};

/// The logger of the `log` crate, which tracing listens to.
type Logger = EbpfLogger<&'static dyn log::Log>;

/// The program's own debug lines. They exist only if the environment variable `NICGATE_BPF_DEBUG` was set
/// when the program was loaded.
pub struct DebugLines {
    logger: Logger,
}

impl DebugLines {
    pub(super) fn new(object: &mut Ebpf) -> Result<Self> {
        Ok(Self { logger: EbpfLogger::init(object).context("could not open the program's debug lines")? })
    }

    /// Hands every line to the `log` crate's logger, until cancelled. Must run inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// What the operating system says of waiting.
    pub async fn run(self) -> io::Result<()> {
        // SAFETY: the logger owns the descriptor, and neither closes nor replaces it before both are dropped.
        let mut logger = unsafe { AsyncFd::register_with_interest(self.logger, Interest::READABLE) }?;
        loop {
            let mut guard = logger.readable_mut().await?;
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    }
}
