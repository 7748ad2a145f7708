//! The file that runtime bans outlive the controller in.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::file;
use crate::{
    bans::{Ban, BanTable, Boottime, Scope},
    kernel::{boottime, wall_clock},
};

/// The form of the file.
const VERSION: u32 = 1;
/// A file of the limit's bans, with the longest reasons, is smaller.
const LARGEST: u64 = 64 << 20;

/// The file that bans outlive the controller and the machine's restart in.
#[derive(Debug)]
pub struct BanStore {
    path: PathBuf,
    /// Says that the file is ours, until this process ends in whatever way.
    lock: Option<File>,
}

/// What a file held.
#[derive(Debug)]
pub enum Found {
    /// Bans; those that have run out are left out.
    Bans(BanTable),
    /// There is no file.
    Nothing,
    /// Something else.
    Damaged {
        /// What is wrong with it.
        why: anyhow::Error,
        /// Where it was put, so that somebody can look at it.
        aside: Option<PathBuf>,
    },
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    /// Tells whether `until_boottime` means anything.
    boot_id: Option<String>,
    bans: Vec<SavedBan>,
}

#[derive(Serialize, Deserialize)]
struct SavedBan {
    id: u32,
    prefix: String,
    service: Option<String>,
    reason: Option<Arc<str>>,
    /// Seconds since 1970.
    made_at: u64,
    /// Seconds since 1970; `None` for ever.
    expires_at: Option<u64>,
    /// The same in nanoseconds of CLOCK_BOOTTIME, which nobody sets meanwhile.
    until_boottime: Option<u64>,
}

/// Changes with every start of the machine.
fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

