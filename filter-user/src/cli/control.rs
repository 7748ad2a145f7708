//! `nicgate run`, `reload`, `confirm` and `upgrade`.

use std::{io::Write as _, path::Path, time::Duration};

use anyhow::anyhow;

use super::{
    Failure, Output,
    output::{grouped, stdout},
};
use crate::{
    control::Client,
    daemon::{self, Options, RunError},
    operations::{Confirmed, Fault, HandedOver, Reloaded, Request},
    watch::ssh_client,
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
pub(super) fn reload(control: &Path, confirm: Option<Duration>, output: &Output) -> Result<(), Failure> {
    let confirm_seconds = confirm.map(|time| time.as_secs());
    let request = Request::Reload { confirm_seconds, operator: ssh_client() };
    let reply = Client::require(control)?.ask::<Reloaded>(&request)?;
    if output.json {
        output.print_json(&reply)?;
    } else if !reply.message.is_empty() {
        output.say(&reply.message);
    }
    let Some(reloaded) = reply.result else {
        output.error(&anyhow!("the configuration was not loaded; what was enforced still is"));
        return Err(Failure::told(reply.fault.unwrap_or(Fault::Request)));
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
        if let Some(seconds) = reloaded.confirm_within_seconds {
            writeln!(
                stdout(),
                "the former configuration comes back in {seconds} s, unless you `nicgate confirm` before"
            )?;
        }
    }
    if !reply.ok {
        output.error(&anyhow!("parts were refused: their former contents stay in force, all else is new"));
        return Err(Failure::Told(1));
    }
    Ok(())
}

/// `nicgate confirm`.
pub(super) fn confirm(control: &Path, output: &Output) -> Result<(), Failure> {
    let reply = Client::require(control)?.ask::<Confirmed>(&Request::Confirm {})?;
    let Some(confirmed) = reply.result.filter(|_| reply.ok) else {
        return Err(Failure::Request(anyhow!("{}", reply.message)));
    };
    if output.json {
        output.print_json(&confirmed)?;
        return Ok(());
    }
    writeln!(
        stdout(),
        "confirmed, {} s before the former configuration would have come back",
        confirmed.seconds_left
    )?;
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
