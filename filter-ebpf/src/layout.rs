//! The maps: names, keys, values and sizes. All integers are in host byte order unless said otherwise.
//!
//! A change of any of these is a new [`VERSION`]: programs of different versions never share maps.

use crate::flat::Root;
pub use crate::outcome::{EVENTS_LOST, OUTCOME_ENTRIES, Outcome};

/// The version of everything in this module. It is part of the pins' path.
pub const VERSION: u32 = 3;

/// Names of the maps.
pub mod map {
    /// ARRAY of one [`super::State`], mmap-able.
    pub const STATE: &str = "STATE";
    /// HASH of [`super::LocalKey`] to a [`super::service`] entry (u32).
    pub const LOCAL: &str = "LOCAL";
    /// ARRAY_OF_MAPS, by generation index: LPM_TRIE of IPv4 prefixes (network byte order) to class (u32).
    pub const V4: &str = "V4";
    /// ARRAY_OF_MAPS, by generation index: LPM_TRIE of IPv6 prefixes (network byte order) to class (u32).
    pub const V6: &str = "V6";
    /// ARRAY of [`crate::flat::Line`], mmap-able: the first half is generation 0's, the second generation 1's.
    /// Each begins with the verdicts, [`super::LINE_CELLS`] to a line; the `flat` engine's addresses follow. Its
    /// size is set when the program is loaded.
    pub const LINES: &str = "LINES";
    /// PERCPU_ARRAY of u64, by [`super::Outcome`], then [`super::EVENTS_LOST`].
    pub const OUTCOMES: &str = "OUTCOMES";
    /// PERCPU_ARRAY of [`super::RuleHits`], by rule slot.
    pub const RULE_HITS: &str = "RULE_HITS";
    /// PERCPU_ARRAY of [`super::ServiceHits`], by service slot.
    pub const SERVICE_HITS: &str = "SERVICE_HITS";
    /// HASH of rule slot (u32) to [`super::RuleNote`]; the program never reads it.
    pub const RULES: &str = "RULES";
    /// HASH of service slot (u32) to [`super::ServiceNote`]; the program never reads it.
    pub const SERVICE_NOTES: &str = "SERVICE_NOTES";
    /// RINGBUF of [`super::Event`].
    pub const EVENTS: &str = "EVENTS";
    /// LPM_TRIE of [`crate::bans::KeyV4`] to [`crate::bans::Ban`].
    pub const BANS_V4: &str = "BANS_V4";
    /// LPM_TRIE of [`crate::bans::KeyV6`] to [`crate::bans::Ban`].
    pub const BANS_V6: &str = "BANS_V6";
    /// PERCPU_HASH of a ban's id (u32) to [`super::RuleHits`]; the entry is there for as long as the ban.
    pub const BAN_HITS: &str = "BAN_HITS";

    /// Every map that is pinned and outlives the program.
    pub const ALL: [&str; 14] = [
        STATE,
        LOCAL,
        V4,
        V6,
        LINES,
        OUTCOMES,
        RULE_HITS,
        SERVICE_HITS,
        RULES,
        SERVICE_NOTES,
        EVENTS,
        BANS_V4,
        BANS_V6,
        BAN_HITS,
    ];
}

/// Name of the program that takes packets in several buffers (Linux 5.18 and newer).
pub const PROGRAM: &str = "nicgate";
/// Name of the program for kernels that know only packets in one buffer.
pub const PROGRAM_LINEAR: &str = "nicgate_linear";
/// Name of the read-only global that turns on the program's own debug lines.
pub const DEBUG_GLOBAL: &str = "NICGATE_DEBUG";

/// Name of the read-only global that selects the engine: see [`engine`].
pub const ENGINE_GLOBAL: &str = "NICGATE_ENGINE";
/// Name of the read-only global with the number of lines that a generation has in [`map::LINES`].
pub const LINES_GLOBAL: &str = "NICGATE_LINES";

/// How the program looks up addresses. The verifier removes the engine that was not selected.
pub mod engine {
    /// In two LPM_TRIE maps.
    pub const LPM: u8 = 0;
    /// In the buckets of [`super::map::LINES`].
    pub const FLAT: u8 = 1;
}

