//! `nicgate ban`, `unban` and `bans`.

use std::{io::Write as _, path::Path, time::Duration};

use anyhow::anyhow;
use serde_json::Value;

use super::{
    Failure, Output,
    client::Client,
    output::{grouped, stdout, table},
};
use crate::{
    bans::format_duration,
    daemon::control::{Fault, Reply, Request},
};

/// Sends a request that changes bans, tells what the controller says of it, and hands on what was done.
fn change(control: &Path, request: &Request, output: &Output) -> Result<Value, Failure> {
    let reply = Client::require(control)?.ask(request)?;
    let Reply { ok, message, result, fault } = reply;
    if !ok && fault != Some(Fault::System) {
        return Err(Failure::Request(anyhow!("{message}")));
    }
    if result.is_null() {
        return Err(Failure::System(anyhow!("{message}")));
    }
    if output.json {
        output.print_json(&result)?;
    }
    if !message.is_empty() {
        output.say(&message);
    }
    if ok { Ok(result) } else { Err(Failure::Told(3)) }
}

/// An address as people write it, where the prefix is one.
fn address(ban: &Value) -> String {
    let prefix = ban["prefix"].as_str().unwrap_or("?");
    let single = if prefix.contains(':') { "/128" } else { "/32" };
    prefix.strip_suffix(single).unwrap_or(prefix).to_owned()
}

fn service(ban: &Value) -> &str {
    ban["service"].as_str().unwrap_or("every service")
}

fn time(ban: &Value) -> Option<String> {
    ban["seconds_left"].as_u64().map(|seconds| format_duration(Duration::from_secs(seconds)))
}

/// `nicgate ban`.
pub(super) fn ban(control: &Path, request: &Request, output: &Output) -> Result<(), Failure> {
    let result = change(control, request, output)?;
    if output.json {
        return Ok(());
    }
    let ban = &result["ban"];
    let time = |ban: &Value| time(ban).map_or_else(|| "for ever".to_owned(), |time| format!("for {time}"));
    let mut out = stdout();
    write!(out, "banned {} on {} {}", address(ban), service(ban), time(ban))?;
    if let Some(reason) = ban["reason"].as_str() {
        write!(out, ": {reason}")?;
    }
    let cut = result["transfers"]["cut"].as_u64().unwrap_or(0);
    if cut > 0 {
        write!(out, "; {} live transfer{} cut", grouped(cut), if cut == 1 { "" } else { "s" })?;
    }
    writeln!(out)?;
    let former = &result["replaced"];
    if former.is_object() {
        let reason = former["reason"].as_str().map_or_else(String::new, |reason| format!(": {reason}"));
        writeln!(out, "it was banned already, {}{reason}", time(former))?;
    }
    out.flush()?;
    Ok(())
}

/// `nicgate unban`.
pub(super) fn unban(control: &Path, request: &Request, output: &Output) -> Result<(), Failure> {
    let result = change(control, request, output)?;
    if output.json {
        return Ok(());
    }
    let mut out = stdout();
    let unbanned = result["unbanned"].as_array().map_or(&[][..], Vec::as_slice);
    for ban in unbanned {
        writeln!(out, "unbanned {} on {}", address(ban), service(ban))?;
    }
    if unbanned.is_empty() {
        writeln!(out, "there were no bans")?;
    }
    out.flush()?;
    Ok(())
}

/// `nicgate bans`.
pub(super) fn list(control: &Path, output: &Output) -> Result<(), Failure> {
    let reply = Client::require(control)?.ask(&Request::Bans {})?;
    if !reply.ok {
        return Err(Failure::System(anyhow!("{}", reply.message)));
    }
    if output.json {
        output.print_json(&reply.result)?;
        return Ok(());
    }
    let header = ["ADDRESSES", "SERVICE", "TIME LEFT", "PACKETS", "REQUESTS", "REASON"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for ban in reply.result["bans"].as_array().into_iter().flatten() {
        let count = |name: &str| grouped(ban[name].as_u64().unwrap_or(0));
        let exempt =
            ban["never_drop"].as_str().map(|place| format!("[never_drop at {place}: only gates refuse it]"));
        let reason =
            [ban["reason"].as_str(), exempt.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        rows.push(vec![
            address(ban),
            service(ban).to_owned(),
            time(ban).unwrap_or_else(|| "for ever".to_owned()),
            count("packets"),
            count("requests"),
            reason,
        ]);
    }
    let mut out = stdout();
    table(&mut out, "", &rows)?;
    out.flush()?;
    Ok(())
}
