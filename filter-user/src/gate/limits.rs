//! What clients may take of a gate.

use std::time::Duration;

use crate::{
    http,
    model::{self, Limit},
};

/// Files that are kept for everything else: questions to backends, lists, maps, the control socket.
const FILES_FOR_OTHERS: u64 = 384;
/// Files for connections, however few there are.
const FILES_AT_LEAST: u64 = 32;

/// What a client may take. The defaults are what production uses; tests use smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of a connection.
    pub http: http::Limits,
    /// Connections from one IPv4 address or one IPv6 /64, over all gates: a carrier's NAT, or a proxy in front, has
    /// thousands of viewers. Those that wait for a request make room for more; where too few do, more is 503.
    pub connections_per_address: usize,
    /// Connections over all gates.
    pub connections: usize,
    /// Files and sockets that the process can have open.
    pub open_files: u64,
    /// How long connecting to the upstream may take; longer is 504.
    pub connect_time: Duration,
    /// How long the upstream may take to answer after the last byte of the request; longer is 504.
    pub answer_time: Duration,
}

impl Limits {
    /// With what the configuration sets in place of what is here.
    pub(super) fn set_by(self, set: &model::Limits) -> Self {
        let Self { mut http, connections_per_address, connections, open_files, connect_time, answer_time } =
            self;
        http.head_bytes = set.count(Limit::HeadBytes, http.head_bytes);
        http.headers = set.count(Limit::HeaderLines, http.headers);
        http.target_bytes = set.count(Limit::TargetBytes, http.target_bytes);
        Self {
            http,
            connections_per_address: set.count(Limit::ConnectionsPerAddress, connections_per_address),
            connections: set.count(Limit::Connections, connections),
            open_files,
            connect_time,
            answer_time,
        }
    }
}

impl Limits {
    /// How many connections the open files are enough for: each takes one, and another one to the media server.
    pub fn connections_by_files(&self) -> usize {
        usize::try_from(self.open_files.saturating_sub(FILES_FOR_OTHERS).max(FILES_AT_LEAST) / 2)
            .unwrap_or(usize::MAX)
    }

    /// Says so when fewer connections fit than the configuration promises.
    pub(super) fn warn_of_files(&self) {
        let by_files = self.connections_by_files();
        if by_files < self.connections {
            let enough = 2 * self.connections as u64 + FILES_FOR_OTHERS;
            tracing::warn!(
                open_files = self.open_files,
                "no more than {} files can be open, which is enough for {by_files} connections and not for the {} of \
                 `limit connections`: raise the hard limit (LimitNOFILE={enough}), or lower `limit connections`",
                self.open_files,
                self.connections
            );
        }
    }

    /// How many connections there can be over all gates, and which limit says so.
    pub(super) fn most_connections(&self) -> (usize, Limit) {
        let by_files = self.connections_by_files();
        if by_files < self.connections {
            (by_files, Limit::OpenFiles)
        } else {
            (self.connections, Limit::Connections)
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            http: http::Limits::default(),
            connections_per_address: Limit::ConnectionsPerAddress.default_count(),
            connections: Limit::Connections.default_count(),
            open_files: u64::MAX,
            connect_time: Duration::from_secs(3),
            answer_time: Duration::from_secs(60),
        }
    }
}
