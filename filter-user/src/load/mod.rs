//! From the files on disk to everything that is enforced. The rim where configuration I/O happens.

use std::{io::Read as _, net::IpAddr, path::Path, sync::LazyLock};

use anyhow::Context as _;

mod files;
mod own;

pub use files::DiskFiles;
pub(crate) use files::open_regular;
pub use own::own_addresses;

use crate::{
    config::{self, Files, Part, Refused, Report, Severity, Texts, compare_countries, covers_own},
    country::{CountryMap, Database},
    model::{Config, Countries, Country, Origin},
    offload::{Compiled, Decisions, compile},
};

/// A configuration without errors, and the database that it names.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The country database, where one is named.
    pub database: Option<Database>,
}

/// Why nothing could be loaded: a report with errors.
#[derive(Debug)]
pub struct LoadError(pub Report);

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.render(false).trim_end())
    }
}

/// Where everything that a configuration is made of comes from.
pub trait Source: Files {
    /// The contents of a country database.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    fn database(&self, path: &Path) -> std::io::Result<Vec<u8>>;

    /// The addresses of the host that is protected; none, where that is another one.
    fn own_addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }
}

impl Source for DiskFiles {
    fn database(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        read_database(path)
    }

    fn own_addresses(&self) -> Vec<IpAddr> {
        own_addresses()
    }
}

/// Loads a configuration and its database from the disk. `progress` is told what is being read.
///
/// # Errors
///
/// When the configuration has errors, or its database cannot be used.
pub fn load(path: &Path, progress: &dyn Fn(&str)) -> Result<(Loaded, Report), LoadError> {
    load_from(path, &DiskFiles, progress)
}

/// [`load`] from elsewhere.
///
/// # Errors
///
/// As [`load`].
pub fn load_from(
    path: &Path,
    source: &dyn Source,
    progress: &dyn Fn(&str),
) -> Result<(Loaded, Report), LoadError> {
    progress(&format!("reading {}", path.display()));
    let (config, mut texts) = config::read(path, source);
    let Some(config) = config else { return Err(LoadError(texts.into_report())) };
    let mut database = None;
    if let Some((path, origin)) = &config.geoip {
        progress(&format!("reading {}", path.display()));
        database = open_database(&config, path, origin, source, &mut texts);
        match &database {
            Some(database) => compare_countries(&config, database, &mut texts),
            None => return Err(LoadError(texts.into_report())),
        }
    }
    covers_own(&config, &source.own_addresses(), &mut texts);
    Ok((Loaded { config, database }, texts.into_report()))
}

/// Reads the country database, or what was in force of it last when it cannot be used. Says why there is none.
fn open_database(
    config: &Config,
    path: &Path,
    origin: &Origin,
    source: &dyn Source,
    texts: &mut Texts,
) -> Option<Database> {
    let read = source
        .database(path)
        .with_context(|| format!("cannot read the country database {}", path.display()))
        .and_then(|bytes| Database::new(path, bytes));
    let why = match read {
        Ok(database) => return Some(database),
        Err(error) => format!("{error:#}"),
    };
    let kept = source.former(path).filter(|_| !config.all_or_nothing);
    if let Some(former) = kept
        && let Ok(database) = Database::new(path, former.bytes)
    {
        let message = format!("{why}; the one that was in use before still is");
        texts
            .say(Severity::Warning, origin, "database-refused", message)
            .help("put a whole one there, then `nicgate reload`");
        let (path, origin) = (path.to_owned(), origin.clone());
        texts.refused(Refused { part: Part::Database, path, origin, why, read_at: former.read_at });
        return Some(database);
    }
    let name = path.file_name().and_then(|name| name.to_str());
    let help = match name.and_then(Country::new) {
        Some(country) => format!("{country} is a country; {WHERE_DATABASES_ARE}"),
        None => WHERE_DATABASES_ARE.to_owned(),
    };
    texts.say(Severity::Error, origin, "database", why).help(help);
    None
}

const WHERE_DATABASES_ARE: &str = "nicgate needs the path of an MMDB file: Debian's geoipupdate puts them into \
                                   /var/lib/GeoIP, MaxMind's own into /usr/share/GeoIP";

/// Reads a country database from the disk.
///
/// # Errors
///
/// When it cannot be read, or is no regular file.
pub(crate) fn read_database(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Loaded {
    /// What knows countries.
    pub fn countries(&self) -> &dyn Countries {
        match &self.database {
            Some(database) => database,
            None => &(),
        }
    }

    /// The country of every address.
    pub fn country_map(&self) -> &CountryMap {
        static EMPTY: LazyLock<CountryMap> = LazyLock::new(CountryMap::empty);
        self.database.as_ref().map_or(&EMPTY, |database| database.map())
    }

    /// What every policy decides by address alone.
    pub fn decisions(&self) -> Decisions {
        Decisions::new(&self.config, self.country_map())
    }

    /// What the NIC may drop.
    pub fn compile(&self) -> Compiled {
        compile(&self.config, &self.decisions())
    }
}
