//! What the kernel's tries hold for a set of bans.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Ban, Boottime, Exempt, Place, Scope};

/// What a prefix in one of the kernel's tries means for the addresses in it that no longer prefix names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// They are banned.
    Ban {
        /// By which ban.
        id: u32,
        /// Until then; `None` for ever.
        until: Option<Boottime>,
    },
    /// They are not, although a shorter prefix is: `never_drop`, and trusted proxies.
    Exempt,
}

impl Label {
    /// Whether it bans.
    pub(super) fn bans(self, now: Boottime) -> bool {
        match self {
            Self::Ban { until, .. } => until.is_none_or(|until| until > now),
            Self::Exempt => false,
        }
    }
}

/// What the kernel's tries hold.
pub type Entries = BTreeMap<Place, Label>;

/// What the kernel is to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The tries' entries.
    pub entries: Entries,
    /// Every ban, also those that another one makes unnecessary for now.
    pub ids: BTreeSet<u32>,
}

/// The entries for these bans, so that in each scope the longest prefix around an address carries the ban that
/// ends last of all bans around it, or says that the address is exempt. No two bans may have the same place.
///
/// An entry stands only where something changes: a ban inside a longer-lived one has none, nor has one inside what is
/// exempt; and what is exempt has one only inside a ban. There are therefore at most as many as bans and, in
/// each scope, exempt prefixes: cutting the address space into disjoint prefixes could take a hundred for a single
/// ban. And because of all the bans around an address the last to end is found, the result is right at every
/// later time, too, if nobody changes it.
///
/// A proxy that is trusted on one port is exempt there only, and the kernel asks for bans on every service first: so a
/// proxy is exempt from those, and a ban on every service that meets one stands once more in the scope of each port.
pub fn entries<'a>(bans: impl IntoIterator<Item = &'a Ban>, exempt: &Exempt) -> Entries {
    let mut scopes: BTreeMap<Scope, Vec<(IpNet, Option<&Ban>)>> = BTreeMap::new();
    let proxies = exempt.proxies();
    for ban in bans {
        scopes.entry(ban.scope).or_default().push((ban.net, Some(ban)));
        if ban.scope == Scope::Everywhere {
            for both in proxies.iter().filter_map(|proxy| overlap(ban.net, *proxy)) {
                for port in exempt.ports() {
                    scopes.entry(port).or_default().push((both, Some(ban)));
                }
            }
        }
    }
    let mut entries = Entries::new();
    for (scope, mut nets) in scopes {
        nets.extend(exempt.in_scope(scope).into_iter().map(|net| (net, None)));
        // By address, and then from the outside to the inside; what is exempt before a ban of the same prefix.
        nets.sort_by_key(|(net, ban)| (*net, ban.is_some()));
        let mut around: Vec<(IpNet, Label)> = Vec::new();
        for (net, ban) in nets {
            while around.last().is_some_and(|(outer, _)| !outer.contains(&net)) {
                around.pop();
            }
            let outer = around.last().map(|(_, label)| *label);
            let label = match (ban, outer) {
                (_, Some(Label::Exempt)) => continue,
                (Some(ban), Some(Label::Ban { until, .. })) if !ban.outlasts(until) => continue,
                (Some(ban), _) => Label::Ban { id: ban.id, until: ban.until },
                (None, _) => Label::Exempt,
            };
            if label != Label::Exempt || outer.is_some() {
                entries.insert((scope, net), label);
            }
            around.push((net, label));
        }
    }
    entries
}

