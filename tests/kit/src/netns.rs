//! Real interfaces in network namespaces that exist for one test.
//!
//! ```text
//!  client ── eth0 │ c1 ─┐
//!  client ── eth0 │ c2 ─┤ router ── edge │ ng… ── edge host (nicgate, the media server)
//!  client ── eth0 │ c3 ─┘
//! ```
//!
//! The edge's interface is one end of a veth pair, where the kernel runs XDP programs natively. Every client is
//! a host of its own with the addresses that the test chooses; the router in between holds none of them, so the
//! edge sees each as the source. Frames of any making, with VLAN tags for example, go onto the edge's wire through
//! [`Lab::wire`]. A namespace, and all that is in it, goes when its [`Lab`] is dropped, also
//! during a panic; what a killed process left behind goes when the next one makes its first lab.

mod janitor;
mod lab;
mod link;
mod namespace;

pub use janitor::sweep;
pub use lab::{EDGE_MAC, EDGE_V4, EDGE_V6, Lab, ROUTER_MAC, Wire};
pub use namespace::{Namespace, Process};
