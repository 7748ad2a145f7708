//! What two controllers say to each other while one takes over from the other.
//!
//! ```text
//! next                         former
//!  |---- HandOver ------------->|   over the control socket; the answer brings the channel
//!  | reads the configuration    |   serves as before
//!  |---- Release -------------->|
//!  |<--- Control, Gates … ------|   has let go of filters and bans; serves, changes nothing
//!  |<--- Released --------------|
//!  | filters, keeps the bans    |
//!  |---- Commit --------------->|
//!  |<--- Sessions --------------|
//!  |<--- Handed ----------------|   accepts nobody: those who connect wait
//!  | serves                     |
//!  |---- Serving -------------->|
//!  |<--- Retired ---------------|   finishes what it has in hand
//! ```
//!
//! Until `Serving` has come, the former process can take everything back, and does so when the next one says `Abandon`,
//! ends, or takes too long. So there is always one owner, and a failure leaves everything as it was.

use serde::{Deserialize, Serialize};

use crate::model::ServiceKey;

/// How this version speaks.
pub(super) const PROTOCOL: u32 = 1;

/// From the process that takes over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromNext {
    /// Its configuration is ready to be enforced.
    Release,
    /// It enforces filters and bans.
    Commit,
    /// It serves the gates.
    Serving,
    /// It does not take over.
    Abandon {
        /// Why.
        why: String,
    },
}

/// From the process that hands over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromFormer {
    /// The parts of its control socket are beside this.
    Control,
    /// The listening sockets of these gates are beside this, in this order.
    Gates(Vec<ServiceKey>),
    /// Nothing that the next process needs is locked any more.
    Released,
    /// A file with its sessions is beside this; nobody new comes to it any more.
    Sessions,
    /// It accepts no connection any more.
    Handed,
    /// The next process is on its own.
    Retired,
    /// It cannot hand over.
    Kept {
        /// Why.
        why: String,
    },
}
