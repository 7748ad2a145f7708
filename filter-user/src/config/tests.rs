//! What configurations mean, and what is said of them.

use std::{collections::HashMap, io, path::PathBuf};

use super::*;
use crate::model::{
    Access, AddressHeader, Authority, Cors, Country, Engine, Follows, InterfaceMode, Matcher, OpenReason,
    Operation, PlayerToken, Policy, ServiceKind, SessionSettings, TokenFrom, Trust,
};

/// Files in memory.
#[derive(Default)]
struct Memory(HashMap<PathBuf, Vec<u8>>);

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern = glob::Pattern::new(&pattern.to_string_lossy()).map_err(io::Error::other)?;
        let mut paths: Vec<_> = self.0.keys().filter(|path| pattern.matches_path(path)).cloned().collect();
        paths.sort();
        Ok(paths)
    }
}

impl Memory {
    fn with(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.0.insert(path.into(), content.as_ref().to_owned());
        self
    }

    fn load(&self) -> (Option<Config>, Report) {
        load(Path::new("nicgate.conf"), self)
    }
}

fn memory(main: impl AsRef<[u8]>) -> Memory {
    Memory::default().with("nicgate.conf", main)
}

/// Loads what must have no errors.
pub(crate) fn good(main: &str) -> Config {
    let (config, report) = memory(main).load();
    config.unwrap_or_else(|| panic!("{}", report.render(false)))
}

mod bound;
mod directives;
mod lists;
mod messages;
mod syntax;
