//! `nicgate ban`, `unban` and `bans`.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Failure, Output,
    output::{grouped, stdout, table},
};
use crate::{
    bans::format_duration,
    config::{parse_prefix, parse_range},
    control::Client,
    load::open_regular,
    operations::{Fault, Reply, Request},
    watch::{BanChange, BanInfo, BanList, BanOrder, BansMade, Unbanned, ssh_client},
};

/// Sends a request that changes bans, tells what the controller says of it, and hands on what was done and whether it
/// is in force.
fn change<T: DeserializeOwned + Serialize>(
    control: &Path,
    request: &Request,
    output: &Output,
) -> Result<(T, Result<(), Failure>), Failure> {
    let Reply { ok, message, result, fault } = Client::require(control)?.ask::<T>(request)?;
    let Some(result) = result else {
        return Err(Failure::refused(fault.unwrap_or(Fault::Request), anyhow!("{message}")));
    };
    if output.json {
        output.print_json(&result)?;
    }
    if !message.is_empty() {
        output.say(&message);
    }
    Ok((result, if ok { Ok(()) } else { Err(Failure::Told(3)) }))
}

/// An address as people write it, where the prefix is one.
fn address(ban: &BanInfo) -> &str {
    let single = if ban.prefix.contains(':') { "/128" } else { "/32" };
    ban.prefix.strip_suffix(single).unwrap_or(&ban.prefix)
}

fn service(ban: &BanInfo) -> &str {
    ban.service.as_deref().unwrap_or("every service")
}

fn time(ban: &BanInfo) -> Option<String> {
    ban.seconds_left.map(|seconds| format_duration(Duration::from_secs(seconds)))
}

/// `nicgate ban`.
pub(super) fn ban(control: &Path, order: BanOrder, output: &Output) -> Result<(), Failure> {
    warn_operator(std::slice::from_ref(&order), output);
    let (change, in_force) = change::<BanChange>(control, &Request::Ban(order), output)?;
    if output.json || in_force.is_err() {
        return in_force;
    }
    let ban = &change.ban;
    let time = |ban: &BanInfo| time(ban).map_or_else(|| "for ever".to_owned(), |time| format!("for {time}"));
    let mut out = stdout();
    write!(out, "banned {} on {} {}", address(ban), service(ban), time(ban))?;
    if let Some(reason) = &ban.reason {
        write!(out, ": {reason}")?;
    }
    write!(out, "{}", cut(change.enforcement.transfers.cut))?;
    writeln!(out)?;
    if let Some(former) = &change.replaced {
        let reason = former.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        writeln!(out, "it was banned already, {}{reason}", time(former))?;
    }
    out.flush()?;
    Ok(())
}

/// Warns who bans the address that the command comes from.
fn warn_operator(bans: &[BanOrder], output: &Output) {
    let Some(address) = ssh_client() else { return };
    let covers = |ban: &&BanOrder| parse_prefix(&ban.prefix).is_ok_and(|(net, _)| net.contains(&address));
    if let Some(ban) = bans.iter().find(covers) {
        output.warning(&format!(
            "your own address {address} (SSH_CONNECTION) lies in {}: it is banned, too",
            ban.prefix
        ));
    }
}

fn cut(transfers: u64) -> String {
    match transfers {
        0 => String::new(),
        1 => "; 1 live transfer cut".to_owned(),
        many => format!("; {} live transfers cut", grouped(many)),
    }
}

/// `nicgate ban --file`.
pub(super) fn ban_file(
    control: &Path,
    file: &Path,
    template: &BanOrder,
    output: &Output,
) -> Result<(), Failure> {
    let text = read(file).map_err(Failure::Request)?;
    let bans: Vec<BanOrder> = text
        .lines()
        .map(|line| line.split(['#', ';']).next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .flat_map(|line| match parse_range(line) {
            Some(range) => range.iter().map(ToString::to_string).collect(),
            None => vec![line.to_owned()],
        })
        .map(|prefix| BanOrder { prefix, ..template.clone() })
        .collect();
    if bans.is_empty() {
        return Err(Failure::Request(anyhow!("{}: there is no address in it", file.display())));
    }
    warn_operator(&bans, output);
    let (made, in_force) = change::<BansMade>(control, &Request::BanMany { bans }, output)?;
    if output.json || in_force.is_err() {
        return in_force;
    }
    let mut out = stdout();
    let (banned, replaced) = (grouped(made.banned as u64), grouped(made.replaced as u64));
    writeln!(out, "banned {banned}, replaced {replaced}{}", cut(made.enforcement.transfers.cut))?;
    out.flush()?;
    Ok(())
}

/// Reads a list of prefixes, one a line; `-` is standard input.
fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("reading the standard input")?;
    } else {
        let opened = open_regular(file).with_context(|| format!("cannot open {}", file.display()));
        opened?.read_to_string(&mut text).with_context(|| format!("cannot read {}", file.display()))?;
    }
    Ok(text)
}

/// `nicgate unban`.
pub(super) fn unban(
    control: &Path,
    request: &Request,
    verbose: bool,
    output: &Output,
) -> Result<(), Failure> {
    let (Unbanned { unbanned }, in_force) = change(control, request, output)?;
    if output.json {
        return in_force;
    }
    let all = matches!(request, Request::Unban { all: true, .. });
    let mut out = stdout();
    if verbose || !all {
        for ban in &unbanned {
            writeln!(out, "unbanned {} on {}", address(ban), service(ban))?;
        }
    }
    if all {
        match unbanned.len() {
            0 => writeln!(out, "there were no bans")?,
            1 => writeln!(out, "unbanned 1 prefix")?,
            many => writeln!(out, "unbanned {} prefixes", grouped(many as u64))?,
        }
    }
    out.flush()?;
    in_force
}

/// `nicgate bans`.
pub(super) fn list(control: &Path, output: &Output) -> Result<(), Failure> {
    let reply = Client::require(control)?.ask::<BanList>(&Request::Bans {})?;
    let list = reply.result.ok_or_else(|| Failure::System(anyhow!("{}", reply.message)))?;
    if output.json {
        output.print_json(&list)?;
        return Ok(());
    }
    let header = ["ADDRESSES", "SERVICE", "TIME LEFT", "PACKETS", "REQUESTS", "REASON"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for ban in &list.bans {
        let exempt =
            ban.never_drop.as_ref().map(|place| format!("[never_drop at {place}: only gates refuse it]"));
        let reason =
            [ban.reason.as_deref(), exempt.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        rows.push(vec![
            address(ban).to_owned(),
            service(ban).to_owned(),
            time(ban).unwrap_or_else(|| "for ever".to_owned()),
            grouped(ban.packets),
            grouped(ban.requests),
            reason,
        ]);
    }
    let mut out = stdout();
    table(&mut out, "", &rows)?;
    out.flush()?;
    Ok(())
}
