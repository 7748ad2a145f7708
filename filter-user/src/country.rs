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
use maxminddb::{LookupResult, MaxMindDbError, PathElement, Reader, Within, WithinOptions};

use crate::{
    address::{Address, Partition, canonical},
    model::{Countries, Country},
};

/// How many networks a search tree may have for each of its nodes. A plain tree has about one. MaxMind's
/// reach their IPv4 networks from four places, so that one node counts up to four times. Sharing beyond
/// that makes a small file describe more networks than anyone can read.
const MOST_NETWORKS_PER_NODE: usize = 8;

/// A country database, read completely, so that a damaged one is refused before it is used, and so that
/// judgement and the offload compiler cannot disagree on a country.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    kind: String,
    built: u64,
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
        let metadata = reader.metadata();
        ensure!(
            map.v4.iter().any(|piece| piece.label.is_some())
                || map.v6.iter().any(|piece| piece.label.is_some()),
            "{name} ({}) names no country in any record: a country database is needed, with country.iso_code \
             or country_code",
            metadata.database_type
        );
        Ok(Self {
            path: path.to_owned(),
            kind: metadata.database_type.clone(),
            built: metadata.build_epoch,
            map,
        })
    }

    /// The country of every address.
    pub fn map(&self) -> &CountryMap {
        &self.map
    }

    /// Where the database was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the database calls itself, and when it was built in seconds since 1970.
    pub fn edition(&self) -> (&str, u64) {
        (&self.kind, self.built)
    }
}

impl Countries for Database {
    fn country(&self, address: IpAddr) -> Option<Country> {
        match canonical(address) {
            IpAddr::V4(v4) => self.map.v4.get(v4.to_bits()),
            IpAddr::V6(v6) => self.map.v6.get(v6.to_bits()),
        }
    }
}

/// The country that a record names; `None` when it names none.
fn country_of<S: AsRef<[u8]>>(found: &LookupResult<'_, S>) -> Result<Option<Country>, MaxMindDbError> {
    let text_at = |path: &[PathElement<'_>]| match found.decode_path::<&str>(path) {
        // Another type at that path makes a record without a country, not a damaged file: some flat
        // databases have the country's name at `country`.
        Err(MaxMindDbError::Decoding { .. }) => Ok(None),
        code => code,
    };
    let code = match text_at(&[PathElement::Key("country"), PathElement::Key("iso_code")])? {
        Some(code) => Some(code),
        None => text_at(&[PathElement::Key("country_code")])?,
    };
    Ok(code.and_then(Country::new))
}

/// The countries of records by their offset. Many networks share few records: each is decoded once.
type Records = HashMap<usize, Option<Country>>;

impl CountryMap {
    fn read(reader: &Reader<Vec<u8>>) -> anyhow::Result<Self> {
        let mut records = Records::new();
        // Networks without a record are walked too, so that they count towards the limit.
        let options = WithinOptions::default().include_networks_without_data();
        let all_v4 = "0.0.0.0/0".parse().expect("a prefix");
        let v4 = walk(reader, reader.within(all_v4, options)?, &mut records, |address, len| match address {
            IpAddr::V4(v4) => (v4.to_bits(), len),
            // One IPv6 record above the whole IPv4 space.
            IpAddr::V6(_) => (0, 0),
        })?;
        if reader.metadata().ip_version != 6 {
            return Ok(Self { v4, v6: Partition::constant(None) });
        }
        // MaxMind's trees hang the IPv4 networks below the 6to4 and Teredo prefixes as well, and answer
        // such addresses with the IPv4 record.
        let networks = reader.networks(options.include_aliased_networks())?;
        let v6 = walk(reader, networks, &mut records, |address, len| match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), len + 96),
            IpAddr::V6(v6) => (v6.to_bits(), len),
        })?;
        Ok(Self { v4, v6 })
    }
}

/// Reads the country of every network; `prefix` says which address space its address and length mean.
fn walk<A: Address>(
    reader: &Reader<Vec<u8>>,
    networks: Within<'_, Vec<u8>>,
    records: &mut Records,
    prefix: impl Fn(IpAddr, u8) -> (A, u8),
) -> anyhow::Result<Partition<A, Option<Country>>> {
    let nodes = reader.metadata().node_count as usize;
    let most = nodes.saturating_add(1).saturating_mul(MOST_NETWORKS_PER_NODE);
    let mut pieces: Vec<(A, A, Option<Country>)> = Vec::new();
    for (count, found) in networks.enumerate() {
        ensure!(count < most, "its search tree of {nodes} nodes holds more than {most} networks");
        let found = found?;
        let Some(offset) = found.offset() else { continue };
        let country = match records.get(&offset) {
            Some(known) => *known,
            None => {
                let country = country_of(&found)?;
                records.insert(offset, country);
                country
            }
        };
        if country.is_none() {
            continue;
        }
        let network = found.network()?;
        let (first, len) = prefix(network.ip(), network.prefix());
        let last = first.block_end(A::BITS - len);
        match pieces.last_mut() {
            Some((_, end, label)) if *label == country && end.next() == Some(first) => *end = last,
            _ => pieces.push((first, last, country)),
        }
    }
    let Some(partition) = Partition::from_sorted(pieces, None) else {
        bail!("its networks overlap");
    };
    Ok(partition)
}
