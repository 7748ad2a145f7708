//! Random configurations, made from small pools so that rules collide, as text and as the oracle sees them.

use std::path::Path;

mod address;
mod config;
mod countries;
mod direct;
pub mod pool;
mod text;
mod triples;

pub use address::{Pick, edges, picks};
pub use config::{config, policy, request};
pub use countries::{MapCountries, country_map};
pub use direct::build;
pub use text::{MAIN, MemoryFiles, write};
pub use triples::{Triple, random_triples};

/// Writes a configuration and has nicgate load it.
///
/// # Panics
///
/// When it is refused.
pub fn load(config: &crate::oracle::Config, style: u64) -> filter_user::model::Config {
    load_files(&write(config, style))
}

/// Has nicgate load what was written.
///
/// # Panics
///
/// When it is refused.
pub fn load_files(files: &MemoryFiles) -> filter_user::model::Config {
    let (config, report) = filter_user::config::load(Path::new(MAIN), files);
    config.unwrap_or_else(|| panic!("{}\n{files:#?}", report.render(false)))
}

/// How many cases a property is tried with: `PROPTEST_CASES`, or as many as finish in a few seconds.
/// Failures are printed, not kept in a file.
pub fn cases(usual: u32) -> proptest::test_runner::Config {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    proptest::test_runner::Config {
        cases: wanted.unwrap_or(usual),
        failure_persistence: None,
        ..proptest::test_runner::Config::default()
    }
}
