//! Countries from an MMDB database: lookups for judgement, all networks for the offload.
//!
//! Two record shapes are read: MaxMind's `{"country":{"iso_code":"US"}}` and the flat
//! `{"country_code":"US"}` of the free databases.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use maxminddb::{LookupResult, PathElement, Reader, WithinOptions};

use crate::{
    address::Partition,
    policy::{Countries, Country},
};

/// More networks than this are taken for a damaged or hostile tree; the largest real databases have
/// about ten million.
const MOST_NETWORKS: usize = 40_000_000;

/// A country database, read and walked completely, so that a damaged one is refused before it is used.
#[derive(Debug)]
pub struct Database {
    reader: Reader<Vec<u8>>,
    path: PathBuf,
    map: CountryMap,
}

/// The country of every address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountryMap {
    /// IPv4.
    pub v4: Partition<u32, Option<Country>>,
    /// IPv6.
    pub v6: Partition<u128, Option<Country>>,
}

impl CountryMap {
    /// What is known without a database: nothing.
    pub fn empty() -> Self {
        Self { v4: Partition::constant(None), v6: Partition::constant(None) }
    }
}

impl Database {
    /// Reads a database from its bytes; `path` is for messages.
    ///
    /// # Errors
    ///
    /// When the bytes are not an MMDB file, or the search tree or a record in it is damaged, or no
    /// record names a country.
    pub fn new(path: &Path, bytes: Vec<u8>) -> anyhow::Result<Self> {
        let name = path.display();
        let reader = Reader::from_source(bytes)
            .with_context(|| format!("{name} is not a readable MMDB country database"))?;
        let map = CountryMap::read(&reader)
            .with_context(|| format!("{name} is damaged: its networks cannot be read"))?;
        ensure!(
            map.v4.pieces() > 1 || map.v6.pieces() > 1,
            "{name} ({}) names no country in any record: a country database is needed, with country.iso_code \
             or country_code",
            reader.metadata().database_type
        );
        Ok(Self { reader, path: path.to_owned(), map })
    }

    /// The country of every address.
    pub fn map(&self) -> &CountryMap {
        &self.map
    }

    /// Gives up the map, for judging requests.
    pub fn into_lookup(self) -> Lookup {
        Lookup(self.reader)
    }

    /// Where the database was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the database calls itself, and when it was built in seconds since 1970.
    pub fn edition(&self) -> (&str, u64) {
        let metadata = self.reader.metadata();
        (&metadata.database_type, metadata.build_epoch)
    }
}

impl Countries for Database {
    fn country(&self, address: IpAddr) -> Option<Country> {
        lookup(&self.reader, address)
    }
}

/// A database that is only asked for single addresses: the map of all of them takes several times the
/// memory of the file.
#[derive(Debug)]
pub struct Lookup(Reader<Vec<u8>>);

impl Countries for Lookup {
    fn country(&self, address: IpAddr) -> Option<Country> {
        lookup(&self.0, address)
    }
}

fn lookup(reader: &Reader<Vec<u8>>, address: IpAddr) -> Option<Country> {
    let found = reader.lookup(address.to_canonical()).ok()?;
    country_of(&found).ok()?
}

/// The country that a record names; `None` when it names none.
fn country_of<S: AsRef<[u8]>>(found: &LookupResult<'_, S>) -> anyhow::Result<Option<Country>> {
    let nested = [PathElement::Key("country"), PathElement::Key("iso_code")];
    // A record of another type at that path is a record without a country, not a damaged file.
    let code = match found.decode_path::<&str>(&nested) {
        Ok(Some(code)) => Some(code),
        Ok(None) => found.decode_path::<&str>(&[PathElement::Key("country_code")])?,
        Err(error) => return Err(error.into()),
    };
    Ok(code.and_then(Country::new))
}

impl CountryMap {
    fn read(reader: &Reader<Vec<u8>>) -> anyhow::Result<Self> {
        // Many networks share few records: decode each record once.
        let mut records: HashMap<usize, Option<Country>> = HashMap::new();
        let mut country = |found: &LookupResult<'_, Vec<u8>>| -> anyhow::Result<Option<Country>> {
            let Some(offset) = found.offset() else { return Ok(None) };
            if let Some(known) = records.get(&offset) {
                return Ok(*known);
            }
            let country = country_of(found)?;
            records.insert(offset, country);
            Ok(country)
        };

        let mut v4 = Vec::new();
        let all_v4 = "0.0.0.0/0".parse().expect("a prefix");
        for found in reader.within(all_v4, WithinOptions::default())? {
            let found = found?;
            let (first, last) = match found.network()? {
                network if network.is_ipv4() => {
                    let first = v4_bits(network.ip());
                    (first, first | u32::MAX.checked_shr(u32::from(network.prefix())).unwrap_or(0))
                }
                // One IPv6 record above the whole IPv4 space.
                _ => (0, u32::MAX),
            };
            v4.push((first, last, country(&found)?));
            ensure!(v4.len() <= MOST_NETWORKS, "it holds more than {MOST_NETWORKS} IPv4 networks");
        }

        let mut v6 = Vec::new();
        if reader.metadata().ip_version == 6 {
            // MaxMind's trees hang the IPv4 networks below the 6to4 and Teredo prefixes as well. A lookup
            // follows those branches, so they are compiled too: both must know the same countries.
            let options = WithinOptions::default().include_aliased_networks();
            for found in reader.networks(options)? {
                let found = found?;
                let network = found.network()?;
                let (first, len) = match network.ip() {
                    IpAddr::V4(v4) => (u128::from(v4.to_bits()), network.prefix() + 96),
                    IpAddr::V6(v6) => (v6.to_bits(), network.prefix()),
                };
                let last = first | u128::MAX.checked_shr(u32::from(len)).unwrap_or(0);
                v6.push((first, last, country(&found)?));
                ensure!(v6.len() <= MOST_NETWORKS, "it holds more than {MOST_NETWORKS} IPv6 networks");
            }
        }
        let (Some(v4), Some(v6)) = (Partition::from_sorted(v4, None), Partition::from_sorted(v6, None))
        else {
            bail!("its networks overlap");
        };
        Ok(Self { v4, v6 })
    }
}

fn v4_bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(_) => 0,
    }
}
