//! What is in force, read from the kernel.

use std::{thread, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Alarm, Code, View};
use crate::kernel::{Reader, Status};

/// What is in force on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum InterfaceStatus {
    /// As the kernel shows it.
    Known(Status),
    /// The kernel does not show it.
    Unknown {
        /// The interface.
        interface: String,
        /// Why.
        error: String,
    },
}

/// How often an interface is looked at again that changes while it is looked at.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(10);

impl InterfaceStatus {
    /// Looks at an interface. Needs nobody's permission: it reads what is pinned, also while a table is published.
    pub fn look(interface: &str) -> Self {
        let mut tries = 0;
        loop {
            tries += 1;
            let status = match Reader::open(interface).and_then(|reader| reader.status()) {
                Ok(status) => Self::Known(status),
                // Of an interface that is gone, for example: the others are shown none the less.
                Err(error) => Self::Unknown { interface: interface.to_owned(), error: error.to_string() },
            };
            // A program or bans that are just being replaced look incomplete for a moment.
            if status.is_whole() || tries == TRIES {
                return status;
            }
            thread::sleep(PAUSE);
        }
    }

    /// The interface.
    pub fn interface(&self) -> &str {
        match self {
            Self::Known(status) => &status.interface,
            Self::Unknown { interface, .. } => interface,
        }
    }

    /// Whether the filter is in place, with all that was put there.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Known(status) => {
                let complete = status.v4.complete() && status.v6.complete() && status.bans.complete();
                status.mode.is_some() && complete
            }
            Self::Unknown { .. } => false,
        }
    }
}

impl View {
    /// What the kernel holds of what was put on the interfaces. Counts every prefix: about a second for a million
    /// with the engine `lpm`, a tenth of it with `flat`.
    pub fn look(&self) -> Vec<InterfaceStatus> {
        self.interfaces.iter().map(|interface| InterfaceStatus::look(interface)).collect()
    }
}

/// What is not in force by what was looked at.
pub fn alarms_of(interfaces: &[InterfaceStatus]) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    for interface in interfaces {
        let name = interface.interface();
        let status = match interface {
            InterfaceStatus::Known(status) => status,
            InterfaceStatus::Unknown { error, .. } => {
                let what = format!("{name}: {error}");
                alarms.push(Alarm::new(Code::NotAttached, what, "nicgate tries again every second"));
                continue;
            }
        };
        if status.mode.is_none() {
            let what = format!("{name} is not filtered: the program is not on the interface");
            let remedy = "nicgate attaches to it as soon as that can be done";
            alarms.push(Alarm::new(Code::NotAttached, what, remedy));
        }
        for (part, entries, code) in [
            ("v4", status.v4, Code::PrefixesMissing),
            ("v6", status.v6, Code::PrefixesMissing),
            ("bans", status.bans, Code::BansMissing),
        ] {
            if !entries.complete() {
                let what = format!(
                    "{name}: {} of {} prefixes of {part} are in the kernel",
                    entries.installed, entries.desired
                );
                let remedy = "a controller that runs puts them back at once";
                alarms.push(Alarm::new(code, what, remedy));
            }
        }
    }
    alarms
}
