//! Runtime bans: addresses that an operator shuts out by a command, for a time or for ever, beside the
//! configuration.
//!
//! A [`Book`] holds them. [`entries()`] says what the kernel's tries have to hold for them, [`steps`] how to get
//! there without a hole, [`Banned`] is what the gate asks, and [`Store`] the file that they outlive a restart in.
//! Everything but the file and the clock is pure.

mod banned;
mod book;
mod clock;
mod duration;
mod entries;
mod model;
mod steps;
mod store;

pub use banned::Banned;
pub use book::{Book, Put};
pub use clock::Boottime;
pub use duration::{format_duration, parse_duration};
pub use entries::{Desired, Entries, Label, entries};
pub use model::{Ban, NotAService, Place, Scope};
pub use steps::{Step, steps};
pub use store::{Found, Store};
