//! `nicgate sessions`: who is watching, and what can be done about it.

use std::{io::Write as _, net::IpAddr, path::Path, time::Duration};

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Failure, Output,
    output::{grouped, stdout, table},
};
use crate::{
    bans::{format_duration, parse_duration},
    control::Client,
    operations::{Fault, Reply, Request, SessionList},
    session::{Kicked, Reauthorised, SessionFilter, SessionId, SessionInfo, SessionSort},
};

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct SessionsArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// In which order; without it, the latest used first.
    #[arg(long, value_name = "WHAT")]
    sort: Option<SortWord>,
    #[command(subcommand)]
    command: Option<SessionsCommand>,
}

#[derive(Args, Debug)]
struct FilterArgs {
    /// Only those of this stream.
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Only those of this user, as backends call it (X-UserId).
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only those of this address.
    #[arg(long, value_name = "ADDR")]
    ip: Option<IpAddr>,
}

/// Which sessions are meant: those of which all is true that is given.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
struct WhichArgs {
    /// The session with this id.
    #[arg(value_name = "ID", value_parser = id)]
    id: Option<SessionId>,
    /// Those of this stream.
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Those of this user, as backends call it (X-UserId).
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Those of this address.
    #[arg(long, value_name = "ADDR")]
    ip: Option<IpAddr>,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// End sessions: live transfers are cut, and their tokens are refused for a time. Who has no token is refused on that
    /// stream, from that address.
    Kick {
        #[command(flatten)]
        which: WhichArgs,
        /// For how long, such as 30s, 10m or 2h.
        #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "3m")]
        ban: Duration,
    },
    /// Have the backends asked again about sessions, now: whom they ban is cut.
    Reauth {
        #[command(flatten)]
        which: WhichArgs,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SortWord {
    /// Those that have moved most first.
    Bytes,
    /// The oldest first.
    Age,
}

fn id(text: &str) -> Result<SessionId, String> {
    SessionId::parse(text).ok_or_else(|| "it is no session's id: `nicgate sessions` shows them".to_owned())
}

impl From<FilterArgs> for SessionFilter {
    fn from(FilterArgs { stream, user, ip }: FilterArgs) -> Self {
        Self { id: None, stream: stream.map(Into::into), user: user.map(Into::into), ip }
    }
}

impl From<WhichArgs> for SessionFilter {
    fn from(WhichArgs { id, stream, user, ip }: WhichArgs) -> Self {
        Self { id, stream: stream.map(Into::into), user: user.map(Into::into), ip }
    }
}

pub(super) fn run(control: &Path, args: SessionsArgs, output: &Output) -> Result<(), Failure> {
    let SessionsArgs { filter, sort, command } = args;
    match command {
        None => {
            let sort = match sort {
                None => SessionSort::Used,
                Some(SortWord::Bytes) => SessionSort::Bytes,
                Some(SortWord::Age) => SessionSort::Age,
            };
            list(control, filter.into(), sort, output)
        }
        Some(SessionsCommand::Kick { which, ban }) => kick(control, which.into(), ban, output),
        Some(SessionsCommand::Reauth { which }) => reauthorise(control, which.into(), output),
    }
}

/// What the controller answers, printed where that is JSON.
fn ask<T: DeserializeOwned + Serialize>(
    control: &Path,
    request: &Request,
    output: &Output,
) -> Result<T, Failure> {
    let Reply { message, result, fault, .. } = Client::require(control)?.ask::<T>(request)?;
    let Some(result) = result else {
        return Err(Failure::refused(fault.unwrap_or(Fault::System), anyhow!("{message}")));
    };
    if output.json {
        output.print_json(&result)?;
    }
    Ok(result)
}

fn list(control: &Path, filter: SessionFilter, sort: SessionSort, output: &Output) -> Result<(), Failure> {
    let SessionList { sessions } = ask(control, &Request::Sessions { filter, sort }, output)?;
    if output.json {
        return Ok(());
    }
    let header =
        ["ID", "STREAM", "ADDRESS", "PROTO", "USER", "OPEN", "IDLE", "TRANSFERS", "BYTES", "VERDICT"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(sessions.iter().map(row));
    let mut out = stdout();
    table(&mut out, "", &rows)?;
    out.flush()?;
    Ok(())
}

fn row(session: &SessionInfo) -> Vec<String> {
    let time = |seconds| format_duration(Duration::from_secs(seconds));
    vec![
        session.id.to_string(),
        session.key.stream.to_string(),
        session.key.address.to_string(),
        session.proto.to_string(),
        session.user_id.as_deref().unwrap_or("-").to_owned(),
        time(session.open_seconds),
        time(session.idle_seconds),
        grouped(session.transfers as u64),
        grouped(session.bytes),
        session.verdict.map_or("-", |verdict| verdict.as_str()).to_owned(),
    ]
}

fn kick(control: &Path, filter: SessionFilter, ban: Duration, output: &Output) -> Result<(), Failure> {
    let request = Request::Kick { filter, seconds: ban.as_secs() };
    let Kicked { sessions, transfers } = ask(control, &request, output)?;
    if output.json {
        return Ok(());
    }
    let mut out = stdout();
    match sessions {
        0 => writeln!(out, "no session is open that matches")?,
        many => writeln!(
            out,
            "ended {}, refused for {}{}",
            counted(many, "session"),
            format_duration(ban),
            if transfers == 0 {
                String::new()
            } else {
                format!("; {} cut", counted(transfers, "live transfer"))
            }
        )?,
    }
    out.flush()?;
    Ok(())
}

fn reauthorise(control: &Path, filter: SessionFilter, output: &Output) -> Result<(), Failure> {
    let Reauthorised { asked, passed_over } = ask(control, &Request::Reauthorise { filter }, output)?;
    if output.json {
        return Ok(());
    }
    let mut out = stdout();
    match (asked, passed_over) {
        (0, 0) => writeln!(out, "no session is open that matches")?,
        (0, many) => writeln!(out, "there is no backend to ask about {}", counted(many, "session"))?,
        (many, _) => writeln!(out, "the backends are being asked about {}", counted(many, "session"))?,
    }
    out.flush()?;
    Ok(())
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(count))
}
