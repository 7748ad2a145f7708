//! All that outlives the process: the last good configuration, and the runtime bans.
//!
//! Every file is written whole beside the one that it replaces, reaches the disk, and only then takes its name: a
//! crash at any point leaves the former one. Everything is for the owner only, because it carries tokens and keys.

mod bans;
mod file;
mod last_good;

pub use bans::{BanStore, Found};
pub(crate) use file::lock_beside;
pub use last_good::{LastGood, Recording, folder_beside, keep, read};
