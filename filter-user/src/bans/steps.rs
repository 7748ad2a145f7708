//! Getting from some entries to others, one by one.

use super::{Boottime, Entries, Label, Place};

/// A change of one of the kernel's tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Adds or replaces an entry, at once.
    Put(Place, Label),
    /// Removes an entry.
    Remove(Place),
}

/// How to get from some entries to others, one by one, so that an address that both ban is banned at every moment
/// in between, and one that both let pass passes.
///
/// Whoever is cut off in the middle leaves no hole either: what bans nothing any more, and would hide a longer-lived
/// ban around it, goes first.
pub fn steps(from: &Entries, to: &Entries, now: Boottime) -> Vec<Step> {
    let gone = |dead: bool| {
        from.iter()
            .filter(move |(place, label)| !to.contains_key(place) && dead == is_dead(**label, now))
            .map(|(place, _)| Step::Remove(*place))
    };
    // From the inside to the outside: an exemption is there before the ban around it. And ports before what holds for
    // all of them, which is taken away before they are: what moves from the one to the other stays banned meanwhile.
    let put = to.iter().rev().filter(|(place, label)| from.get(place) != Some(label));
    gone(true).chain(put.map(|(place, label)| Step::Put(*place, *label))).chain(gone(false)).collect()
}

/// A ban that has run out. An exemption has its use as long as there is a ban around it.
fn is_dead(label: Label, now: Boottime) -> bool {
    label != Label::Exempt && !label.bans(now)
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;
    use crate::bans::entries::{
        self,
        tests::{SCOPES, addresses, bans, dropped, exempt, longest},
    };

    const NOW: Boottime = Boottime { nanoseconds: 10 };

    proptest! {
        #[test]
        fn nobody_slips_in_or_is_shut_out_on_the_way(
            before in bans(),
            after in bans(),
            exempt_before in exempt(),
            exempt_after in exempt(),
        ) {
            let from = entries::entries(&before, &exempt_before.0);
            let after: Vec<_> = after.into_iter().filter(|ban| ban.holds(NOW)).collect();
            let to = entries::entries(&after, &exempt_after.0);
            let bans = |entries: &Entries, scope, address| {
                longest(entries, scope, address).is_some_and(|label| label.bans(NOW))
            };
            let nets: Vec<IpNet> = from.keys().chain(to.keys()).map(|(_, net)| *net).collect();
            let addresses = addresses(&nets);
            let mut now = from.clone();
            for step in steps(&from, &to, NOW) {
                match step {
                    Step::Put(place, label) => {
                        prop_assert_ne!(now.insert(place, label), Some(label), "a step changes something");
                    }
                    Step::Remove(place) => prop_assert!(now.remove(&place).is_some()),
                }
                for scope in SCOPES {
                    for address in &addresses {
                        let (a, b) = (bans(&from, scope, *address), bans(&to, scope, *address));
                        if a == b {
                            prop_assert_eq!(bans(&now, scope, *address), a, "{} after {:?}", address, step);
                        }
                    }
                }
                // What is banned on every service before and on each port after, or the other way round, stays banned.
                for port in &SCOPES[1..] {
                    for address in &addresses {
                        let both = [&from, &to].map(|entries| dropped(entries, *port, *address, NOW));
                        if both == [true, true] {
                            prop_assert!(dropped(&now, *port, *address, NOW), "{} after {:?}", address, step);
                        }
                    }
                }
            }
            prop_assert_eq!(now, to);
        }
    }
}
