//! What the integration tests share: the naive oracle, and random configurations to feed to it and to nicgate.

pub mod oracle;
pub mod random;
