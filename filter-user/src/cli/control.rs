use std::{io::Write as _, path::Path};

use anyhow::anyhow;
use serde_json::Value;

use super::{
    Failure, Output,
    client::Client,
    output::{grouped, stdout, table},
};
use crate::daemon::{
    self, RunError,
    control::{Fault, Request},
};

/// `nicgate run`.
pub(super) fn run(path: &Path, control: &Path, state: &Path) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::System(anyhow!(error).context("starting the runtime")))?;
    let result = runtime.block_on(daemon::run(path, control, state));
    // Tasks that still wait for a client have nothing to lose.
    runtime.shutdown_background();
    result.map_err(|error| match error {
        RunError::Configuration(error) => error.into(),
        RunError::System(error) => Failure::System(error),
    })
}

/// `nicgate reload`.
pub(super) fn reload(control: &Path, output: &Output) -> Result<(), Failure> {
    let reply = Client::require(control)?.ask(&Request::Reload {})?;
    if output.json {
        output.print_json(&reply)?;
    } else if !reply.message.is_empty() {
        output.say(&reply.message);
    }
    if !reply.ok {
        output.error(&anyhow!("the configuration was not loaded; what was enforced still is"));
        return Err(Failure::Told(match reply.fault {
            Some(Fault::System) => 3,
            Some(Fault::Request) | None => 1,
        }));
    }
    if !output.json {
        let interfaces = reply.result["interfaces"].as_array().map_or(0, Vec::len);
        let cut = reply.result["transfers"]["cut"].as_u64().unwrap_or(0);
        writeln!(
            stdout(),
            "loaded: {interfaces} interface{} updated, {} live transfer{} cut",
            if interfaces == 1 { "" } else { "s" },
            grouped(cut),
            if cut == 1 { "" } else { "s" },
        )?;
    }
    Ok(())
}

/// `nicgate sessions`.
pub(super) fn sessions(control: &Path, output: &Output) -> Result<(), Failure> {
    let reply = Client::require(control)?.ask(&Request::Sessions {})?;
    if output.json {
        output.print_json(&reply.result)?;
        return Ok(());
    }
    let mut rows = vec![
        ["STREAM", "ADDRESS", "PROTO", "OPEN", "IDLE", "TRANSFERS", "BYTES", "VERDICT"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), grouped),
        _ => "-".to_owned(),
    };
    for session in reply.result["sessions"].as_array().into_iter().flatten() {
        let seconds = |name: &str| format!("{}s", session[name].as_u64().unwrap_or(0));
        rows.push(vec![
            text(&session["stream"]),
            text(&session["address"]),
            text(&session["proto"]),
            seconds("open_seconds"),
            seconds("idle_seconds"),
            text(&session["transfers"]),
            text(&session["bytes"]),
            text(&session["verdict"]),
        ]);
    }
    let mut out = stdout();
    table(&mut out, "", &rows)?;
    out.flush()?;
    Ok(())
}
