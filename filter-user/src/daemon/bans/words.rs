use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;

use crate::{
    bans::{Ban, Boottime, Place, Scope, format_duration},
    config::parse_prefix,
};

/// Longest reason, in characters.
const LONGEST_REASON: usize = 200;

/// What is meant by a prefix and a service.
pub(super) fn place(prefix: &str, service: Option<&str>) -> Result<Place, String> {
    let wrong = |why: String| format!("`{}`: {why}", prefix.escape_debug());
    let (net, host_bits) = parse_prefix(prefix).map_err(|error| {
        wrong(error.help().map_or_else(|| error.to_string(), |help| format!("{error}: {help}")))
    })?;
    if host_bits {
        return Err(wrong(format!(
            "bits below the mask are set: write {net} for the whole prefix, or the address without a length"
        )));
    }
    let scope = Scope::of_service(service).map_err(|error| error.to_string())?;
    Ok((scope, net))
}

/// A reason as it is kept.
pub(super) fn reason(reason: Option<&str>) -> Result<Option<Arc<str>>, String> {
    let Some(reason) = reason.map(str::trim).filter(|reason| !reason.is_empty()) else { return Ok(None) };
    if reason.chars().count() > LONGEST_REASON {
        return Err(format!("a reason has {LONGEST_REASON} characters at most"));
    }
    // It is printed on terminals.
    if reason.chars().any(char::is_control) {
        return Err("a reason is one line without control characters".to_owned());
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

/// Seconds since 1970.
pub(super) fn wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
