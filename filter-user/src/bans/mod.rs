//! Runtime bans: addresses that an operator shuts out by a command, for a time or for ever, beside the
//! configuration. Pure: the clock is given.
//!
//! A [`BanTable`] holds them. [`entries()`] says what the kernel's tries have to hold for them, [`steps`] how to get
//! there without a hole, and [`BanIndex`] is what requests are compared with.

mod ban;
mod clock;
mod duration;
mod entries;
mod exempt;
mod index;
mod steps;
mod table;

pub use ban::{Ban, Place, Scope};
pub use clock::Boottime;
pub use duration::{format_duration, parse_duration};
pub use entries::{Desired, Entries, Label, entries};
pub use exempt::Exempt;
pub use index::BanIndex;
pub use steps::{Step, steps};
pub use table::{BanTable, Put};
