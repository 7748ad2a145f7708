//! The runtime bans in force: the table, the file that it outlives a restart in, the kernel's maps and the gates,
//! which all have to say the same.
//!
//! The kernel ends bans by itself; what is done when one has run out is tidying up.

mod controller;
mod exemptions;
mod names;
mod order;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::{
    controller::BanController,
    names::{BanNames, NamedBan},
    order::{BanError, BanOrder},
};
use crate::session::Rejudged;

/// What was done, and what the operator should know of it.
#[derive(Clone, Debug)]
pub struct Done<T> {
    /// The result.
    pub result: T,
    /// Lines for people.
    pub message: String,
    /// Whether the kernel has it on every interface.
    pub in_force: bool,
}

/// A ban for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanInfo {
    /// The banned prefix.
    pub prefix: String,
    /// The service, such as `80/tcp`; `None` for every one.
    pub service: Option<String>,
    /// Why, in the operator's words.
    pub reason: Option<Arc<str>>,
    /// When it was made, in seconds since 1970; `None` when nobody knows any more.
    pub made_at: Option<u64>,
    /// When it ends, in seconds since 1970; `None` for never.
    pub expires_at: Option<u64>,
    /// How long that is from now, in seconds, rounded up.
    pub seconds_left: Option<u64>,
    /// Packets that the NIC dropped.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Requests that gates refused, since the controller was started.
    pub requests: u64,
    /// Where the `never_drop` stands that keeps the NIC from dropping it.
    pub never_drop: Option<String>,
}

/// How a change of bans stands where it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcement {
    /// What became of the live transfers.
    pub transfers: Rejudged,
    /// On how many interfaces every ban is in force.
    pub interfaces: usize,
    /// Where not, and why.
    pub not_in_force: Vec<String>,
    /// Why the bans would not outlive the controller.
    pub not_saved: Option<String>,
}

/// A ban that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanChange {
    /// The ban.
    pub ban: BanInfo,
    /// The one that was there before.
    pub replaced: Option<BanInfo>,
    /// How it stands.
    #[serde(flatten)]
    pub enforcement: Enforcement,
}

/// Many bans that were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BansMade {
    /// How many are new.
    pub banned: usize,
    /// How many replaced another.
    pub replaced: usize,
    /// How they stand.
    #[serde(flatten)]
    pub enforcement: Enforcement,
}

/// Bans that were taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unbanned {
    /// Those that were; none when there was none.
    pub unbanned: Vec<BanInfo>,
}

/// Every ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanList {
    /// Those in force.
    pub bans: Vec<BanInfo>,
    /// How many there can be.
    pub limit: usize,
}

/// How the bans stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BansStatus {
    /// How many there are.
    pub count: usize,
    /// How many there can be.
    pub limit: usize,
    /// The file that they are kept in.
    pub state: std::path::PathBuf,
    /// Why they would not outlive the controller.
    pub not_saved: Option<String>,
    /// On which interfaces not every one is in force, and why.
    pub not_in_force: Vec<String>,
}

/// What the bans have stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanCounters {
    /// How many bans there are.
    pub count: usize,
    /// Packets that the NIC dropped.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Requests that gates refused, since the controller was started.
    pub requests: u64,
}
