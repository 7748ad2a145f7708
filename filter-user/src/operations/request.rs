//! What can be asked.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    session::{SessionFilter, SessionSort},
    watch::BanOrder,
};

/// What can be asked of a running controller.
// The braces are for serde, which lets unknown fields pass in variants without them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Load the configuration again and enforce it: [`Reloaded`](super::Reloaded).
    Reload {},
    /// Leave these interfaces without a filter until the next reload, because it is about to be taken off:
    /// [`Released`](super::Released).
    Release {
        /// Their names.
        interfaces: Vec<String>,
    },
    /// What is attached, loaded and served: [`Status`](super::Status).
    Status {},
    /// The counters of gates, sessions and bans: [`Counters`](super::Counters). Those of the NIC are in the pinned
    /// maps.
    Stats {},
    /// The open sessions: [`SessionList`](super::SessionList).
    Sessions {
        /// Which.
        #[serde(default)]
        filter: SessionFilter,
        /// In which order.
        #[serde(default)]
        sort: SessionSort,
    },
    /// End open sessions, and refuse their tokens for a time: [`Kicked`](crate::session::Kicked).
    Kick {
        /// Which; it has to say something.
        filter: SessionFilter,
        /// How long their tokens are refused.
        seconds: u64,
    },
    /// Have the backends asked again about open sessions: [`Reauthorised`](crate::session::Reauthorised).
    Reauthorise {
        /// Which; it has to say something.
        filter: SessionFilter,
    },
    /// Shut addresses out: [`BanChange`](crate::watch::BanChange).
    Ban(BanOrder),
    /// Shut many out, all of them or none: [`BansMade`](crate::watch::BansMade).
    BanMany {
        /// The bans.
        bans: Vec<BanOrder>,
    },
    /// Let addresses in again: [`Unbanned`](crate::watch::Unbanned).
    Unban {
        /// An address or a prefix, as it was banned.
        #[serde(default)]
        prefix: Option<String>,
        /// The service, as it was banned.
        #[serde(default)]
        service: Option<String>,
        /// Everybody, everywhere.
        #[serde(default)]
        all: bool,
    },
    /// Every ban: [`BanList`](crate::watch::BanList).
    Bans {},
    /// Start the program again, perhaps another version of it, and hand over to the new process:
    /// [`HandedOver`](super::HandedOver).
    Upgrade {},
    /// Hand over to the process that asks: [`HandingOver`](super::HandingOver), with a descriptor.
    HandOver(Heir),
    /// Drops as they happen: a line for each, [`Observed`](crate::watch::Observed) or
    /// [`Missed`](crate::watch::Missed), until the asker goes away.
    Monitor {
        /// One in this many drops.
        sample: u32,
    },
}

/// A process that wants to take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heir {
    /// How it speaks of handing over.
    pub protocol: u32,
    /// Its version of nicgate.
    pub version: String,
    /// Where it will keep the bans.
    pub state: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_before_and_unknown_fields_are_refused() {
        let ban = Request::Ban(BanOrder { prefix: "192.0.2.1".into(), yes: true, ..BanOrder::default() });
        for (request, text) in [
            (Request::Reload {}, r#"{"command":"reload"}"#),
            (
                ban,
                r#"{"command":"ban","prefix":"192.0.2.1","service":null,"seconds":null,"reason":null,"yes":true}"#,
            ),
            (
                Request::Unban { prefix: None, service: None, all: true },
                r#"{"command":"unban","prefix":null,"service":null,"all":true}"#,
            ),
            (
                Request::Kick {
                    filter: SessionFilter { user: Some("7".into()), ..SessionFilter::default() },
                    seconds: 60,
                },
                r#"{"command":"kick","filter":{"id":null,"stream":null,"user":"7","ip":null},"seconds":60}"#,
            ),
            (Request::Monitor { sample: 9 }, r#"{"command":"monitor","sample":9}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
        }
        let short = r#"{"command":"ban","prefix":"192.0.2.1"}"#;
        let order = BanOrder { prefix: "192.0.2.1".into(), ..BanOrder::default() };
        assert_eq!(serde_json::from_str::<Request>(short).unwrap(), Request::Ban(order));
        let all = Request::Sessions { filter: SessionFilter::default(), sort: SessionSort::default() };
        assert_eq!(serde_json::from_str::<Request>(r#"{"command":"sessions"}"#).unwrap(), all);
        for wrong in [
            r#"{"command":"kick","filter":{"ipp":"192.0.2.1"},"seconds":1}"#,
            r#"{"command":"kick","filter":{}}"#,
            r#"{"command":"reload","now":true}"#,
            r#"{"command":"ban","prefix":"192.0.2.1","for":"1h"}"#,
            r#"{"command":"dance"}"#,
            "{}",
        ] {
            assert!(serde_json::from_str::<Request>(wrong).is_err(), "{wrong}");
        }
    }
}
