//! Every ban, at most one for a prefix in a scope.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{Ban, Boottime, Desired, Exempt, Place, Scope, entries};
use filter_ebpf::bans::MAX_BANS;

/// Every ban, at most one for a prefix in a scope.
#[derive(Clone, Debug, Default)]
pub struct BanTable {
    bans: BTreeMap<Place, Arc<Ban>>,
    ids: HashSet<u32>,
    last_id: u32,
}

/// What became of a new ban.
#[derive(Debug)]
pub struct Put {
    /// The ban.
    pub ban: Arc<Ban>,
    /// What it replaces.
    pub former: Option<Arc<Ban>>,
}

impl BanTable {
    /// How many bans there can be.
    pub const LIMIT: usize = MAX_BANS as usize;

    /// Bans that are known already. Of two for the same place or with the same id the later one is left out, as is
    /// one with the id 0, and whatever is beyond the limit.
    pub fn of(bans: impl IntoIterator<Item = Ban>) -> Self {
        let mut table = Self::default();
        for ban in bans {
            let free = !table.bans.contains_key(&ban.place()) && table.bans.len() < Self::LIMIT;
            if free && ban.id != 0 && table.ids.insert(ban.id) {
                table.last_id = table.last_id.max(ban.id);
                table.bans.insert(ban.place(), Arc::new(ban));
            }
        }
        table
    }