/// Tables that exist side by side: one is live, the other is being built or retired.
pub const GENERATIONS: u32 = 2;
/// Rule slots; slot 0 stands for "no rule".
pub const RULE_SLOTS: u32 = 8_192;
/// Rules in one table. Two tables fit into the slots together, so that a reload never runs out.
pub const MAX_RULES: u32 = (RULE_SLOTS - 1) / 2;
/// Service slots.
pub const SERVICE_SLOTS: u32 = 4_096;
/// Services in one table; two tables fit into the slots together.
pub const MAX_SERVICES: u32 = (SERVICE_SLOTS - 1) / 2;
/// Services with a local address, in both tables together.
pub const LOCAL_ENTRIES: u32 = 2 * MAX_SERVICES;
/// Cells of one verdict table, at most.
pub const CELLS: usize = 1 << 20;
/// Cells of the verdict table in a line; each is a u16: 0 passes, n drops on account of rule slot n.
pub const LINE_CELLS: usize = crate::flat::LINE_BYTES / 2;
/// Protected ports, at most, and one for all others.
pub const GROUPS: usize = 1 << 11;
/// Ports of one protocol.
pub const PORT_COUNT: usize = 1 << 16;
/// Bytes of the ring buffer for sampled drops.
pub const EVENTS_BYTES: u32 = 1 << 18;

/// The index of the generation that a serial number stands for.
#[inline(always)]
pub const fn generation_index(serial: u64) -> u32 {
    (serial & 1) as u32
}

/// What stands on a port: an entry of [`Generation::groups`], and the value of [`map::LOCAL`]. 0 is nothing.
pub mod service {
    /// The slot, plus 1, of the service for all addresses that have none of their own; 0 if there is none.
    pub const SLOT_MASK: u32 = LOCAL - 1;
    /// Other services on this port name a local address: look there first.
    pub const LOCAL: u32 = 1 << 15;
    /// Where the service's column in the verdict table stands.
    pub const COLUMN_SHIFT: u32 = 16;
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Proto {
    /// IP protocol 6.
    Tcp = 0,
    /// IP protocol 17.
    Udp = 1,
    /// IP protocol 132.
    Sctp = 2,
}

impl Proto {
    /// All, by their number here.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];
}

/// What every packet needs, so that it is found once for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct State {
    /// What userspace changes while packets are judged.
    pub control: Control,
    /// Two tables.
    pub generations: [Generation; GENERATIONS as usize],
}

/// The first line of the [`State`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Control {
    /// The live table's serial number; 0 before the first. Its lowest bit is the live generation's index.
    /// Written as one 8-byte store.
    pub live: u64,
    /// Report one drop in so many; 0 reports none.
    pub sampling: u64,
    /// Always 0, which the verifier cannot know.
    pub zero: u64,
    /// Entries in the tries of bans; while it is 0, nobody looks there. Too high while they change.
    pub bans: u64,
    /// Unused.
    pub padding: [u64; 4],
}

/// A table but for its lines and tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Generation {
    /// What is the same for all its packets.
    pub header: TableHeader,
    /// What stands on a port, by [`Proto`]: see [`service`]. The first is for ports on which nothing does.
    pub groups: [[u32; 4]; GROUPS],
    /// The group of each port, by the port in network byte order; 0 if it is not protected.
    pub ports: [u16; PORT_COUNT],
}

/// What a packet needs of a table whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct TableHeader {
    /// Cells in a row of the verdict table.
    pub columns: u32,
    /// The column for packets whose port cannot be seen.
    pub hidden_column: u32,
    /// See [`flags`].
    pub flags: u32,
    /// Cells of the verdict table; only for userspace.
    pub cells: u32,
    /// Where the `flat` engine's addresses begin: IPv4, IPv6.
    pub roots: [Root; 2],
    /// With the engine `lpm`, the class of IPv4 addresses that no prefix covers.
    pub default_v4: u32,
    /// The same for IPv6.
    pub default_v6: u32,
    /// Prefixes in the IPv4 trie, or with the `flat` engine ranges that stand out from the rest; only for
    /// userspace.
    pub v4_entries: u32,
    /// The same for IPv6; only for userspace.
    pub v6_entries: u32,
    /// When the table was published, in seconds since 1970; only for userspace.
    pub published: u64,
    /// Zero.
    pub padding: [u64; 3],
}

/// Flags in [`TableHeader`].
pub mod flags {
    /// Judge and count, drop nothing.
    pub const SHADOW: u32 = 1;
    /// At least one port is protected.
    pub const PROTECTS: u32 = 2;
}

