//! Writing files so that a crash leaves either the old or the new one, and nobody else reads them.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// The path with something after its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Makes a folder and those above it, for the owner only.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The folder of a file, made if need be.
pub(super) fn make_folder_of(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(folder)?;
    Ok(folder)
}

/// Writes a file that nobody reads yet. When this returns, its contents are on the disk.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Brings a folder's names to the disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Replaces a file, or makes it. When this returns, it is on the disk; when it fails, the former one is whole.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = make_folder_of(path)?;
    let next = with_suffix(path, ".new");
    write(&next, bytes)?;
    fs::rename(&next, path)?;
    sync_folder(folder)
}

/// Takes a name until this process ends in whatever way, or the value is dropped. What is locked is a file beside,
/// which stays: whoever removed it could remove one that another process has just locked.
///
/// # Errors
///
/// Another process has the name, or the file cannot be made.
pub(crate) fn lock_beside(path: &Path) -> Result<File, TryLockError> {
    let name = with_suffix(path, ".lock");
    let file = File::options().create(true).append(true).mode(0o600).open(name);
    let file = file.map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}
