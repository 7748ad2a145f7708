//! TLS: from PEM texts to what rustls needs. Pure: files are read by others.
//!
//! The cryptography is `ring`: it builds in ten seconds on two cores, without cmake or clang, where `aws-lc-rs` takes
//! minutes; what it lacks, post-quantum key exchange and FIPS, nobody asks of a question to a portal.

mod client;
mod pem;

pub use client::{ClientError, client_config};
pub use pem::{Identity, PemError, certificates};
