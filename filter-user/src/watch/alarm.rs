//! What the configuration wants and is not in force, for people and for monitoring.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A stable name for a kind of alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The configuration names an interface that does not exist.
    InterfaceMissing,
    /// An interface cannot be filtered, or its filter was taken off and cannot be put back.
    NotAttached,
    /// The operator took the filter off an interface that the configuration names.
    Detached,
    /// The kernel's table has fewer prefixes than were published.
    PrefixesMissing,
    /// Not every runtime ban is in the kernel.
    BansMissing,
    /// Runtime bans would not outlive the controller.
    BansNotSaved,
    /// The files hold a configuration that was refused; the one before is in force.
    ReloadFailed,
    /// A list cannot be used; its former contents are in force, and the rest of the configuration.
    ListRefused,
    /// The same of the country database.
    DatabaseRefused,
    /// The configuration in force would not be there after a restart with a broken one.
    LastGoodNotKept,
    /// A gate cannot listen on its port.
    PortNotBound,
    /// No media server of a gate works.
    UpstreamDown,
    /// The comparison of what is enforced with what should be has broken off, or hangs.
    WatchBroken,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Something that is wanted and is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// The kind.
    pub code: Code,
    /// What is not in force, and why.
    pub what: String,
    /// Since when, in seconds since 1970.
    pub since: Option<u64>,
    /// What to do, or what nicgate does.
    pub remedy: String,
}

impl Alarm {
    /// An alarm whose beginning is not known yet.
    pub(crate) fn new(code: Code, what: String, remedy: &str) -> Self {
        Self { code, what, since: None, remedy: remedy.to_owned() }
    }

    /// With its beginning, in seconds since 1970.
    pub(crate) fn since(self, since: u64) -> Self {
        Self { since: Some(since), ..self }
    }
}
