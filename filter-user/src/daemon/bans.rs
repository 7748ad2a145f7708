//! The controller's runtime bans: the book, the file that it outlives a restart in, the kernel's maps and the
//! gates, which all have to say the same.
//!
//! The kernel ends bans by itself; what the controller does when one has run out is tidying up.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, atomic::Ordering},
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    control::{Fault, Reply},
    enforced::away,
};
use crate::{
    bans::{Ban, Banned, Book, Boottime, Desired, Found, Label, Place, Put, Scope, Store, format_duration},
    config::{Config, Proto, ServiceKey, ServiceKind, parse_prefix},
    kernel::{BanMaps, Count},
    policy::Origin,
    session::{Rejudged, Sessions},
};

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// The timer looks at the clock this often at least: it does not run while the machine sleeps.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Longest reason, in characters.
const LONGEST_REASON: usize = 200;

/// What `nicgate ban` asks for.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) prefix: String,
    pub(super) service: Option<String>,
    pub(super) seconds: Option<u64>,
    pub(super) reason: Option<String>,
    pub(super) yes: bool,
}

/// The bans in force.
pub(super) struct Bans {
    inner: Mutex<Inner>,
    changed: Notify,
    names: Names,
}

struct Inner {
    store: Store,
    book: Book,
    sessions: Arc<Sessions>,
    never_drop: Vec<(IpNet, Origin)>,
    services: Vec<(ServiceKey, bool)>,
    maps: Vec<(String, BanMaps)>,
    /// Set until what the kernel holds has been taken over, because the file cannot say what was in force.
    adopt: bool,
    /// What did not work the last time that it was tried.
    unsaved: Option<String>,
    missing: Vec<String>,
}

/// Finds a ban by its number, for `monitor`.
#[derive(Clone, Default)]
pub(super) struct Names(Arc<RwLock<Arc<HashMap<u32, Arc<Ban>>>>>);

/// A ban as `monitor` names it; everything is `None` when it has ended meanwhile.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Named {
    prefix: Option<String>,
    service: Option<String>,
    reason: Option<Arc<str>>,
}

impl Names {
    fn replace(&self, book: &Book) {
        let by_id = Arc::new(book.iter().map(|ban| (ban.id, ban.clone())).collect());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = by_id;
    }

    pub(super) fn find(&self, id: u32) -> Named {
        let bans = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        bans.get(&id).map_or_else(Named::default, |ban| Named {
            prefix: Some(ban.net.to_string()),
            service: ban.scope.service(),
            reason: ban.reason.clone(),
        })
    }
}

