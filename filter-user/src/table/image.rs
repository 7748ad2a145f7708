//! What the next table will be, as plain data.

use std::{collections::HashMap, net::IpAddr};

use filter_ebpf::layout::{
    GROUPS, LocalKey, NOTE_TEXT, PORT_COUNT, Proto as MapProto, RULE_SLOTS, RuleNote, SERVICE_SLOTS,
    ServiceNote, TableHeader, flags, service,
};

use super::{addresses::Addresses, size::TooLarge, slots::assign};
use crate::{
    address::canonical,
    model::{Engine, Proto, ServiceKey},
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

/// What stands on each port: a table's part of the [`Generation`](filter_ebpf::layout::Generation) beside its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// As [`Generation::groups`](filter_ebpf::layout::Generation::groups).
    pub(crate) groups: Box<[[u32; 4]; GROUPS]>,
    /// As [`Generation::ports`](filter_ebpf::layout::Generation::ports).
    pub(crate) ports: Box<[u16; PORT_COUNT]>,
}

/// A table that the kernel's maps can hold, ready to be written into them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub(crate) header: TableHeader,
    pub(crate) ports: Ports,
    /// Slots and services.
    pub(crate) services: Vec<(u32, ServiceNote)>,
    /// Services with a local address and their entries; the keys' generation is 0.
    pub(crate) local: Vec<(LocalKey, u32)>,
    /// The verdict table.
    pub(crate) cells: Vec<u16>,
    /// Of addresses, IPv4 and IPv6.
    entries: (usize, usize),
    /// Slots and rules.
    pub(crate) rules: Vec<(u32, RuleNote)>,
}

impl Image {
    /// Lays out a table; `previous` are the slots of the live one.
    ///
    /// # Errors
    ///
    /// As [`fits`](super::fits).
    pub fn new(engine: Engine, compiled: &Compiled, previous: &Slots) -> Result<Self, TooLarge> {
        Self::around(&Addresses::new(engine, compiled)?, compiled, previous)
    }

    /// The rest of a table, around its addresses, which are there only if it [`fits`](super::fits).
    #[expect(clippy::too_many_lines, reason = "the parts of one table, each from the same few numbers")]
    pub(crate) fn around(
        addresses: &Addresses,
        compiled: &Compiled,
        previous: &Slots,
    ) -> Result<Self, TooLarge> {
        let rule_slots =
            assign(&previous.rules, compiled.rules.iter().map(|rule| rule.identity), 1..RULE_SLOTS)
                .ok_or(TooLarge::Rules(compiled.rules.len()))?;
        let service_slots =
            assign(&previous.services, compiled.services.iter().map(|service| service.key), 0..SERVICE_SLOTS)
                .ok_or(TooLarge::Services(compiled.services.len()))?;

        let mut groups: Box<[[u32; 4]; GROUPS]> = zeroed();
        let mut ports: Box<[u16; PORT_COUNT]> = zeroed();
        let mut last = 0;
        let mut local = Vec::new();
        let mut services = Vec::with_capacity(service_slots.len());
        for (protected, slot) in compiled.services.iter().zip(service_slots) {
            let ServiceKey { proto, port, address } = protected.key;
            let proto = map_proto(proto);
            let group = &mut ports[usize::from(port.to_be())];
            if *group == 0 {
                last += 1;
                *group = last;
            }
            let standing = &mut groups[usize::from(*group)][proto as usize];
            let entry = protected.column.0 << service::COLUMN_SHIFT | (slot + 1);
            match address {
                None => *standing |= entry,
                Some(address) => {
                    *standing |= service::LOCAL;
                    let key = LocalKey { address: mapped(address), port, proto: proto as u8, generation: 0 };
                    local.push((key, entry));
                }
            }
            services.push((slot, service_note(protected.key)));
        }

        let row = compiled.row();
        let cells: Vec<u16> = compiled
            .cells
            .iter()
            .enumerate()
            .map(|(index, cell)| {
                // Where nothing is protected, nothing may be dropped for hiding its port.
                let vacuous = compiled.services.is_empty() && index % row == compiled.hidden_column().index();
                cell.filter(|_| !vacuous).map_or(0, |rule| rule_slots[rule.0 as usize] as u16)
            })
            .collect();

        let entries @ (v4_entries, v6_entries) = addresses.entries();
        let mut header = TableHeader {
            columns: row as u32,
            hidden_column: compiled.hidden_column().0,
            flags: if compiled.shadow { flags::SHADOW } else { 0 }
                | if compiled.services.is_empty() { 0 } else { flags::PROTECTS },
            cells: cells.len() as u32,
            v4_entries: v4_entries as u32,
            v6_entries: v6_entries as u32,
            ..TableHeader::default()
        };
        match addresses {
            Addresses::Lpm { default_v4, default_v6, .. } => {
                (header.default_v4, header.default_v6) = (default_v4.0, default_v6.0);
            }
            Addresses::Flat { flat, .. } => header.roots = [flat.v4, flat.v6],
        }
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
        Ok(Self { header, ports: Ports { groups, ports }, services, local, cells, entries, rules })
    }

