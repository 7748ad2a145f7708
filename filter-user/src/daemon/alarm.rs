//! What the configuration wants and is not in force, for people and for monitoring.

use std::time::SystemTime;

use serde::Serialize;

/// A stable name for a kind of alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Code {
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
}

/// Seconds since 1970, where they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Since(Option<u64>);

impl From<Option<SystemTime>> for Since {
    fn from(time: Option<SystemTime>) -> Self {
        let seconds =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Self(time.map(seconds))
    }
}

impl From<SystemTime> for Since {
    fn from(time: SystemTime) -> Self {
        Some(time).into()
    }
}

/// Something that is wanted and is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Alarm {
    /// The kind.
    pub(super) code: Code,
    /// What is not in force, and why.
    pub(super) what: String,
    /// Since when.
    pub(super) since: Since,
    /// What to do, or what nicgate does.
    pub(super) remedy: String,
}