impl Bans {
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
        let names = Names::default();
        names.replace(&book);
        let inner = Inner {
            store,
            book,
            sessions,
            never_drop: Vec::new(),
            services: Vec::new(),
            maps: Vec::new(),
            adopt,
            unsaved: None,
            missing: Vec::new(),
        };
        Ok(Self { inner: Mutex::new(inner), changed: Notify::new(), names })
    }

    pub(super) fn names(&self) -> Names {
        self.names.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Whoever broke off left a book that is whole; the next change brings the rest in line with it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an interface that is attached to now has to hold; `None` for what it holds already.
    pub(super) fn desired(&self, config: &Config) -> Option<Desired> {
        let inner = self.inner();
        (!inner.adopt).then(|| inner.book.desired(&prefixes(&config.never_drop)))
    }

    /// Takes note of a configuration that is in force, and of the interfaces that are filtered now.
    pub(super) async fn configure(self: &Arc<Self>, config: Option<&Config>, maps: Vec<(String, BanMaps)>) {
        let known = config.map(|config| {
            let gate = |kind: &ServiceKind| matches!(kind, ServiceKind::Gate(_));
            let services = config.services.iter().map(|service| (service.key, gate(&service.kind)));
            (config.never_drop.clone(), services.collect())
        });
        let bans = self.clone();
        let configured = away(move || {
            let mut inner = bans.inner();
            if let Some((never_drop, services)) = known {
                (inner.never_drop, inner.services) = (never_drop, services);
            }
            inner.maps = maps;
            if std::mem::take(&mut inner.adopt) {
                inner.adopt_held();
                bans.names.replace(&inner.book);
            }
            inner.enforce();
        });
        if let Err(error) = configured.await {
            tracing::error!("the bans may not be in force on every interface: {error:#}");
        }
        self.changed.notify_one();
    }

    /// `nicgate ban`.
    pub(super) async fn ban(self: &Arc<Self>, order: Order) -> Reply {
        self.change(move |inner| inner.ban(&order)).await
    }

    /// `nicgate unban`.
    pub(super) async fn unban(
        self: &Arc<Self>,
        prefix: Option<String>,
        service: Option<String>,
        all: bool,
    ) -> Reply {
        self.change(move |inner| match (prefix, all) {
            (None, true) => inner.unban_all(),
            (Some(prefix), false) => inner.unban(&prefix, service.as_deref()),
            _ => Err("name one prefix, or all".to_owned()),
        })
        .await
    }

    /// `nicgate bans`.
    pub(super) async fn list(self: &Arc<Self>) -> Reply {
        self.change(|inner| Ok(Reply::done(inner.list()))).await
    }

    /// Their part of the status.
    pub(super) async fn status(self: &Arc<Self>) -> Value {
        let bans = self.clone();
        let status = away(move || {
            let inner = bans.inner();
            json!({
                "count": inner.book.len(),
                "limit": Book::LIMIT,
                "state": inner.store.path(),
                "not_saved": inner.unsaved,
                "not_in_force": inner.missing,
            })
        });
        status.await.unwrap_or_default()
    }

    /// Their part of the counters.
    pub(super) async fn counters(self: &Arc<Self>) -> Value {
        let bans = self.clone();
        let counted = away(move || {
            let inner = bans.inner();
            let hits = inner.hits();
            let mut sum = Count::default();
            hits.values().for_each(|count| sum += *count);
            let requests: u64 = inner.book.iter().map(|ban| ban.refused.load(Ordering::Relaxed)).sum();
            json!({"count": inner.book.len(), "packets": sum.packets, "bytes": sum.bytes, "requests": requests})
        });
        counted.await.unwrap_or_default()
    }

    async fn change(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Inner) -> Result<Reply, String> + Send + 'static,
    ) -> Reply {
        let bans = self.clone();
        let done = away(move || {
            let mut inner = bans.inner();
            let reply = work(&mut inner);
            bans.names.replace(&inner.book);
            reply
        });
        let reply = match done.await {
            Ok(Ok(reply)) => reply,
            Ok(Err(message)) => Reply::refused(Fault::Request, message),
            Err(error) => Reply::refused(Fault::System, format!("{error:#}")),
        };
        self.changed.notify_one();
        reply
    }

    /// Tidies up after bans that have run out, and tries again what failed. Never ends.
    pub(super) async fn tend(self: Arc<Self>) {
        loop {
            let bans = self.clone();
            let next = away(move || {
                let mut inner = bans.inner();
                let next = inner.tick();
                bans.names.replace(&inner.book);
                next
            });
            let next = next.await.unwrap_or(Some(RETRY));
            let changed = self.changed.notified();
            match next {
                Some(wait) => drop(tokio::time::timeout(wait.min(LONGEST_WAIT), changed).await),
                None => changed.await,
            }
        }
    }
}