    /// The slots of this table.
    pub fn slots(&self) -> Slots {
        Slots {
            rules: self.rules.iter().map(|(slot, note)| (note.identity, *slot)).collect(),
            services: self.services.iter().map(|(slot, note)| (service_key(note), *slot)).collect(),
        }
    }

    /// Entries for IPv4 and IPv6: prefixes in tries, or with the engine `flat` ranges that stand out from
    /// the rest.
    pub fn entries(&self) -> (usize, usize) {
        self.entries
    }
}

/// On the heap from the start: these arrays are too large for a stack.
fn zeroed<T: Clone + Default, const N: usize>() -> Box<[T; N]> {
    vec![T::default(); N]
        .into_boxed_slice()
        .try_into()
        .unwrap_or_else(|_| unreachable!("a vector of N elements"))
}

pub(crate) fn map_proto(proto: Proto) -> MapProto {
    match proto {
        Proto::Tcp => MapProto::Tcp,
        Proto::Udp => MapProto::Udp,
        Proto::Sctp => MapProto::Sctp,
    }
}

/// The protocol behind a number of the maps.
pub(crate) fn proto_of(number: u8) -> Option<Proto> {
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
pub(crate) fn service_key(note: &ServiceNote) -> ServiceKey {
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
pub(crate) fn text_of(bytes: &[u8; NOTE_TEXT]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(NOTE_TEXT);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use filter_ebpf::layout::{MAX_RULES, MAX_SERVICES};

    use super::{super::fits, *};
    use crate::{
        address::Partition,
        model::{Origin, PolicyId},
        offload::{ClassId, Column, ColumnId, CompiledService, DropRule, DropRuleId},
    };

    fn rule(text: &str, identity: u64) -> DropRule {
        DropRule {
            policy: PolicyId(0),
            policy_name: Arc::from("p"),
            rule: None,
            text: Arc::from(text),
            origin: Origin { file: Arc::from("f.conf"), line: 7, column: 3 },
            identity,
        }
    }

    fn key(port: u16, address: Option<&str>) -> ServiceKey {
        ServiceKey { proto: Proto::Tcp, port, address: address.map(|text| text.parse().unwrap()) }
    }

    /// One column, two classes: 1 is dropped by the last rule.
    fn compiled(keys: &[ServiceKey], rules: Vec<DropRule>) -> Compiled {
        let last = DropRuleId(rules.len() as u32 - 1);
        Compiled {
            v4: Partition::from_nested(vec![(8, 11, ClassId(1))], ClassId(0)),
            v6: Partition::constant(ClassId(0)),
            services: keys.iter().map(|key| CompiledService { key: *key, column: ColumnId(0) }).collect(),
            columns: vec![Column { policies: vec![PolicyId(0)], proxies: Vec::new(), open: None }],
            cells: vec![None, None, Some(last), Some(last)],
            rules,
            shadow: false,
        }
    }

    #[test]
    fn ports_point_to_services_and_cells_to_rules() {
        let image =
            Image::new(Engine::Lpm, &compiled(&[key(80, None)], vec![rule("a", 1)]), &Slots::default())
                .unwrap();
        let slot = image.services[0].0;
        let group = image.ports.ports[usize::from(80u16.to_be())];
        assert_ne!(group, 0, "group 0 is nothing");
        assert_eq!(image.ports.groups[usize::from(group)], [slot + 1, 0, 0, 0]);
        assert_eq!(image.ports.ports.iter().filter(|entry| **entry != 0).count(), 1);
        let rule_slot = image.rules[0].0 as u16;
        assert_ne!(rule_slot, 0, "slot 0 passes");
        assert_eq!(image.cells, [0, 0, rule_slot, rule_slot]);
        assert_eq!((image.header.columns, image.header.hidden_column), (2, 1));
        assert_eq!(text_of(&image.rules[0].1.file), "f.conf");
        assert_eq!(image.entries(), (1, 0));
    }

    #[test]
    fn a_rule_that_stays_keeps_its_slot_wherever_it_moves() {
        let before = compiled(&[key(80, None), key(81, None)], vec![rule("a", 1), rule("b", 2)]);
        let before = Image::new(Engine::Lpm, &before, &Slots::default()).unwrap();
        let after = compiled(&[key(82, None), key(81, None)], vec![rule("new", 3), rule("b", 2)]);
        let after = Image::new(Engine::Lpm, &after, &before.slots()).unwrap();
        assert_eq!(before.slots().rules[&2], after.slots().rules[&2]);
        assert_eq!(before.slots().services[&key(81, None)], after.slots().services[&key(81, None)]);
        let taken: Vec<u32> = before.slots().rules.into_values().collect();
        assert!(!taken.contains(&after.slots().rules[&3]), "the live table still uses the others");
    }

    #[test]
    fn any_two_tables_that_fit_have_slots_together() {
        let rules = |from: u64| (from..from + u64::from(MAX_RULES)).map(|id| rule("r", id)).collect();
        let keys =
            |from: u16| (from..from + MAX_SERVICES as u16).map(|port| key(port, None)).collect::<Vec<_>>();
        let first = Image::new(Engine::Lpm, &compiled(&keys(1), rules(0)), &Slots::default()).unwrap();
        let second =
            Image::new(Engine::Lpm, &compiled(&keys(30_000), rules(100_000)), &first.slots()).unwrap();
        let third = Image::new(Engine::Lpm, &compiled(&keys(1), rules(0)), &second.slots()).unwrap();
        let mut slots: Vec<u32> = third.slots().rules.into_values().collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), MAX_RULES as usize);
        let one_more = compiled(&[], (0..=u64::from(MAX_RULES)).map(|id| rule("r", id)).collect());
        assert_eq!(
            Image::new(Engine::Lpm, &one_more, &Slots::default()),
            Err(TooLarge::Rules(MAX_RULES as usize + 1))
        );
        let ports: Vec<_> = (0..=MAX_SERVICES as u16).map(|port| key(port, None)).collect();
        let error = fits(Engine::Flat, &compiled(&ports, vec![rule("a", 1)])).unwrap_err();
        assert_eq!(error, TooLarge::Services(MAX_SERVICES as usize + 1));
        assert!(error.to_string().contains("2048 ports are protected"), "{error}");
    }

    #[test]
    fn local_addresses_mark_their_port() {
        let keys = [
            key(80, Some("192.0.2.1")),
            key(80, Some("2001:db8::1")),
            key(81, Some("192.0.2.1")),
            key(81, None),
        ];
        let image = Image::new(Engine::Lpm, &compiled(&keys, vec![rule("a", 1)]), &Slots::default()).unwrap();
        let standing = |port: u16| {
            let group = image.ports.ports[usize::from(port.to_be())];
            image.ports.groups[usize::from(group)][MapProto::Tcp as usize]
        };
        assert_eq!(standing(80), service::LOCAL, "no service for other addresses");
        assert_eq!(standing(81), service::LOCAL | (image.slots().services[&keys[3]] + 1));
        assert_eq!(image.local.len(), 3);
        assert_eq!(image.local[0].0.address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
        for (_, note) in &image.services {
            assert!(keys.contains(&service_key(note)));
        }
    }

    #[test]
    fn where_nothing_is_protected_a_hidden_port_is_no_reason_to_drop() {
        let image = Image::new(Engine::Lpm, &compiled(&[], vec![rule("a", 1)]), &Slots::default()).unwrap();
        assert_eq!(image.cells, [0, 0, 1, 0]);
        assert_eq!(image.header.flags, 0);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = format!("{}é and more", "x".repeat(NOTE_TEXT - 1));
        assert_eq!(text_of(&note_text(&long)), "x".repeat(NOTE_TEXT - 1));
        assert_eq!(text_of(&note_text(&"y".repeat(NOTE_TEXT + 9))), "y".repeat(NOTE_TEXT));
    }
}
