//! Owning: who holds a [`Filter`] holds the interface's lock, and alone publishes and detaches.

use std::{ops::Deref, sync::Arc, time::Instant};

use super::{
    bans::BanMaps,
    debug::DebugLines,
    detach::remove,
    error::{Context as _, Error, ErrorKind, Result},
    pins::Lock,
    place::{load, put, room_for, settle},
    present::Present,
    publish::{self, PublishReport},
    reader::Reader,
    state::MappedState,
};
use crate::{
    model::{Engine, InterfaceMode},
    table::Layout,
};

/// The filter on one interface, owned. What it enforces goes on when this value is dropped and when the process dies;
/// only [`Filter::detach`] ends it. What can be read without owning it is in [`Reader`].
pub struct Filter {
    reader: Reader,
    /// Held by the one controller of the interface; readers have none.
    lock: Lock,
    debug: Option<DebugLines>,
}

/// An owner sees all that a reader sees, as a `Vec` is read like a slice.
impl Deref for Filter {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Filter {
    pub(super) fn new(reader: Reader, lock: Lock, debug: Option<DebugLines>) -> Self {
        Self { reader, lock, debug }
    }

    /// Puts another table into force, all of it at once: one 8-byte store into a mapped array (`BPF_F_MMAPABLE`, Linux
    /// 5.5) switches. Needs no system call for each entry with the engine `flat`; with `lpm` one for thousands (5.13), or
    /// one for each (before).
    ///
    /// # Errors
    ///
    /// It is laid out for another engine, or the kernel refuses something: the table before is still in force,
    /// complete.
    pub fn publish(&mut self, layout: &Layout) -> Result<PublishReport> {
        let begin = Instant::now();
        let Layout { compiled, addresses } = layout;
        if layout.engine() != self.tables.engine {
            return Err(self.other_engine(layout.engine()));
        }
        let room = room_for(addresses.lines());
        let result = if addresses.lines() > self.tables.memory.room() { self.grow(room) } else { Ok(()) };
        result
            .and_then(|()| {
                publish::publish(&mut self.reader.tables, &mut self.lock, compiled, addresses, begin)
            })
            .with_context(|| format!("interface {}", self.device.name))
    }

    /// The error for a table that is laid out for another engine.
    pub(crate) fn other_engine(&self, wanted: Engine) -> Error {
        let (interface, runs) = (self.interface().to_owned(), self.engine());
        ErrorKind::OtherEngine { interface, runs, wanted }.into()
    }

    /// Replaces the program by one with more lines, which judges like the one before.
    fn grow(&mut self, room: usize) -> Result<()> {
        let engine = self.tables.engine;
        let (mut loaded, mut tables) = load(&self.device, &self.pins, engine, room)
            .context("could not make room for the next table; the one before is still in force")?;
        let present = Present::find(&self.device, &self.pins)?;
        if matches!(present, Present::Nothing) {
            return Err(ErrorKind::TakenOff.into());
        }
        put(&mut loaded, &self.device, &self.pins, present, InterfaceMode::Auto)?;
        // The maps of bans are the same, and whoever holds them knows what is in them.
        tables.bans = self.tables.bans.clone();
        self.reader.tables = tables;
        settle(&self.pins, engine, loaded.program()?)
    }

    /// Reports one drop in `one_in`; 0 reports none.
    pub fn set_sampling(&self, one_in: u32) {
        self.tables.state.set_sampling(one_in);
    }

    /// Sets the sampling from elsewhere than where the filter is.
    pub fn sampler(&self) -> Sampler {
        Sampler(self.tables.state.clone())
    }

    /// The runtime bans, to be changed from elsewhere than where the filter is.
    pub fn bans(&self) -> BanMaps {
        self.tables.bans.clone()
    }

    /// The program's own debug lines, if they were asked for when it was loaded; once.
    pub fn debug_lines(&mut self) -> Option<DebugLines> {
        self.debug.take()
    }

    /// Takes the filter off and removes everything that was pinned.
    ///
    /// # Errors
    ///
    /// What could not be removed; the filter may still be in force.
    pub fn detach(self) -> Result<()> {
        remove(&self.device, &self.pins)
    }
}

/// Says how many drops of an interface are reported.
pub struct Sampler(Arc<MappedState>);

impl Sampler {
    /// Reports one drop in `one_in`; 0 reports none.
    pub fn set_sampling(&self, one_in: u32) {
        self.0.set_sampling(one_in);
    }
}
