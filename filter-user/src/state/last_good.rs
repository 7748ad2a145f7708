//! The last good configuration: the texts and the database that were enforced last, kept where they outlive the
//! process and the machine.
//!
//! `FOLDER/NUMBER/manifest.json` names the files and their checksums, which stand beside it as `0`, `1` …;
//! `FOLDER/current` says which number counts. A folder is written whole before `current` names it, so that a crash at
//! any point leaves the former one. Everything is for the owner only: texts carry tokens and keys.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

use super::file;
use crate::{
    config::Files,
    kernel::wall_clock,
    load::{DiskFiles, Source, read_database},
};

/// The form of the manifest.
const VERSION: u32 = 1;

/// A file that was read, by the name under which it was read.
type Kept = (PathBuf, Arc<[u8]>);

/// Reads from the disk, and remembers what it has read.
#[derive(Debug, Default)]
pub struct Recording(Mutex<Vec<Kept>>);

impl Recording {
    fn keep(&self, path: &Path, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((path.to_owned(), bytes.into()));
    }
}

impl Files for Recording {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        DiskFiles.read(path).inspect(|bytes| self.keep(path, bytes))
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        DiskFiles.matching(pattern)
    }
}

impl Source for Recording {
    fn database(&self, path: &Path) -> io::Result<Vec<u8>> {
        read_database(path).inspect(|bytes| self.keep(path, bytes))
    }
}

/// A configuration as it was kept.
#[derive(Debug)]
pub struct LastGood {
    /// When it was kept, in seconds since 1970.
    pub saved_at: u64,
    files: HashMap<PathBuf, Vec<u8>>,
}

impl Files for LastGood {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern = glob::Pattern::new(&pattern.to_string_lossy()).map_err(io::Error::other)?;
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::default() };
        let mut paths: Vec<_> =
            self.files.keys().filter(|path| pattern.matches_path_with(path, options)).cloned().collect();
        paths.sort();
        Ok(paths)
    }
}

