//! The controller on real interfaces: what it enforces, keeps, reloads, watches and says. Needs root.

mod bans;
mod enforces;
mod life;
mod limits;
mod lists;
mod reload;
mod reload_under_traffic;
mod restart;
mod restart_under_traffic;
mod service;
mod sessions;
mod watch;
