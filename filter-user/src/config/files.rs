//! Where a configuration's texts come from.

use std::path::{Path, PathBuf};

/// Where the configuration's files come from, so that loading itself does no I/O.
pub trait Files {
    /// The contents of one file.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>>;

    /// The files whose names match a shell pattern (`*`, `?`, `[…]`), sorted.
    ///
    /// # Errors
    ///
    /// When the pattern is wrong, or a folder cannot be read.
    fn matching(&self, pattern: &Path) -> std::io::Result<Vec<PathBuf>>;
}
