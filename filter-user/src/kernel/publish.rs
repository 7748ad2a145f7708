//! Putting another table into force.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use filter_ebpf::layout::{self, LocalKey, TableHeader};
use serde::{Deserialize, Serialize};

use super::{
    error::{Context as _, Result},
    pins::Lock,
    rcu::GracePeriod,
    sys,
    tables::{Tables, cell_lines},
    tries::{Trie, Tries},
    values::zeros,
};
use crate::{
    model::Engine,
    offload::Compiled,
    table::{Addresses, Image, Slots},
};

/// Tries with more entries are emptied bit by bit before the kernel frees them: freeing a full one is a
/// single walk that nothing interrupts.
const LARGE: usize = 65_536;

/// What a publication put into force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublishReport {
    /// The generation number; it rises by one with every publication.
    pub generation: u64,
    /// Rules that drop something.
    pub rules: usize,
    /// Protected ports.
    pub services: usize,
    /// IPv4 prefixes in the table; with the engine `flat`, ranges that stand out from the rest.
    pub v4_entries: usize,
    /// The same for IPv6.
    pub v6_entries: usize,
    /// How long it took.
    #[serde(rename = "seconds", with = "seconds")]
    pub took: Duration,
    /// How much of it went into writing the kernel's maps.
    #[serde(rename = "write_seconds", with = "seconds")]
    pub write: Duration,
    /// How much of it went into waiting until no packet was judged by the table that was written over.
    #[serde(rename = "wait_seconds", with = "seconds")]
    pub wait: Duration,
    /// What did not work although the new table is in force.
    pub warnings: Vec<String>,
}

/// Durations as seconds, with a fraction.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Builds the next table, switches to it, and retires the one before.
///
/// `addresses` must have been made for the tables' engine and fit into its lines. An error means that the live
/// table is what it was.
pub(super) fn publish(
    tables: &mut Tables,
    lock: &mut Lock,
    compiled: &Compiled,
    addresses: &Addresses,
    begin: Instant,
) -> Result<PublishReport> {
    let live = tables.live().map(|(serial, _)| serial);
    let previous = tables.live_slots().context("could not read the live table's rules")?;
    let image = Image::around(addresses, compiled, &previous)?;
    let serial = live.unwrap_or(0) + 1;
    let idle = layout::generation_index(serial);

    let unbuilt = "could not build the next table; the one before is still in force";
    let waiting = Instant::now();
    if tables.grace.finish().is_err() {
        tables.synchronize_rcu(idle).context(unbuilt)?;
    }
    let wait = waiting.elapsed();
    build(tables, lock, &image, addresses, idle, &previous).context(unbuilt)?;
    let write = waiting.elapsed() - wait;
    tables.grace = GracePeriod::Unknown;
    tables.state.switch(serial);

    let mut warnings = Vec::new();
    if let Err(error) = settle(tables, &image) {
        warnings.push(format!("the new table is in force, but notes about its rules are stale: {error}"));
    }
    if let Some(live) = live
        && let Err(error) = retire(tables, layout::generation_index(live))
    {
        warnings.push(format!("the new table is in force, but the old one still takes memory: {error}"));
    }
    let (v4_entries, v6_entries) = image.entries();
    Ok(PublishReport {
        generation: serial,
        rules: image.rules.len(),
        services: image.services.len(),
        v4_entries,
        v6_entries,
        took: begin.elapsed(),
        write,
        wait,
        warnings,
    })
}

