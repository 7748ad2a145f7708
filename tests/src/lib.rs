//! What the integration tests and the demo share: the naive oracle and random configurations, a writer of
//! small country databases, network namespaces, frames, HTTP clients and servers, and the binary.

mod bpf;
pub mod device;
pub mod edge;
pub mod engines;
pub mod frame;
pub mod frames;
pub mod goal;
pub mod guarded;
pub mod http;
pub mod machine;
pub mod made;
pub mod mmdb;
pub mod netns;
pub mod nicgate;
pub mod oracle;
pub mod origins;
pub mod pktgen;
pub mod plot;
pub mod progress;
pub mod random;
pub mod raw;
pub mod server;
pub mod spread;
pub mod tables;
pub mod timed;
pub mod varied;
pub mod verifier;
pub mod wait;
pub mod written;
pub mod xdp;
pub mod xdp_filter;
