use std::{
    collections::HashMap,
    io::{IsTerminal as _, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use super::{
    Failure, Output,
    client::Client,
    output::{grouped, stdout, table},
};
use crate::{
    bans::Store,
    daemon::control::Request,
    kernel::{self, Bpffs, Filter, RuleStats, Stats, Status},
    load::{load, load_from},
    state,
};

/// Those interfaces, or every one that nicgate filters.
fn attached(names: &[String]) -> Result<Vec<String>, Failure> {
    let attached = kernel::attached().map_err(Failure::System)?;
    if names.is_empty() {
        return Ok(attached);
    }
    match names.iter().find(|name| !attached.contains(name)) {
        None => Ok(names.to_vec()),
        Some(other) => Err(Failure::Request(anyhow!(
            "nicgate is not attached to {other}; attached: {}",
            list(&attached)
        ))),
    }
}

/// `nicgate attach`: what the controller does at its start, without a controller.
pub(super) fn attach(
    path: &Path,
    control: &Path,
    names: &[String],
    bans_file: &Path,
    output: &Output,
) -> Result<(), Failure> {
    if let Ok(Some(_)) = Client::connect(control) {
        return Err(Failure::Request(anyhow!(
            "a controller runs and owns the interfaces: name them in the configuration and `nicgate reload`"
        )));
    }
    let (loaded, report) = load(path, &|_| ()).or_else(|error| {
        // At boot, before the network is up, the alternative would be to leave the machine open.
        let kept = state::read(&state::folder_beside(bans_file), path)
            .map_err(|_| ())
            .and_then(|kept| load_from(path, &kept, &|_| ()).map_err(|_| ()));
        match kept {
            Ok(kept) => {
                output.warning(&format!(
                    "the last good configuration is enforced, because this one cannot be loaded:\n{error}"
                ));
                Ok(kept)
            }
            Err(()) => Err(error),
        }
    })?;
    output.report(&report);
    let layout = kernel::Layout::new(loaded.config.engine, loaded.compile())
        .context("the kernel's tables cannot hold this configuration")
        .map_err(Failure::Request)?;
    let configured = &loaded.config.interfaces;
    if let Some(unknown) =
        names.iter().find(|name| !configured.iter().any(|interface| *interface.name == **name))
    {
        return Err(Failure::Request(anyhow!("{}: there is no `interface {unknown}`", path.display())));
    }
    let wanted: Vec<_> = configured
        .iter()
        .filter(|interface| names.is_empty() || names.iter().any(|name| *interface.name == **name))
        .collect();
    if wanted.is_empty() {
        return Err(Failure::Request(anyhow!("{}: there is no `interface` to attach to", path.display())));
    }
    let bans = Store::read(bans_file).unwrap_or_else(|error| {
        output.warning(&format!(
            "the bans in {} cannot be read: {error:#}; those that are in force stay in force",
            bans_file.display()
        ));
        None
    });
    let never_drop: Vec<_> = loaded.config.never_drop.iter().map(|(net, _)| *net).collect();
    let bans = bans.map(|book| book.desired(&never_drop));
    let mut reports = Vec::new();
    for interface in wanted {
        let (_, report) = Filter::attach_with(&interface.name, interface.mode, &layout, bans.as_ref())
            .map_err(Failure::System)?;
        for note in report.notes.iter().chain(&report.published.warnings) {
            output.warning(&format!("{}: {note}", interface.name));
        }
        if !output.json {
            writeln!(
                stdout(),
                "{}: {} ({}), {} IPv4 and {} IPv6 prefixes",
                report.interface,
                if report.adopted { "updated" } else { "attached" },
                report.mode,
                grouped(report.published.v4_entries as u64),
                grouped(report.published.v6_entries as u64),
            )?;
        }
        reports.push(report);
    }
    if output.json {
        output.print_json(&json!({"interfaces": reports}))?;
    }
    Ok(())
}

/// `nicgate detach`.
pub(super) fn detach(control: &Path, names: &[String], all: bool, output: &Output) -> Result<(), Failure> {
    if names.is_empty() && !all {
        return Err(Failure::Request(anyhow!(
            "name the interfaces, or --all; attached: {}",
            list(&attached(&[])?)
        )));
    }
    let names = attached(names)?;
    // The controller would put back what is taken off behind its back.
    if let Ok(Some(client)) = Client::connect(control) {
        client.ask(&Request::Release { interfaces: names.clone() })?;
    }
    for name in &names {
        kernel::detach(&Bpffs::default(), name).map_err(Failure::System)?;
        if !output.json {
            writeln!(stdout(), "{name}: detached")?;
        }
    }
    if !names.is_empty() && matches!(Client::connect(control), Ok(Some(_))) {
        output.warning(
            "a controller runs: its next reload attaches again to every `interface` of its configuration",
        );
    }
    if output.json {
        output.print_json(&json!({"detached": names}))?;
    }
    Ok(())
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// `nicgate status`: from the controller when it runs, and from the pins either way. With `quiet` only the exit
/// status says whether all is in force.
pub(super) fn status(control: &Path, quiet: bool, output: &Output) -> Result<(), Failure> {
    let controller = match Client::connect(control)? {
        Some(client) => Some(client.ask(&Request::Status {})?.result),
        None => None,
    };
    let interfaces: Vec<Value> = match &controller {
        Some(status) => status["interfaces"].as_array().cloned().unwrap_or_default(),
        None => attached(&[])?
            .iter()
            .map(|name| match Filter::open(name).and_then(|filter| filter.status()) {
                Ok(status) => json!(status),
                // Of an interface that is gone, for example: the others are shown none the less.
                Err(error) => json!({"interface": name, "error": format!("{error:#}")}),
            })
            .collect(),
    };
    let in_force = match &controller {
        Some(status) => status["alarms"].as_array().is_none_or(Vec::is_empty),
        None => !interfaces.is_empty() && interfaces.iter().all(whole),
    };
    let verdict = || if in_force { Ok(()) } else { Err(Failure::Told(3)) };
    if quiet {
        return verdict();
    }
    if output.json {
        let status =
            controller.unwrap_or_else(|| json!({"controller": {"running": false}, "interfaces": interfaces}));
        output.print_json(&status)?;
        return verdict();
    }
    let mut out = stdout();
    match &controller {
        Some(status) => {
            let controller = &status["controller"];
            writeln!(
                out,
                "controller: running (pid {}) for {} s, {} loaded, {} reloads",
                controller["pid"],
                controller["uptime_seconds"],
                controller["config"].as_str().unwrap_or("?"),
                controller["reloads"]
            )?;
            if let Some(error) = controller["last_reload_error"].as_str() {
                writeln!(out, "the last reload failed, what was enforced before still is:\n{error}")?;
            }
        }
        None if interfaces.is_empty() => writeln!(out, "controller: not running")?,
        None => writeln!(out, "controller: not running; the filter goes on enforcing")?,
    }
    if interfaces.is_empty() {
        writeln!(out, "no interface is filtered")?;
    }
    for interface in interfaces {
        match serde_json::from_value::<Status>(interface.clone()) {
            Ok(status) => interface_status(&mut out, &status)?,
            Err(_) => writeln!(
                out,
                "{}: {}",
                interface["interface"].as_str().unwrap_or("?"),
                interface["error"].as_str().unwrap_or("unknown")
            )?,
        }
    }
    if let Some(bans) = controller.as_ref().map(|status| &status["bans"]) {
        writeln!(out, "{} bans", grouped(bans["count"].as_u64().unwrap_or(0)))?;
    }
    for gate in controller.iter().flat_map(|status| status["gates"].as_array()).flatten() {
        writeln!(
            out,
            "gate {}: {} connections, {} requests, {} allowed, {} denied",
            gate["service"].as_str().unwrap_or("?"),
            gate["connections_open"],
            gate["requests"],
            gate["allowed"],
            gate["denied"]
        )?;
    }
    for alarm in controller.iter().flat_map(|status| status["alarms"].as_array()).flatten() {
        let text = |name: &str| alarm[name].as_str().unwrap_or("?");
        writeln!(out, "ALARM {}: {}; {}", text("code"), text("what"), text("remedy"))?;
    }
    out.flush()?;
    verdict()
}

/// Whether a filter that no controller looks after is in place with all that was published.
fn whole(interface: &Value) -> bool {
    serde_json::from_value::<Status>(interface.clone()).is_ok_and(|status| {
        status.mode.is_some() && status.v4.complete() && status.v6.complete() && status.bans.complete()
    })
}

fn interface_status(out: &mut impl Write, status: &Status) -> std::io::Result<()> {
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

fn read_stats(names: &[String], output: &Output) -> Result<Vec<(String, Stats)>, Failure> {
    let mut all = Vec::new();
    for name in attached(names)? {
        match Filter::open(&name).and_then(|filter| filter.stats()) {
            Ok(stats) => all.push((name, stats)),
            // Nobody asked for it by name: the others are shown none the less.
            Err(error) if names.is_empty() => output.warning(&format!("{name}: {error:#}")),
            Err(error) => return Err(Failure::System(error)),
        }
    }
    Ok(all)
}

/// `nicgate stats`: the NIC's counters from the pins, the gate's from the controller when it runs.
pub(super) fn stats(control: &Path, names: &[String], output: &Output) -> Result<(), Failure> {
    let interfaces = read_stats(names, output)?;
    let gate = match Client::connect(control)? {
        Some(client) => client.ask(&Request::Stats {})?.result,
        None => Value::Null,
    };
    if output.json {
        let interfaces: Vec<Value> = interfaces
            .iter()
            .map(|(name, stats)| {
                let mut value = json!(stats);
                value["interface"] = json!(name);
                value
            })
            .collect();
        output.print_json(&json!({
            "interfaces": interfaces,
            "bans": gate["bans"],
            "gates": gate["gates"],
            "sessions": gate["sessions"],
        }))?;
        return Ok(());
    }
    let mut out = stdout();
    if interfaces.is_empty() {
        writeln!(out, "no interface is filtered")?;
    }
    for (name, stats) in &interfaces {
        interface_stats(&mut out, name, stats, None)?;
    }
    if gate["bans"]["count"].as_u64().is_some_and(|count| count > 0) {
        let count = |name: &str| grouped(gate["bans"][name].as_u64().unwrap_or(0));
        writeln!(
            out,
            "{} bans: {} packets dropped, {} requests refused",
            count("count"),
            count("packets"),
            count("requests")
        )?;
    }
    gate_stats(&mut out, &gate)?;
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
        let mut rows = vec![vec!["DROPPED BY".into(), "PACKETS".into(), "BYTES".into(), String::new()]];
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

fn gate_stats(out: &mut impl Write, gate: &Value) -> std::io::Result<()> {
    for gate in gate["gates"].as_array().into_iter().flatten() {
        writeln!(out, "gate {}", gate["service"].as_str().unwrap_or("?"))?;
        let rows: Vec<Vec<String>> = gate
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some(vec![name.clone(), grouped(value.as_u64()?)]))
            .collect();
        table(out, "  ", &rows)?;
        let rules: Vec<Vec<String>> = gate["rules"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|rule| {
                let text = |name: &str| rule[name].as_str().unwrap_or("").to_owned();
                let decided = rule["rule"].as_str().map_or_else(|| text("stage"), str::to_owned);
                vec![
                    format!("{}: {decided}", text("policy")),
                    text("verdict"),
                    grouped(rule["count"].as_u64().unwrap_or(0)),
                ]
            })
            .collect();
        table(out, "  ", &rules)?;
    }
    Ok(())
}

/// `nicgate top`: the counters and their rates, again and again.
pub(super) fn top(names: &[String], interval: Duration, output: &Output) -> Result<(), Failure> {
    let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    let mut earlier: HashMap<String, (Stats, std::time::Instant)> = HashMap::new();
    loop {
        let interfaces = read_stats(names, output)?;
        let mut out = stdout();
        if output.json {
            for (name, stats) in &interfaces {
                let mut value = json!(stats);
                value["interface"] = json!(name);
                writeln!(out, "{value}")?;
            }
        } else {
            write!(out, "{clear}")?;
            if interfaces.is_empty() {
                writeln!(out, "no interface is filtered")?;
            }
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

/// `nicgate monitor`: sampled drops as they happen.
pub(super) fn monitor(control: &Path, sample: u32, output: &Output) -> Result<(), Failure> {
    let mut client = Client::require(control)?;
    client.send(&Request::Monitor { sample })?;
    while let Some(line) = client.line()? {
        let mut out = stdout();
        if output.json {
            write!(out, "{line}")?;
        } else {
            let event: Value = serde_json::from_str(&line).map_err(|error| Failure::System(error.into()))?;
            if let Some(message) = event["message"].as_str() {
                return Err(Failure::Request(anyhow!("{message}")));
            } else if let Some(missed) = event["missed"].as_u64() {
                writeln!(out, "({} events missed: raise --sample)", grouped(missed))?;
            } else {
                let text = |name: &str| event[name].as_str().unwrap_or("?").to_owned();
                let verdict = if event["shadow"].as_bool() == Some(true) { "would drop" } else { "drop" };
                let cause = match &event["ban"] {
                    Value::Object(ban) => banned_by(ban),
                    _ => format!("{}: {} ({}:{})", text("policy"), text("text"), text("file"), event["line"]),
                };
                writeln!(
                    out,
                    "{} {verdict} {} -> {} ({} bytes): {cause}",
                    text("interface"),
                    text("source"),
                    text("service"),
                    event["length"]
                )?;
            }
        }
        out.flush()?;
    }
    Err(Failure::System(anyhow!("the controller went away")))
}

/// A ban as the cause of a drop.
fn banned_by(ban: &serde_json::Map<String, Value>) -> String {
    let text = |name: &str| ban.get(name).and_then(Value::as_str);
    let Some(prefix) = text("prefix") else { return "a ban that has ended".to_owned() };
    let service = text("service").map_or_else(String::new, |service| format!(" on {service}"));
    let reason = text("reason").map_or_else(String::new, |reason| format!(": {reason}"));
    format!("ban {prefix}{service}{reason}")
}
