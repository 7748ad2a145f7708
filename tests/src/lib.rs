//! What the integration tests share: the naive oracle, random configurations to feed to it and to nicgate,
//! and a writer of small country databases.

pub mod mmdb;
pub mod oracle;
pub mod random;
