//! What the next table will be, as plain data: no kernel object is touched here.

use std::{collections::HashMap, fmt, net::IpAddr};

use filter_ebpf::layout::{
    CELLS, Generation, LocalKey, MAX_RULES, MAX_SERVICES, NOTE_TEXT, PORT_COUNT, Proto as MapProto,
    RULE_SLOTS, RuleNote, SERVICE_SLOTS, Service, ServiceNote, flags, port,
};

use super::{
    prefixes::{Prefix, cover},
    slots::assign,
};
use crate::{
    address::canonical,
    config::{Proto, ServiceKey},
    offload::Compiled,
};

/// Which slot each rule and service has in the live table; those that stay keep theirs, and so go on counting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// By the rule's identity.
    pub rules: HashMap<u64, u32>,
    /// By the service's key.
    pub services: HashMap<ServiceKey, u32>,
}

/// A table that the kernel's maps can hold, ready to be written into them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub(super) generation: Generation,
    /// By [`MapProto`].
    pub(super) ports: [Box<[u16; PORT_COUNT]>; 3],
    /// Slots and services.
    pub(super) services: Vec<(u32, Service, ServiceNote)>,
    /// Services with a local address and their slots; the keys' generation is 0.
    pub(super) local: Vec<(LocalKey, u32)>,
    pub(super) verdicts: Box<[u16; CELLS]>,
    pub(super) v4: Vec<Prefix<u32>>,
    pub(super) v6: Vec<Prefix<u128>>,
    /// Slots and rules.
    pub(super) rules: Vec<(u32, RuleNote)>,
}

/// A table is larger than the kernel's maps; what was enforced before still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLarge {
    /// More rules that drop than [`MAX_RULES`].
    Rules(usize),
    /// More services than [`MAX_SERVICES`].
    Services(usize),
    /// Classes times distinct policy sets exceed the verdict table.
    Cells {
        /// Classes of addresses.
        classes: usize,
        /// Distinct sets of policies, and one.
        columns: usize,
    },
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules(rules) => write!(
                f,
                "{rules} rules drop at the NIC, but its table holds {MAX_RULES}: \
                 put the addresses into a list file, which is one rule (`deny ip file \"PATH\";`)"
            ),
            Self::Services(services) => write!(
                f,
                "{services} ports are protected, but the NIC's table holds {MAX_SERVICES}: protect fewer ports"
            ),
            Self::Cells { classes, columns } => write!(
                f,
                "{classes} classes of addresses times {columns} sets of policies are more than the {CELLS} \
                 verdicts that the NIC's table holds: let more ports share a policy, or join rules"
            ),
        }
    }
}

impl std::error::Error for TooLarge {}

/// Whether a table of this size can be published at all.
///
/// # Errors
///
/// What is too large, and the remedy.
pub fn fits(compiled: &Compiled) -> Result<(), TooLarge> {
    if compiled.rules.len() > MAX_RULES as usize {
        return Err(TooLarge::Rules(compiled.rules.len()));
    }
    if compiled.services.len() > MAX_SERVICES as usize {
        return Err(TooLarge::Services(compiled.services.len()));
    }
    if compiled.cells.len() > CELLS {
        return Err(TooLarge::Cells { classes: compiled.classes(), columns: compiled.row() });
    }
    Ok(())
}

