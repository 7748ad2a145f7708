//! The maps that a program judges by.

use std::{
    collections::{HashMap as StdHashMap, HashSet},
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, anyhow};
use aya::{
    Ebpf, Pod,
    maps::{ArrayOfMaps, HashMap, IterableMap, LpmTrie, Map, MapData, MapError, PerCpuArray, lpm_trie::Key},
};
use filter_ebpf::{
    flat::Line,
    layout::{
        self, Figures, LINE_CELLS, LocalKey, RuleHits, RuleNote, ServiceHits, ServiceNote, map, service,
    },
};

use super::{
    bans::BanMaps, grace::Grace, image::Slots, lines::Lines, prefixes::Prefix, state::MappedState, sys,
    values::TrieKey,
};
use crate::model::Engine;

/// `BPF_F_NO_PREALLOC`, which the kernel demands of an LPM_TRIE.
const NO_PREALLOC: u32 = 1;
/// Entries that go into one system call.
const BATCH: usize = 4096;

/// An address as a key of a trie: in network byte order.
pub(super) trait TrieAddress: Copy {
    /// The bytes.
    type Bytes: Pod + Default;
    fn bytes(self) -> Self::Bytes;
}

impl TrieAddress for u32 {
    type Bytes = [u8; 4];

    fn bytes(self) -> [u8; 4] {
        self.to_be_bytes()
    }
}

impl TrieAddress for u128 {
    type Bytes = [u8; 16];

    fn bytes(self) -> [u8; 16] {
        self.to_be_bytes()
    }
}

/// A trie of prefixes to classes.
pub(super) struct Trie<A: TrieAddress> {
    map: LpmTrie<MapData, A::Bytes, u32>,
}

impl<A: TrieAddress> Trie<A> {
    /// A new trie with these entries.
    pub(super) fn filled(prefixes: &[Prefix<A>]) -> Result<Self> {
        let capacity = prefixes.len().max(1) as u32;
        let map = LpmTrie::create(capacity, NO_PREALLOC).context("could not create a trie")?;
        let mut trie = Self { map };
        let mut keys = Vec::with_capacity(BATCH);
        let mut values = Vec::with_capacity(BATCH);
        let mut batches = true;
        for chunk in prefixes.chunks(BATCH) {
            keys.clear();
            values.clear();
            keys.extend(chunk.iter().map(|p| TrieKey { len: u32::from(p.len), network: p.network.bytes() }));
            values.extend(chunk.iter().map(|prefix| prefix.class.0));
            if batches {
                match sys::update(trie.fd(), &keys, &values) {
                    Ok(()) => continue,
                    // Before Linux 5.13. 524 is the kernel's own ENOTSUPP.
                    Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | 524)) => batches = false,
                    Err(error) => return Err(refused(&error)),
                }
            }
            for (key, value) in keys.iter().zip(&values) {
                match trie.map.insert(&Key::new(key.len, key.network), value, 0) {
                    Err(MapError::SyscallError(error)) => return Err(refused(&error.io_error)),
                    other => other?,
                }
            }
        }
        Ok(trie)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.map.map().fd().as_fd()
    }

    /// How many entries there really are.
    pub(super) fn count(&self) -> Result<usize> {
        let mut keys = vec![TrieKey::<A::Bytes>::default(); BATCH];
        let mut values = vec![0u32; BATCH];
        let (mut count, mut after) = (0, None);
        loop {
            match sys::lookup(self.fd(), after, &mut keys, &mut values) {
                Ok((found, last, position)) => {
                    count += found;
                    if last {
                        return Ok(count);
                    }
                    after = Some(position);
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | 524)) => break,
                Err(error) => return Err(error).context("could not read a trie"),
            }
        }
        self.map.keys().try_fold(0, |count, key| {
            key?;
            Ok(count + 1)
        })
    }

    /// Removes all entries, bit by bit.
    pub(super) fn drain(&self) -> io::Result<()> {
        let mut keys = vec![TrieKey::<A::Bytes>::default(); BATCH];
        let mut values = vec![0u32; BATCH];
        loop {
            // Always from the start: entries behind a removed one are found wherever they moved.
            let (found, last, _) = sys::lookup(self.fd(), None, &mut keys, &mut values)?;
            if found > 0 {
                sys::delete(self.fd(), &keys[..found])?;
            }
            if last || found == 0 {
                return Ok(());
            }
        }
    }
}

fn refused(error: &io::Error) -> anyhow::Error {
    if error.raw_os_error() == Some(libc::ENOMEM) {
        anyhow!("the kernel has no memory for the table of addresses")
    } else {
        anyhow!("the kernel refused an entry of the table of addresses: {error}")
    }
}

/// The tries of one generation, as far as it has any.
pub(super) struct Tries {
    pub(super) v4: Option<Trie<u32>>,
    pub(super) v6: Option<Trie<u128>>,
}

/// Tries by generation.
type Outer<B> = ArrayOfMaps<MapData, LpmTrie<MapData, B, u32>>;

/// The maps of one interface.
pub(super) struct Tables {
    pub(super) engine: Engine,
    pub(super) lines: Lines,
    pub(super) state: Arc<MappedState>,
    /// Of the generation that is not live.
    pub(super) grace: Grace,
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
    pub(super) fn from_object(object: &mut Ebpf, lines: Lines, engine: Engine) -> Result<Self> {
        Self::from_source(engine, lines, |name| {
            object.take_map(name).ok_or_else(|| anyhow!("the program has no map {name}"))
        })
    }

