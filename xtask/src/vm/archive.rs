//! An initial file system, in the format that the kernel unpacks (`newc` of cpio).

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use anyhow::Context;
use cpio::newc::{Builder, ModeFileType, trailer};

/// The archive, in the making.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    files: BTreeSet<String>,
    number: u32,
}

impl Archive {
    /// A directory and those above it.
    ///
    /// # Errors
    ///
    /// As [`Self::file`].
    pub(super) fn directory(&mut self, path: &str) -> anyhow::Result<()> {
        let path = path.trim_matches('/');
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            let part = &path[..end];
            if !part.is_empty() && self.directories.insert(part.to_owned()) {
                let entry = self.entry(part, ModeFileType::Directory, 0o755);
                self.append(entry, &[])?;
            }
        }
        Ok(())
    }

    /// An executable file at an absolute path; the first one at a path stays.
    ///
    /// # Errors
    ///
    /// When the file is larger than the format allows.
    pub(super) fn file(&mut self, path: &str, contents: &[u8]) -> anyhow::Result<()> {
        let path = path.trim_start_matches('/');
        if !self.files.insert(path.to_owned()) {
            return Ok(());
        }
        if let Some((directory, _)) = path.rsplit_once('/') {
            self.directory(directory)?;
        }
        let entry = self.entry(path, ModeFileType::Regular, 0o755);
        self.append(entry, contents)
            .with_context(|| format!("cannot put /{path} into an initial file system"))
    }

    /// A character device.
    ///
    /// # Errors
    ///
    /// As [`Self::file`].
    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) -> anyhow::Result<()> {
        let entry = self.entry(path.trim_start_matches('/'), ModeFileType::Char, 0o600);
        self.append(entry.rdev_major(major).rdev_minor(minor), &[])
    }

    /// The finished archive.
    ///
    /// # Errors
    ///
    /// None, because it is in memory.
    pub(super) fn finish(self) -> anyhow::Result<Vec<u8>> {
        Ok(trailer(self.bytes)?)
    }

    /// What is said of the next file. Each has a number of its own: files with the same one would be links.
    fn entry(&mut self, path: &str, kind: ModeFileType, permissions: u32) -> Builder {
        self.number += 1;
        Builder::new(path).ino(self.number).mode(permissions).set_mode_file_type(kind)
    }

    fn append(&mut self, entry: Builder, contents: &[u8]) -> anyhow::Result<()> {
        let length = u32::try_from(contents.len()).map_err(io::Error::other)?;
        let mut writer = entry.write(&mut self.bytes, length);
        writer.write_all(contents)?;
        writer.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn every_entry_has_its_directories_before_it_and_ends_on_four_bytes() {
        let mut archive = Archive::default();
        archive.file("/a/b/c", b"xyz").unwrap();
        archive.file("/a/b/d", b"").unwrap();
        archive.file("/a/b/c", b"another").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        let names: Vec<&str> =
            text.split("070701").skip(1).map(|entry| entry[104..].split('\0').next().unwrap()).collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/b/d", "TRAILER!!!"]);
        assert!(text.contains("xyz\0"));
        assert!(!text.contains("another"));
    }
}
