//! `nicgate run`, `reload` and `upgrade`.

use std::{io::Write as _, path::Path};

use anyhow::anyhow;

use super::{
    Failure, Output,
    output::{grouped, stdout},
};
use crate::{
    control::Client,
    daemon::{self, Options, RunError},
    operations::{Fault, HandedOver, Reloaded, Request},
};

/// `nicgate run`.
pub(super) fn run(options: Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::System(anyhow!(error).context("starting the runtime")))?;
    let result = runtime.block_on(daemon::run(options));
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
            Some(Fault::System | Fault::Moved) => 3,
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

/// `nicgate upgrade`.
pub(super) fn upgrade(control: &Path, output: &Output) -> Result<(), Failure> {
    let reply = Client::require(control)?.ask::<HandedOver>(&Request::Upgrade {})?;
    let Some(handed_over) = reply.result.filter(|_| reply.ok) else {
        return Err(Failure::System(anyhow!("{}", reply.message)));
    };
    if output.json {
        output.print_json(&handed_over)?;
        return Ok(());
    }
    let HandedOver { pid, version, former, finishing } = handed_over;
    let connections = if finishing == 1 { "connection" } else { "connections" };
    writeln!(
        stdout(),
        "process {pid} (nicgate {version}) has taken over; process {former} finishes {} {connections}",
        grouped(finishing as u64)
    )?;
    Ok(())
}
