//! Countries from an MMDB database: lookups for judgement, all networks for the offload.
//!
//! Two record shapes are read: MaxMind's `{"country":{"iso_code":"US"}}` and the flat
//! `{"country_code":"US"}` of the free databases.

use std::{
    collections::{BTreeSet, HashMap},
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
    coverage: Coverage,
}

/// How much a database knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Of IPv4.
    pub v4: Known,
    /// Of IPv6, without the places where databases repeat their IPv4 networks (`::/96`, 6to4, Teredo).
    pub v6: Known,
}

/// How much a database knows of one address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Networks with a country.
    pub networks: u64,
    /// Networks of which it says only in which country they are registered (`registered_country`).
    pub registered_only: u64,
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

    /// Every country that an address has.
    pub fn countries(&self) -> BTreeSet<Country> {
        let v4 = self.v4.iter().filter_map(|piece| piece.label);
        v4.chain(self.v6.iter().filter_map(|piece| piece.label)).collect()
    }

    /// How many IPv4 addresses of the public internet have no country, and how many there are.
    pub fn public_v4_without_country(&self) -> (u64, u64) {
        let special = SPECIAL_V4.iter().map(|(address, len)| {
            let first = u32::from_be_bytes(*address);
            (first, first.block_end(32 - len), true)
        });
        let special = Partition::from_nested(special.collect(), false);
        let (mut unknown, mut public) = (0, 0);
        for piece in self.v4.zip(&special, |country, special| (country.is_none(), special)).iter() {
            let size = u64::from(piece.last - piece.first) + 1;
            let (without, special) = piece.label;
            public += if special { 0 } else { size };
            unknown += if without && !special { size } else { 0 };
        }
        (unknown, public)
    }
}

/// IPv4 networks that belong to nobody on the public internet (RFC 6890, multicast, reserved).
const SPECIAL_V4: [([u8; 4], u8); 13] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 3),
];

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
        let mut coverage = Coverage::default();
        let map = CountryMap::read(&reader, &mut coverage)
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
            coverage,
        })
    }

    /// The country of every address.
    pub fn map(&self) -> &CountryMap {
        &self.map
    }

    /// How much it knows.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
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

/// What a record says.
#[derive(Clone, Copy)]
struct Record {
    country: Option<Country>,
    /// Whether it names the country of registration and no other.
    registered_only: bool,
}

fn record_of<S: AsRef<[u8]>>(found: &LookupResult<'_, S>) -> Result<Record, MaxMindDbError> {
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
    let country = code.and_then(Country::new);
    let registered = [PathElement::Key("registered_country"), PathElement::Key("iso_code")];
    let registered_only = country.is_none() && text_at(&registered)?.and_then(Country::new).is_some();
    Ok(Record { country, registered_only })
}

/// Records by their offset. Many networks share few: each is decoded once.
type Records = HashMap<usize, Record>;

/// Whether a database repeats its IPv4 networks at this IPv6 address: below `::/96`, mapped, 6to4 and Teredo.
fn repeats_v4(address: u128) -> bool {
    address >> 32 == 0 || address >> 32 == 0xffff || address >> 112 == 0x2002 || address >> 96 == 0x2001_0000
}

impl CountryMap {
    fn read(reader: &Reader<Vec<u8>>, coverage: &mut Coverage) -> anyhow::Result<Self> {
        let mut records = Records::new();
        // Networks without a record are walked too, so that they count towards the limit.
        let options = WithinOptions::default().include_networks_without_data();
        let all_v4 = "0.0.0.0/0".parse().expect("a prefix");
        let within = reader.within(all_v4, options)?;
        let v4 = walk(reader, within, &mut records, &mut coverage.v4, |address, len| match address {
            IpAddr::V4(v4) => (v4.to_bits(), len, true),
            // One IPv6 record above the whole IPv4 space.
            IpAddr::V6(_) => (0, 0, true),
        })?;
        if reader.metadata().ip_version != 6 {
            return Ok(Self { v4, v6: Partition::constant(None) });
        }
        // MaxMind's trees hang the IPv4 networks below the 6to4 and Teredo prefixes as well, and answer
        // such addresses with the IPv4 record.
        let networks = reader.networks(options.include_aliased_networks())?;
        let v6 = walk(reader, networks, &mut records, &mut coverage.v6, |address, len| match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), len + 96, false),
            IpAddr::V6(v6) => (v6.to_bits(), len, !repeats_v4(v6.to_bits())),
        })?;
        Ok(Self { v4, v6 })
    }
}

/// Reads the country of every network; `prefix` says which address space its address and length mean, and whether it
/// counts as known.
fn walk<A: Address>(
    reader: &Reader<Vec<u8>>,
    networks: Within<'_, Vec<u8>>,
    records: &mut Records,
    known: &mut Known,
    prefix: impl Fn(IpAddr, u8) -> (A, u8, bool),
) -> anyhow::Result<Partition<A, Option<Country>>> {
    let nodes = reader.metadata().node_count as usize;
    let most = nodes.saturating_add(1).saturating_mul(MOST_NETWORKS_PER_NODE);
    let mut pieces: Vec<(A, A, Option<Country>)> = Vec::new();
    for (count, found) in networks.enumerate() {
        ensure!(count < most, "its search tree of {nodes} nodes holds more than {most} networks");
        let found = found?;
        let Some(offset) = found.offset() else { continue };
        let Record { country, registered_only } = match records.get(&offset) {
            Some(record) => *record,
            None => {
                let record = record_of(&found)?;
                records.insert(offset, record);
                record
            }
        };
        if country.is_none() && !registered_only {
            continue;
        }
        let network = found.network()?;
        let (first, len, counts) = prefix(network.ip(), network.prefix());
        known.networks += u64::from(counts && country.is_some());
        known.registered_only += u64::from(counts && registered_only);
        if country.is_none() {
            continue;
        }
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
