//! `nicgate check`.

use std::{collections::HashMap, io::Write as _, net::IpAddr, path::Path};

use anyhow::Context as _;
use serde_json::json;

use super::{
    Failure, Output,
    output::{Progress, grouped, stdout, table},
};
use crate::{
    load::{Loaded, load},
    model::{Gate, ServerAddress, ServiceKey, ServiceKind, Trust, Upstream, UpstreamServer},
    offload::{Compiled, Extent, RuleReport, Runs, compile, report},
    table::fits,
};

pub(super) fn run(path: &Path, all: bool, quiet: bool, output: &Output) -> Result<(), Failure> {
    let progress = Progress::new();
    let (loaded, diagnostics) = load(path, &|step| progress.step(step))?;
    progress.step("compiling");
    let decisions = loaded.decisions();
    let compiled = compile(&loaded.config, &decisions);
    fits(loaded.config.engine, &compiled)
        .with_context(|| format!("{}: the kernel's tables cannot hold this configuration", path.display()))
        .map_err(Failure::Request)?;
    progress.step("explaining");
    let rules = report(&loaded.config, loaded.country_map(), &decisions, &compiled);
    drop(decisions);
    drop(progress);
    let hints = hints(&loaded, &compiled);
    if output.json {
        let services: Vec<_> = summaries(&loaded, &compiled)
            .into_iter()
            .map(|summary| {
                json!({
                    "service": summary.name,
                    "kind": summary.kind,
                    "upstream": summary.upstream,
                    "policies": summary.policies,
                    "proxies": summary.proxies,
                    "open": summary.open,
                    "drops": {
                        "v4_prefixes": summary.prefixes.0,
                        "v6_prefixes": summary.prefixes.1,
                    },
                })
            })
            .collect();
        output.print_json(&json!({
            "ok": true,
            "diagnostics": diagnostics.diagnostics,
            "hints": hints,
            "shadow": loaded.config.shadow,
            "services": services,
            "rules": rules,
        }))?;
        return Ok(());
    }
    output.report(&diagnostics);
    for hint in &hints {
        output.warning(hint);
    }
    let warnings = diagnostics.warnings().count() + diagnostics.omitted_warnings + hints.len();
    if !quiet {
        print(path, &loaded, &compiled, &rules, warnings, all)?;
    }
    Ok(())
}

/// What is allowed but surely not meant.
fn hints(loaded: &Loaded, compiled: &Compiled) -> Vec<String> {
    let config = &loaded.config;
    let mut hints = Vec::new();
    if config.interfaces.is_empty() && !config.services.is_empty() {
        hints
            .push("there is no `interface`: nothing is dropped at the NIC; add `interface eth0;`".to_owned());
    }
    for listener in &config.listeners {
        let unreachable = listener.key.address.is_some_and(|address| address.is_loopback());
        if unreachable || listener.directive.starts_with("admin") {
            continue;
        }
        let same = |key: &ServiceKey| key.proto == listener.key.proto && key.port == listener.key.port;
        if !config.services.iter().any(|service| same(&service.key)) && !config.services.is_empty() {
            hints.push(format!(
                "{}: the media server listens on {} ({}), which nothing protects; add `guard {} {} streams;`",
                listener.origin, listener.key, listener.directive, listener.key.proto, listener.key.port
            ));
        }
    }
    hints.extend(operator(compiled));
    hints
}

/// Warns when the operator would be dropped. sshd says where the operator comes from.
fn operator(compiled: &Compiled) -> Option<String> {
    let connection = std::env::var("SSH_CONNECTION").ok()?;
    let address: IpAddr = connection.split_whitespace().next()?.parse().ok()?;
    let (service, rule) =
        compiled.services.iter().enumerate().find_map(|(index, service)| {
            Some((service.key, compiled.rule(compiled.verdict(address, index)?)))
        })?;
    Some(format!(
        "your own address {address} (SSH_CONNECTION) is dropped on {service} by `{}` ({}); `never_drop {address};` \
         keeps it in",
        rule.text, rule.origin
    ))
}

