use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ipnet::IpNet;
use serde_json::{Value, json};

use super::{
    Order,
    words::{named, place, reason, shown, wall},
};
use crate::{
    bans::{Ban, Banned, Book, Boottime, Found, Label, Place, Put, Scope, Store},
    config::ServiceKey,
    daemon::control::{Fault, Reply},
    kernel::{BanMaps, Count},
    policy::Origin,
    session::{Rejudged, Sessions},
};

/// How long to wait before what failed is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(5);
/// Lines of `never_drop` that a reply names.
const MOST_NOTES: usize = 10;

/// What has to agree: the book, its file, the kernel's maps and the gates. Everything here blocks.
pub(super) struct Ledger {
    pub(super) store: Store,
    pub(super) book: Book,
    pub(super) sessions: Arc<Sessions>,
    pub(super) never_drop: Vec<(IpNet, Origin)>,
    pub(super) services: Vec<(ServiceKey, bool)>,
    pub(super) maps: Vec<(String, BanMaps)>,
    /// Set until what the kernel holds has been taken over, because the file cannot say what was in force.
    pub(super) adopt: bool,
    /// Bans were taken away that the kernel, the gates and the file still have.
    stale: bool,
    /// What did not work the last time that it was tried.
    pub(super) unsaved: Option<String>,
    pub(super) missing: Vec<String>,
}

