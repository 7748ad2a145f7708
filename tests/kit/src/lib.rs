//! What tests, benchmarks and the demo share: the naive oracle and random configurations, a writer of small country
//! databases, network namespaces, frames, HTTP clients and servers, and the binary.

pub mod bpf;
pub mod configurations;
pub mod crowd;
pub mod device;
pub mod edge;
pub mod engines;
pub mod filtered_edge;
pub mod frame;
pub mod frames;
pub mod fronts;
pub mod http;
pub mod machine;
pub mod measuring;
pub mod mmdb;
pub mod netns;
pub mod nicgate;
pub mod objects;
pub mod oracle;
pub mod origins;
pub mod pktgen;
pub mod random;
pub mod raw_client;
pub mod rights;
pub mod server;
pub mod service_manager;
pub mod tables;
pub mod tls;
pub mod verified;
pub mod verifier;
pub mod wait;
pub mod xdp;

use std::path::{Path, PathBuf};

/// The folder of the workspace.
///
/// # Panics
///
/// Never: this crate lies two folders below it.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the kit lies in tests/kit")
}

/// Files that tests read: configurations, lists, databases.
#[must_use]
pub fn fixtures() -> PathBuf {
    workspace().join("tests/fixtures")
}