impl Source for LastGood {
    fn database(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read(path)
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    /// Seconds since 1970.
    saved_at: u64,
    /// The configuration file that includes the others.
    main: PathBuf,
    files: Vec<Entry>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    path: PathBuf,
    length: u64,
    sha1: String,
}

/// Where the last good configuration is kept: beside the file of bans.
pub fn folder_beside(bans: &Path) -> PathBuf {
    bans.with_file_name("last-good")
}

/// Keeps what was read for the configuration `main`. Does nothing when the same is kept already.
///
/// # Errors
///
/// It cannot be written; what was kept before still is.
pub fn keep(folder: &Path, main: &Path, read: &Recording) -> anyhow::Result<()> {
    let files = std::mem::take(&mut *read.0.lock().unwrap_or_else(PoisonError::into_inner));
    write(folder, main, &files).with_context(|| format!("cannot write {}", folder.display()))
}

fn write(folder: &Path, main: &Path, files: &[Kept]) -> anyhow::Result<()> {
    let entry = |(path, bytes): &Kept| Entry {
        path: path.clone(),
        length: bytes.len() as u64,
        sha1: checksum(bytes),
    };
    let saved_at = wall_clock().as_secs();
    let files_of = files.iter().map(entry).collect();
    let manifest = Manifest { version: VERSION, saved_at, main: main.to_owned(), files: files_of };
    let former = current(folder).ok();
    if let Some((_, former)) = &former
        && (former.version, &former.main, &former.files) == (VERSION, &manifest.main, &manifest.files)
        && read(folder, main).is_ok()
    {
        return Ok(());
    }
    let number = former.map_or(0, |(number, _)| number.wrapping_add(1));
    let next = folder.join(number.to_string());
    if next.exists() {
        fs::remove_dir_all(&next)?;
    }
    file::make_folder(&next)?;
    for (index, (_, bytes)) in files.iter().enumerate() {
        file::write(&next.join(index.to_string()), bytes)?;
    }
    file::write(&next.join("manifest.json"), &serde_json::to_vec_pretty(&manifest)?)?;
    file::sync_folder(&next)?;
    file::replace(&folder.join("current"), number.to_string().as_bytes())?;
    for old in fs::read_dir(folder)?.flatten() {
        if old.path().is_dir() && old.path() != next {
            fs::remove_dir_all(old.path())?;
        }
    }
    Ok(())
}

/// Reads what is kept for the configuration `main`.
///
/// # Errors
///
/// There is nothing, it is of another configuration or another form, or it is damaged.
pub fn read(folder: &Path, main: &Path) -> anyhow::Result<LastGood> {
    let (number, manifest) = current(folder)?;
    if manifest.version != VERSION {
        bail!("it has the form {}, and this version of nicgate knows {VERSION}", manifest.version);
    }
    ensure!(manifest.main == main, "it is of {}", manifest.main.display());
    let mut files = HashMap::new();
    for (index, Entry { path, length, sha1 }) in manifest.files.into_iter().enumerate() {
        let bytes = fs::read(folder.join(number.to_string()).join(index.to_string()))?;
        let whole = bytes.len() as u64 == length && checksum(&bytes) == sha1;
        ensure!(whole, "what is kept of {} is damaged", path.display());
        files.insert(path, bytes);
    }
    Ok(LastGood { saved_at: manifest.saved_at, files })
}

fn current(folder: &Path) -> anyhow::Result<(u64, Manifest)> {
    let number: u64 = fs::read_to_string(folder.join("current"))?.trim().parse()?;
    let manifest = fs::read(folder.join(number.to_string()).join("manifest.json"))?;
    Ok((number, serde_json::from_slice(&manifest)?))
}

/// Against damage, not against whoever may write here: that is root alone.
fn checksum(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("nicgate-last-good-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    fn recording(files: &[(&str, &[u8])]) -> Recording {
        let recording = Recording::default();
        files.iter().for_each(|(path, bytes)| recording.keep(Path::new(path), bytes));
        recording
    }

    const MAIN: &str = "/etc/nicgate/nicgate.conf";

    #[test]
    fn what_is_kept_comes_back_and_only_the_last_of_it() {
        let folder = folder("back");
        assert!(read(&folder, Path::new(MAIN)).is_err(), "there is nothing yet");
        for text in ["first", "second", "second"] {
            let files: &[(&str, &[u8])] = &[
                (MAIN, text.as_bytes()),
                ("/etc/d/b.conf", b"b"),
                ("/etc/d/a.conf", b"a"),
                ("/l", &[0, 255]),
            ];
            keep(&folder, Path::new(MAIN), &recording(files)).unwrap();
        }
        let kept = read(&folder, Path::new(MAIN)).unwrap();
        assert_eq!(kept.read(Path::new(MAIN)).unwrap(), b"second");
        assert_eq!(kept.database(Path::new("/l")).unwrap(), [0, 255]);
        assert_eq!(
            kept.matching(Path::new("/etc/d/*.conf")).unwrap(),
            ["/etc/d/a.conf", "/etc/d/b.conf"].map(PathBuf::from)
        );
        assert!(read(&folder, Path::new("/other.conf")).is_err(), "another configuration is not this one");
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        // The third was the same as the second, and was not written again.
        assert_eq!(names, ["1", "current"]);
        assert_eq!(fs::metadata(folder.join("1")).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(folder.join("1/0")).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let folder = folder("damaged");
        keep(&folder, Path::new(MAIN), &recording(&[(MAIN, b"text")])).unwrap();
        for (file, bytes) in [
            ("0/0", &b"texT"[..]),
            ("0/0", b"tex"),
            ("0/manifest.json", b"{}"),
            ("current", b"7"),
            ("current", b""),
        ] {
            let whole = fs::read(folder.join(file)).unwrap();
            fs::write(folder.join(file), bytes).unwrap();
            assert!(read(&folder, Path::new(MAIN)).is_err(), "{file}");
            fs::write(folder.join(file), whole).unwrap();
        }
        fs::remove_file(folder.join("0/0")).unwrap();
        assert!(read(&folder, Path::new(MAIN)).is_err());
        // And it is replaced by what is good, whatever it was.
        keep(&folder, Path::new(MAIN), &recording(&[(MAIN, b"new")])).unwrap();
        assert_eq!(read(&folder, Path::new(MAIN)).unwrap().read(Path::new(MAIN)).unwrap(), b"new");
        fs::remove_dir_all(&folder).unwrap();
    }
}
