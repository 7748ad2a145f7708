//! The maps that a program judges by.

use std::{
    collections::{HashMap as StdHashMap, HashSet},
    path::Path,
    sync::Arc,
};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray},
};
use filter_ebpf::{
    flat::Line,
    layout::{
        self, LINE_CELLS, LocalKey, RuleHits, RuleNote, ServiceHits, ServiceNote, TableHeader, map, service,
    },
};

use super::{
    bans::BanMaps,
    error::{Context as _, Error, Result},
    memory::TableMemory,
    rcu::GracePeriod,
    state::MappedState,
    tries::{self, Outer, Trie, Tries},
};
use crate::{
    model::Engine,
    table::{Slots, service_key},
};

/// The maps of one interface.
pub(super) struct Tables {
    pub(super) engine: Engine,
    pub(super) memory: TableMemory,
    pub(super) state: Arc<MappedState>,
    /// Of the generation that is not live.
    pub(super) grace: GracePeriod,
    pub(super) local: HashMap<MapData, LocalKey, u32>,
    pub(super) v4: Outer<[u8; 4]>,
    pub(super) v6: Outer<[u8; 16]>,
    v4_id: u32,
    pub(super) outcomes: PerCpuArray<MapData, u64>,
    pub(super) rule_hits: PerCpuArray<MapData, RuleHits>,
    pub(super) service_hits: PerCpuArray<MapData, ServiceHits>,
    pub(super) rules: HashMap<MapData, u32, RuleNote>,
    pub(super) service_notes: HashMap<MapData, u32, ServiceNote>,
    pub(super) bans: BanMaps,
    /// The id of the ring buffer, which only a reader opens.
    pub(super) events: u32,
    /// The id of the state's map, by which a program is known to use these tables.
    pub(super) state_id: u32,
}

impl Tables {
    /// The maps of a program that was just loaded.
    pub(super) fn from_object(object: &mut Ebpf, memory: TableMemory, engine: Engine) -> Result<Self> {
        Self::from_source(engine, memory, |name| {
            object.take_map(name).ok_or_else(|| Error::unexpected(format!("the program has no map {name}")))
        })
    }

    /// The maps that are pinned in a directory, and lines that may not be yet.
    pub(super) fn from_pins(dir: &Path, memory: TableMemory, engine: Engine) -> Result<Self> {
        Self::from_source(engine, memory, |name| {
            let path = dir.join(name);
            let data =
                MapData::from_pin(&path).with_context(|| format!("could not open {}", path.display()))?;
            Ok(Map::from_map_data(data)?)
        })
    }

    fn from_source(
        engine: Engine,
        memory: TableMemory,
        mut source: impl FnMut(&str) -> Result<Map>,
    ) -> Result<Self> {
        let Map::Array(state) = source(map::STATE)? else {
            return Err(other_build(map::STATE));
        };
        let Map::RingBuf(events) = source(map::EVENTS)? else {
            return Err(other_build(map::EVENTS));
        };
        let state_id = state.info()?.id();
        let state = Arc::new(MappedState::new(state)?);
        let v4 = source(map::V4)?;
        Ok(Self {
            engine,
            memory,
            v4_id: match &v4 {
                Map::ArrayOfMaps(outer) => outer.info()?.id(),
                _ => return Err(other_build(map::V4)),
            },
            state_id,
            events: events.info()?.id(),
            bans: BanMaps::new(
                state.clone(),
                typed(source(map::BANS_V4)?, map::BANS_V4)?,
                typed(source(map::BANS_V6)?, map::BANS_V6)?,
                typed(source(map::BAN_HITS)?, map::BAN_HITS)?,
            ),
            state,
            grace: GracePeriod::Unknown,
            local: typed(source(map::LOCAL)?, map::LOCAL)?,
            v4: typed(v4, map::V4)?,
            v6: typed(source(map::V6)?, map::V6)?,
            outcomes: typed(source(map::OUTCOMES)?, map::OUTCOMES)?,
            rule_hits: typed(source(map::RULE_HITS)?, map::RULE_HITS)?,
            service_hits: typed(source(map::SERVICE_HITS)?, map::SERVICE_HITS)?,
            rules: typed(source(map::RULES)?, map::RULES)?,
            service_notes: typed(source(map::SERVICE_NOTES)?, map::SERVICE_NOTES)?,
        })
    }

    /// The live table's serial number, and its own header; `None` before the first table.
    pub(super) fn live(&self) -> Option<(u64, TableHeader)> {
        let serial = self.state.live();
        (serial != 0).then(|| (serial, self.state.header(layout::generation_index(serial))))
    }