/// A service on one local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct LocalKey {
    /// The local address, network byte order; IPv4 as an IPv4-mapped address.
    pub address: [u8; 16],
    /// The port.
    pub port: u16,
    /// [`Proto`].
    pub proto: u8,
    /// The generation index.
    pub generation: u8,
}

/// What a rule dropped (or, in shadow mode, would have).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RuleHits {
    /// Packets.
    pub packets: u64,
    /// Bytes, link-layer header included.
    pub bytes: u64,
}

/// What happened on a protected port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ServiceHits {
    /// Packets that went on.
    pub passed_packets: u64,
    /// Their bytes, link-layer header included.
    pub passed_bytes: u64,
    /// Packets that were dropped.
    pub dropped_packets: u64,
    /// Their bytes, link-layer header included.
    pub dropped_bytes: u64,
}

/// Bytes for each of a rule's texts in a [`RuleNote`]; longer ones are cut.
pub const NOTE_TEXT: usize = 128;

/// What a rule slot stands for, so that counters can be read when no controller runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RuleNote {
    /// The rule's identity across reloads.
    pub identity: u64,
    /// Its line.
    pub line: u32,
    /// Its column.
    pub column: u32,
    /// The policy's name, UTF-8, zero-padded.
    pub policy: [u8; NOTE_TEXT],
    /// The rule as written, UTF-8, zero-padded.
    pub text: [u8; NOTE_TEXT],
    /// The file, UTF-8, zero-padded.
    pub file: [u8; NOTE_TEXT],
}

/// What a service slot stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ServiceNote {
    /// The local address, network byte order; meaningless unless `family` is set.
    pub address: [u8; 16],
    /// The port.
    pub port: u16,
    /// [`Proto`].
    pub proto: u8,
    /// 0 for any local address, 4 (the first four bytes count) or 6.
    pub family: u8,
}

/// A sampled drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// The rule slot, or the id of the ban.
    pub rule: u32,
    /// The packet's length, link-layer header included.
    pub length: u32,
    /// The source, network byte order; the first four bytes for IPv4.
    pub source: [u8; 16],
    /// The destination port; 0 when it cannot be seen.
    pub port: u16,
    /// [`Proto`], or 255 when it cannot be seen.
    pub proto: u8,
    /// 4 or 6.
    pub family: u8,
    /// 1 when the rule would have dropped the packet but shadow mode let it pass.
    pub shadow: u8,
    /// 1 for a ban, 0 for a rule.
    pub ban: u8,
    /// Zero.
    pub padding: [u8; 2],
}

#[cfg(feature = "user")]
mod pod {
    use super::{Event, LocalKey, RuleHits, RuleNote, ServiceHits, ServiceNote};
    use crate::bans::Ban;

    macro_rules! pod {
        ($($name:ty),*) => {
            $(
                // SAFETY: `repr(C)`, integers and arrays of integers only, and no padding: see the sizes
                // in the test below.
                unsafe impl aya::Pod for $name {}
            )*
        };
    }
    pod!(Ban, Event, LocalKey, RuleHits, RuleNote, ServiceHits, ServiceNote);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_belong_to_the_version() {
        let sizes = [
            size_of::<State>(),
            size_of::<Generation>(),
            size_of::<LocalKey>(),
            size_of::<RuleHits>(),
            size_of::<ServiceHits>(),
            size_of::<RuleNote>(),
            size_of::<ServiceNote>(),
            size_of::<Event>(),
            OUTCOME_ENTRIES as usize,
            RULE_SLOTS as usize,
            SERVICE_SLOTS as usize,
            CELLS,
        ];
        assert_eq!(
            (VERSION, sizes),
            (3, [328_000, 163_968, 20, 16, 32, 400, 20, 40, 15, 8_192, 4_096, 1_048_576]),
            "a change of layout needs a new version"
        );
    }

    #[test]
    fn every_slot_fits_its_field() {
        const { assert!(SERVICE_SLOTS <= service::SLOT_MASK) };
        const { assert!(MAX_SERVICES < GROUPS as u32) };
        const { assert!(RULE_SLOTS <= 1 << 16) };
        const { assert!(2 * MAX_RULES < RULE_SLOTS) };
        assert_eq!(Outcome::ALL.iter().position(|o| *o == Outcome::NoTable), Some(Outcome::NoTable as usize));
    }
}