impl Image {
    /// Lays out a table; `previous` are the slots of the live one.
    ///
    /// # Errors
    ///
    /// As [`fits`].
    pub fn new(compiled: &Compiled, previous: &Slots) -> Result<Self, TooLarge> {
        fits(compiled)?;
        let rule_slots =
            assign(&previous.rules, compiled.rules.iter().map(|rule| rule.identity), 1..RULE_SLOTS)
                .ok_or(TooLarge::Rules(compiled.rules.len()))?;
        let service_slots =
            assign(&previous.services, compiled.services.iter().map(|service| service.key), 0..SERVICE_SLOTS)
                .ok_or(TooLarge::Services(compiled.services.len()))?;

        let mut ports = [zeroed(), zeroed(), zeroed()];
        let mut local = Vec::new();
        let mut services = Vec::with_capacity(service_slots.len());
        for (service, slot) in compiled.services.iter().zip(service_slots) {
            let ServiceKey { proto, port, address } = service.key;
            let proto = map_proto(proto);
            let entry: &mut u16 = &mut ports[proto as usize][usize::from(port)];
            match address {
                None => *entry = (*entry & port::LOCAL) | (slot as u16 + 1),
                Some(address) => {
                    *entry |= port::LOCAL;
                    let key = LocalKey { address: mapped(address), port, proto: proto as u8, generation: 0 };
                    local.push((key, slot));
                }
            }
            services.push((slot, Service { column: service.column, used: 1 }, service_note(service.key)));
        }

        let mut verdicts = zeroed();
        let row = compiled.row();
        for (index, cell) in compiled.cells.iter().enumerate() {
            // Where nothing is protected, nothing may be dropped for hiding its port.
            let vacuous = compiled.services.is_empty() && index % row == compiled.hidden_column() as usize;
            if let Some(rule) = cell.filter(|_| !vacuous) {
                verdicts[index] = rule_slots[rule.0 as usize] as u16;
            }
        }

        let (default_v4, v4) = cover(&compiled.v4);
        let (default_v6, v6) = cover(&compiled.v6);
        let generation = Generation {
            columns: row as u32,
            hidden_column: compiled.hidden_column(),
            default_v4,
            default_v6,
            flags: if compiled.shadow { flags::SHADOW } else { 0 }
                | if compiled.services.is_empty() { 0 } else { flags::PROTECTS },
            local_entries: local.len() as u32,
            v4_entries: v4.len() as u32,
            v6_entries: v6.len() as u32,
            published: 0,
        };
        let rules = compiled
            .rules
            .iter()
            .zip(rule_slots)
            .map(|(rule, slot)| {
                let note = RuleNote {
                    identity: rule.identity,
                    line: rule.origin.line,
                    column: rule.origin.column,
                    policy: note_text(&rule.policy_name),
                    text: note_text(&rule.text),
                    file: note_text(&rule.origin.file),
                };
                (slot, note)
            })
            .collect();
        Ok(Self { generation, ports, services, local, verdicts, v4, v6, rules })
    }

    /// The slots of this table.
    pub fn slots(&self) -> Slots {
        Slots {
            rules: self.rules.iter().map(|(slot, note)| (note.identity, *slot)).collect(),
            services: self.services.iter().map(|(slot, _, note)| (service_key(note), *slot)).collect(),
        }
    }

    /// Prefixes in the two tries, IPv4 and IPv6.
    pub fn entries(&self) -> (usize, usize) {
        (self.v4.len(), self.v6.len())
    }
}

/// On the heap from the start: these arrays are too large for a stack.
fn zeroed<const N: usize>() -> Box<[u16; N]> {
    vec![0; N].into_boxed_slice().try_into().expect("a vector of N elements")
}

fn map_proto(proto: Proto) -> MapProto {
    match proto {
        Proto::Tcp => MapProto::Tcp,
        Proto::Udp => MapProto::Udp,
        Proto::Sctp => MapProto::Sctp,
    }
}

/// The protocol behind a number of the maps.
pub(super) fn proto_of(number: u8) -> Option<Proto> {
    [Proto::Tcp, Proto::Udp, Proto::Sctp].into_iter().find(|proto| map_proto(*proto) as u8 == number)
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match canonical(address) {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn service_note(key: ServiceKey) -> ServiceNote {
    let (family, address) = match key.address {
        None => (0, [0; 16]),
        Some(IpAddr::V4(v4)) => {
            let [a, b, c, d] = v4.octets();
            (4, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        }
        Some(IpAddr::V6(v6)) => (6, v6.octets()),
    };
    ServiceNote { address, port: key.port, proto: map_proto(key.proto) as u8, family }
}

/// The service that a note is about.
pub(super) fn service_key(note: &ServiceNote) -> ServiceKey {
    let [a, b, c, d, ..] = note.address;
    ServiceKey {
        proto: proto_of(note.proto).unwrap_or(Proto::Tcp),
        port: note.port,
        address: match note.family {
            4 => Some(IpAddr::from([a, b, c, d])),
            6 => Some(IpAddr::from(note.address)),
            _ => None,
        },
    }
}

/// As much of a text as a note holds, cut between characters.
fn note_text(text: &str) -> [u8; NOTE_TEXT] {
    let mut bytes = [0; NOTE_TEXT];
    let cut = &text.as_bytes()[..text.floor_char_boundary(NOTE_TEXT)];
    bytes[..cut.len()].copy_from_slice(cut);
    bytes
}

/// The text in a note.
pub(super) fn text_of(bytes: &[u8; NOTE_TEXT]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(NOTE_TEXT);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
