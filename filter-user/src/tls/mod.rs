//! TLS: from PEM texts to what rustls needs. Pure: files are read by others.
//!
//! The cryptography is `ring`: it needs a C compiler and neither cmake nor clang. What it lacks beside `aws-lc-rs`,
//! post-quantum key exchange and FIPS, nobody asks of a question to a portal.

mod client;
mod pem;

pub use client::{ClientError, client_config};
pub use pem::{Identity, PemError, certificates};
