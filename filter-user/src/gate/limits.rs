//! What clients may take of a gate.

use std::time::Duration;

use crate::http;

/// What a client may take. The defaults are what production uses; tests use smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of a connection.
    pub http: http::Limits,
    /// Connections from one IPv4 address or one IPv6 /64, over all gates: a carrier's NAT, or a proxy in front, has
    /// thousands of viewers. More is 503.
    pub connections_per_address: usize,
    /// Connections over all gates.
    pub connections: usize,
    /// How long connecting to the upstream may take; longer is 504.
    pub connect_time: Duration,
    /// How long the upstream may take to answer after the last byte of the request; longer is 504.
    pub answer_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            http: http::Limits::default(),
            connections_per_address: 4096,
            connections: 65_536,
            connect_time: Duration::from_secs(3),
            answer_time: Duration::from_secs(60),
        }
    }
}
