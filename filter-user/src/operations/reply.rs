//! What is answered.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Seconds;
use crate::{
    backend::BackendStatus,
    gate::{GateCounters, UpstreamStatus},
    limits::LimitCount,
    session::{Rejudged, SessionCounters, SessionInfo},
    watch::{Alarm, BanCounters, BansStatus, InterfaceStatus, Published},
};

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply<T> {
    /// Whether it was done.
    pub ok: bool,
    /// For people: diagnostics of the configuration, warnings.
    #[serde(default)]
    pub message: String,
    /// For programs; also when what was done is not in force everywhere.
    pub result: Option<T>,
    /// Whose turn it is when it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The configuration or the request is wrong.
    Request,
    /// The system refused.
    System,
    /// Another process has taken over meanwhile: it is to be asked.
    Moved,
}

impl<T> Reply<T> {
    /// It was done.
    pub fn done(result: T) -> Self {
        Self { ok: true, message: String::new(), result: Some(result), fault: None }
    }

    /// It was not done.
    pub fn refused(fault: Fault, message: String) -> Self {
        Self { ok: false, message, result: None, fault: Some(fault) }
    }
}

impl<T: Serialize> Reply<T> {
    /// The reply as every transport carries it.
    pub(super) fn erased(self) -> Reply<Value> {
        let Self { ok, message, result, fault } = self;
        match result.map(serde_json::to_value).transpose() {
            Ok(result) => Reply { ok, message, result, fault },
            // Every key of every map is text, so that this cannot be; if it is, it says so.
            Err(error) => Reply::refused(Fault::System, format!("the reply cannot be written: {error}")),
        }
    }
}

/// The controller, as it shows itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// For how long it has run.
    pub uptime_seconds: u64,
    /// The configuration file.
    pub config: PathBuf,
    /// When the configuration in force was loaded, in seconds since 1970.
    pub loaded_at: u64,
    /// When the texts of the configuration in force were kept, in seconds since 1970, if they are the last good ones.
    #[serde(default)]
    pub last_good_of: Option<u64>,
    /// How many times it was loaded again.
    pub reloads: u64,
    /// Why the last time failed, if it did.
    pub last_reload_error: Option<String>,
}

/// Whether a controller runs, and which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerStatus {
    /// Whether one runs.
    pub running: bool,
    /// It.
    #[serde(flatten)]
    pub controller: Option<Controller>,
}

/// What is attached, loaded and served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The controller.
    pub controller: ControllerStatus,
    /// What is wanted and not in force.
    pub alarms: Vec<Alarm>,
    /// How many times the watcher has put something right.
    #[serde(default)]
    pub mended: u64,
    /// What is on each interface, as the kernel shows it.
    pub interfaces: Vec<InterfaceStatus>,
    /// The runtime bans; `None` without a controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bans: Option<BansStatus>,
    /// The gates' counters.
    #[serde(default)]
    pub gates: Vec<GateCounters>,
    /// The media servers behind the gates.
    #[serde(default)]
    pub upstreams: Vec<UpstreamStatus>,
    /// The sessions' figures; `None` without a controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionCounters>,
    /// Every backend that was asked: how it stands, and what was counted.
    #[serde(default)]
    pub backends: Vec<BackendStatus>,
    /// The limits of nicgate's own, and how often each was reached.
    #[serde(default)]
    pub limits: Vec<LimitCount>,
}

/// The counters of gates, sessions and bans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// What the bans have stopped.
    pub bans: BanCounters,
    /// By gate.
    pub gates: Vec<GateCounters>,
    /// The media servers behind the gates.
    #[serde(default)]
    pub upstreams: Vec<UpstreamStatus>,
    /// The sessions' figures.
    pub sessions: SessionCounters,
    /// Every backend that was asked: how it stands, and what was counted.
    #[serde(default)]
    pub backends: Vec<BackendStatus>,
    /// The limits of nicgate's own, and how often each was reached.
    #[serde(default)]
    pub limits: Vec<LimitCount>,
}

/// Open sessions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionList {
    /// In the order that was asked for.
    pub sessions: Vec<SessionInfo>,
}

/// What a reload did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// What was put on each interface.
    pub interfaces: Vec<Published>,
    /// What became of the live transfers.
    pub transfers: Rejudged,
    /// Where the time went.
    pub seconds: Seconds,
}

/// The controller is about to hand over; what follows is said over the descriptor beside this reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandingOver {
    /// Its process.
    pub pid: u32,
    /// Its version of nicgate.
    pub version: String,
}

/// Another process has taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// The new process.
    pub pid: i32,
    /// Its version of nicgate.
    pub version: String,
    /// The former process, which finishes what it has in hand.
    pub former: u32,
    /// How many connections it still has.
    pub finishing: usize,
}

/// Interfaces that the controller leaves alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Their names.
    pub released: Vec<String>,
}