/// The addresses that are in both prefixes.
fn overlap(one: IpNet, other: IpNet) -> Option<IpNet> {
    if other.contains(&one) { Some(one) } else { Some(other).filter(|other| one.contains(other)) }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Proto;

    pub(crate) const SCOPES: [Scope; 3] = [
        Scope::Everywhere,
        Scope::Service { proto: Proto::Tcp, port: 80 },
        Scope::Service { proto: Proto::Udp, port: 80 },
    ];

    /// Few distinct addresses, all lengths, both families.
    pub(crate) fn net() -> impl Strategy<Value = IpNet> {
        let v4 =
            (prop_oneof![Just(0u32), Just(u32::MAX), 0x0a00_0000u32..0x0a00_0008, any::<u32>()], 0u8..=32)
                .prop_map(|(address, len)| IpNet::new(IpAddr::from(address.to_be_bytes()), len));
        let v6 = (
            prop_oneof![Just(0u128), Just(u128::MAX), 0x2001u128 << 112..(0x2001u128 << 112) + 8],
            0u8..=128,
        )
            .prop_map(|(address, len)| IpNet::new(IpAddr::from(address.to_be_bytes()), len));
        prop_oneof![v4, v6].prop_map(|net| net.unwrap().trunc())
    }

    /// Bans with distinct places, some of which have run out at 10.
    pub(crate) fn bans() -> impl Strategy<Value = Vec<Ban>> {
        let one = (net(), 0..SCOPES.len(), proptest::option::of(0u64..20));
        proptest::collection::vec(one, 0..16).prop_map(|list| {
            let mut places = BTreeSet::new();
            list.into_iter()
                .map(|(net, scope, until)| (SCOPES[scope], net, until))
                .filter(|(scope, net, _)| places.insert((*scope, *net)))
                .zip(1..)
                .map(|((scope, net, until), id)| Ban {
                    id,
                    net,
                    scope,
                    until: until.map(|nanoseconds| Boottime { nanoseconds }),
                    reason: None,
                    made_at: 0,
                    refused: Default::default(),
                })
                .collect()
        })
    }

    /// What is exempt: on two ports that are protected, and everywhere; with the proxies of each port.
    pub(crate) fn exempt() -> impl Strategy<Value = (Exempt, Vec<IpNet>, [Vec<IpNet>; 2])> {
        let nets = || proptest::collection::vec(net(), 0..4);
        (nets(), [nets(), nets()]).prop_map(|(never_drop, proxies)| {
            let [one, other] = proxies.clone();
            let exempt = Exempt::never_drop(never_drop.clone()).port(SCOPES[1], one).port(SCOPES[2], other);
            (exempt, never_drop, proxies)
        })
    }

    /// Whether the kernel drops a packet to a port: it looks for a ban on every service, and then for one of the port.
    pub(crate) fn dropped(entries: &Entries, port: Scope, address: IpAddr, now: Boottime) -> bool {
        [Scope::Everywhere, port]
            .into_iter()
            .any(|scope| longest(entries, scope, address).is_some_and(|label| label.bans(now)))
    }

    /// Addresses at and beside every edge.
    pub(crate) fn addresses<'a>(nets: impl IntoIterator<Item = &'a IpNet>) -> Vec<IpAddr> {
        let step = |address: IpAddr, by: i8| -> IpAddr {
            match address {
                IpAddr::V4(v4) => v4.to_bits().wrapping_add_signed(i32::from(by)).to_be_bytes().into(),
                IpAddr::V6(v6) => v6.to_bits().wrapping_add_signed(i128::from(by)).to_be_bytes().into(),
            }
        };
        let edges =
            |net: &IpNet| [step(net.network(), -1), net.network(), net.broadcast(), step(net.broadcast(), 1)];
        nets.into_iter().flat_map(edges).collect()
    }

    /// What the kernel finds.
    pub(crate) fn longest(entries: &Entries, scope: Scope, address: IpAddr) -> Option<Label> {
        entries
            .iter()
            .filter(|((s, net), _)| *s == scope && net.contains(&address))
            .max_by_key(|((_, net), _)| net.prefix_len())
            .map(|(_, label)| *label)
    }

    proptest! {
        #[test]
        fn the_longest_prefix_says_what_all_bans_say_now_and_later(
            bans in bans(),
            never_drop in proptest::collection::vec(net(), 0..6),
        ) {
            let entries = entries(&bans, &Exempt::never_drop(never_drop.clone()));
            prop_assert!(entries.len() <= bans.len() + SCOPES.len() * never_drop.len());
            for address in addresses(bans.iter().map(|ban| &ban.net).chain(&never_drop)) {
                let exempt = never_drop.iter().any(|net| net.contains(&address));
                for scope in SCOPES {
                    let label = longest(&entries, scope, address);
                    for now in (0..21).map(|nanoseconds| Boottime { nanoseconds }) {
                        let mut naive = bans.iter().filter(|ban| ban.scope == scope && ban.net.contains(&address));
                        let naive = !exempt && naive.any(|ban| ban.holds(now));
                        prop_assert_eq!(label.is_some_and(|label| label.bans(now)), naive, "{} at {:?}", address, now);
                    }
                }
            }
        }

        /// A proxy falls under no ban where it is trusted, and under all of them elsewhere.
        #[test]
        fn a_proxy_is_exempt_on_its_own_port_alone(bans in bans(), exempt in exempt()) {
            let (exempt, never_drop, proxies) = exempt;
            let entries = entries(&bans, &exempt);
            let nets = bans.iter().map(|ban| &ban.net).chain(&never_drop).chain(proxies.iter().flatten());
            for address in addresses(nets) {
                for (port, proxies) in SCOPES[1..].iter().zip(&proxies) {
                    let exempt = never_drop.iter().chain(proxies).any(|net| net.contains(&address));
                    for now in (0..21).map(|nanoseconds| Boottime { nanoseconds }) {
                        let naive = !exempt
                            && bans.iter().any(|ban| {
                                [Scope::Everywhere, *port].contains(&ban.scope)
                                    && ban.net.contains(&address)
                                    && ban.holds(now)
                            });
                        prop_assert_eq!(dropped(&entries, *port, address, now), naive, "{} on {}", address, port);
                    }
                }
            }
        }

        #[test]
        fn an_entry_stands_only_where_something_changes(bans in bans(), exempt in exempt()) {
            let entries = entries(&bans, &exempt.0);
            for ((scope, net), label) in &entries {
                let around = entries
                    .iter()
                    .filter(|((s, outer), _)| s == scope && outer != net && outer.contains(net))
                    .max_by_key(|((_, outer), _)| outer.prefix_len())
                    .map(|(_, label)| *label);
                prop_assert!(match (*label, around) {
                    (_, Some(Label::Exempt)) => false,
                    (Label::Exempt, around) => around.is_some(),
                    (Label::Ban { .. }, None) => true,
                    (Label::Ban { until: None, .. }, Some(Label::Ban { until, .. })) => until.is_some(),
                    (Label::Ban { until, .. }, Some(Label::Ban { until: outer, .. })) => {
                        outer.is_some_and(|outer| until > Some(outer))
                    }
                }, "{} {:?} in {:?}", net, label, around);
            }
        }
    }
}
