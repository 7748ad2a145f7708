//! `nicgate status`.

use std::{io::Write, path::Path};

use anyhow::anyhow;

use super::{
    Failure, Output,
    attach::attached,
    output::{grouped, stdout},
};
use crate::{
    backend::BackendStatus,
    control::Client,
    gate::{ServerState, ServerStatus, UpstreamStatus},
    kernel,
    limits::LimitCount,
    operations::{ControllerStatus, Request, Status},
    watch::{InterfaceStatus, alarms_of},
};

/// `nicgate status`: from the controller when it runs, else from the pins. With `quiet` only the exit status says
/// whether all is in force.
pub(super) fn status(control: &Path, quiet: bool, output: &Output) -> Result<(), Failure> {
    let status = match Client::connect(control)? {
        Some(client) => {
            let reply = client.ask::<Status>(&Request::Status {})?;
            reply.result.ok_or_else(|| Failure::System(anyhow!("{}", reply.message)))?
        }
        None => unattended()?,
    };
    // Without a controller nobody knows what is wanted; nothing at all is surely not it.
    let in_force = status.alarms.is_empty() && (status.controller.running || !status.interfaces.is_empty());
    if output.json && !quiet {
        output.print_json(&status)?;
    } else if !quiet {
        print(&status)?;
    }
    if in_force { Ok(()) } else { Err(Failure::Told(3)) }
}

/// What is in force without a controller.
fn unattended() -> Result<Status, Failure> {
    let interfaces: Vec<_> = attached(&[])?.iter().map(|name| InterfaceStatus::look(name)).collect();
    Ok(Status {
        controller: ControllerStatus::default(),
        alarms: alarms_of(&interfaces),
        mended: 0,
        interfaces,
        bans: None,
        gates: Vec::new(),
        upstreams: Vec::new(),
        sessions: None,
        backends: Vec::new(),
        limits: Vec::new(),
    })
}

fn print(status: &Status) -> std::io::Result<()> {
    let Status {
        controller,
        alarms,
        mended,
        interfaces,
        bans,
        gates,
        upstreams,
        sessions: _,
        backends,
        limits,
    } = status;
    let mut out = stdout();
    match &controller.controller {
        Some(controller) => {
            writeln!(
                out,
                "controller: running (pid {}) for {} s, {} loaded, {} reloads",
                controller.pid,
                controller.uptime_seconds,
                controller.config.display(),
                controller.reloads
            )?;
            if *mended > 0 {
                writeln!(out, "put right by the watcher: {} times", grouped(*mended))?;
            }
        }
        None if interfaces.is_empty() => writeln!(out, "controller: not running")?,
        None => writeln!(out, "controller: not running; the filter goes on enforcing")?,
    }
    if interfaces.is_empty() {
        writeln!(out, "no interface is filtered")?;
    }
    for interface in interfaces {
        match interface {
            InterfaceStatus::Known(status) => interface_status(&mut out, status)?,
            InterfaceStatus::Unknown { interface, error } => writeln!(out, "{interface}: {error}")?,
        }
    }
    if let Some(bans) = bans {
        writeln!(out, "{} bans", grouped(bans.count as u64))?;
    }
    for gate in gates {
        writeln!(
            out,
            "gate {}: {} connections, {} requests, {} allowed, {} denied",
            gate.service, gate.connections_open, gate.requests, gate.allowed, gate.denied
        )?;
    }
    upstream_status(&mut out, upstreams)?;
    for backend in backends {
        backend_status(&mut out, backend)?;
    }
    for LimitCount { limit, hits, .. } in limits.iter().filter(|limit| limit.hits > 0) {
        writeln!(out, "limit {limit}: reached {} times", grouped(*hits))?;
    }
    for alarm in alarms {
        writeln!(out, "ALARM {}: {}; {}", alarm.code, alarm.what, alarm.remedy)?;
    }
    out.flush()
}

/// A line for each media server.
pub(super) fn upstream_status(out: &mut impl Write, upstreams: &[UpstreamStatus]) -> std::io::Result<()> {
    let servers =
        upstreams.iter().flat_map(|status| status.servers.iter().map(move |server| (status, server)));
    for (status, server) in servers {
        let ServerStatus { server: address, state, state_seconds, active, requests, failures, .. } = server;
        if *address == *status.upstream {
            write!(out, "upstream {address}: ")?;
        } else {
            write!(out, "upstream {}, {address}: ", status.upstream)?;
        }
        let word = match state {
            ServerState::Up => "up",
            ServerState::Failing => "FAILING",
            ServerState::Down => "DOWN",
        };
        write!(out, "{word} for {} s, {active} active", grouped(*state_seconds))?;
        write!(out, ", {} requests, {} failed", grouped(*requests), grouped(*failures))?;
        match &server.last_failure {
            Some(why) if *state != ServerState::Up => writeln!(out, "; {why}")?,
            _ => writeln!(out)?,
        }
    }
    Ok(())
}

fn backend_status(out: &mut impl Write, status: &BackendStatus) -> std::io::Result<()> {
    let BackendStatus { backend, in_flight, waiting, limit, max_questions, .. } = status;
    write!(out, "backend {backend}: ")?;
    match status.not_responding_seconds {
        Some(seconds) => write!(out, "DOES NOT RESPOND, for {seconds} s")?,
        None => write!(out, "{in_flight} of {limit} questions asked, {waiting} wait")?,
    }
    if limit < max_questions {
        write!(out, "; slow: fewer than {max_questions} at once")?;
    }
    writeln!(out)
}

fn interface_status(out: &mut impl Write, status: &kernel::Status) -> std::io::Result<()> {
    let mode = status.mode.map_or_else(|| "NOT ATTACHED".to_owned(), |mode| mode.to_string());
    write!(out, "{}: {mode}", status.interface)?;
    if let Some(link) = status.link {
        write!(out, ", {link}")?;
    }
    if let Some(program) = status.program {
        write!(out, ", program {program}")?;
    }
    let shadow = if status.shadow { ", shadow (drops nothing)" } else { "" };
    writeln!(
        out,
        ", generation {}, {} services, {} rules that drop{shadow}",
        status.generation, status.services, status.rules
    )?;
    for (family, entries) in [("IPv4", status.v4), ("IPv6", status.v6)] {
        let (desired, installed) = (grouped(entries.desired as u64), grouped(entries.installed as u64));
        if entries.complete() {
            writeln!(out, "  {family}: {installed} prefixes")?;
        } else {
            writeln!(
                out,
                "  {family}: ALARM: {installed} prefixes installed, {desired} wanted: `nicgate reload`"
            )?;
        }
    }
    let (desired, installed) = (status.bans.desired as u64, status.bans.installed as u64);
    if !status.bans.complete() {
        writeln!(
            out,
            "  bans: ALARM: {} prefixes installed, {} wanted: restart nicgate",
            grouped(installed),
            grouped(desired)
        )?;
    } else if installed > 0 {
        writeln!(out, "  bans: {} prefixes", grouped(installed))?;
    }
    Ok(())
}