impl Inner {
    /// Makes bans of what the kernel holds.
    fn adopt_held(&mut self) {
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
                    None => ids.last().map_or(1, |last| last.wrapping_add(1)),
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

    /// Brings the kernel in line with the book.
    fn enforce(&mut self) {
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
        self.enforce();
        let transfers = self.sessions.ban(Banned::new(&self.book));
        self.save();
        transfers
    }

    /// Returns when to call it again, unless something changes before.
    fn tick(&mut self) -> Option<Duration> {
        let ended = self.book.expire(Boottime::now());
        for ban in &ended {
            tracing::info!(prefix = %ban.net, service = ban.scope.service(), "a ban has run out");
        }
        if !ended.is_empty() || !self.missing.is_empty() {
            self.enforce();
        }
        if !ended.is_empty() {
            self.sessions.ban(Banned::new(&self.book));
        }
        if !ended.is_empty() || self.unsaved.is_some() {
            self.save();
        }
        let retry = (!self.missing.is_empty() || self.unsaved.is_some()).then_some(RETRY);
        let next = self.book.next_end().map(|end| end.since(Boottime::now()));
        [retry, next].into_iter().flatten().min()
    }

    fn ban(&mut self, order: &Order) -> Result<Reply, String> {
        let place = self.place(&order.prefix, order.service.as_deref())?;
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
            let mut known: Vec<String> =
                self.services.iter().map(|(key, _)| format!("{}/{}", key.port, key.proto)).collect();
            known.dedup();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            return Err(format!("no `gate` or `guard` protects {scope}; protected: {known}"));
        }
        let reason = reason(order.reason.as_deref())?;
        let time = match order.seconds {
            Some(0) => return Err("a ban for no time at all is none".to_owned()),
            seconds => seconds.map(Duration::from_secs),
        };
        let now = Boottime::now();
        let put = self.book.put(place, time, reason, now, wall().as_secs());
        let Put { ban, former } = put.ok_or_else(|| {
            format!(
                "there are {} bans, which is the limit: ban a prefix in place of its addresses, or put lasting bans \
                 into a list file (`drop ip file \"PATH\";`)",
                Book::LIMIT
            )
        })?;
        let transfers = self.settle();
        tracing::info!(
            prefix = %net, service = scope.service(), seconds = order.seconds, reason = ban.reason.as_deref(),
            replaced = former.is_some(), cut = transfers.cut, "banned"
        );
        let mut notes = self.exemptions(net);
        let longer = self.book.around(place).find(|other| match (other.until, ban.until) {
            (None, _) => true,
            (Some(other), own) => own.is_some_and(|own| other >= own),
        });
        if let Some(longer) = longer {
            notes.push(format!("it changes nothing while {} lasts", named(longer, now)));
        }
        let port = |key: &ServiceKey| match scope {
            Scope::Everywhere => true,
            Scope::Service { proto, port } => (key.proto, key.port) == (proto, port),
        };
        let gated = self.services.iter().any(|(key, gate)| *gate && key.proto == Proto::Tcp && port(key));
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
            "saved": self.unsaved.is_none(),
        });
        Ok(self.reply(result, &notes))
    }

    /// What the NIC will not drop of these addresses.
    fn exemptions(&self, net: IpNet) -> Vec<String> {
        let mut notes = Vec::new();
        for (exempt, origin) in &self.never_drop {
            let what = if exempt.contains(&net) {
                shown(net)
            } else if net.contains(exempt) {
                shown(*exempt)
            } else {
                continue;
            };
            notes.push(format!(
                "the NIC will not drop {what}: `never_drop {exempt}` ({origin}); gates refuse it"
            ));
        }
        notes
    }

    fn unban(&mut self, prefix: &str, service: Option<&str>) -> Result<Reply, String> {
        let place = self.place(prefix, service)?;
        let (scope, net) = place;
        let now = Boottime::now();
        self.book.expire(now);
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

    fn unban_all(&mut self) -> Result<Reply, String> {
        let (now, hits) = (Boottime::now(), self.hits());
        let all: Vec<Value> = self.book.iter().map(|ban| self.shown(ban, now, &hits)).collect();
        self.book.clear();
        self.settle();
        tracing::info!(bans = all.len(), "unbanned all");
        Ok(self.reply(json!({"unbanned": all}), &[]))
    }

    fn list(&mut self) -> Value {
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

    fn place(&self, prefix: &str, service: Option<&str>) -> Result<Place, String> {
        let wrong = |why: String| format!("`{}`: {why}", prefix.escape_debug());
        let (net, host_bits) = parse_prefix(prefix).map_err(|error| {
            wrong(error.help().map_or_else(|| error.to_string(), |help| format!("{error}: {help}")))
        })?;
        if host_bits {
            return Err(wrong(format!(
                "bits below the mask are set: write {net} for the whole prefix, or the address without a length"
            )));
        }
        let scope = Scope::of_service(service).map_err(|error| error.to_string())?;
        Ok((scope, net))
    }

    /// What each ban dropped on all interfaces.
    fn hits(&self) -> BTreeMap<u32, Count> {
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

fn reason(reason: Option<&str>) -> Result<Option<Arc<str>>, String> {
    let Some(reason) = reason.map(str::trim).filter(|reason| !reason.is_empty()) else { return Ok(None) };
    if reason.chars().count() > LONGEST_REASON {
        return Err(format!("a reason has {LONGEST_REASON} characters at most"));
    }
    // It is printed on terminals.
    if reason.chars().any(char::is_control) {
        return Err("a reason is one line without control characters".to_owned());
    }
    Ok(Some(reason.into()))
}

fn prefixes(never_drop: &[(IpNet, Origin)]) -> Vec<IpNet> {
    never_drop.iter().map(|(net, _)| *net).collect()
}

/// A prefix as people write it.
fn shown(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// A ban for people: `10.0.0.0/8 on every service (5m left)`.
fn named(ban: &Ban, now: Boottime) -> String {
    let left = ban
        .until
        .map_or_else(|| "for ever".to_owned(), |until| format!("{} left", format_duration(until.since(now))));
    format!("the ban of {} on {} ({left})", shown(ban.net), ban.scope)
}

/// Seconds since 1970.
fn wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
