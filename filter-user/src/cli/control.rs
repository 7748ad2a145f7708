//! `nicgate run`, `reload` and `sessions`.

use std::{io::Write as _, path::Path};

use anyhow::anyhow;

use super::{
    Failure, Output,
    output::{grouped, stdout, table},
};
use crate::{
    control::Client,
    daemon::{self, RunError},
    operations::{Fault, Reloaded, Request, SessionList},
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
    let reply = Client::require(control)?.ask::<Reloaded>(&Request::Reload {})?;
    if output.json {
        output.print_json(&reply)?;
    } else if !reply.message.is_empty() {
        output.say(&reply.message);
    }
    let Some(reloaded) = reply.result else {
        output.error(&anyhow!("the configuration was not loaded; what was enforced still is"));
        return Err(Failure::Told(match reply.fault {
            Some(Fault::System) => 3,
            Some(Fault::Request) | None => 1,
        }));
    };
    if !output.json {
        let (interfaces, cut) = (reloaded.interfaces.len(), reloaded.transfers.cut);
        writeln!(
            stdout(),
            "loaded: {interfaces} interface{} updated, {} live transfer{} cut",
            if interfaces == 1 { "" } else { "s" },
            grouped(cut),
            if cut == 1 { "" } else { "s" },
        )?;
    }
    if !reply.ok {
        output.error(&anyhow!("parts were refused: their former contents stay in force, all else is new"));
        return Err(Failure::Told(1));
    }
    Ok(())
}

/// `nicgate sessions`.
pub(super) fn sessions(control: &Path, output: &Output) -> Result<(), Failure> {
    let reply = Client::require(control)?.ask::<SessionList>(&Request::Sessions {})?;
    let list = reply.result.ok_or_else(|| Failure::System(anyhow!("{}", reply.message)))?;
    if output.json {
        output.print_json(&list)?;
        return Ok(());
    }
    let header = ["STREAM", "ADDRESS", "PROTO", "OPEN", "IDLE", "TRANSFERS", "BYTES", "VERDICT"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for session in &list.sessions {
        let verdict = session.verdict.map_or("-", |verdict| verdict.as_str());
        rows.push(vec![
            session.key.stream.to_string(),
            session.key.address.to_string(),
            session.key.proto.to_string(),
            format!("{}s", session.open_seconds),
            format!("{}s", session.idle_seconds),
            grouped(session.transfers as u64),
            grouped(session.bytes),
            verdict.to_owned(),
        ]);
    }
    let mut out = stdout();
    table(&mut out, "", &rows)?;
    out.flush()?;
    Ok(())
}
