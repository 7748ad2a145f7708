//! Keeps the table of bans, its file, the kernel's maps and the gates in line. Everything here blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    BanChange, BanCounters, BanError, BanInfo, BanList, BanNames, BanOrder, BansMade, BansStatus, Done,
    Enforcement, Unbanned,
    exemptions::Exemptions,
    order::{Checked, named, place, shown},
};
use crate::{
    bans::{Ban, BanIndex, BanTable, Boottime, Desired, Exempt, Label, Place, Put, Scope},
    kernel::{BanMaps, Count, boottime, wall_clock},
    model::{Config, Limit, ServiceKey, ServiceKind},
    session::{Rejudged, Sessions},
    state::{BanStore, Found},
};

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Wrong bans of many that a reply names.
const MOST_NOTES: usize = 10;

/// The table of bans, and all who have to agree with it.
pub struct BanController {
    store: BanStore,
    table: BanTable,
    names: BanNames,
    sessions: Arc<Sessions>,
    exemptions: Exemptions,
    /// The protected ports, and whether a gate serves them.
    services: Vec<(ServiceKey, bool)>,
    maps: Vec<(String, BanMaps)>,
    /// Set until what the kernel holds has been taken over, because the file cannot say what was in force.
    adopt: bool,
    /// What did not work the last time that it was tried.
    unsaved: Option<String>,
    missing: Vec<String>,
    retry_at: Option<Instant>,
}

impl BanController {
    /// Reads the file. The gates refuse by it from now on.
    ///
    /// # Errors
    ///
    /// Another controller has the file.
    pub(in crate::watch) fn open(
        path: &Path,
        sessions: Arc<Sessions>,
        names: BanNames,
    ) -> anyhow::Result<Self> {
        let store = BanStore::open(path)?;
        let (table, adopt) = match store.load() {
            Found::Bans(table) => (table, false),
            Found::Nothing => (BanTable::default(), true),
            Found::Damaged { why, aside } => {
                let path = path.display();
                let aside = aside.map_or_else(
                    || "it cannot be put aside, and will be overwritten".to_owned(),
                    |aside| format!("it is kept as {}", aside.display()),
                );
                tracing::error!(
                    "the bans in {path} cannot be read: {why:#}; {aside}; what the kernel enforces stays in force, \
                     bans that only a gate enforced are lost"
                );
                (BanTable::default(), true)
            }
        };
        sessions.ban(BanIndex::new(&table));
        names.replace(&table);
        Ok(Self {
            store,
            table,
            names,
            sessions,
            exemptions: Exemptions::default(),
            services: Vec::new(),
            maps: Vec::new(),
            adopt,
            unsaved: None,
            missing: Vec::new(),
            retry_at: None,
        })
    }

    /// Leaves the file to another process.
    ///
    /// # Errors
    ///
    /// It lacks something that cannot be written.
    pub(in crate::watch) fn leave(&mut self) -> anyhow::Result<()> {
        if self.unsaved.is_some() {
            self.save();
        }
        if let Some(error) = &self.unsaved {
            anyhow::bail!("bans are not saved: {error}");
        }
        self.store.unlock();
        Ok(())
    }

    /// Takes the file back that was left.
    pub(in crate::watch) fn take_back(&mut self) {
        if let Err(error) = self.store.lock() {
            tracing::error!("the file of bans is used without its lock: {error:#}");
        }
    }

    /// What an interface that is attached to now has to hold; `None` for what it holds already.
    pub(in crate::watch) fn desired(&self, config: &Config) -> Option<Desired> {
        (!self.adopt).then(|| self.table.desired(&Exempt::of(config)))
    }

    /// The same for the configuration in force.
    pub(in crate::watch) fn desired_now(&self) -> Option<Desired> {
        (!self.adopt).then(|| self.table.desired(&self.exemptions.exempt))
    }

    /// Takes note of a configuration that is in force.
    pub(in crate::watch) fn configure(&mut self, config: &Config) {
        self.exemptions = Exemptions::of(config);
        let gate = |kind: &ServiceKind| matches!(kind, ServiceKind::Gate(_));
        self.services = config.services.iter().map(|service| (service.key, gate(&service.kind))).collect();
    }

    /// Takes note of the interfaces that are filtered now, and brings them in line.
    pub(in crate::watch) fn interfaces(&mut self, maps: Vec<(String, BanMaps)>) {
        self.maps = maps;
        if std::mem::take(&mut self.adopt) {
            self.adopt_held();
        }
        self.verify();
        self.enforce();
    }

    /// Their part of the status.
    pub(in crate::watch) fn status(&self) -> BansStatus {
        BansStatus {
            count: self.table.len(),
            limit: BanTable::LIMIT,
            state: self.store.path().to_owned(),
            not_saved: self.unsaved.clone(),
            not_in_force: self.missing.clone(),
        }
    }

