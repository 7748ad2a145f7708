//! Random countries of addresses, from a table of the oracle's, for the compiler and the judge.

use std::net::IpAddr;

use filter_user::{
    address::{Address, Partition},
    country::CountryMap,
    model::{Countries, Country},
};

use crate::oracle::{CountryTable, mapped_to_v4};

/// What a database with the networks of this table would tell the compiler.
pub fn country_map(table: &CountryTable) -> CountryMap {
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for (prefix, code) in &table.0 {
        let code = Country::new(code);
        match (prefix.first(), prefix.last()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits(), code)),
            (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((first.to_bits(), last.to_bits(), code)),
            _ => unreachable!("both ends of a prefix are of one family"),
        }
    }
    CountryMap { v4: sorted(v4), v6: sorted(v6) }
}

fn sorted<A: Address>(mut networks: Vec<(A, A, Option<Country>)>) -> Partition<A, Option<Country>> {
    networks.sort_unstable_by_key(|(first, ..)| *first);
    Partition::from_sorted(networks, None).expect("the networks of a table are disjoint")
}

/// Looks countries up where the compiler takes them from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapCountries(pub CountryMap);

impl Countries for MapCountries {
    fn country(&self, address: IpAddr) -> Option<Country> {
        match mapped_to_v4(address) {
            IpAddr::V4(v4) => self.0.v4.get(v4.to_bits()),
            IpAddr::V6(v6) => self.0.v6.get(v6.to_bits()),
        }
    }
}
