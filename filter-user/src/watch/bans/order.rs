//! What an operator orders, and what is wrong with it.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    bans::{Ban, BanTable, Boottime, Place, Scope, format_duration},
    config::parse_prefix,
    model::NotAService,
};

/// Longest reason, in characters.
const LONGEST_REASON: usize = 200;

/// A ban as it is ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BanOrder {
    /// An address or a prefix.
    pub prefix: String,
    /// Only on this service, such as `80/tcp`.
    #[serde(default)]
    pub service: Option<String>,
    /// For how long; without it, for ever.
    #[serde(default)]
    pub seconds: Option<u64>,
    /// Why, for people.
    #[serde(default)]
    pub reason: Option<String>,
    /// Every address of a family is meant.
    #[serde(default)]
    pub yes: bool,
}

/// Why nothing is banned or unbanned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BanError {
    /// It is no address and no prefix.
    #[error("`{}`: {why}", .text.escape_debug())]
    Prefix {
        /// What was given.
        text: String,
        /// What is wrong with it, and what to write.
        why: String,
    },
    /// It is no service.
    #[error(transparent)]
    Service(#[from] NotAService),
    /// Everybody would be banned.
    #[error("{net} is every {} address, perhaps your own, too: say --yes if you mean it", family(net))]
    Everybody {
        /// It.
        net: IpNet,
    },
    /// Nothing protects the service.
    #[error("no `gate` or `guard` protects {scope}; protected: {}", or_nothing(.protected))]
    NotProtected {
        /// The service.
        scope: Scope,
        /// Those that are protected.
        protected: Vec<String>,
    },
    /// The reason is too long.
    #[error("a reason has {LONGEST_REASON} characters at most")]
    LongReason,
    /// It is printed on terminals.
    #[error("a reason is one line without control characters")]
    ControlInReason,
    /// A ban of 0 seconds.
    #[error("a ban for no time at all is none")]
    NoTime,
    /// There is no room.
    #[error(
        "there are {} bans, which is the limit: ban a prefix in place of its addresses, or put lasting bans \
         into a list file (`drop ip file \"PATH\";`)",
        BanTable::LIMIT
    )]
    Full,
    /// Some of many bans are wrong; none is made.
    #[error("nothing was banned: {wrong} of the {all} bans cannot be made\n{}", .first.join("\n"))]
    Several {
        /// How many are wrong.
        wrong: usize,
        /// How many there are.
        all: usize,
        /// The first of them.
        first: Vec<String>,
    },
    /// Others are in the way of letting it in.
    #[error("{0}")]
    OtherBans(String),
    /// Neither one prefix nor all.
    #[error("name one prefix, or all")]
    NotOne,
}

fn family(net: &IpNet) -> &'static str {
    if net.addr().is_ipv4() { "IPv4" } else { "IPv6" }
}

fn or_nothing(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// An order that makes sense.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) place: Place,
    pub(super) time: Option<Duration>,
    pub(super) reason: Option<Arc<str>>,
}

impl BanOrder {
    pub(super) fn check(&self) -> Result<Checked, BanError> {
        let place = place(&self.prefix, self.service.as_deref())?;
        if place.1.prefix_len() == 0 && !self.yes {
            return Err(BanError::Everybody { net: place.1 });
        }
        let time = match self.seconds {
            Some(0) => return Err(BanError::NoTime),
            seconds => seconds.map(Duration::from_secs),
        };
        Ok(Checked { place, time, reason: reason(self.reason.as_deref())? })
    }
}

/// What is meant by a prefix and a service.
pub(super) fn place(prefix: &str, service: Option<&str>) -> Result<Place, BanError> {
    let wrong = |why: String| BanError::Prefix { text: prefix.to_owned(), why };
    let (net, host_bits) = parse_prefix(prefix).map_err(|error| {
        wrong(error.help().map_or_else(|| error.to_string(), |help| format!("{error}: {help}")))
    })?;
    if host_bits {
        return Err(wrong(format!(
            "bits below the mask are set: write {net} for the whole prefix, or the address without a length"
        )));
    }
    Ok((Scope::of_service(service)?, net))
}

/// A reason as it is kept.
fn reason(reason: Option<&str>) -> Result<Option<Arc<str>>, BanError> {
    let Some(reason) = reason.map(str::trim).filter(|reason| !reason.is_empty()) else { return Ok(None) };
    if reason.chars().count() > LONGEST_REASON {
        return Err(BanError::LongReason);
    }
    if reason.chars().any(char::is_control) {
        return Err(BanError::ControlInReason);
    }
    Ok(Some(reason.into()))
}

/// A prefix as people write it.
pub(super) fn shown(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// A ban for people: `10.0.0.0/8 on every service (5m left)`.
pub(super) fn named(ban: &Ban, now: Boottime) -> String {
    let left = ban
        .until
        .map_or_else(|| "for ever".to_owned(), |until| format!("{} left", format_duration(until.since(now))));
    format!("the ban of {} on {} ({left})", shown(ban.net), ban.scope)
}
