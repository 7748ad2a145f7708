//! What is in force on one interface.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::device::{LinkKind, Mode};

/// How many prefixes there should be and how many there are: a difference is an alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// As published.
    pub desired: usize,
    /// As counted in the kernel's map.
    pub installed: usize,
}

impl Entries {
    /// Whether the kernel holds what was published.
    pub fn complete(&self) -> bool {
        self.desired == self.installed
    }
}

/// What is in force on one interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The interface.
    pub interface: String,
    /// The mode in force; `None` when the program is not attached, although its tables exist.
    pub mode: Option<Mode>,
    /// What holds the program in place.
    pub link: Option<LinkKind>,
    /// The program's id.
    pub program: Option<u32>,
    /// The directory of the pins.
    pub pins: Option<PathBuf>,
    /// The generation number of the live table; 0 before the first.
    pub generation: u64,
    /// When it was published, in seconds since 1970.
    pub published: u64,
    /// Everything is judged and counted, and nothing dropped.
    pub shadow: bool,
    /// Protected ports.
    pub services: usize,
    /// Rules that drop something.
    pub rules: usize,
    /// IPv4 prefixes.
    pub v4: Entries,
    /// IPv6 prefixes.
    pub v6: Entries,
    /// Prefixes of runtime bans and of what is exempt from them.
    pub bans: Entries,
    /// One drop in so many is reported as an event; 0 for none.
    pub sampling: u64,
}
