//! `nicgate compile`.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::anyhow;

use super::{
    Failure, Output,
    output::{Progress, json_stdout, stdout},
};
use crate::{load::load, model::Config, offload::Compiled};

pub(super) fn run(path: &Path, service: Option<&str>, output: &Output) -> Result<(), Failure> {
    let progress = Progress::new();
    let (loaded, report) = load(path, &|step| progress.step(step))?;
    progress.step("compiling");
    let compiled = loaded.compile();
    drop(progress);
    if !output.json {
        output.report(&report);
    }
    let shown: Vec<usize> = (0..compiled.services.len())
        .filter(|i| service.is_none_or(|name| compiled.services[*i].key.to_string() == name))
        .collect();
    if let Some(name) = service
        && shown.is_empty()
    {
        let known: Vec<String> = compiled.services.iter().map(|service| service.key.to_string()).collect();
        return Err(Failure::Request(anyhow!(
            "no `gate` or `guard` protects {name}; protected: {}",
            if known.is_empty() { "nothing".to_owned() } else { known.join(", ") }
        )));
    }
    let mut out = if output.json { json_stdout() } else { stdout() };
    if output.json {
        json(&mut out, &loaded.config, &compiled, &shown)?;
    } else {
        text(&mut out, &loaded.config, &compiled, &shown)?;
    }
    out.flush()?;
    Ok(())
}

/// Written piece by piece: a million prefixes as a value tree would take more memory than the compilation.
fn json(out: &mut impl Write, config: &Config, compiled: &Compiled, shown: &[usize]) -> io::Result<()> {
    write!(out, "{{\"services\":[")?;
    for (position, index) in shown.iter().enumerate() {
        let service = &compiled.services[*index];
        let comma = if position == 0 { "" } else { "," };
        write!(out, "{comma}\n  {{\"service\":\"{}\",\"policies\":", service.key)?;
        let names: Vec<&str> =
            config.services[*index].policies.iter().map(|id| &**config.policy(*id).name()).collect();
        serde_json::to_writer(&mut *out, &names)?;
        write!(out, ",\"drop\":{{\"v4\":[")?;
        let prefixes = compiled.drop_prefixes(*index);
        for (i, prefix) in prefixes.v4().enumerate() {
            write!(out, "{}\"{prefix}\"", if i == 0 { "" } else { "," })?;
        }
        write!(out, "],\"v6\":[")?;
        for (i, prefix) in prefixes.v6().enumerate() {
            write!(out, "{}\"{prefix}\"", if i == 0 { "" } else { "," })?;
        }
        write!(out, "]}},\"rules\":")?;
        let rules: Vec<serde_json::Value> = compiled
            .column_rules(service.column)
            .map(|rule| {
                serde_json::json!({
                    "policy": &*rule.policy_name,
                    "text": &*rule.text,
                    "file": &*rule.origin.file,
                    "line": rule.origin.line,
                })
            })
            .collect();
        serde_json::to_writer(&mut *out, &rules)?;
        write!(out, "}}")?;
    }
    writeln!(out, "\n]}}")
}

fn text(out: &mut impl Write, config: &Config, compiled: &Compiled, shown: &[usize]) -> io::Result<()> {
    for index in shown {
        let service = &compiled.services[*index];
        writeln!(out, "# {} drops:", service.key)?;
        for rule in compiled.column_rules(service.column) {
            writeln!(out, "#   {} of {} ({})", rule.text, rule.policy_name, rule.origin)?;
        }
        if let Some(open) = &config.services[*index].open {
            writeln!(out, "#   nothing: {} {open}", service.key)?;
        }
        let prefixes = compiled.drop_prefixes(*index);
        for prefix in prefixes.v4().chain(prefixes.v6()) {
            writeln!(out, "{prefix}")?;
        }
    }
    Ok(())
}