    /// What they have stopped.
    pub fn counters(&self) -> BanCounters {
        let mut sum = Count::default();
        self.hits().values().for_each(|count| sum += *count);
        let requests = self.table.iter().map(|ban| ban.refused.load(Ordering::Relaxed)).sum();
        BanCounters { count: self.table.len(), packets: sum.packets, bytes: sum.bytes, requests }
    }

    /// Makes bans of what the kernel holds.
    fn adopt_held(&mut self) {
        let now = boottime();
        let mut found: BTreeMap<Place, Ban> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for (interface, maps) in &self.maps {
            let held = maps.held().unwrap_or_else(|error| {
                tracing::error!(interface, "its bans cannot be taken over: {error}");
                BTreeMap::new()
            });
            for ((scope, net), label) in held {
                let Label::Ban { id, until } = label else { continue };
                let id = match found.get(&(scope, net)) {
                    Some(known) if known.until.is_none() || (until.is_some() && known.until >= until) => {
                        continue;
                    }
                    Some(known) => known.id,
                    None if ids.insert(id) => id,
                    None => (1..).find(|id| !ids.contains(id)).unwrap_or(0),
                };
                ids.insert(id);
                let reason = Some("taken over from the kernel: the file of bans was lost".into());
                let ban = Ban { id, net, scope, until, reason, made_at: 0, refused: Arc::default() };
                if ban.holds(now) {
                    found.insert((scope, net), ban);
                }
            }
        }
        if found.is_empty() {
            return;
        }
        self.table = BanTable::of(found.into_values());
        tracing::warn!(
            bans = self.table.len(),
            "took over the bans that the kernel enforces, without their reasons"
        );
        self.names.replace(&self.table);
        self.sessions.ban(BanIndex::new(&self.table));
        self.save();
    }

    /// Looks what the kernel really holds, so that what is enforced next puts it right. Returns on how many
    /// interfaces something was missing or strange.
    fn verify(&self) -> u64 {
        let mut wrong = 0;
        for (interface, maps) in &self.maps {
            match maps.verify() {
                Ok(0) => {}
                Ok(entries) => {
                    wrong += 1;
                    tracing::error!(
                        interface,
                        entries,
                        "the kernel's bans were not what they should be; putting them right"
                    );
                }
                Err(error) => tracing::error!(interface, "{error}"),
            }
        }
        wrong
    }

    /// Compares the kernel's bans with the table and puts them right; returns on how many interfaces they were
    /// not.
    pub(in crate::watch) fn audit(&mut self) -> u64 {
        let wrong = self.verify();
        if wrong > 0 {
            self.enforce();
        }
        wrong
    }

    /// Brings the kernel in line with the table.
    fn enforce(&mut self) {
        let desired = self.table.desired(&self.exemptions.exempt);
        self.missing.clear();
        for (interface, maps) in &self.maps {
            if let Err(error) = maps.sync(&desired) {
                tracing::error!(interface, "not every ban is in force, trying again soon: {error}");
                self.missing.push(format!("{interface}: {error}"));
            }
        }
        self.plan_retry();
    }

    fn save(&mut self) {
        self.unsaved = self.store.save(&self.table).err().map(|error| format!("{error:#}"));
        if let Some(error) = &self.unsaved {
            tracing::error!("bans will not outlive the controller, trying again soon: {error}");
        }
        self.plan_retry();
    }

    fn plan_retry(&mut self) {
        let failed = !self.missing.is_empty() || self.unsaved.is_some();
        self.retry_at = failed.then(|| Instant::now() + RETRY);
    }

    /// Brings everything in line with the table.
    fn settle(&mut self) -> Enforcement {
        self.names.replace(&self.table);
        self.enforce();
        let transfers = self.sessions.ban(BanIndex::new(&self.table));
        self.save();
        self.enforcement(transfers)
    }

    fn enforcement(&self, transfers: Rejudged) -> Enforcement {
        Enforcement {
            transfers,
            interfaces: self.maps.len() - self.missing.len(),
            not_in_force: self.missing.clone(),
            not_saved: self.unsaved.clone(),
        }
    }

    /// Takes away what has run out; true if there was something.
    fn expire(&mut self, now: Boottime) -> bool {
        let ended = self.table.expire(now);
        for ban in &ended {
            tracing::info!(prefix = %ban.net, service = ban.scope.service(), "a ban has run out");
        }
        !ended.is_empty()
    }

