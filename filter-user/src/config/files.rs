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

    /// What was in force last of a list or a database, for when the file itself cannot be used. Nothing, unless
    /// somebody keeps it.
    fn former(&self, _path: &Path) -> Option<Former> {
        None
    }
}

/// What was in force last of a file.
#[derive(Clone, Debug)]
pub struct Former {
    /// Its contents.
    pub bytes: Vec<u8>,
    /// When they were read, in seconds since 1970.
    pub read_at: u64,
}
