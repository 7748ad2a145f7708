//! Where the program, its link and its maps are pinned.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use filter_ebpf::layout;

use super::{
    bpffs::Bpffs,
    error::{Context as _, ErrorKind, Result},
};
use crate::model::Engine;

/// The files under which one interface's link, program and maps outlive their process:
/// `nicgate/IFACE/{link,program,layout-VERSION-ENGINE/MAP}`.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    dir: PathBuf,
}

impl Pins {
    pub(super) fn new(bpffs: &Bpffs, interface: &str) -> Self {
        Self { dir: bpffs.nicgate().join(file_name(interface)) }
    }

    /// Interfaces that have pins.
    pub(super) fn interfaces(bpffs: &Bpffs) -> Result<Vec<String>> {
        let folder = bpffs.nicgate();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                let looking = format!("cannot look into {}", folder.display());
                if error.kind() == io::ErrorKind::PermissionDenied {
                    return Err(ErrorKind::Permission(format!("{looking}; run as root: {error}")).into());
                }
                return Err(error).context(looking);
            }
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .map(|name| interface_name(&name))
            .collect();
        names.sort();
        Ok(names)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn link(&self) -> PathBuf {
        self.dir.join("link")
    }

    pub(super) fn program(&self) -> PathBuf {
        self.dir.join("program")
    }

    /// A program that is about to take the place of [`Self::program`].
    pub(super) fn next_program(&self) -> PathBuf {
        self.dir.join("program-next")
    }

    /// The maps of this build's layout for an engine. Other layouts and engines have other directories, so
    /// that an upgrade can fill new maps while a program still judges by the old ones.
    pub(super) fn maps(&self, engine: Engine) -> PathBuf {
        self.dir.join(format!("layout-{}-{engine}", layout::VERSION))
    }

    pub(super) fn exist(&self) -> bool {
        self.dir.is_dir()
    }

    pub(super) fn create(&self, engine: Engine) -> Result<()> {
        let maps = self.maps(engine);
        fs::create_dir_all(&maps).with_context(|| format!("could not create {}", maps.display()))
    }

    /// Keeps other controllers off this interface until the file is closed, also by SIGKILL.
    pub(super) fn lock(&self) -> Result<Lock> {
        let dir = File::open(&self.dir).with_context(|| format!("could not open {}", self.dir.display()))?;
        match dir.try_lock() {
            Ok(()) => Ok(Lock(Some(dir))),
            Err(fs::TryLockError::WouldBlock) => Err(ErrorKind::Locked(self.dir.clone()).into()),
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("could not lock {}", self.dir.display()))
            }
        }
    }

    /// Removes the maps of other layouts, which nothing uses any more.
    pub(super) fn remove_other_layouts(&self, engine: Engine) -> io::Result<()> {
        let current = self.maps(engine);
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.is_dir() && path != current {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    /// Removes everything. The link's pin goes first: what holds the program in place must not outlive the
    /// maps' names.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(self.link()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Shared by all interfaces; fails, as it should, while another one has pins.
        if let Some(parent) = self.dir.parent() {
            let _ = fs::remove_dir(parent);
        }
        Ok(())
    }
}

/// Held by the one that may publish or detach: whoever writes into the idle generation has to show it. The file is
/// closed with this value.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "it is held, not read")] Option<File>);

impl Lock {
    /// For tables that nobody else can reach.
    pub(super) fn of_own_tables() -> Self {
        Self(None)
    }
}

/// The BPF file system refuses names with dots, and VLAN interfaces have them: `eth0.100` is `eth0%2e100`.
fn file_name(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

fn interface_name(file: &str) -> String {
    file.replace("%2e", ".").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_survive_the_file_system() {
        for name in ["eth0", "eth0.100", "a%2eb", "%", "br-lan.1.2"] {
            let file = file_name(name);
            assert!(!file.contains('.'), "{file}");
            assert_eq!(interface_name(&file), name);
        }
    }
}
