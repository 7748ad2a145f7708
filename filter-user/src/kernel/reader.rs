//! Reading: what is in force on an interface, for anybody who may open its pins. No controller need run.

use aya::{
    maps::{IterableMap as _, MapData},
    programs::ProgramInfo,
};
use filter_ebpf::layout::{self, TableHeader, flags};

use super::{
    bpffs::Bpffs,
    device::{Device, LinkKind, Mode},
    error::{Context as _, Error, ErrorKind, Result},
    events::Events,
    memory::TableMemory,
    pins::Pins,
    present::Present,
    stats::{self, Stats},
    status::{Entries, Status},
    tables::Tables,
    tries::Tries,
};
use crate::{
    model::Engine,
    table::{installed_v4, installed_v6},
};

/// What is in force on one interface, to be looked at.
pub struct Reader {
    pub(super) device: Device,
    pub(super) pins: Pins,
    pub(super) tables: Tables,
}

impl Reader {
    /// Opens what is pinned, to look at it. No controller need run.
    ///
    /// # Errors
    ///
    /// Nothing is attached to the interface, or another version of nicgate attached it.
    pub fn open(interface: &str) -> Result<Self> {
        Self::open_in(&Bpffs::default(), interface)
    }

    /// [`Self::open`] with pins elsewhere.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_in(bpffs: &Bpffs, interface: &str) -> Result<Self> {
        let device = Device::named(interface)?;
        let pins = Pins::new(bpffs, interface);
        if !pins.exist() {
            return Err(ErrorKind::NotAttached(interface.to_owned()).into());
        }
        let present = [Engine::Flat, Engine::Lpm].into_iter().filter(|engine| pins.maps(*engine).is_dir());
        let mut found = None;
        for engine in present {
            let memory = TableMemory::from_pin(&pins.maps(engine).join(layout::map::LINES))?;
            let tables = Tables::from_pins(&pins.maps(engine), memory, engine)?;
            let reader = Self { device: device.clone(), pins: pins.clone(), tables };
            // An upgrade that was cut short leaves tables that nothing judges by.
            if reader
                .program()?
                .and_then(|program| program.map_ids().ok().flatten())
                .is_none_or(|maps| maps.contains(&reader.tables.state_id))
            {
                return Ok(reader);
            }
            found = Some(engine);
        }
        Err(Error::other_version(match found {
            Some(_) => {
                format!("the filter on {interface} runs with other tables than this version's: attach again")
            }
            None => format!(
                "the filter on {interface} was attached by another version of nicgate: use that version's command, or attach again"
            ),
        }))
    }

    /// How the program looks up addresses.
    pub fn engine(&self) -> Engine {
        self.tables.engine
    }

    /// The program on the interface, if it is ours.
    fn program(&self) -> Result<Option<ProgramInfo>> {
        match Present::find(&self.device, &self.pins) {
            Ok(present) => present.program_info(),
            Err(_) => Ok(None),
        }
    }

    /// The interface.
    pub fn interface(&self) -> &str {
        &self.device.name
    }

    /// The counters.
    ///
    /// # Errors
    ///
    /// The kernel refuses to show them.
    pub fn stats(&self) -> Result<Stats> {
        stats::read(&self.tables)
    }

    /// The mode in force; `None` when the program is not on the interface any more, or the interface is gone.
    pub fn mode(&self) -> Option<Mode> {
        match Present::find(&self.device, &self.pins) {
            Ok(Present::Link(_, mode) | Present::Netlink(_, mode)) => Some(mode),
            Ok(Present::Nothing) | Err(_) => None,
        }
    }

    /// Looks whether the filter is where it was attached: what is wrong, or `None`. Cheap: one question to the
    /// kernel, and the names of the pins.
    pub fn fault(&self) -> Option<String> {
        let now = match Device::named(&self.device.name) {
            Err(_) => return Some("the interface is gone".to_owned()),
            Ok(now) => now,
        };
        if now.index != self.device.index {
            return Some("the interface was made again".to_owned());
        }
        match Present::find(&self.device, &self.pins) {
            Err(error) => return Some(format!("{error}")),
            Ok(Present::Nothing) => return Some("the filter was taken off".to_owned()),
            Ok(Present::Link(..) | Present::Netlink(..)) => {}
        }
        let pinned = self.pins.program().exists() && self.pins.maps(self.tables.engine).is_dir();
        (!pinned).then(|| "the pins were removed".to_owned())
    }

    /// Whether the live table is whole in the kernel. Counts every prefix: about a second for a million.
    ///
    /// # Errors
    ///
    /// The kernel refuses to show it.
    pub fn complete(&self) -> Result<bool> {
        let status = table_status(&self.tables, &self.device.name)?;
        Ok(status.v4.complete() && status.v6.complete())
    }

    /// What is in force. Counts every prefix in the kernel's maps: about a second for a million.
    ///
    /// # Errors
    ///
    /// The kernel refuses to show it.
    pub fn status(&self) -> Result<Status> {
        let mut status = table_status(&self.tables, &self.device.name)?;
        status.pins = Some(self.pins.dir().to_owned());
        match Present::find(&self.device, &self.pins) {
            Ok(Present::Link(link, mode)) => {
                status.program = Some(link.info()?.program_id());
                (status.mode, status.link) = (Some(mode), Some(LinkKind::BpfLink));
            }
            Ok(Present::Netlink(program, mode)) => {
                status.program = Some(program.id());
                (status.mode, status.link) = (Some(mode), Some(LinkKind::Netlink));
            }
            // Not attached (any more): the tables alone filter nothing, and the status says so.
            Ok(Present::Nothing) | Err(_) => {}
        }
        Ok(status)
    }

    /// Sampled drops. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// The kernel refuses to show them.
    pub fn events(&self) -> Result<Events> {
        events(&self.tables)
    }
}