/// A service in one line.
struct Summary {
    name: String,
    kind: &'static str,
    upstream: Option<String>,
    policies: Vec<String>,
    /// Trusted proxies in front.
    proxies: Vec<String>,
    open: Option<String>,
    prefixes: (usize, usize),
}

/// Where a gate's requests go: the URL of its one server, or the name of its upstream with the servers.
fn upstream_of(gate: &Gate) -> String {
    let Upstream { name, servers, .. } = &*gate.upstream;
    let to = match &servers[..] {
        [UpstreamServer { address, .. }] if **name == *address.to_string() => match address {
            ServerAddress::Tcp(url) => url.to_string(),
            ServerAddress::Unix(_) => name.to_string(),
        },
        servers => {
            let servers: Vec<_> = servers.iter().map(|server| server.address.to_string()).collect();
            format!("{name} ({})", servers.join(", "))
        }
    };
    if gate.prefix.is_empty() { to } else { format!("{to}, without /{} before their paths", gate.prefix) }
}

fn summaries(loaded: &Loaded, compiled: &Compiled) -> Vec<Summary> {
    let config = &loaded.config;
    config
        .services
        .iter()
        .enumerate()
        .map(|(index, service)| {
            let (kind, upstream) = match &service.kind {
                ServiceKind::Gate(gate) => ("gate", Some(upstream_of(gate))),
                ServiceKind::Guard => ("guard", None),
            };
            let prefixes = compiled.drop_prefixes(index);
            Summary {
                name: service.key.to_string(),
                kind,
                upstream,
                policies: service.policies.iter().map(|id| config.policy(*id).name().to_string()).collect(),
                proxies: service
                    .trust()
                    .into_iter()
                    .flat_map(Trust::prefixes)
                    .map(|(net, _)| net.to_string())
                    .collect(),
                open: service.open.as_ref().map(ToString::to_string),
                prefixes: (prefixes.v4().count(), prefixes.v6().count()),
            }
        })
        .collect()
}

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

fn extent(extent: Extent) -> String {
    let mut parts = Vec::new();
    if extent.v4 > 0 {
        parts.push(count(extent.v4, "IPv4 address", "IPv4 addresses"));
    }
    if extent.v6_64s > 0 {
        parts.push(count(extent.v6_64s, "IPv6 /64", "IPv6 /64s"));
    }
    parts.join(" and ")
}

fn print(
    path: &Path,
    loaded: &Loaded,
    compiled: &Compiled,
    rules: &[RuleReport],
    warnings: usize,
    all: bool,
) -> std::io::Result<()> {
    let config = &loaded.config;
    let mut out = stdout();
    // What is long comes first: the end is what stays on the screen.
    print_rules(&mut out, config, rules, all)?;
    let files = count(config.files.len() as u64, "file", "files");
    let warnings = match warnings {
        0 => "no warnings".to_owned(),
        warnings => count(warnings as u64, "warning", "warnings"),
    };
    writeln!(out, "{}: the configuration is valid ({files}, {warnings})", path.display())?;
    if config.services.is_empty() {
        let known = !(config.policies.is_empty() && config.streams.is_empty() && config.listeners.is_empty());
        let what = if known {
            "it has no `gate` and no `guard`"
        } else {
            "nothing in it is a directive of nicgate's"
        };
        writeln!(out, "nothing is enforced: {what}")?;
    }
    if config.shadow {
        writeln!(out, "shadow: the NIC counts what it would drop, and drops nothing")?;
    }
    for interface in &config.interfaces {
        let mode = serde_json::to_value(interface.mode)?;
        writeln!(out, "interface {} (mode {})", interface.name, mode.as_str().unwrap_or_default())?;
    }
    for summary in summaries(loaded, compiled) {
        let upstream = summary.upstream.map(|upstream| format!(" to {upstream}")).unwrap_or_default();
        let policies = summary.policies.join(", ");
        write!(out, "{} {}{upstream}", summary.kind, summary.name)?;
        if !policies.is_empty() {
            write!(out, ", judged by {policies}")?;
        }
        match (summary.open, summary.prefixes) {
            (Some(open), _) => writeln!(out, ": the NIC drops nothing, it {open}")?,
            (None, (0, 0)) => writeln!(out, ": the NIC drops nothing")?,
            (None, (v4, v6)) => writeln!(
                out,
                ": the NIC drops {} and {}",
                count(v4 as u64, "IPv4 prefix", "IPv4 prefixes"),
                count(v6 as u64, "IPv6 prefix", "IPv6 prefixes")
            )?,
        }
        if let [first, more @ ..] = &summary.proxies[..] {
            let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            writeln!(
                out,
                "  trusted proxies {first}{more} are never dropped there; what they pass on, from whatever address, only \
                 the gate judges"
            )?;
        }
    }
    out.flush()
}