    /// The rules of the live table, by slot. Notes of other slots are left-overs of an interrupted reload.
    pub(super) fn live_rules(&self) -> Result<StdHashMap<u32, RuleNote>> {
        let Some((serial, header)) = self.live() else { return Ok(StdHashMap::new()) };
        let cells = header.cells as usize;
        let lines = self.memory.read(layout::generation_index(serial), 0..cells.div_ceil(LINE_CELLS));
        let mut used = vec![false; layout::RULE_SLOTS as usize];
        for cell in cells_of(&lines).take(cells) {
            if let Some(used) = used.get_mut(usize::from(cell)) {
                *used = true;
            }
        }
        let mut rules = StdHashMap::new();
        for entry in self.rules.iter() {
            let (slot, note) = entry?;
            if used.get(slot as usize) == Some(&true) {
                rules.insert(slot, note);
            }
        }
        Ok(rules)
    }

    /// The services of the live table, by slot.
    pub(super) fn live_services(&self) -> Result<StdHashMap<u32, ServiceNote>> {
        let Some((serial, _)) = self.live() else { return Ok(StdHashMap::new()) };
        let generation = layout::generation_index(serial);
        let mut used = HashSet::new();
        let mut stands = |entry: u32| used.extend((entry & service::SLOT_MASK).checked_sub(1));
        self.state.groups(generation).into_iter().flatten().for_each(&mut stands);
        for entry in self.local.iter() {
            let (key, entry) = entry?;
            if u32::from(key.generation) == generation {
                stands(entry);
            }
        }
        let mut services = StdHashMap::new();
        for entry in self.service_notes.iter() {
            let (slot, note) = entry?;
            if used.contains(&slot) {
                services.insert(slot, note);
            }
        }
        Ok(services)
    }

    /// The slots of the live table.
    pub(super) fn live_slots(&self) -> Result<Slots> {
        Ok(Slots {
            rules: self.live_rules()?.into_iter().map(|(slot, note)| (note.identity, slot)).collect(),
            services: self
                .live_services()?
                .into_iter()
                .map(|(slot, note)| (service_key(&note), slot))
                .collect(),
        })
    }

    /// Opens the tries of one generation.
    pub(super) fn tries(&self, generation: u32) -> Result<Tries> {
        Ok(Tries { v4: tries::open(&self.v4, generation)?, v6: tries::open(&self.v6, generation)? })
    }

    /// Waits for an RCU grace period: when this returns, every packet that was on its way has been judged, and nothing
    /// reads a generation that was not live when it was called.
    pub(super) fn synchronize_rcu(&mut self, generation: u32) -> Result<()> {
        self.grace = GracePeriod::Unknown;
        self.barrier(generation)?()?;
        self.grace = GracePeriod::Over;
        Ok(())
    }

    /// Waits for the same grace period on a thread of its own. Until that is over, the generation has to stay as it is.
    pub(super) fn synchronize_rcu_in_background(&mut self, generation: u32) -> Result<()> {
        self.grace = GracePeriod::Unknown;
        self.grace = GracePeriod::passing(self.barrier(generation)?)?;
        Ok(())
    }

    /// What returns after an RCU grace period. There is no system call for that alone.
    fn barrier(&self, generation: u32) -> Result<impl FnOnce() -> Result<()> + Send + use<>> {
        // Any update of a map of maps waits (see `set_tries`), also one that changes nothing.
        let mut outer: Outer<[u8; 4]> = Map::from_map_data(MapData::from_id(self.v4_id)?)?.try_into()?;
        let v4 = self.tries(generation)?.v4.map_or_else(|| Trie::<u32>::filled(&[]), Ok)?;
        Ok(move || Ok(outer.set(generation, &v4.map, 0)?))
    }

    /// Puts tries into a generation. The kernel returns only after every program that might still see the
    /// ones before has left (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c: `synchronize_rcu` after any
    /// update of a map of maps).
    pub(super) fn set_tries(&mut self, generation: u32, v4: &Trie<u32>, v6: &Trie<u128>) -> Result<()> {
        self.v4.set(generation, &v4.map, 0)?;
        self.v6.set(generation, &v6.map, 0)?;
        Ok(())
    }
}

/// The cells of a verdict table.
fn cells_of(lines: &[Line]) -> impl Iterator<Item = u16> {
    lines.iter().flatten().flat_map(|word| (0..4).map(move |quarter| (word >> (quarter * 16)) as u16))
}

/// A verdict table's lines.
pub(super) fn cell_lines(cells: &[u16]) -> Vec<Line> {
    cells
        .chunks(LINE_CELLS)
        .map(|chunk| {
            let mut line = [0; 8];
            for (at, cell) in chunk.iter().enumerate() {
                line[at / 4] |= u64::from(*cell) << (at % 4 * 16);
            }
            line
        })
        .collect()
}

fn other_build(name: &str) -> Error {
    Error::other_version(format!("the map {name} is of another build"))
}

/// A map in its own type; its sizes are checked.
fn typed<T: TryFrom<Map, Error = MapError>>(map: Map, name: &str) -> Result<T> {
    T::try_from(map)
        .map_err(|error| Error::other_version(format!("the map {name} is of another build: {error}")))
}
