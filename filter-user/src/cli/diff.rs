//! `nicgate reload --diff` and `nicgate check --diff`.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::{Context as _, anyhow};

use super::{
    Failure, Output,
    output::{grouped, stdout},
};
use crate::{
    control::Client,
    load::{load, load_from},
    offload::Prefixes,
    operations::{Difference, Fault, Reply, Request, difference},
    state,
    watch::{lockouts, ssh_client},
};

/// `nicgate reload --diff`: what the controller would change.
pub(super) fn reload(control: &Path, output: &Output) -> Result<(), Failure> {
    let request = Request::Diff { config: None, operator: ssh_client() };
    show(&Client::require(control)?.ask::<Difference>(&request)?, output)
}

/// `nicgate check --diff`: what the configuration at `path` would change of what is in force.
pub(super) fn check(path: &Path, control: &Path, state: &Path, output: &Output) -> Result<(), Failure> {
    if let Some(client) = Client::connect(control)? {
        let path = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()));
        let request = Request::Diff { config: Some(path.map_err(Failure::Request)?), operator: ssh_client() };
        return show(&client.ask::<Difference>(&request)?, output);
    }
    let kept = state::read(&state::folder_beside(state), path).map_err(|error| {
        Failure::Request(
            error.context("no controller runs, and no last good configuration can be compared with"),
        )
    })?;
    let (before, _) = load_from(path, &kept, &|_| ())?;
    let (now, report) = load(path, &|_| ())?;
    let now = now.compile();
    let message = report.render_with(&lockouts(&now, ssh_client()));
    show(&Reply { message, ..Reply::done(difference(&before.compile(), &now)) }, output)
}

fn show(reply: &Reply<Difference>, output: &Output) -> Result<(), Failure> {
    if !output.json && !reply.message.is_empty() {
        output.say(&reply.message);
    }
    let Some(difference) = &reply.result else {
        if output.json {
            output.print_json(reply)?;
        }
        output.error(&anyhow!("this configuration cannot be loaded; nothing was compared"));
        return Err(Failure::told(reply.fault.unwrap_or(Fault::Request)));
    };
    if output.json {
        output.print_json(reply)?;
        return Ok(());
    }
    let mut out = stdout();
    text(&mut out, difference)?;
    out.flush()?;
    Ok(())
}

fn text(out: &mut impl Write, difference: &Difference) -> io::Result<()> {
    match difference.shadow {
        Some(true) => writeln!(out, "shadow mode begins: nothing is dropped any more, only counted")?,
        Some(false) => writeln!(out, "shadow mode ends: what was only counted is dropped")?,
        None => {}
    }
    if difference.services.is_empty() {
        writeln!(out, "NIC: the same addresses as now")?;
    }
    for change in &difference.services {
        let (more, fewer) = (&change.more, &change.fewer);
        writeln!(out, "NIC, {}: {} dropped more, {} fewer", change.service, count(more), count(fewer))?;
        named(out, '+', more)?;
        named(out, '-', fewer)?;
    }
    if let Some(viewers) = &difference.viewers {
        let transfers = &viewers.transfers;
        writeln!(
            out,
            "sessions: {} open, {} of addresses that would be dropped at every gate",
            grouped(viewers.sessions),
            grouped(viewers.sessions_dropped)
        )?;
        writeln!(
            out,
            "live transfers: {} would go on, {} would be cut, {} would go on while their backends are asked",
            grouped(transfers.kept),
            grouped(transfers.cut),
            grouped(transfers.asked)
        )?;
    }
    Ok(())
}

fn count(prefixes: &Prefixes) -> String {
    let all = prefixes.v4 + prefixes.v6;
    let noun = if all == 1 { "prefix" } else { "prefixes" };
    match (prefixes.v4, prefixes.v6) {
        (_, 0) | (0, _) => format!("{} {noun}", grouped(all)),
        (v4, v6) => format!("{} {noun} ({} IPv4, {} IPv6)", grouped(all), grouped(v4), grouped(v6)),
    }
}

fn named(out: &mut impl Write, sign: char, prefixes: &Prefixes) -> io::Result<()> {
    for prefix in &prefixes.first {
        writeln!(out, "  {sign} {prefix}")?;
    }
    let more = prefixes.v4 + prefixes.v6 - prefixes.first.len() as u64;
    if more > 0 {
        writeln!(out, "  {sign} … and {} more", grouped(more))?;
    }
    Ok(())
}
