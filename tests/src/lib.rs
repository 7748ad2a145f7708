//! What the integration tests stand on.

pub mod http;
pub mod made;
pub mod raw;
pub mod wait;
