//! The kernel's side of runtime bans: two tries and a counter for each ban.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aya::{
    Pod,
    maps::{IterableMap, LpmTrie, MapData, MapError, PerCpuHashMap, lpm_trie::Key},
};
use filter_ebpf::{
    bans::{Ban, EVERYWHERE, EXEMPT, FOR_EVER, KeyV4, KeyV6, SCOPE_BITS_V4, SCOPE_BITS_V6, addressed, scope},
    layout::RuleHits,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    count::Count,
    error::{Context as _, Error, ErrorKind, Result},
    state::MappedState,
    status::Entries as Counts,
    sys,
    values::{TrieKey, zeros},
};
use crate::{
    bans::{Boottime, Desired, Entries, Label, Place, Scope, Step, steps},
    table::{map_proto, proto_of},
};

/// Entries that go into one system call.
const BATCH: usize = 1024;

/// One interface's bans. Clones are the same maps; they can be changed while a table is published.
///
/// Linux 5.13, from which on an LPM_TRIE is read in batches (`trie_map_ops` in kernel/bpf/lpm_trie.c has `map_lookup_batch`),
/// and 5.8 for the helper that tells the boot time.
#[derive(Clone)]
pub struct BanMaps(Arc<Shared>);

struct Shared {
    state: Arc<MappedState>,
    maps: Mutex<Maps>,
}

struct Maps {
    v4: LpmTrie<MapData, KeyV4, Ban>,
    v6: LpmTrie<MapData, KeyV6, Ban>,
    hits: PerCpuHashMap<MapData, u32, RuleHits>,
    /// What is in the maps; `None` until this process has looked, or after a change that may have failed.
    known: Option<Desired>,
}

impl BanMaps {
    pub(super) fn new(
        state: Arc<MappedState>,
        v4: LpmTrie<MapData, KeyV4, Ban>,
        v6: LpmTrie<MapData, KeyV6, Ban>,
        hits: PerCpuHashMap<MapData, u32, RuleHits>,
    ) -> Self {
        Self(Arc::new(Shared { state, maps: Mutex::new(Maps { v4, v6, hits, known: None }) }))
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        // What is known of the maps is forgotten before anything is done that could break off.
        self.0.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts these bans into force, and no others. Only what changes is written, in an order in which nobody who
    /// was and stays banned slips in.
    ///
    /// # Errors
    ///
    /// The kernel refuses an entry. Those before it are in force; a repetition goes on where this one stopped.
    pub fn sync(&self, desired: &Desired) -> Result<()> {
        let mut maps = self.maps();
        let known = match maps.known.take() {
            Some(known) => known,
            None => maps.read().context("could not read the kernel's bans")?,
        };
        let state = &self.0.state;
        if state.bans() == 0 && known.entries.is_empty() && desired.entries.is_empty() && known == *desired {
            maps.known = Some(known);
            return Ok(());
        }
        // Counters are there before their bans, and go after them.
        for id in desired.ids.difference(&known.ids) {
            maps.hits.insert(id, zeros()?, 0).map_err(refused)?;
        }
        // Whatever happens from here on, the program has to look.
        state.set_bans((known.entries.len() + desired.entries.len()).max(1) as u64);
        for step in steps(&known.entries, &desired.entries, sys::boottime()) {
            match step {
                Step::Put(place, label) => maps.put(place, label),
                Step::Remove(place) => maps.remove(place),
            }?;
        }
        state.set_bans(desired.entries.len() as u64);
        for id in known.ids.difference(&desired.ids) {
            missing(maps.hits.remove(id))?;
        }
        maps.known = Some(desired.clone());
        Ok(())
    }

    /// Compares what the kernel holds with what was put there; returns how many entries differ. What differs is
    /// put right by the next [`Self::sync`].
    ///
    /// # Errors
    ///
    /// The kernel refuses to show it.
    pub fn verify(&self) -> Result<usize> {
        let mut maps = self.maps();
        let held = maps.read().context("could not read the kernel's bans")?;
        let Some(known) = maps.known.replace(held) else { return Ok(0) };
        let Some(held) = &maps.known else { return Ok(0) };
        let missing = known.entries.iter().filter(|(place, label)| held.entries.get(place) != Some(label));
        let strange = held.entries.keys().filter(|place| !known.entries.contains_key(place));
        Ok(missing.count() + strange.count())
    }

    /// What the kernel holds, whoever put it there.
    ///
    /// # Errors
    ///
    /// The kernel refuses to show it.
    pub fn held(&self) -> Result<Entries> {
        Ok(self.maps().read().context("could not read the kernel's bans")?.entries)
    }

    /// What each ban dropped; in shadow mode, would have dropped.
    ///
    /// # Errors
    ///
    /// The kernel refuses to show it.
    pub fn hits(&self) -> Result<BTreeMap<u32, Count>> {
        let maps = self.maps();
        let mut hits = BTreeMap::new();
        for entry in maps.hits.iter() {
            let (id, values) = entry.context("could not read the bans' counters")?;
            let count: &mut Count = hits.entry(id).or_default();
            for RuleHits { packets, bytes } in &*values {
                *count += Count { packets: *packets, bytes: *bytes };
            }
        }
        Ok(hits)
    }

    /// How many bans there are.
    pub(super) fn count(&self) -> Result<usize> {
        self.maps().hits.keys().try_fold(0, |count, key| key.map(|_| count + 1)).map_err(Error::from)
    }

    /// How many prefixes there should be, and how many there are.
    pub(super) fn entries(&self) -> Result<Counts> {
        let maps = self.maps();
        let desired = self.0.state.bans() as usize;
        Ok(Counts { desired, installed: maps.read_entries()?.len() })
    }
}

impl Maps {
    fn read(&self) -> Result<Desired> {
        let ids = self.hits.keys().collect::<Result<BTreeSet<u32>, _>>()?;
        Ok(Desired { entries: self.read_entries()?, ids })
    }

