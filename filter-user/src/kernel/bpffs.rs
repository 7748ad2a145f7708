use std::{
    ffi::CString,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// The BPF file system's usual place.
const USUAL: &str = "/sys/fs/bpf";
/// Environment variable that names another place.
const OVERRIDE: &str = "NICGATE_BPFFS";
/// `BPF_FS_MAGIC` of `linux/magic.h`.
const MAGIC: i64 = 0xcafe_4a11;

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

    /// Mounts it if nothing is mounted there.
    pub(super) fn mount(&self) -> Result<()> {
        let root = &self.root;
        if is_bpffs(root).with_context(|| format!("could not look at {}", root.display()))? {
            return Ok(());
        }
        let target = CString::new(root.as_os_str().as_bytes())?;
        // SAFETY: four NUL-terminated strings that live until the call returns; bpf takes no data.
        let result = unsafe {
            libc::mount(c"bpf".as_ptr(), target.as_ptr(), c"bpf".as_ptr(), 0, c"mode=0700".as_ptr().cast())
        };
        if result != 0 {
            let error = io::Error::last_os_error();
            let shown = root.display();
            if error.raw_os_error() == Some(libc::EPERM) {
                bail!(
                    "may not mount the BPF file system at {shown}: run as root, or mount it beforehand with `mount -t bpf bpf {shown}`"
                );
            }
            bail!("could not mount the BPF file system at {shown}: {error}");
        }
        Ok(())
    }
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a valid statfs.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a NUL-terminated path and a buffer of the right type, both live until the call returns.
    if unsafe { libc::statfs(path.as_ptr(), &mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stat.f_type as i64 == MAGIC)
}
