//! nicgate: Flussonic-style access rules, enforced at the NIC and in userspace.
//!
//! Rooms, each with one job; dependencies point downward only:
//!
//! `cli` → `daemon` → `gate` → `session` → `backend` → `policy`; `config` and `offload` beside `policy`;
//! `state` (what outlives the process), `kernel` and `address` at the bottom. `policy`, `config`, `offload` and `address` do no I/O.

pub mod address;
pub mod backend;
pub mod bans;
pub mod cli;
pub mod config;
pub mod country;
pub mod daemon;
pub mod explain;
pub mod files;
pub mod gate;
pub mod kernel;
pub mod load;
pub mod offload;
pub mod policy;
pub mod session;
pub mod state;
