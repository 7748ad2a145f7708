//! nicgate: Flussonic-style access rules, enforced at the NIC and in userspace.
//!
//! Rooms, each with one job; a room uses only rooms of the floors below its own, or of its own floor where
//! ARCHITECTURE.md says so:
//!
//! | floor | rooms |
//! |---|---|
//! | top | `cli` prints answers, `daemon` wires |
//! | transports | `control`: the socket |
//! | operations | `operations`: what an operator can ask for, one typed list |
//! | services | `gate`; `watch`; `session`; `backend`, `http`; `state`; `kernel` |
//! | text | `load`, `config` |
//! | pure | `explain`, `judge`, `offload`; `bans`, `model`; `country`, `address` |

pub mod address;
pub mod backend;
pub mod bans;
pub mod cli;
pub mod config;
pub mod control;
pub mod country;
pub mod daemon;
pub mod explain;
pub mod gate;
pub mod http;
pub mod judge;
pub mod kernel;
pub mod load;
pub mod model;
pub mod offload;
pub mod operations;
pub mod session;
pub mod state;
pub mod watch;
