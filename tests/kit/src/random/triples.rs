//! A random configuration, an address and a port: what the oracle says of them, beside what nicgate compiles.

use std::{net::IpAddr, sync::Arc};

use filter_user::{
    model,
    offload::{Compiled, Decisions, compile},
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config as RunnerConfig, RngAlgorithm, TestRng, TestRunner},
};

use super::{MapCountries, config as random_config, country_map, edges, load, picks};

/// A packet: from an address to a protected port.
#[derive(Clone, Debug)]
pub struct Triple {
    /// The configuration.
    pub config: Arc<model::Config>,
    /// What it compiles to.
    pub compiled: Arc<Compiled>,
    /// The countries that it was compiled with.
    pub countries: Arc<MapCountries>,
    /// The source; IPv4-mapped addresses are among them.
    pub address: IpAddr,
    /// The port, by its place in the configuration.
    pub service: usize,
    /// What the oracle says: whether the packet is dropped (or counted as such, with `shadow`).
    pub drop: bool,
}

/// Triples of one configuration, so that compiling it pays.
const TRIPLES_OF_ONE: usize = 100;

/// `count` random triples; the same seed gives the same ones. Triples of one configuration follow each
/// other and share their `Arc`s.
pub fn random_triples(count: usize, seed: u64) -> impl Iterator<Item = Triple> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(RunnerConfig::default(), rng);
    let strategy = (random_config(), proptest::num::u64::ANY, picks(TRIPLES_OF_ONE));
    std::iter::repeat_with(move || {
        let (meaning, style, picks) =
            strategy.new_tree(&mut runner).expect("nothing is filtered out").current();
        let config = Arc::new(load(&meaning, style));
        let countries = Arc::new(MapCountries(country_map(&meaning.countries)));
        let compiled = Arc::new(compile(&config, &Decisions::new(&config, &countries.0)));
        let edges = edges(&meaning);
        picks
            .into_iter()
            .enumerate()
            .filter(|_| !meaning.services.is_empty())
            .map(|(i, pick)| {
                let address = pick.of(&edges);
                let service = i % meaning.services.len();
                let drop = meaning.drops(&meaning.services[service], address);
                Triple {
                    config: config.clone(),
                    compiled: compiled.clone(),
                    countries: countries.clone(),
                    address,
                    service,
                    drop,
                }
            })
            .collect::<Vec<_>>()
    })
    .flatten()
    .take(count)
}