impl Ledger {
    /// Reads the file. The gates refuse by it from now on.
    ///
    /// # Errors
    ///
    /// Another controller has the file.
    pub(super) fn open(path: &Path, sessions: Arc<Sessions>) -> anyhow::Result<Self> {
        let store = Store::open(path)?;
        let (book, adopt) = match store.load() {
            Found::Bans(book) => (book, false),
            Found::Nothing => (Book::default(), true),
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
                (Book::default(), true)
            }
        };
        sessions.ban(Banned::new(&book));
        Ok(Self {
            store,
            book,
            sessions,
            never_drop: Vec::new(),
            services: Vec::new(),
            maps: Vec::new(),
            adopt,
            stale: false,
            unsaved: None,
            missing: Vec::new(),
        })
    }

    /// Their part of the status.
    pub(super) fn status(&self) -> Value {
        json!({
            "count": self.book.len(),
            "limit": Book::LIMIT,
            "state": self.store.path(),
            "not_saved": self.unsaved,
            "not_in_force": self.missing,
        })
    }

    /// Their part of the counters.
    pub(super) fn counters(&self) -> Value {
        let mut sum = Count::default();
        self.hits().values().for_each(|count| sum += *count);
        let requests: u64 = self.book.iter().map(|ban| ban.refused.load(Ordering::Relaxed)).sum();
        json!({"count": self.book.len(), "packets": sum.packets, "bytes": sum.bytes, "requests": requests})
    }

    /// Makes bans of what the kernel holds.
    pub(super) fn adopt_held(&mut self) {
        let now = Boottime::now();
        let mut found: BTreeMap<Place, Ban> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for (interface, maps) in &self.maps {
            let held = maps.held().unwrap_or_else(|error| {
                tracing::error!(interface, "its bans cannot be taken over: {error:#}");
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
        self.book = Book::of(found.into_values());
        tracing::warn!(
            bans = self.book.len(),
            "took over the bans that the kernel enforces, without their reasons"
        );
        self.sessions.ban(Banned::new(&self.book));
        self.save();
    }

    /// Looks what the kernel really holds, so that what is enforced next puts it right. Returns on how many
    /// interfaces something was missing or strange.
    pub(super) fn verify(&mut self) -> u64 {
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
                Err(error) => tracing::error!(interface, "{error:#}"),
            }
        }
        wrong
    }

    /// Brings the kernel in line with the book.
    pub(super) fn enforce(&mut self) {
        let desired = self.book.desired(&prefixes(&self.never_drop));
        self.missing.clear();
        for (interface, maps) in &self.maps {
            if let Err(error) = maps.sync(&desired) {
                tracing::error!(interface, "not every ban is in force, trying again soon: {error:#}");
                self.missing.push(format!("{interface}: {error:#}"));
            }
        }
    }

    fn save(&mut self) {
        self.unsaved = self.store.save(&self.book).err().map(|error| format!("{error:#}"));
        if let Some(error) = &self.unsaved {
            tracing::error!("bans will not outlive the controller, trying again soon: {error}");
        }
    }

    /// Brings everything in line with the book.
    fn settle(&mut self) -> Rejudged {
        self.stale = false;
        self.enforce();
        let transfers = self.sessions.ban(Banned::new(&self.book));
        self.save();
        transfers
    }

    /// Takes away what has run out.
    fn expire(&mut self, now: Boottime) {
        let ended = self.book.expire(now);
        for ban in &ended {
            tracing::info!(prefix = %ban.net, service = ban.scope.service(), "a ban has run out");
        }
        self.stale |= !ended.is_empty();
    }

    /// Tidies up after bans that have run out, and tries again what failed.
    ///
    /// Returns when to call it again, unless something changes before.
    pub(super) fn tick(&mut self) -> Option<Duration> {
        self.expire(Boottime::now());
        if self.stale {
            self.settle();
        }
        if !self.missing.is_empty() {
            self.enforce();
        }
        if self.unsaved.is_some() {
            self.save();
        }
        let retry = (!self.missing.is_empty() || self.unsaved.is_some()).then_some(RETRY);
        let next = self.book.next_end().map(|end| end.since(Boottime::now()));
        [retry, next].into_iter().flatten().min()
    }

    pub(super) fn ban(&mut self, order: &Order) -> Result<Reply, String> {
        let place = place(&order.prefix, order.service.as_deref())?;
        let (scope, net) = place;
        if net.prefix_len() == 0 && !order.yes {
            let family = if net.addr().is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(format!(
                "{net} is every {family} address, perhaps your own, too: say --yes if you mean it"
            ));
        }
        if let Scope::Service { proto, port } = scope
            && !self.services.iter().any(|(key, _)| (key.proto, key.port) == (proto, port))
        {
            let mut known: Vec<String> = Vec::new();
            for (key, _) in &self.services {
                let service = format!("{}/{}", key.port, key.proto);
                if !known.contains(&service) {
                    known.push(service);
                }
            }
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            return Err(format!("no `gate` or `guard` protects {scope}; protected: {known}"));
        }
        let reason = reason(order.reason.as_deref())?;
        let time = match order.seconds {
            Some(0) => return Err("a ban for no time at all is none".to_owned()),
            seconds => seconds.map(Duration::from_secs),
        };
        let now = Boottime::now();
        self.expire(now);
        let put = self.book.put(place, time, reason, now, wall().as_secs());
        let Put { ban, former } = put.ok_or_else(|| {
            format!(
                "there are {} bans, which is the limit: ban a prefix in place of its addresses, or put lasting bans \
                 into a list file (`drop ip file \"PATH\";`)",
                Book::LIMIT
            )
        })?;
        if former.is_some() {
            // Asked for again: perhaps because its entry is gone.
            self.verify();
        }
        let transfers = self.settle();
        tracing::info!(
            prefix = %net, service = scope.service(), seconds = order.seconds, reason = ban.reason.as_deref(),
            replaced = former.is_some(), cut = transfers.cut, "banned"
        );
        let gated = self.services.iter().any(|(key, gate)| {
            let here = match scope {
                Scope::Everywhere => true,
                Scope::Service { proto, port } => (key.proto, key.port) == (proto, port),
            };
            *gate && here
        });
        let mut notes = self.exemptions(net, gated);
        let longer = self.book.around(place).find(|other| match (other.until, ban.until) {
            (None, _) => true,
            (Some(other), own) => own.is_some_and(|own| other >= own),
        });
        if let Some(longer) = longer {
            notes.push(format!("it changes nothing while {} lasts", named(longer, now)));
        }
        if self.maps.is_empty() && !gated {
            notes.push(
                "nothing enforces it: no interface is filtered, and no gate serves such a port".to_owned(),
            );
        }
        let result = json!({
            "ban": self.shown(&ban, now, &BTreeMap::new()),
            "replaced": former.map(|former| self.shown(&former, now, &BTreeMap::new())),
            "transfers": transfers,
            "interfaces": self.maps.len() - self.missing.len(),
            "not_in_force": self.missing,
            "not_saved": self.unsaved,
        });
        Ok(self.reply(result, &notes))
    }

    /// What the NIC will not drop of these addresses.
    fn exemptions(&self, net: IpNet, gated: bool) -> Vec<String> {
        let who =
            if gated { "gates refuse it" } else { "no gate serves such a port, so that nobody refuses it" };
        let touching =
            self.never_drop.iter().filter(|(exempt, _)| exempt.contains(&net) || net.contains(exempt));
        let mut notes: Vec<String> = touching
            .map(|(exempt, origin)| {
                let what = shown(if exempt.contains(&net) { net } else { *exempt });
                format!("the NIC will not drop {what}: `never_drop {exempt}` ({origin}); {who}")
            })
            .collect();
        if notes.len() > MOST_NOTES {
            let more = notes.split_off(MOST_NOTES).len();
            notes.push(format!("{more} more lines of `never_drop` lie in this prefix"));
        }
        notes
    }

    pub(super) fn unban(&mut self, prefix: &str, service: Option<&str>) -> Result<Reply, String> {
        let place = place(prefix, service)?;
        let (scope, net) = place;
        let now = Boottime::now();
        self.expire(now);
        let Some(ban) = self.book.remove(place) else {
            let mut message = format!("{} is not banned on {scope}", shown(net));
            let around: Vec<String> = self.book.around(place).map(|ban| named(ban, now)).collect();
            if !around.is_empty() {
                message.push_str(&format!(", but falls under {}", around.join(", ")));
            }
            let others = self
                .book
                .iter()
                .filter(|ban| ban.net == net && !self.book.around(place).any(|a| a.id == ban.id));
            let others: Vec<String> = others.map(|ban| ban.scope.to_string()).collect();
            if !others.is_empty() {
                message.push_str(&format!("; it is banned on {}: name it with --service", others.join(", ")));
            }
            return Err(message);
        };
        let still: Vec<String> = self
            .book
            .around(place)
            .map(|other| format!("it is still banned: {}", named(other, now)))
            .collect();
        let hits = self.hits();
        let result = json!({"unbanned": [self.shown(&ban, now, &hits)]});
        self.settle();
        tracing::info!(prefix = %net, service = scope.service(), "unbanned");
        Ok(self.reply(result, &still))
    }

    pub(super) fn unban_all(&mut self) -> Result<Reply, String> {
        let (now, hits) = (Boottime::now(), self.hits());
        let all: Vec<Value> = self.book.iter().map(|ban| self.shown(ban, now, &hits)).collect();
        self.book.clear();
        self.settle();
        tracing::info!(bans = all.len(), "unbanned all");
        Ok(self.reply(json!({"unbanned": all}), &[]))
    }

    pub(super) fn list(&self) -> Value {
        let (now, hits) = (Boottime::now(), self.hits());
        let holding = self.book.iter().filter(|ban| ban.holds(now));
        let bans: Vec<Value> = holding.map(|ban| self.shown(ban, now, &hits)).collect();
        json!({"bans": bans, "limit": Book::LIMIT})
    }

    /// A reply to what was done, which says what of it failed.
    fn reply(&self, result: Value, notes: &[String]) -> Reply {
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
        let fault = (!self.missing.is_empty()).then_some(Fault::System);
        Reply { ok: fault.is_none(), message: lines.join("\n"), result, fault }
    }

    /// What each ban dropped on all interfaces.
    pub(super) fn hits(&self) -> BTreeMap<u32, Count> {
        let mut all: BTreeMap<u32, Count> = BTreeMap::new();
        for (interface, maps) in &self.maps {
            match maps.hits() {
                Ok(hits) => hits.into_iter().for_each(|(id, count)| *all.entry(id).or_default() += count),
                Err(error) => tracing::warn!(interface, "the bans' counters cannot be read: {error:#}"),
            }
        }
        all
    }

    /// A ban for programs.
    fn shown(&self, ban: &Ban, now: Boottime, hits: &BTreeMap<u32, Count>) -> Value {
        let count = hits.get(&ban.id).copied().unwrap_or_default();
        let left = ban.until.map(|until| until.since(now));
        let never_drop = self.never_drop.iter().filter(|(exempt, _)| exempt.contains(&ban.net));
        json!({
            "prefix": ban.net.to_string(),
            "service": ban.scope.service(),
            "reason": ban.reason,
            "made_at": (ban.made_at > 0).then_some(ban.made_at),
            "expires_at": left.map(|left| (wall() + left + Duration::from_millis(500)).as_secs()),
            "seconds_left": left.map(|left| (left + Duration::from_millis(999)).as_secs()),
            "packets": count.packets,
            "bytes": count.bytes,
            "requests": ban.refused.load(Ordering::Relaxed),
            "never_drop": never_drop.map(|(_, origin)| origin.to_string()).next(),
        })
    }
}

/// The exempt prefixes without their places.
pub(super) fn prefixes(never_drop: &[(IpNet, Origin)]) -> Vec<IpNet> {
    never_drop.iter().map(|(net, _)| *net).collect()
}
