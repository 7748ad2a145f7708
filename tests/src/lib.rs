//! What the integration tests and the demo share: network namespaces, frames, HTTP clients and servers, country
//! databases, and the binary.

pub mod frame;
pub mod http;
pub mod mmdb;
pub mod netns;
pub mod nicgate;
pub mod server;