    /// Tidies up after bans that have run out, and tries again what failed. Cheap when there is nothing to do.
    pub(in crate::watch) fn tick(&mut self) {
        let now = boottime();
        let ended = self.table.next_end().is_some_and(|end| end <= now) && self.expire(now);
        if ended || self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.settle();
        }
    }

    fn check(&self, order: &BanOrder) -> Result<Checked, BanError> {
        let checked = order.check()?;
        let (scope, _) = checked.place;
        if let Scope::Service { proto, port } = scope
            && !self.services.iter().any(|(key, _)| (key.proto, key.port) == (proto, port))
        {
            let mut protected: Vec<String> = Vec::new();
            for (key, _) in &self.services {
                let service = format!("{}/{}", key.port, key.proto);
                if !protected.contains(&service) {
                    protected.push(service);
                }
            }
            return Err(BanError::NotProtected { scope, protected });
        }
        Ok(checked)
    }

    /// Makes a ban.
    ///
    /// # Errors
    ///
    /// The order makes no sense; nothing has changed.
    pub fn ban(&mut self, order: &BanOrder) -> Result<Done<BanChange>, BanError> {
        let Checked { place, time, reason } = self.check(order)?;
        let (scope, net) = place;
        let now = boottime();
        self.expire(now);
        let put = self.table.put(place, time, reason, now, wall_clock().as_secs());
        let Put { ban, former } = put.ok_or_else(|| self.full(net))?;
        if former.is_some() {
            // Asked for again: perhaps because its entry is gone.
            self.verify();
        }
        let enforcement = self.settle();
        tracing::info!(
            prefix = %net, service = scope.service(), seconds = order.seconds, reason = ban.reason.as_deref(),
            replaced = former.is_some(), cut = enforcement.transfers.cut, "banned"
        );
        let gated = self.gated(scope);
        let mut notes = self.exemptions.notes(place, gated);
        let longer = self.table.around(place).find(|other| match (other.until, ban.until) {
            (None, _) => true,
            (Some(other), own) => own.is_some_and(|own| other >= own),
        });
        if let Some(longer) = longer {
            notes.push(format!("it changes nothing while {} lasts", named(longer, now)));
        }
        notes.extend(self.nobody_enforces(gated));
        let none = BTreeMap::new();
        let result = BanChange {
            ban: self.info(&ban, now, &none),
            replaced: former.map(|former| self.info(&former, now, &none)),
            enforcement,
        };
        Ok(self.done(result, &notes))
    }

    /// There is no room for what was to be banned.
    fn full(&self, whose: impl std::fmt::Display) -> BanError {
        self.sessions.hits().hit(
            Limit::Bans,
            BanTable::LIMIT,
            whose,
            "not banned: put lasting bans into a list file",
        );
        BanError::Full
    }

    /// Makes many bans at once, or none: one change of the kernel's maps, one write of the file.
    ///
    /// # Errors
    ///
    /// One of the orders makes no sense; nothing has changed.
    pub fn ban_many(&mut self, orders: &[BanOrder]) -> Result<Done<BansMade>, BanError> {
        let checked: Vec<_> = orders.iter().map(|order| self.check(order)).collect();
        let wrong = checked.iter().filter(|checked| checked.is_err()).count();
        if wrong > 0 {
            let numbered = (1..).zip(&checked);
            let first = numbered
                .filter_map(|(number, checked)| Some(format!("ban {number}: {}", checked.as_ref().err()?)));
            let first = first.take(MOST_NOTES).collect();
            return Err(BanError::Several { wrong, all: orders.len(), first });
        }
        let now = boottime();
        self.expire(now);
        let checked: Vec<Checked> = checked.into_iter().flatten().collect();
        let places: BTreeSet<Place> = checked.iter().map(|checked| checked.place).collect();
        let new = places.iter().filter(|place| self.table.get(**place).is_none()).count();
        if self.table.len() + new > BanTable::LIMIT {
            return Err(self.full(format_args!("{new} more")));
        }
        let made_at = wall_clock().as_secs();
        for Checked { place, time, reason } in checked {
            // There is room, as was just seen.
            self.table.put(place, time, reason, now, made_at);
        }
        if new < places.len() {
            self.verify();
        }
        let enforcement = self.settle();
        tracing::info!(
            bans = places.len(),
            replaced = places.len() - new,
            cut = enforcement.transfers.cut,
            "banned many"
        );
        let gated = places.iter().any(|(scope, _)| self.gated(*scope));
        let notes: Vec<String> = self.nobody_enforces(gated).into_iter().collect();
        let result = BansMade { banned: new, replaced: places.len() - new, enforcement };
        Ok(self.done(result, &notes))
    }

    /// Whether a gate serves what a ban is about.
    fn gated(&self, scope: Scope) -> bool {
        self.services.iter().any(|(key, gate)| {
            let here = match scope {
                Scope::Everywhere => true,
                Scope::Service { proto, port } => (key.proto, key.port) == (proto, port),
            };
            *gate && here
        })
    }

    fn nobody_enforces(&self, gated: bool) -> Option<String> {
        (self.maps.is_empty() && !gated).then(|| {
            "nothing enforces it: no interface is filtered, and no gate serves such a port".to_owned()
        })
    }

    /// Takes a ban away. What is not banned at all is let in already.
    ///
    /// # Errors
    ///
    /// The order makes no sense, or other bans keep the addresses out.
    pub fn unban(&mut self, prefix: &str, service: Option<&str>) -> Result<Done<Unbanned>, BanError> {
        let place = place(prefix, service)?;
        let (scope, net) = place;
        let now = boottime();
        let ended = self.expire(now);
        let Some(ban) = self.table.remove(place) else {
            if ended {
                self.settle();
            }
            let mut message = format!("{} is not banned on {scope}", shown(net));
            let around: Vec<String> = self.table.around(place).map(|ban| named(ban, now)).collect();
            if !around.is_empty() {
                message.push_str(&format!(", but falls under {}", around.join(", ")));
            }
            let others = self
                .table
                .iter()
                .filter(|ban| ban.net == net && !self.table.around(place).any(|a| a.id == ban.id));
            let others: Vec<String> = others.map(|ban| ban.scope.to_string()).collect();
            if !others.is_empty() {
                message.push_str(&format!("; it is banned on {}: name it with --service", others.join(", ")));
            }
            return if around.is_empty() && others.is_empty() {
                Ok(self.done(Unbanned { unbanned: Vec::new() }, &[message]))
            } else {
                Err(BanError::OtherBans(message))
            };
        };
        let still: Vec<String> = self
            .table
            .around(place)
            .map(|other| format!("it is still banned: {}", named(other, now)))
            .collect();
        let unbanned = vec![self.info(&ban, now, &self.hits())];
        self.settle();
        tracing::info!(prefix = %net, service = scope.service(), "unbanned");
        Ok(self.done(Unbanned { unbanned }, &still))
    }

    /// Takes all bans away.
    pub fn unban_all(&mut self) -> Done<Unbanned> {
        let (now, hits) = (boottime(), self.hits());
        let unbanned: Vec<BanInfo> = self.table.iter().map(|ban| self.info(ban, now, &hits)).collect();
        self.table.clear();
        self.settle();
        tracing::info!(bans = unbanned.len(), "unbanned all");
        self.done(Unbanned { unbanned }, &[])
    }

    /// Every ban.
    pub fn list(&self) -> BanList {
        let (now, hits) = (boottime(), self.hits());
        let holding = self.table.iter().filter(|ban| ban.holds(now));
        BanList { bans: holding.map(|ban| self.info(ban, now, &hits)).collect(), limit: BanTable::LIMIT }
    }

    /// What was done, with what of it failed.
    fn done<T>(&self, result: T, notes: &[String]) -> Done<T> {
        let mut lines: Vec<String> = notes.iter().map(|note| format!("note: {note}")).collect();
        if let Some(error) = &self.unsaved {
            lines.push(format!(
                "warning: in force, but not saved: {error}; nicgate tries again every {RETRY:?}, and a restart before \
                 that forgets it"
            ));
        }
        for error in &self.missing {
            lines.push(format!("error: not in force on {error}; nicgate tries again every {RETRY:?}"));
        }
        Done { result, message: lines.join("\n"), in_force: self.missing.is_empty() }
    }

    /// What each ban dropped on all interfaces.
    fn hits(&self) -> BTreeMap<u32, Count> {
        let mut all: BTreeMap<u32, Count> = BTreeMap::new();
        for (interface, maps) in &self.maps {
            match maps.hits() {
                Ok(hits) => hits.into_iter().for_each(|(id, count)| *all.entry(id).or_default() += count),
                Err(error) => tracing::warn!(interface, "the bans' counters cannot be read: {error}"),
            }
        }
        all
    }

    /// A ban for programs.
    fn info(&self, ban: &Ban, now: Boottime, hits: &BTreeMap<u32, Count>) -> BanInfo {
        let count = hits.get(&ban.id).copied().unwrap_or_default();
        let left = ban.until.map(|until| until.since(now));
        BanInfo {
            prefix: ban.net.to_string(),
            service: ban.scope.service(),
            reason: ban.reason.clone(),
            made_at: (ban.made_at > 0).then_some(ban.made_at),
            expires_at: left.map(|left| (wall_clock() + left + Duration::from_millis(500)).as_secs()),
            seconds_left: left.map(|left| (left + Duration::from_millis(999)).as_secs()),
            packets: count.packets,
            bytes: count.bytes,
            requests: ban.refused.load(Ordering::Relaxed),
            never_drop: self.exemptions.never_drop(ban).map(ToString::to_string),
        }
    }
}
