//! What a benchmark writes beside what it prints.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::Args;
use serde_json::Value;

/// Where it writes to.
#[derive(Args, Debug)]
pub struct Written {
    /// Write the figures to a file, too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write plots into a directory
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
}

impl Written {
    /// Writes the figures, if that is wished.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn figures(&self, figures: impl FnOnce() -> Value) -> anyhow::Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        fs::write(path, format!("{:#}\n", figures()))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