impl BanStore {
    /// Takes the file's name; there need not be a file yet.
    ///
    /// # Errors
    ///
    /// Another process has it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let mut store = Self { path: path.to_owned(), lock: None };
        store.lock()?;
        Ok(store)
    }

    /// Takes the file's name.
    ///
    /// # Errors
    ///
    /// Another process has it.
    pub fn lock(&mut self) -> anyhow::Result<()> {
        let path = &self.path;
        let locked =
            file::make_folder_of(path).map_err(TryLockError::Error).and_then(|_| file::lock_beside(path));
        self.lock = match locked {
            Ok(lock) => Some(lock),
            Err(TryLockError::WouldBlock) => bail!(
                "another nicgate keeps its bans in {}: stop it first, or name another file with --state",
                path.display()
            ),
            // Then saving fails, too, and says so.
            Err(TryLockError::Error(_)) => None,
        };
        Ok(())
    }

    /// Leaves the file's name to another process.
    pub fn unlock(&mut self) {
        self.lock = None;
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file, and puts it aside when it is damaged.
    pub fn load(&self) -> Found {
        match Self::read(&self.path) {
            Ok(Some(book)) => Found::Bans(book),
            Ok(None) => Found::Nothing,
            Err(why) => {
                let aside = file::with_suffix(&self.path, &format!(".damaged-{}", wall_clock().as_secs()));
                let aside = fs::rename(&self.path, &aside).is_ok().then_some(aside);
                Found::Damaged { why, aside }
            }
        }
    }

    /// Reads a file; `None` when there is none.
    ///
    /// # Errors
    ///
    /// It cannot be read, or it is not such a file.
    pub fn read(path: &Path) -> anyhow::Result<Option<BanTable>> {
        let text = match File::open(path) {
            Ok(file) => {
                let mut text = String::new();
                io::Read::read_to_string(&mut io::Read::take(file, LARGEST), &mut text)?;
                text
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Saved { version, boot_id: booted, bans } = serde_json::from_str(&text)?;
        if version != VERSION {
            bail!("it has the form {version}, and this version of nicgate knows {VERSION}");
        }
        let same_boot = booted.is_some() && booted == boot_id();
        let (now, wall) = (boottime(), wall_clock());
        let mut known = Vec::with_capacity(bans.len());
        for ban in bans {
            let SavedBan { id, prefix, service, reason, made_at, expires_at, until_boottime } = ban;
            let until = match (expires_at, until_boottime) {
                (None, _) => None,
                (Some(_), Some(nanoseconds)) if same_boot => Some(Boottime { nanoseconds }),
                (Some(end), _) => Some(now.after(Duration::from_secs(end).saturating_sub(wall))),
            };
            known.push(Ban {
                id,
                net: prefix.parse::<IpNet>().with_context(|| format!("`{prefix}`"))?.trunc(),
                scope: Scope::of_service(service.as_deref())?,
                until,
                reason,
                made_at,
                refused: Arc::default(),
            });
        }
        known.retain(|ban| ban.holds(now));
        Ok(Some(BanTable::of(known)))
    }

    /// Replaces the file. When this returns, it is on the disk.
    ///
    /// # Errors
    ///
    /// The file is what it was before.
    pub fn save(&self, book: &BanTable) -> anyhow::Result<()> {
        self.replace(book).with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn replace(&self, book: &BanTable) -> anyhow::Result<()> {
        let (now, wall) = (boottime(), wall_clock());
        // Rounded up: after a restart of the machine no ban ends early.
        let at = |until: Boottime| (wall + until.since(now) + Duration::from_millis(999)).as_secs();
        let bans = book.iter().map(|ban| SavedBan {
            id: ban.id,
            prefix: ban.net.to_string(),
            service: ban.scope.service(),
            reason: ban.reason.clone(),
            made_at: ban.made_at,
            expires_at: ban.until.map(at),
            until_boottime: ban.until.map(|until| until.nanoseconds),
        });
        let saved = Saved { version: VERSION, boot_id: boot_id(), bans: bans.collect() };
        let mut text = serde_json::to_vec_pretty(&saved)?;
        text.push(b'\n');
        file::replace(&self.path, &text)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::model::Proto;

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("nicgate-store-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn book() -> BanTable {
        let mut book = BanTable::default();
        let now = boottime();
        let udp = Scope::Service { proto: Proto::Udp, port: 9998 };
        for (scope, net, seconds, reason) in [
            (Scope::Everywhere, "10.0.0.0/8", Some(600), Some("re\"streaming\n")),
            (udp, "2001:db8::/32", None, None),
            (Scope::Everywhere, "10.0.0.1/32", Some(0), None),
        ] {
            let place = (scope, net.parse().unwrap());
            book.put(place, seconds.map(Duration::from_secs), reason.map(Into::into), now, 5).unwrap();
        }
        book
    }

    fn shown(book: &BanTable) -> Vec<String> {
        book.iter().map(|ban| format!("{ban:?}")).collect()
    }

    #[test]
    fn what_is_saved_comes_back_without_what_has_run_out() {
        let folder = Folder::new("back");
        let store = BanStore::open(&folder.0.join("deep/bans.json")).unwrap();
        assert!(matches!(store.load(), Found::Nothing));
        let mut book = book();
        store.save(&book).unwrap();
        store.save(&book).unwrap();
        let Found::Bans(found) = store.load() else { panic!("it was just saved") };
        book.expire(boottime());
        assert_eq!(shown(&found), shown(&book), "to the nanosecond, because the machine was not restarted");
        assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
        let names = fs::read_dir(folder.0.join("deep")).unwrap().count();
        assert_eq!(names, 2, "the file and its lock");
    }

    #[test]
    fn after_a_restart_of_the_machine_the_calendar_counts() {
        let folder = Folder::new("restart");
        let store = BanStore::open(&folder.0.join("bans.json")).unwrap();
        store.save(&book()).unwrap();
        let mut other: serde_json::Value = serde_json::from_slice(&fs::read(store.path()).unwrap()).unwrap();
        other["boot_id"] = "another".into();
        for ban in other["bans"].as_array_mut().unwrap() {
            if !ban["until_boottime"].is_null() {
                ban["until_boottime"] = 1.into();
            }
        }
        fs::write(store.path(), other.to_string()).unwrap();
        let Found::Bans(found) = store.load() else { panic!("it is whole") };
        let ends: Vec<_> = found.iter().map(|ban| ban.until.map(|until| until.since(boottime()))).collect();
        // The one that ran out was rounded up to the next second, and may still be there.
        let end = ends.iter().flatten().max().unwrap();
        assert!(*end > Duration::from_secs(500) && *end <= Duration::from_secs(602), "{ends:?}");
        assert!(ends.contains(&None));
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let folder = Folder::new("damaged");
        let store = BanStore::open(&folder.0.join("bans.json")).unwrap();
        store.save(&book()).unwrap();
        let whole = fs::read_to_string(store.path()).unwrap();
        for damaged in [
            &whole[..whole.len() / 2],
            "",
            &whole.replace("\"version\": 1", "\"version\": 2"),
            &whole.replace("9998/udp", "9998/icmp"),
            &whole.replace("10.0.0.0/8", "10.0.0.0/33"),
        ] {
            fs::write(store.path(), damaged).unwrap();
            let Found::Damaged { aside, .. } = store.load() else { panic!("{damaged}") };
            let aside = aside.unwrap();
            assert_eq!(fs::read_to_string(&aside).unwrap(), damaged);
            assert!(!store.path().exists());
            fs::remove_file(aside).unwrap();
        }
    }

    #[test]
    fn a_second_controller_does_not_get_the_file() {
        let folder = Folder::new("second");
        let path = folder.0.join("bans.json");
        let store = BanStore::open(&path).unwrap();
        assert!(BanStore::open(&path).unwrap_err().to_string().contains("--state"));
        drop(store);
        BanStore::open(&path).unwrap();
    }

    #[test]
    fn what_cannot_be_saved_says_where() {
        let store = BanStore::open(Path::new("/proc/nicgate/bans.json")).unwrap();
        let error = format!("{:#}", store.save(&book()).unwrap_err());
        assert!(error.contains("/proc/nicgate/bans.json"), "{error}");
    }
}
