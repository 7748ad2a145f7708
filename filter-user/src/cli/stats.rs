//! `nicgate stats` and `top`.

use std::{
    collections::HashMap,
    io::{IsTerminal as _, Write},
    path::Path,
    time::Duration,
};

use anyhow::anyhow;
use serde::Serialize;

use super::{
    Failure, Output,
    attach::attached,
    output::{grouped, stdout, table},
    status::upstream_status,
};
use crate::{
    backend::BackendStatus,
    control::Client,
    gate::{GateCounters, UpstreamStatus},
    kernel::{Reader, RuleStats, Stats},
    limits::LimitCount,
    operations::{Counters, Request},
    session::SessionCounters,
    watch::BanCounters,
};

/// An interface's counters for programs.
#[derive(Serialize)]
struct Named {
    #[serde(flatten)]
    stats: Stats,
    interface: String,
}

/// Everything for programs; what only a controller knows is `null` without one.
#[derive(Serialize)]
struct All<'a> {
    interfaces: Vec<Named>,
    bans: Option<BanCounters>,
    gates: Option<&'a [GateCounters]>,
    upstreams: Option<&'a [UpstreamStatus]>,
    sessions: Option<SessionCounters>,
    backends: Option<&'a [BackendStatus]>,
    limits: Option<&'a [LimitCount]>,
}