    fn read_entries(&self) -> Result<Entries> {
        let mut entries = Entries::new();
        read_trie(self.v4.map().fd().as_fd(), |key: &TrieKey<KeyV4>, ban| {
            let [s, t, u, v, a, b, c, d] = key.network;
            let net = Ipv4Net::new([a, b, c, d].into(), length(key.len, SCOPE_BITS_V4)?).ok()?.trunc();
            entries.insert((of_bytes([s, t, u, v])?, net.into()), of_value(ban));
            Some(())
        })?;
        read_trie(self.v6.map().fd().as_fd(), |key: &TrieKey<KeyV6>, ban| {
            let (scope, rest) = key.network.split_first_chunk::<4>()?;
            let address = *rest.last_chunk::<16>()?;
            let net = Ipv6Net::new(address.into(), length(key.len, SCOPE_BITS_V6)?).ok()?.trunc();
            entries.insert((of_bytes(*scope)?, net.into()), of_value(ban));
            Some(())
        })?;
        Ok(entries)
    }

    fn put(&mut self, (scope, net): Place, label: Label) -> Result<()> {
        let ban = value(label);
        match net {
            IpNet::V4(net) => self.v4.insert(&key_v4(scope, net), ban, 0),
            IpNet::V6(net) => self.v6.insert(&key_v6(scope, net), ban, 0),
        }
        .map_err(refused)
        .with_context(|| format!("{net} on {scope}"))
    }

    fn remove(&mut self, (scope, net): Place) -> Result<()> {
        match net {
            IpNet::V4(net) => missing(self.v4.remove(&key_v4(scope, net))),
            IpNet::V6(net) => missing(self.v6.remove(&key_v6(scope, net))),
        }
        .with_context(|| format!("{net} on {scope} is still banned"))
    }
}

fn length(bits: u32, scope: u32) -> Option<u8> {
    u8::try_from(bits.checked_sub(scope)?).ok()
}

fn bytes_of(place: Scope) -> [u8; 4] {
    match place {
        Scope::Everywhere => EVERYWHERE,
        Scope::Service { proto, port } => scope(map_proto(proto) as u8, port),
    }
}

fn of_bytes(bytes: [u8; 4]) -> Option<Scope> {
    match addressed(bytes) {
        None => Some(Scope::Everywhere),
        Some((proto, port)) => Some(Scope::Service { proto: proto_of(proto)?, port }),
    }
}

fn key_v4(scope: Scope, net: Ipv4Net) -> Key<KeyV4> {
    let mut data = KeyV4::default();
    data[..4].copy_from_slice(&bytes_of(scope));
    data[4..].copy_from_slice(&net.network().octets());
    Key::new(SCOPE_BITS_V4 + u32::from(net.prefix_len()), data)
}

fn key_v6(scope: Scope, net: Ipv6Net) -> Key<KeyV6> {
    let mut data = KeyV6::default();
    data[..4].copy_from_slice(&bytes_of(scope));
    data[8..].copy_from_slice(&net.network().octets());
    Key::new(SCOPE_BITS_V6 + u32::from(net.prefix_len()), data)
}

fn value(label: Label) -> Ban {
    match label {
        Label::Exempt => Ban { until: EXEMPT, ..Ban::default() },
        Label::Ban { id, until } => {
            // The values that mean something else are long past.
            let until = until.map_or(FOR_EVER, |until| until.nanoseconds.max(EXEMPT));
            Ban { until, id, ..Ban::default() }
        }
    }
}

fn of_value(ban: &Ban) -> Label {
    match *ban {
        Ban { id: 0, .. } => Label::Exempt,
        Ban { until: FOR_EVER, id, .. } => Label::Ban { id, until: None },
        Ban { until, id, .. } => Label::Ban { id, until: Some(Boottime { nanoseconds: until }) },
    }
}

/// Shows every entry of a trie (Linux 5.13). What cannot be understood is an error: it may ban somebody.
fn read_trie<K: Pod + Default>(
    map: BorrowedFd<'_>,
    mut entry: impl FnMut(&TrieKey<K>, &Ban) -> Option<()>,
) -> Result<()> {
    let mut keys = vec![TrieKey::<K>::default(); BATCH];
    let mut values = vec![Ban::default(); BATCH];
    let mut after = None;
    loop {
        let (found, last, position) = sys::lookup(map, after, &mut keys, &mut values)?;
        for (key, ban) in keys.iter().zip(&values).take(found) {
            entry(key, ban)
                .ok_or_else(|| Error::unexpected("an entry that this version of nicgate does not know"))?;
        }
        if last {
            return Ok(());
        }
        after = Some(position);
    }
}

/// What is gone already need not be removed.
fn missing(result: Result<(), MapError>) -> Result<()> {
    match result {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) | Ok(()) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: MapError) -> Error {
    let MapError::SyscallError(call) = error else { return error.into() };
    match call.io_error.raw_os_error() {
        Some(libc::ENOMEM) => ErrorKind::NoMemory("it").into(),
        Some(libc::ENOSPC | libc::E2BIG) => ErrorKind::Full("table of bans").into(),
        _ => Error::of(&call.io_error).doing("the kernel refused it"),
    }
}
