//! `nicgate monitor`.

use std::{io::Write as _, path::Path};

use anyhow::anyhow;
use serde::Deserialize;

use super::{
    Failure, Output,
    output::{grouped, json_stdout, stdout},
};
use crate::{
    control::Client,
    kernel::DropEvent,
    operations::{Reply, Request},
    watch::{Missed, NamedBan, Observed},
};

/// What the controller can write.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Observed(Box<Observed>),
    Missed(Missed),
    Refused(Reply<()>),
}

/// `nicgate monitor`: sampled drops as they happen.
pub(super) fn monitor(control: &Path, sample: u32, output: &Output) -> Result<(), Failure> {
    let mut client = Client::require(control)?;
    client.send(&Request::Monitor { sample })?;
    while let Some(line) = client.line()? {
        let mut out = if output.json { json_stdout() } else { stdout() };
        match serde_json::from_str(&line).map_err(|error| Failure::System(error.into()))? {
            Line::Refused(reply) => return Err(Failure::Request(anyhow!("{}", reply.message))),
            Line::Missed(_) | Line::Observed(_) if output.json => write!(out, "{line}")?,
            Line::Missed(Missed { missed }) => {
                writeln!(out, "({} events missed: raise --sample)", grouped(missed))?;
            }
            Line::Observed(observed) => {
                let Observed { interface, event, ban } = &*observed;
                let verdict = if event.shadow { "would drop" } else { "drop" };
                let cause = ban.as_ref().map_or_else(|| ruled_out_by(event), banned_by);
                let service = event.service.as_deref().unwrap_or("?");
                let DropEvent { source, length, .. } = event;
                let time = time_of_day(event.time);
                writeln!(
                    out,
                    "{time} {interface} {verdict} {source} -> {service} ({length} bytes): {cause}"
                )?;
            }
        }
        out.flush()?;
    }
    Err(Failure::System(anyhow!("the controller went away")))
}

/// The time of day in UTC, as far as people need it.
fn time_of_day(since_1970: f64) -> String {
    let milliseconds = (since_1970 * 1000.0) as u64 % 86_400_000;
    let seconds = milliseconds / 1000;
    format!("{:02}:{:02}:{:02}.{:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60, milliseconds % 1000)
}

/// A rule as the cause of a drop.
fn ruled_out_by(event: &DropEvent) -> String {
    match (&event.policy, &event.text, &event.file, event.line) {
        (Some(policy), Some(text), Some(file), Some(line)) => format!("{policy}: {text} ({file}:{line})"),
        _ => "a rule that a reload has removed".to_owned(),
    }
}

/// A ban as the cause of a drop.
fn banned_by(ban: &NamedBan) -> String {
    let Some(prefix) = &ban.prefix else { return "a ban that has ended".to_owned() };
    let service = ban.service.as_ref().map_or_else(String::new, |service| format!(" on {service}"));
    let reason = ban.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("ban {prefix}{service}{reason}")
}

#[cfg(test)]
mod tests {
    use super::time_of_day;

    #[test]
    fn the_time_of_day_is_utc() {
        assert_eq!(time_of_day(0.0), "00:00:00.000Z");
        assert_eq!(time_of_day(86_400.0 * 20_000.0 + 3_723.25), "01:02:03.250Z");
    }
}