/// Writes everything of the idle generation, which no packet is judged by any more. Nothing of it is read before
/// the switch.
fn build(
    tables: &mut Tables,
    lock: &mut Lock,
    image: &Image,
    addresses: &Addresses,
    idle: u32,
    previous: &Slots,
) -> Result<()> {
    match addresses {
        Addresses::Lpm { v4, v6, .. } => {
            let v4 = Trie::filled(v4).context("IPv4 addresses")?;
            let v6 = Trie::filled(v6).context("IPv6 addresses")?;
            tables.set_tries(idle, &v4, &v6)?;
        }
        Addresses::Flat { flat, .. } => tables.memory.write(idle, flat.first_line(), flat.lines()),
    }
    tables.memory.write(idle, 0, &cell_lines(&image.cells));

    for (slot, note) in &image.rules {
        // A slot that the live table uses goes on counting, and its note changes after the switch.
        if previous.rules.get(&note.identity) != Some(slot) {
            tables.rule_hits.set(*slot, zeros()?, 0)?;
            tables.rules.insert(slot, note, 0)?;
        }
    }
    let live: HashSet<u32> = previous.services.values().copied().collect();
    for (slot, note) in &image.services {
        if !live.contains(slot) {
            tables.service_hits.set(*slot, zeros()?, 0)?;
            tables.service_notes.insert(slot, note, 0)?;
        }
    }
    let stale: Vec<LocalKey> = tables
        .local
        .keys()
        .filter(|key| key.as_ref().map_or(true, |key| u32::from(key.generation) == idle))
        .collect::<Result<_, _>>()?;
    for key in stale {
        tables.local.remove(&key)?;
    }
    for (key, entry) in &image.local {
        tables.local.insert(LocalKey { generation: idle as u8, ..*key }, entry, 0)?;
    }
    let published = sys::wall_clock().as_secs();
    tables.state.write(lock, idle, &TableHeader { published, ..image.header }, &image.ports);
    Ok(())
}

/// Brings the notes in line with the table that is now live: rules may have moved in their file, and the
/// slots of those that are gone are free.
fn settle(tables: &mut Tables, image: &Image) -> Result<()> {
    for (slot, note) in &image.rules {
        if tables.rules.get(slot, 0).ok() != Some(*note) {
            tables.rules.insert(slot, note, 0)?;
        }
    }
    let rules: HashSet<u32> = image.rules.iter().map(|(slot, _)| *slot).collect();
    let gone: Vec<u32> = tables
        .rules
        .keys()
        .filter(|slot| slot.as_ref().map_or(true, |slot| !rules.contains(slot)))
        .collect::<Result<_, _>>()?;
    for slot in gone {
        tables.rules.remove(&slot)?;
    }
    let services: HashSet<u32> = image.services.iter().map(|(slot, _)| *slot).collect();
    let gone: Vec<u32> = tables
        .service_notes
        .keys()
        .filter(|slot| slot.as_ref().map_or(true, |slot| !services.contains(slot)))
        .collect::<Result<_, _>>()?;
    for slot in gone {
        tables.service_notes.remove(&slot)?;
    }
    Ok(())
}

/// Waits until no packet is judged any more by a generation that was live until now; then the next
/// publication may write into it, and a slot that it alone used may be given to another rule. Large tries
/// are freed at once; small ones stay until others take their place, because each replacement waits again.
fn retire(tables: &mut Tables, generation: u32) -> Result<()> {
    if tables.engine == Engine::Flat {
        // Nothing is freed, and whoever comes now is judged by the new table.
        return tables.synchronize_rcu_in_background(generation);
    }
    // A packet that read the control map just before the switch has to find the tries as they were.
    tables.synchronize_rcu(generation)?;
    let TableHeader { v4_entries, v6_entries, .. } = tables.state.header(generation);
    if (v4_entries + v6_entries) as usize <= LARGE {
        return Ok(());
    }
    let Tries { v4, v6 } = tables.tries(generation)?;
    tables.set_tries(generation, &Trie::filled(&[])?, &Trie::filled(&[])?)?;
    let drain = move || {
        // If it fails, the kernel frees a full trie in one go: slower, not wrong.
        let _ = v4.map(|trie| trie.drain());
        let _ = v6.map(|trie| trie.drain());
    };
    thread::Builder::new().name("nicgate-retire".into()).spawn(drain)?;
    Ok(())
}