fn read_stats(names: &[String], output: &Output) -> Result<Vec<(String, Stats)>, Failure> {
    let mut all = Vec::new();
    for name in attached(names)? {
        match Reader::open(&name).and_then(|reader| reader.stats()) {
            Ok(stats) => all.push((name, stats)),
            // Nobody asked for it by name: the others are shown none the less.
            Err(error) if names.is_empty() => output.warning(&format!("{name}: {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(all)
}

/// `nicgate stats`: the NIC's counters from the pins, the gate's from the controller when it runs.
pub(super) fn stats(control: &Path, names: &[String], output: &Output) -> Result<(), Failure> {
    let interfaces = read_stats(names, output)?;
    let counters = match Client::connect(control)? {
        Some(client) => client.ask::<Counters>(&Request::Stats {})?.result,
        None => None,
    };
    if output.json {
        let interfaces = interfaces.into_iter().map(|(interface, stats)| Named { stats, interface });
        output.print_json(&All {
            interfaces: interfaces.collect(),
            bans: counters.as_ref().map(|counters| counters.bans),
            gates: counters.as_ref().map(|counters| &*counters.gates),
            upstreams: counters.as_ref().map(|counters| &*counters.upstreams),
            sessions: counters.as_ref().map(|counters| counters.sessions),
            backends: counters.as_ref().map(|counters| &*counters.backends),
            limits: counters.as_ref().map(|counters| &*counters.limits),
        })?;
        return Ok(());
    }
    let mut out = stdout();
    if interfaces.is_empty() {
        writeln!(out, "no interface is filtered")?;
    }
    for (name, stats) in &interfaces {
        interface_stats(&mut out, name, stats, None)?;
    }
    if let Some(Counters { bans, gates, upstreams, sessions: _, backends, limits }) = &counters {
        if bans.count > 0 {
            let [count, packets, requests] = [bans.count as u64, bans.packets, bans.requests].map(grouped);
            writeln!(out, "{count} bans: {packets} packets dropped, {requests} requests refused")?;
        }
        gate_stats(&mut out, gates)?;
        upstream_status(&mut out, upstreams)?;
        backend_stats(&mut out, backends)?;
        limit_stats(&mut out, limits)?;
    }
    out.flush()?;
    Ok(())
}

/// Figures of an earlier look, and how long ago it was, for rates.
type Earlier<'a> = (&'a Stats, Duration);

fn interface_stats(
    out: &mut impl Write,
    name: &str,
    stats: &Stats,
    earlier: Option<Earlier<'_>>,
) -> std::io::Result<()> {
    let rate = |now: u64, before: &dyn Fn(&Stats) -> u64| match earlier {
        None => String::new(),
        Some((stats, elapsed)) => {
            let rate = now.saturating_sub(before(stats)) as f64 / elapsed.as_secs_f64();
            format!("{}/s", grouped(rate.round() as u64))
        }
    };
    writeln!(out, "{name}: {} packets", grouped(stats.packets()))?;
    let rows: Vec<Vec<String>> = stats
        .outcomes
        .iter()
        .filter(|(_, packets)| **packets > 0)
        .map(|(outcome, packets)| {
            vec![outcome.clone(), grouped(*packets), rate(*packets, &|stats| stats.outcome(outcome))]
        })
        .collect();
    table(out, "  ", &rows)?;
    let mut rows = vec![vec!["SERVICE".into(), "PASSED".into(), "DROPPED".into(), String::new()]];
    for service in &stats.services {
        let before = |stats: &Stats| {
            stats.services.iter().find(|s| s.service == service.service).map_or(0, |s| s.dropped.packets)
        };
        rows.push(vec![
            service.service.clone(),
            grouped(service.passed.packets),
            grouped(service.dropped.packets),
            rate(service.dropped.packets, &before),
        ]);
    }
    table(out, "  ", &rows)?;
    if !stats.rules.is_empty() {
        let dropped_by = if stats.shadow { "WOULD HAVE DROPPED" } else { "DROPPED BY" };
        let mut rows = vec![vec![dropped_by.into(), "PACKETS".into(), "BYTES".into(), String::new()]];
        for rule in &stats.rules {
            let same = |other: &RuleStats| other.policy == rule.policy && other.text == rule.text;
            let before =
                |stats: &Stats| stats.rules.iter().find(|other| same(other)).map_or(0, |r| r.count.packets);
            rows.push(vec![
                format!("{}: {} ({}:{})", rule.policy, rule.text, rule.file, rule.line),
                grouped(rule.count.packets),
                grouped(rule.count.bytes),
                rate(rule.count.packets, &before),
            ]);
        }
        table(out, "  ", &rows)?;
    }
    Ok(())
}

fn gate_stats(out: &mut impl Write, gates: &[GateCounters]) -> std::io::Result<()> {
    for gate in gates {
        writeln!(out, "gate {}", gate.service)?;
        let rows: Vec<Vec<String>> =
            gate.figures().map(|(name, count)| vec![name.to_owned(), grouped(count)]).collect();
        table(out, "  ", &rows)?;
        let rules: Vec<Vec<String>> = gate
            .rules
            .iter()
            .map(|rule| {
                let decided = rule.rule.as_ref().map_or_else(|| rule.stage.to_string(), ToString::to_string);
                vec![
                    format!("{}: {decided}", rule.policy),
                    rule.verdict.as_str().to_owned(),
                    grouped(rule.count),
                ]
            })
            .collect();
        table(out, "  ", &rules)?;
    }
    Ok(())
}

fn backend_stats(out: &mut impl Write, backends: &[BackendStatus]) -> std::io::Result<()> {
    for backend in backends {
        writeln!(out, "backend {}", backend.backend)?;
        let mut rows: Vec<Vec<String>> = backend
            .figures()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| vec![name.to_owned(), grouped(count)])
            .collect();
        for (name, share) in [("half of the answers within", 0.5), ("99 of 100 within", 0.99)] {
            if let Some(time) = backend.latency.within(share) {
                rows.push(vec![name.to_owned(), format!("{time:?}")]);
            }
        }
        table(out, "  ", &rows)?;
    }
    Ok(())
}

fn limit_stats(out: &mut impl Write, limits: &[LimitCount]) -> std::io::Result<()> {
    let mut rows = vec![vec!["LIMIT".into(), "VALUE".into(), "REACHED".into()]];
    for LimitCount { limit, value, hits } in limits.iter().filter(|limit| limit.hits > 0) {
        rows.push(vec![limit.to_string(), value.map_or_else(String::new, grouped), grouped(*hits)]);
    }
    if rows.len() > 1 { table(out, "", &rows) } else { Ok(()) }
}

/// `nicgate top`: the counters and their rates, again and again.
pub(super) fn top(names: &[String], interval: Duration, output: &Output) -> Result<(), Failure> {
    let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    let mut earlier: HashMap<String, (Stats, std::time::Instant)> = HashMap::new();
    loop {
        let interfaces = read_stats(names, output)?;
        if interfaces.is_empty() {
            return Err(Failure::System(anyhow!(
                "no interface is filtered: there is nothing to show; `nicgate run` or `nicgate attach` filters"
            )));
        }
        let mut out = stdout();
        if output.json {
            for (interface, stats) in interfaces.clone() {
                serde_json::to_writer(&mut out, &Named { stats, interface }).map_err(std::io::Error::from)?;
                writeln!(out)?;
            }
        } else {
            write!(out, "{clear}")?;
            for (name, stats) in &interfaces {
                let earlier = earlier.get(name).map(|(stats, at)| (stats, at.elapsed()));
                interface_stats(&mut out, name, stats, earlier)?;
            }
        }
        out.flush()?;
        drop(out);
        let now = std::time::Instant::now();
        earlier = interfaces.into_iter().map(|(name, stats)| (name, (stats, now))).collect();
        std::thread::sleep(interval);
    }
}
