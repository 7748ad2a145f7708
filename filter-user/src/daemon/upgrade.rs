//! Starting the program again, perhaps another version of it, as the process that takes over.

use std::{collections::VecDeque, ffi::OsString, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{process::Command, sync::broadcast};

use super::service_manager;
use crate::{
    control::Asker,
    operations::{Fault, HandedOver, Reply},
};

/// How `nicgate run` is told to take over.
const REPLACE: &str = "--replace";
/// Whether a process that has ended had said why is known after this long.
const WORD_TIME: Duration = Duration::from_secs(1);

/// What came of one attempt to hand over: the process that has taken over, or why none has.
pub(super) type Attempt = Result<HandedOver, String>;

/// Starts the program as this process was started, waits until it has taken over, and answers.
pub(super) async fn upgrade(asker: Option<Asker>, mut attempts: broadcast::Receiver<Attempt>) {
    let reply = match start_and_wait(&mut attempts).await {
        Ok(handed_over) => Reply::done(handed_over),
        Err(error) => {
            let message = format!("nothing has changed: {error:#}");
            tracing::error!("the program was started again, and has not taken over: {error:#}");
            Reply::refused(Fault::System, message)
        }
    };
    if let Some(asker) = asker {
        asker.answer(&reply, None).await;
    }
}

async fn start_and_wait(attempts: &mut broadcast::Receiver<Attempt>) -> anyhow::Result<HandedOver> {
    let mut arguments: VecDeque<OsString> = std::env::args_os().collect();
    // As it was called, not as it was found: behind a symbolic link can be another version now.
    let program = arguments.pop_front().context("this process does not know its own name")?;
    if !arguments.iter().any(|argument| argument == REPLACE) {
        arguments.push_back(REPLACE.into());
    }
    let mut command = Command::new(&program);
    command.args(arguments).stdin(Stdio::null());
    for variable in service_manager::VARIABLES {
        command.env_remove(variable);
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    tracing::info!(pid = id, program = %program.display(), "the program was started again");
    tokio::select! {
        attempt = attempts.recv() => {
            // Somebody has to take note of its end, as long as this process lives.
            tokio::spawn(async move { child.wait().await });
            done(attempt)
        }
        ended = child.wait() => {
            // It may have said why before.
            match tokio::time::timeout(WORD_TIME, attempts.recv()).await {
                Ok(attempt) => done(attempt),
                Err(_) => bail!("it ended before it could ask ({}); its log says why", ended?),
            }
        }
    }
}

fn done(attempt: Result<Attempt, broadcast::error::RecvError>) -> anyhow::Result<HandedOver> {
    match attempt {
        Ok(Ok(handed_over)) => Ok(handed_over),
        Ok(Err(why)) => bail!("{why}"),
        Err(_) => bail!("this process is ending"),
    }
}
