//! What clients may take of a connection.

use std::time::Duration;

use crate::model::Limit;

/// What a client may take of any listener. The defaults are what production uses; tests use smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest request head, in bytes; longer is 431.
    pub head_bytes: usize,
    /// The most header lines; more is 431.
    pub headers: usize,
    /// The longest request target, in bytes; longer is 414.
    pub target_bytes: usize,
    /// From the first byte of a head to its last, for the first head from the connection's start; longer is
    /// 408.
    pub head_time: Duration,
    /// How long a connection may wait for its next request.
    pub idle_time: Duration,
    /// How long a request's body may stand still.
    pub body_time: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub send_time: Duration,
    /// How long a closed connection is read on, so that the last answer is not lost to a reset.
    pub linger_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: Limit::HeadBytes.default_count(),
            headers: Limit::HeaderLines.default_count(),
            target_bytes: Limit::TargetBytes.default_count(),
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            body_time: Duration::from_secs(60),
            send_time: Duration::from_secs(60),
            linger_time: Duration::from_secs(1),
        }
    }
}
