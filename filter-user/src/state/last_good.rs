//! The last good configuration: the texts and the database that were enforced last, kept where they outlive the
//! process and the machine.
//!
//! `FOLDER/NUMBER/manifest.json` names the files and their checksums, which stand beside it as `0`, `1` …;
//! `FOLDER/current` says which number counts. A folder is written whole before `current` names it, so that a crash at
//! any point leaves the former one. Everything is for the owner only: texts carry tokens and keys.

use std::{
    collections::HashMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

use super::file;
use crate::{
    config::{Files, Former},
    kernel::wall_clock,
    load::{DiskFiles, Source, own_addresses, read_database},
};

/// The form of the manifest.
const VERSION: u32 = 1;

/// A file that was read.
#[derive(Debug)]
struct Kept {
    /// The name under which it was read.
    path: PathBuf,
    bytes: Arc<[u8]>,
    /// In seconds since 1970; for what was kept already, when that was read.
    read_at: u64,
}

/// Reads from the disk, and remembers what it has read.
#[derive(Debug, Default)]
pub struct Recording {
    kept: Mutex<Vec<Kept>>,
    /// The folder and the configuration of which parts are taken that cannot be used as they are on the disk.
    former: Option<(PathBuf, PathBuf)>,
}

impl Recording {
    /// One that has what `folder` keeps of the configuration `main` in place of lists and databases that cannot be used.
    pub fn with_former(folder: &Path, main: &Path) -> Self {
        Self { former: Some((folder.to_owned(), main.to_owned())), ..Self::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a file, in place of what was read under the same name before.
    fn keep(&self, path: &Path, bytes: &[u8], read_at: u64) {
        let mut kept = self.kept();
        kept.retain(|other| other.path != path);
        kept.push(Kept { path: path.to_owned(), bytes: bytes.into(), read_at });
    }
}

impl Files for Recording {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        DiskFiles.read(path).inspect(|bytes| self.keep(path, bytes, wall_clock().as_secs()))
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        DiskFiles.matching(pattern)
    }

    /// What is kept of the file; from now on it counts as what was read, so that it is kept further on.
    fn former(&self, path: &Path) -> Option<Former> {
        let (folder, main) = self.former.as_ref()?;
        let former = read_one(folder, main, path).ok()?;
        self.keep(path, &former.bytes, former.read_at);
        Some(former)
    }
}

impl Source for Recording {
    fn database(&self, path: &Path) -> io::Result<Vec<u8>> {
        read_database(path).inspect(|bytes| self.keep(path, bytes, wall_clock().as_secs()))
    }

    fn own_addresses(&self) -> Vec<IpAddr> {
        own_addresses()
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
    /// When these contents were read, in seconds since 1970; 0 if that was not written down.
    #[serde(default)]
    read_at: u64,
}

impl Entry {
    /// What tells contents apart; the time of reading does not.
    fn contents(&self) -> (&Path, u64, &str) {
        (&self.path, self.length, &self.sha1)
    }
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
    let files = std::mem::take(&mut *read.kept());
    write(folder, main, &files).with_context(|| format!("cannot write {}", folder.display()))
}

fn write(folder: &Path, main: &Path, files: &[Kept]) -> anyhow::Result<()> {
    let entry = |Kept { path, bytes, read_at }: &Kept| Entry {
        path: path.clone(),
        length: bytes.len() as u64,
        sha1: checksum(bytes),
        read_at: *read_at,
    };
    let saved_at = wall_clock().as_secs();
    let files_of = files.iter().map(entry).collect();
    let manifest = Manifest { version: VERSION, saved_at, main: main.to_owned(), files: files_of };
    let former = current(folder).ok();
    if let Some((_, former)) = &former
        && (former.version, &former.main) == (VERSION, &manifest.main)
        && former.files.iter().map(Entry::contents).eq(manifest.files.iter().map(Entry::contents))
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
    for (index, Kept { bytes, .. }) in files.iter().enumerate() {
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
    let (number, manifest) = of(folder, main)?;
    let mut files = HashMap::new();
    for (index, entry) in manifest.files.into_iter().enumerate() {
        let bytes = read_entry(folder, number, index, &entry)?;
        files.insert(entry.path, bytes);
    }
    Ok(LastGood { saved_at: manifest.saved_at, files })
}

/// Reads what is kept of one file of the configuration `main`.
fn read_one(folder: &Path, main: &Path, path: &Path) -> anyhow::Result<Former> {
    let (number, manifest) = of(folder, main)?;
    let entry = manifest.files.iter().enumerate().find(|(_, entry)| entry.path == path);
    let (index, entry) = entry.context("it is not kept")?;
    let bytes = read_entry(folder, number, index, entry)?;
    let read_at = if entry.read_at == 0 { manifest.saved_at } else { entry.read_at };
    Ok(Former { bytes, read_at })
}

fn read_entry(folder: &Path, number: u64, index: usize, entry: &Entry) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(folder.join(number.to_string()).join(index.to_string()))?;
    let whole = bytes.len() as u64 == entry.length && checksum(&bytes) == entry.sha1;
    ensure!(whole, "what is kept of {} is damaged", entry.path.display());
    Ok(bytes)
}

/// What is kept of the configuration `main`.
fn of(folder: &Path, main: &Path) -> anyhow::Result<(u64, Manifest)> {
    let (number, manifest) = current(folder)?;
    if manifest.version != VERSION {
        bail!("it has the form {}, and this version of nicgate knows {VERSION}", manifest.version);
    }
    ensure!(manifest.main == main, "it is of {}", manifest.main.display());
    Ok((number, manifest))
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
        files.iter().for_each(|(path, bytes)| recording.keep(Path::new(path), bytes, 7));
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
    fn one_file_comes_back_alone_with_the_time_of_its_reading() {
        let folder = folder("one");
        let main = Path::new(MAIN);
        let list = Path::new("/etc/list");
        keep(&folder, main, &recording(&[(MAIN, b"text"), ("/etc/list", b"192.0.2.1")])).unwrap();
        let former = |main: &Path, path: &Path| Recording::with_former(&folder, main).former(path);
        let kept = former(main, list).unwrap();
        assert_eq!((&kept.bytes[..], kept.read_at), (&b"192.0.2.1"[..], 7));
        assert!(former(main, Path::new("/etc/other")).is_none());
        assert!(former(Path::new("/other.conf"), list).is_none(), "it is of another configuration");
        assert!(Recording::default().former(list).is_none());
        // What was taken in place of a file is kept as that file, as old as it is.
        let recording = Recording::with_former(&folder, main);
        recording.keep(list, b"broken", 9);
        recording.former(list).unwrap();
        recording.keep(main, b"another", 9);
        keep(&folder, main, &recording).unwrap();
        let kept = former(main, list).unwrap();
        assert_eq!((&kept.bytes[..], kept.read_at), (&b"192.0.2.1"[..], 7));
        // Damage of another file is none of its own; its own is.
        fs::write(folder.join("1/0"), "192.0.2.2").unwrap();
        assert!(former(main, list).is_none());
        assert_eq!(former(main, main).unwrap().bytes, b"another");
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
