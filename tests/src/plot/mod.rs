//! Plots as SVG.

mod bars;
mod lines;
mod svg;

use std::{fs, path::Path};

use anyhow::Context;

pub use bars::bars;
pub use lines::{Line, Lines, Scale};

/// Writes a plot, and says so.
///
/// # Errors
///
/// When the directory cannot be made or the file not be written.
pub fn write(directory: &Path, name: &str, svg: &str) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let path = directory.join(name);
    fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}