    /// The maps that are pinned in a directory, and lines that may not be yet.
    pub(super) fn from_pins(dir: &Path, lines: Lines, engine: Engine) -> Result<Self> {
        Self::from_source(engine, lines, |name| {
            let path = dir.join(name);
            let data =
                MapData::from_pin(&path).with_context(|| format!("could not open {}", path.display()))?;
            Ok(Map::from_map_data(data)?)
        })
    }

    fn from_source(
        engine: Engine,
        lines: Lines,
        mut source: impl FnMut(&str) -> Result<Map>,
    ) -> Result<Self> {
        let Map::Array(state) = source(map::STATE)? else {
            return Err(anyhow!("{} is not an array", map::STATE));
        };
        let Map::RingBuf(events) = source(map::EVENTS)? else {
            return Err(anyhow!("{} is not a ring buffer", map::EVENTS));
        };
        let state_id = state.info()?.id();
        let state = Arc::new(MappedState::new(state)?);
        let v4 = source(map::V4)?;
        Ok(Self {
            engine,
            lines,
            v4_id: match &v4 {
                Map::ArrayOfMaps(outer) => outer.info()?.id(),
                _ => return Err(anyhow!("{} is not an array of maps", map::V4)),
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
            grace: Grace::Unknown,
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

    /// The live table's serial number, and its own figures; `None` before the first table.
    pub(super) fn live(&self) -> Option<(u64, Figures)> {
        let serial = self.state.live();
        (serial != 0).then(|| (serial, self.state.figures(layout::generation_index(serial))))
    }

    /// The rules of the live table, by slot. Notes of other slots are left-overs of an interrupted reload.
    pub(super) fn live_rules(&self) -> Result<StdHashMap<u32, RuleNote>> {
        let Some((serial, figures)) = self.live() else { return Ok(StdHashMap::new()) };
        let cells = figures.cells as usize;
        let lines = self.lines.read(layout::generation_index(serial), 0..cells.div_ceil(LINE_CELLS));
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
                .map(|(slot, note)| (super::image::service_key(&note), slot))
                .collect(),
        })
    }

    /// Opens the tries of one generation.
    pub(super) fn tries(&self, generation: u32) -> Result<Tries> {
        let v4 = missing(self.v4.get(&generation, 0))?.map(|map| Trie { map });
        let v6 = missing(self.v6.get(&generation, 0))?.map(|map| Trie { map });
        Ok(Tries { v4, v6 })
    }

    /// Returns when every packet that was on its way has been judged: from then on nothing reads a generation
    /// that was not live when this was called.
    pub(super) fn wait_for_packets(&mut self, generation: u32) -> Result<()> {
        self.grace = Grace::Unknown;
        self.barrier(generation)?()?;
        self.grace = Grace::Over;
        Ok(())
    }

    /// Waits for the same on a thread of its own. Until that is over, the generation has to stay as it is.
    pub(super) fn wait_in_background(&mut self, generation: u32) -> Result<()> {
        self.grace = Grace::Unknown;
        self.grace = Grace::passing(self.barrier(generation)?)?;
        Ok(())
    }

    /// What returns when every packet has been judged that was on its way when it was called.
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

fn missing<T>(result: Result<T, MapError>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A map in its own type; its sizes are checked.
fn typed<T: TryFrom<Map, Error = MapError>>(map: Map, name: &str) -> Result<T> {
    T::try_from(map).with_context(|| format!("the map {name} is of another build"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::ClassId;

    #[test]
    fn a_trie_is_filled_counted_and_emptied() {
        // SAFETY: no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            println!("skipped: creating a map needs root");
            return;
        }
        for count in [0u32, 1, BATCH as u32, 3 * BATCH as u32 + 5] {
            // Nested and scattered, so that entries have the trie's own nodes between them.
            let prefixes: Vec<Prefix<u32>> = (0..count)
                .map(|i| Prefix { network: i << 8, len: if i % 2 == 0 { 24 } else { 32 }, class: ClassId(i) })
                .collect();
            let trie = Trie::filled(&prefixes).unwrap();
            assert_eq!(trie.count().unwrap(), count as usize);
            if let Some(last) = prefixes.last() {
                assert_eq!(trie.map.get(&Key::new(32, last.network.to_be_bytes()), 0).unwrap(), last.class.0);
            }
            trie.drain().unwrap();
            assert_eq!(trie.count().unwrap(), 0);
        }
        let trie = Trie::filled(&[Prefix { network: 1u128, len: 128, class: ClassId(3) }]).unwrap();
        assert_eq!(trie.count().unwrap(), 1);
    }

    #[test]
    fn more_entries_than_a_trie_holds_are_an_error() {
        // SAFETY: no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            println!("skipped: creating a map needs root");
            return;
        }
        let trie = Trie::filled(&[Prefix { network: 1u32, len: 32, class: ClassId(3) }]).unwrap();
        let error = sys::update(trie.fd(), &[TrieKey { len: 32, network: [9; 4] }], &[4u32]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(trie.count().unwrap(), 1);
    }
}
