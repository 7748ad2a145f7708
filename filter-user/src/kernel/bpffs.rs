//! The BPF file system that pins live in.

use std::path::PathBuf;

use super::{
    error::{Context as _, ErrorKind, Result},
    sys,
};

/// The BPF file system's usual place.
const USUAL: &str = "/sys/fs/bpf";
/// Environment variable that names another place.
const OVERRIDE: &str = "NICGATE_BPFFS";

/// Where the BPF file system is mounted: `/sys/fs/bpf`, unless the environment variable `NICGATE_BPFFS`
/// names another place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bpffs {
    root: PathBuf,
}

impl Default for Bpffs {
    fn default() -> Self {
        Self { root: std::env::var_os(OVERRIDE).map_or_else(|| USUAL.into(), PathBuf::from) }
    }
}

impl Bpffs {
    /// A BPF file system that is, or will be, mounted elsewhere.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory that all interfaces share.
    pub(super) fn nicgate(&self) -> PathBuf {
        self.root.join("nicgate")
    }

    /// Mounts it if nothing is mounted there (Linux 4.4), for the owner only.
    ///
    /// # Errors
    ///
    /// Missing privileges, or the kernel refuses.
    pub fn mount(&self) -> Result<()> {
        let root = &self.root;
        if sys::is_bpffs(root).with_context(|| format!("could not look at {}", root.display()))? {
            return Ok(());
        }
        if let Err(error) = sys::mount_bpffs(root) {
            let shown = root.display();
            if error.raw_os_error() == Some(libc::EPERM) {
                return Err(ErrorKind::Permission(format!(
                    "may not mount the BPF file system at {shown}: run as root, or mount it beforehand with `mount -t bpf bpf {shown}`"
                ))
                .into());
            }
            return Err(error).with_context(|| format!("could not mount the BPF file system at {shown}"));
        }
        Ok(())
    }
}