pub(super) fn events(tables: &Tables) -> Result<Events> {
    let ring = MapData::from_id(tables.events).context("could not open the events")?;
    let rules = MapData::from_id(tables.rules.map().info()?.id())?;
    Events::new(ring, rules)
}

/// How many entries a generation really has, for IPv4 and IPv6.
fn installed(tables: &Tables, generation: u32, table: &TableHeader) -> Result<(usize, usize)> {
    match tables.engine {
        Engine::Lpm => {
            let Tries { v4, v6 } = tables.tries(generation)?;
            Ok((v4.map_or(Ok(0), |trie| trie.count())?, v6.map_or(Ok(0), |trie| trie.count())?))
        }
        Engine::Flat => {
            let lines = tables.memory.read_all(generation);
            // What leads nowhere counts for nothing: the difference to what should be there is an alarm.
            let v4 = installed_v4(&lines, &table.roots[0]).unwrap_or(0);
            Ok((v4, installed_v6(&lines, &table.roots[1]).unwrap_or(0)))
        }
    }
}

/// How often a table is read again that is switched while it is read.
const READS: u32 = 4;

pub(super) fn table_status(tables: &Tables, interface: &str) -> Result<Status> {
    let mut reads = 0;
    loop {
        reads += 1;
        let status = table_status_once(tables, interface)?;
        // A table that is not live any more may be written over by the next one.
        if status.generation == tables.state.live() || reads == READS {
            return Ok(status);
        }
    }
}

fn table_status_once(tables: &Tables, interface: &str) -> Result<Status> {
    let live = tables.live();
    let (generation, table) = live.unwrap_or_default();
    let (v4, v6) = if live.is_some() {
        installed(tables, layout::generation_index(generation), &table)?
    } else {
        (0, 0)
    };
    Ok(Status {
        interface: interface.to_owned(),
        mode: None,
        link: None,
        program: None,
        pins: None,
        generation,
        published: table.published,
        shadow: table.flags & flags::SHADOW != 0,
        services: tables.live_services()?.len(),
        rules: tables.live_rules()?.len(),
        v4: Entries { desired: table.v4_entries as usize, installed: v4 },
        v6: Entries { desired: table.v6_entries as usize, installed: v6 },
        bans: tables.bans.entries()?,
        sampling: tables.state.sampling(),
    })
}
