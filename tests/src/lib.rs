//! What the integration tests and the demo share: network namespaces, frames, HTTP clients and servers.

pub mod frame;
pub mod http;
pub mod netns;
pub mod server;