    /// All, by scope and address.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Ban>> {
        self.bans.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.bans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bans.is_empty()
    }

    /// The ban for exactly this prefix in exactly this scope.
    pub fn get(&self, place: Place) -> Option<&Arc<Ban>> {
        self.bans.get(&place)
    }

    /// Adds a ban, or gives the one in its place another end and reason; it goes on counting then. `None` when
    /// there is no room for another one.
    pub fn put(
        &mut self,
        place: Place,
        time: Option<Duration>,
        reason: Option<Arc<str>>,
        now: Boottime,
        made_at: u64,
    ) -> Option<Put> {
        let (scope, net) = place;
        let former = self.bans.get(&place).cloned();
        if former.is_none() && self.bans.len() >= Self::LIMIT {
            return None;
        }
        let (id, refused) = match &former {
            Some(former) => (former.id, former.refused.clone()),
            None => (self.free_id(), Arc::default()),
        };
        let until = time.map(|time| now.after(time));
        let ban = Arc::new(Ban { id, net, scope, until, reason, made_at, refused });
        self.bans.insert(place, ban.clone());
        Some(Put { ban, former })
    }

    fn free_id(&mut self) -> u32 {
        let next = |id: u32| id.checked_add(1).unwrap_or(1);
        let mut id = next(self.last_id);
        // After four thousand million bans the numbers begin again.
        while !self.ids.insert(id) {
            id = next(id);
        }
        self.last_id = id;
        id
    }

    /// Takes a ban away.
    pub fn remove(&mut self, place: Place) -> Option<Arc<Ban>> {
        let ban = self.bans.remove(&place)?;
        self.ids.remove(&ban.id);
        Some(ban)
    }

    /// Takes all away; returns how many.
    pub fn clear(&mut self) -> usize {
        let count = self.bans.len();
        self.bans.clear();
        self.ids.clear();
        count
    }

    /// Takes away those that have run out.
    pub fn expire(&mut self, now: Boottime) -> Vec<Arc<Ban>> {
        let gone: Vec<Arc<Ban>> = self.bans.values().filter(|ban| !ban.holds(now)).cloned().collect();
        for ban in &gone {
            self.remove(ban.place());
        }
        gone
    }

    /// When the next one runs out.
    pub fn next_end(&self) -> Option<Boottime> {
        self.bans.values().filter_map(|ban| ban.until).min()
    }

    /// The other bans that hold for all of these addresses there: on every service, or in this scope.
    pub fn around(&self, (scope, net): Place) -> impl Iterator<Item = &Arc<Ban>> {
        self.bans.values().filter(move |ban| {
            (ban.scope, ban.net) != (scope, net)
                && (ban.scope == scope || ban.scope == Scope::Everywhere)
                && ban.net.contains(&net)
        })
    }

    /// What the kernel is to hold.
    pub fn desired(&self, exempt: &Exempt) -> Desired {
        Desired {
            entries: entries(self.bans.values().map(|ban| &**ban), exempt),
            ids: self.bans.values().map(|ban| ban.id).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Proto;

    const NOW: Boottime = Boottime { nanoseconds: 1_000 };
    const TCP: Scope = Scope::Service { proto: Proto::Tcp, port: 80 };

    fn place(scope: Scope, net: &str) -> Place {
        (scope, net.parse().unwrap())
    }

    fn put(table: &mut BanTable, place: Place, seconds: Option<u64>) -> Put {
        table.put(place, seconds.map(Duration::from_secs), None, NOW, 7).unwrap()
    }

    #[test]
    fn a_second_ban_of_the_same_place_replaces_the_first_and_keeps_its_number() {
        let mut table = BanTable::default();
        let first = put(&mut table, place(Scope::Everywhere, "10.0.0.0/8"), Some(60));
        let other = put(&mut table, place(TCP, "10.0.0.0/8"), Some(60));
        assert!(first.former.is_none() && other.former.is_none());
        assert_ne!(first.ban.id, other.ban.id);
        let again = put(&mut table, place(Scope::Everywhere, "10.0.0.0/8"), None);
        assert_eq!((again.ban.id, again.ban.until), (first.ban.id, None));
        assert_eq!(again.former.unwrap().until, Some(NOW.after(Duration::from_secs(60))));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn what_has_run_out_goes_and_the_next_end_is_known() {
        let mut table = BanTable::default();
        for (net, seconds) in [("10.0.0.0/8", Some(2)), ("10.0.0.1/32", Some(1)), ("::1/128", None)] {
            put(&mut table, place(Scope::Everywhere, net), seconds);
        }
        let first = NOW.after(Duration::from_secs(1));
        assert_eq!(table.next_end(), Some(first));
        let gone: Vec<String> = table.expire(first).iter().map(|ban| ban.net.to_string()).collect();
        assert_eq!(gone, ["10.0.0.1/32"], "a ban ends at its end");
        assert_eq!(table.next_end(), Some(NOW.after(Duration::from_secs(2))));
        table.expire(NOW.after(Duration::from_secs(99)));
        assert_eq!((table.len(), table.next_end()), (1, None));
    }

    #[test]
    fn bans_around_a_prefix_hold_for_its_service() {
        let mut table = BanTable::default();
        for (scope, net) in [(Scope::Everywhere, "10.0.0.0/8"), (TCP, "10.1.0.0/16"), (TCP, "10.1.1.1/32")] {
            put(&mut table, place(scope, net), None);
        }
        let around = |scope, net| -> Vec<String> {
            table.around(place(scope, net)).map(|ban| ban.net.to_string()).collect()
        };
        assert_eq!(around(TCP, "10.1.1.1/32"), ["10.0.0.0/8", "10.1.0.0/16"]);
        assert_eq!(around(Scope::Everywhere, "10.1.1.1/32"), ["10.0.0.0/8"]);
        assert_eq!(around(TCP, "10.0.0.0/7"), [""; 0]);
    }

    #[test]
    fn there_is_a_limit_and_replacing_needs_no_room() {
        let mut table = BanTable::default();
        let at = |n: u32| place(Scope::Everywhere, &format!("{}/32", std::net::Ipv4Addr::from(n)));
        for n in 0..BanTable::LIMIT as u32 {
            put(&mut table, at(n), None);
        }
        assert!(table.put(at(u32::MAX), None, None, NOW, 0).is_none());
        assert!(table.put(at(5), None, None, NOW, 0).is_some());
        assert_eq!(table.clear(), BanTable::LIMIT);
        assert!(table.put(at(u32::MAX), None, None, NOW, 0).is_some());
    }

    #[test]
    fn numbers_stay_distinct_when_they_begin_again() {
        let mut table = BanTable::default();
        put(&mut table, place(Scope::Everywhere, "10.0.0.1/32"), None);
        table.last_id = u32::MAX;
        assert_eq!(put(&mut table, place(Scope::Everywhere, "10.0.0.2/32"), None).ban.id, 2);
    }
}
