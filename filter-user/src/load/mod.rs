//! From the files on disk to everything that is enforced. The rim where configuration I/O happens.

use std::{io::Read as _, path::Path, sync::LazyLock};

use anyhow::Context as _;

mod files;

pub use files::DiskFiles;
pub(crate) use files::open_regular;

use crate::{
    config::{self, Files, Report},
    country::{CountryMap, Database},
    model::{Config, Countries},
    offload::{Compiled, Decisions, compile},
};

/// A configuration without errors, and the database that it names.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The country database; read only when a rule looks at countries.
    pub database: Option<Database>,
}

/// Why nothing could be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// The configuration is wrong.
    Configuration(Report),
    /// The country database cannot be used.
    Database(anyhow::Error),
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Configuration(report) => f.write_str(report.render(false).trim_end()),
            Self::Database(error) => write!(f, "error: {error:#}"),
        }
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
}

impl Source for DiskFiles {
    fn database(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        read_database(path)
    }
}

/// Loads a configuration and its database from the disk. `progress` is told what is being read.
///
/// # Errors
///
/// When the configuration has errors, or a rule looks at countries and the database cannot be read.
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
    let (config, report) = config::load(path, source);
    let Some(config) = config else { return Err(LoadError::Configuration(report)) };
    let mut database = None;
    if let Some((path, origin)) = &config.geoip
        && config.uses_countries()
    {
        progress(&format!("reading {}", path.display()));
        let read = source
            .database(path)
            .with_context(|| format!("cannot read the country database {}", path.display()))
            .and_then(|bytes| Database::new(path, bytes))
            .with_context(|| format!("{origin}: geoip"));
        database = Some(read.map_err(LoadError::Database)?);
    }
    Ok((Loaded { config, database }, report))
}

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