/// Policies that are shown without `--all`.
const POLICIES: usize = 20;
/// Rules that are shown of those that are alike: same policy, same kind, same place to run for the same reason.
const ALIKE: usize = 5;

/// What of a rule makes it like another.
fn likeness(rule: &RuleReport) -> (&str, Runs, Option<&str>) {
    let kind = rule.text.match_indices(' ').nth(1).map_or(&*rule.text, |(at, _)| &rule.text[..at]);
    (kind, rule.runs, rule.reason.as_deref())
}

fn print_rules(
    out: &mut impl std::io::Write,
    config: &crate::model::Config,
    rules: &[RuleReport],
    all: bool,
) -> std::io::Result<()> {
    let policies: Vec<&[RuleReport]> = rules.chunk_by(|a, b| a.policy == b.policy).collect();
    let shown = if all { policies.len() } else { policies.len().min(POLICIES) };
    for policy in &policies[..shown] {
        let first = &policy[0];
        let block = config.policy_named(&first.policy).map(|id| config.policy(id).origin());
        let file = block.map_or("", |origin| &*origin.file);
        writeln!(out, "{} ({file})", first.policy)?;
        let mut lines: Vec<Vec<String>> = Vec::new();
        let mut seen: HashMap<_, usize> = HashMap::new();
        for rule in *policy {
            let count = seen.entry(likeness(rule)).or_default();
            *count += 1;
            if all || *count <= ALIKE {
                lines.extend(rows(rule, file));
            }
        }
        table(out, "  ", &lines)?;
        let mut hidden: Vec<_> = seen.into_iter().filter(|(_, count)| *count > ALIKE && !all).collect();
        hidden.sort();
        for ((kind, runs, reason), count) in hidden {
            let runs = words(runs);
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            writeln!(
                out,
                "  … and {} more like `{kind} …`, {runs}{reason}",
                grouped((count - ALIKE) as u64)
            )?;
        }
        writeln!(out)?;
    }
    if shown < policies.len() {
        writeln!(out, "{} more policies: `nicgate check --all` lists them\n", policies.len() - shown)?;
    }
    Ok(())
}

fn words(runs: Runs) -> &'static str {
    match runs {
        Runs::Nic => "NIC",
        Runs::Both => "NIC and userspace",
        Runs::Userspace => "userspace",
    }
}

/// One line for the rule and, where there is one, a second for what to write instead.
fn rows(rule: &RuleReport, file: &str) -> Vec<Vec<String>> {
    let place = if &*rule.origin.file == file {
        format!("line {}", rule.origin.line)
    } else {
        rule.origin.to_string()
    };
    let runs = words(rule.runs);
    let mut why = Vec::new();
    if rule.runs != Runs::Userspace {
        let dropped = rule.services.iter().map(|place| place.dropped).max_by_key(|e| (e.v4, e.v6_64s));
        why.push(format!("drops {}", extent(dropped.unwrap_or_default())));
    }
    why.extend(rule.reason.clone());
    let mut rows = vec![vec![place, rule.text.to_string(), runs.to_owned(), why.join("; ")]];
    rows.extend(
        rule.remedy
            .iter()
            .map(|remedy| vec![String::new(), String::new(), String::new(), format!("instead: {remedy}")]),
    );
    rows
}
