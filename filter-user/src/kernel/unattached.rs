//! A filter that is attached to nothing: for tests and measurements.

use std::time::{Duration, Instant};

use aya::{TestRunOptions, programs::TestRun as _};

use super::{
    bans::BanMaps,
    error::{Context as _, Error, Result},
    events::Events,
    object::Loaded,
    pins::Lock,
    place::{STEP, room_for},
    publish::{self, PublishReport},
    reader::{events, table_status},
    stats::{self, Stats},
    status::Status,
    tables::Tables,
};
use crate::{model::Engine, offload::Compiled, table::Addresses};

/// What the program did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// It was dropped.
    pub dropped: bool,
    /// The mean time of one run.
    pub duration: Duration,
}

/// The program and tables (BPF_PROG_TEST_RUN, Linux 4.12), attached to nothing and pinned nowhere: for tests and measurements.
pub struct Unattached {
    loaded: Loaded,
    tables: Tables,
    lock: Lock,
}

impl Unattached {
    /// Loads the program; there is no table yet.
    ///
    /// # Errors
    ///
    /// Missing privileges, or whatever the kernel refuses.
    pub fn new(engine: Engine) -> Result<Self> {
        Self::with_room(engine, STEP)
    }

    fn with_room(engine: Engine, room: usize) -> Result<Self> {
        let mut loaded = Loaded::new(None, engine, room)?;
        let memory = loaded.lines()?;
        let tables = Tables::from_object(&mut loaded.object, memory, engine)?;
        Ok(Self { loaded, tables, lock: Lock::of_own_tables() })
    }

    /// As [`super::Filter::publish`]; but when the table needs more room, with a new program and new maps, whose
    /// counters begin at zero.
    ///
    /// # Errors
    ///
    /// As [`super::Filter::publish`].
    pub fn publish(&mut self, compiled: &Compiled) -> Result<PublishReport> {
        let begin = Instant::now();
        let engine = self.tables.engine;
        let addresses = Addresses::new(engine, compiled)?;
        if addresses.lines() > self.tables.memory.room() {
            *self = Self::with_room(engine, room_for(addresses.lines()))?;
        }
        publish::publish(&mut self.tables, &mut self.lock, compiled, &addresses, begin)
    }

    /// Runs the program on a frame, `repeat` times (BPF_PROG_TEST_RUN, Linux 4.12).
    ///
    /// # Errors
    ///
    /// The kernel refuses frames shorter than 14 bytes and longer than a page, about.
    pub fn run(&mut self, frame: &[u8], repeat: u32) -> Result<Ran> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let result = self.loaded.program()?.test_run(options).context("BPF_PROG_TEST_RUN")?;
        match result.return_value {
            1 => Ok(Ran { dropped: true, duration: result.duration }),
            2 => Ok(Ran { dropped: false, duration: result.duration }),
            other => Err(Error::unexpected(format!("the program returned {other}"))),
        }
    }

    /// How the program looks up addresses.
    pub fn engine(&self) -> Engine {
        self.tables.engine
    }

    /// The ids of the program's maps.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub fn maps(&mut self) -> Result<Vec<u32>> {
        let maps = self.loaded.program()?.info()?.map_ids()?;
        maps.ok_or_else(|| Error::unexpected("the kernel does not tell a program's maps"))
    }

    /// Instructions that the verifier looked at (Linux 5.16); it gives up at a million.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub fn verified_instructions(&mut self) -> Result<Option<u32>> {
        Ok(self.loaded.program()?.info()?.verified_instruction_count())
    }

    /// As [`super::Reader::stats`].
    ///
    /// # Errors
    ///
    /// As [`super::Reader::stats`].
    pub fn stats(&self) -> Result<Stats> {
        stats::read(&self.tables)
    }

    /// The tables' part of [`super::Reader::status`].
    ///
    /// # Errors
    ///
    /// As [`super::Reader::status`].
    pub fn status(&self) -> Result<Status> {
        table_status(&self.tables, "")
    }

    /// As [`super::Filter::set_sampling`].
    pub fn set_sampling(&self, one_in: u32) {
        self.tables.state.set_sampling(one_in);
    }

    /// As [`super::Filter::bans`].
    pub fn bans(&self) -> BanMaps {
        self.tables.bans.clone()
    }

    /// As [`super::Reader::events`].
    ///
    /// # Errors
    ///
    /// As [`super::Reader::events`].
    pub fn events(&self) -> Result<Events> {
        events(&self.tables)
    }
}
