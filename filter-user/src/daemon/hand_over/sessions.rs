//! Sessions, in a file of memory: a line of JSON for each, after one with the secret of the players' tokens.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, Seek as _, Write as _},
    os::fd::OwnedFd,
    sync::Arc,
};

use anyhow::Context as _;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::{
    gate::{Gates, TokenKey},
    session::{SessionRecord, Sessions},
};

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    token_key: TokenKey,
}

/// Writes down every session that the next process has to know of; returns how many there are, too.
pub(super) fn write(sessions: &Sessions, key: TokenKey) -> anyhow::Result<(OwnedFd, u64)> {
    let file = memfd_create("nicgate-sessions", MemfdFlags::CLOEXEC).context("making a file of memory")?;
    let mut out = BufWriter::new(File::from(file));
    let mut count = 0;
    let line = |out: &mut BufWriter<File>, line: Vec<u8>| {
        out.write_all(&line)?;
        out.write_all(b"\n")
    };
    line(&mut out, serde_json::to_vec(&Head { token_key: key })?)?;
    for record in sessions.export() {
        line(&mut out, serde_json::to_vec(&record)?)?;
        count += 1;
    }
    let file = out.into_inner().context("writing the sessions down")?;
    Ok((file.into(), count))
}

/// Takes over what [`write`] wrote down; returns the secret, and how many sessions mean something here.
fn read(file: OwnedFd, sessions: &Arc<Sessions>) -> anyhow::Result<(TokenKey, u64)> {
    let mut file = File::from(file);
    file.rewind()?;
    let mut lines = BufReader::new(file).lines();
    let head = lines.next().context("the file is empty")??;
    let Head { token_key } = serde_json::from_str(&head)?;
    let mut count = 0;
    for line in lines {
        let record: SessionRecord = serde_json::from_str(&line?)?;
        count += u64::from(sessions.import(&record));
    }
    Ok((token_key, count))
}

/// Goes on with the sessions of the former process. Those that cannot be read are asked about anew.
pub(in crate::daemon) async fn take(file: OwnedFd, sessions: &Arc<Sessions>, gates: &Gates) {
    let sessions = sessions.clone();
    let taken = tokio::task::spawn_blocking(move || read(file, &sessions)).await;
    match taken.map_err(Into::into).flatten() {
        Ok((key, sessions)) => {
            gates.take_token_key(key);
            tracing::info!(sessions, "the sessions of the former process go on");
        }
        Err(error) => {
            tracing::warn!(
                "sessions of the former process are not known, and players are asked about anew: {error:#}"
            );
        }
    }
}
