//! What the controller has put on the interfaces, and what it has not managed to put there.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use super::{
    alarm::{Alarm, Code},
    monitor::Monitors,
    reload::Next,
};
use crate::{
    bans::Desired,
    config::{Config, Engine, Interface, InterfaceMode},
    kernel::{self, AttachReport, BanMaps, Filter, Layout, Mode, PublishReport},
    offload::Compiled,
};

/// What the controller has put on the interfaces. Its calls into the kernel take long for large tables, so
/// they are made on a thread of their own, which owns this value meanwhile.
pub(super) struct Enforced {
    filters: Vec<Filter>,
    compiled: Arc<Compiled>,
    engine: Engine,
    /// Changes whenever another filter joins or one leaves.
    composition: u64,
    /// Interfaces of the configuration that are not filtered.
    missing: BTreeMap<Arc<str>, Missing>,
    /// Interfaces that `nicgate detach` took the filter off; the next reload attaches to them again.
    released: BTreeSet<String>,
    /// When everything was last seen in its place.
    seen: Instant,
}

/// An interface of the configuration.
#[derive(Clone)]
pub(super) struct Wanted {
    name: Arc<str>,
    mode: InterfaceMode,
    required: bool,
}

/// Why an interface is not filtered although the configuration names it.
#[derive(Clone, Debug)]
struct Missing {
    code: Code,
    why: String,
    since: SystemTime,
    began: Instant,
    /// When the log says so again.
    remind_at: Instant,
    remind_after: Duration,
}

/// How soon the log repeats an alarm; twice as long each time, up to [`LONGEST_SILENCE`].
const FIRST_REMINDER: Duration = Duration::from_secs(60);
const LONGEST_SILENCE: Duration = Duration::from_secs(3600);

impl Missing {
    fn new(name: &str, why: String, began: Instant) -> Self {
        let code = if kernel::interface_exists(name) { Code::NotAttached } else { Code::InterfaceMissing };
        let now = Instant::now();
        Self {
            code,
            why,
            since: SystemTime::now() - now.saturating_duration_since(began),
            began,
            remind_at: now + FIRST_REMINDER,
            remind_after: FIRST_REMINDER,
        }
    }

    fn remind(&mut self, name: &str) {
        let now = Instant::now();
        if now >= self.remind_at {
            self.remind_after = (self.remind_after * 2).min(LONGEST_SILENCE);
            self.remind_at = now + self.remind_after;
            let seconds = self.began.elapsed().as_secs();
            tracing::error!(interface = name, seconds, "still not filtered: {}", self.why);
        }
    }
}

/// What an audit has found.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// Filters were put in place or let go: their bans and events have to be looked at again.
    pub(super) changed: bool,
    /// How many interfaces were put right.
    pub(super) mended: u64,
}

/// What a reload did.
pub(super) struct Change {
    /// For programs, by interface.
    pub(super) published: Value,
    /// What the operator should know.
    pub(super) notes: Vec<String>,
    pub(super) spent: Spent,
}

/// How long the kernel's side of a reload took, all interfaces together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// Writing tables.
    pub(super) write: Duration,
    /// Waiting for the last packets of the tables that were written over.
    pub(super) wait: Duration,
}

impl Spent {
    fn add(&mut self, report: &PublishReport) {
        self.write += report.write;
        self.wait += report.wait;
    }
}

impl Enforced {
    /// Attaches to every interface of the configuration, or takes over what is attached already.
    /// The bans are in force there from the first packet on; without any, those stay that are in force.
    pub(super) async fn start(
        next: &Next,
        monitors: &Monitors,
        bans: Option<Desired>,
    ) -> anyhow::Result<Self> {
        let layout = next.layout.clone();
        let wanted = wanted(&next.snapshot.config);
        let all = wanted.len();
        let Attached { mut filters, reports, failed } =
            away(move || attach_all(wanted, &layout, bans.as_ref())).await??;
        // One that does not exist is waited for. Where the system refuses every one, it is better to say so and
        // stop: the operator looks at the first start.
        let exists = |(interface, _): &(Wanted, anyhow::Error)| kernel::interface_exists(&interface.name);
        let mut failed = failed;
        if failed.len() == all
            && let Some(at) = failed.iter().position(exists)
        {
            let (interface, error) = failed.swap_remove(at);
            return Err(error.context(format!("interface {}", interface.name)));
        }
        let missing = missing_of(failed);
        for report in &reports {
            log_attached(report);
            notes_of(report).for_each(|note| tracing::warn!("{note}"));
        }
        // There are none unless the operator asked for them when the program was loaded.
        for lines in filters.iter_mut().filter_map(Filter::debug_lines) {
            tokio::spawn(lines.run());
        }
        monitors.watch(0, &filters);
        Ok(Self {
            filters,
            compiled: next.layout.compiled().clone(),
            engine: next.layout.engine(),
            composition: 0,
            missing,
            released: BTreeSet::new(),
            seen: Instant::now(),
        })
    }

    /// Puts a new table on every interface, attaches to new ones, leaves those that are gone. If any of it
    /// fails, the others get their former table back.
    ///
    /// The first value is `None` only if the thread broke off.
    pub(super) async fn change(
        self,
        next: &Next,
        monitors: &Monitors,
        bans: Option<Desired>,
    ) -> (Option<Self>, anyhow::Result<Change>) {
        let layout = next.layout.clone();
        let wanted = wanted(&next.snapshot.config);
        match away(move || self.change_here(&layout, &wanted, bans.as_ref())).await {
            Ok((enforced, result)) => {
                monitors.watch(enforced.composition, &enforced.filters);
                (Some(enforced), result)
            }
            Err(error) => (None, Err(error)),
        }
    }

    fn change_here(
        mut self,
        layout: &Layout,
        wanted: &[Wanted],
        bans: Option<&Desired>,
    ) -> (Self, anyhow::Result<Change>) {
        let engine = layout.engine();
        if let Some(filter) = self.filters.iter().find(|filter| filter.engine() != engine) {
            let error = anyhow!(
                "{} runs with the engine {}, and an engine changes only when nicgate starts: restart it to \
                 change to {engine}; what is enforced stays enforced meanwhile",
                filter.interface(),
                filter.engine()
            );
            return (self, Err(error));
        }
        let mut notes = self.look_after(wanted);
        let present: HashSet<String> = self.filters.iter().map(|f| f.interface().to_owned()).collect();
        let new = wanted.iter().filter(|wish| !present.contains(&*wish.name)).cloned().collect();
        let Attached { filters: attached, reports: attach_reports, failed: not_attached } =
            match attach_all(new, layout, bans) {
                Ok(attached) => attached,
                Err(error) => return (self, Err(error)),
            };
        let mut published = Vec::new();
        let mut spent = Spent::default();
        let keep: HashSet<&str> = wanted.iter().map(|wish| &*wish.name).collect();
        let mut failed = None;
        for (index, filter) in self.filters.iter_mut().enumerate() {
            if !keep.contains(filter.interface()) {
                continue;
            }
            match filter.publish(layout) {
                Ok(report) => {
                    notes
                        .extend(report.warnings.iter().map(|note| format!("{}: {note}", filter.interface())));
                    spent.add(&report);
                    published.push(json!({"interface": filter.interface(), "published": report}));
                }
                Err(error) => {
                    failed = Some((index, error));
                    break;
                }
            }
        }
        if let Some((index, error)) = failed {
            put_back(&mut self.filters[..index], &keep, engine, self.compiled.clone());
            take_off_new(attached, &attach_reports);
            return (self, Err(error));
        }
        for report in &attach_reports {
            log_attached(report);
            notes.extend(notes_of(report));
            spent.add(&report.published);
            published.push(json!({"interface": report.interface, "published": report.published}));
        }
        let (stay, leave): (Vec<_>, Vec<_>) =
            self.filters.into_iter().partition(|filter| keep.contains(filter.interface()));
        let leaves = !leave.is_empty();
        for filter in leave {
            let interface = filter.interface().to_owned();
            match filter.detach() {
                Ok(()) => tracing::info!(interface, "detached: the configuration no longer names it"),
                Err(error) => tracing::error!(interface, "could not detach: {error:#}"),
            }
        }
        for (interface, error) in &not_attached {
            notes.push(format!(
                "{} is NOT filtered, and is tried again every second: {error:#}",
                interface.name
            ));
        }
        let changed = leaves || !attached.is_empty();
        let filters = stay.into_iter().chain(attached).collect();
        let composition = self.composition + u64::from(changed);
        let change = Change { published: Value::Array(published), notes, spent };
        let enforced = Self {
            filters,
            compiled: layout.compiled().clone(),
            engine,
            composition,
            missing: missing_of(not_attached),
            released: BTreeSet::new(),
            seen: Instant::now(),
        };
        (enforced, Ok(change))
    }

    /// Lets go of filters that somebody took off, or whose interface was removed and perhaps made again: a
    /// table for them would be enforced by nothing. What the configuration names is attached anew.
    ///
    /// Returns what the operator should know of them, and of those in another mode than is wished for.
    fn look_after(&mut self, wanted: &[Wanted]) -> Vec<String> {
        let before = self.filters.len();
        let mut notes = Vec::new();
        self.filters.retain(|filter| {
            let interface = filter.interface();
            let Some(mode) = filter.mode() else {
                notes.push(format!(
                    "{interface}: the filter had been taken off, or the interface been removed, since the last reload"
                ));
                return false;
            };
            let wish = wanted.iter().find(|wish| *wish.name == *interface).map(|wish| wish.mode);
            if let Some(wished) = wish.and_then(fixed).filter(|wished| *wished != mode) {
                notes.push(format!(
                    "{interface}: goes on in {mode} mode although the configuration says {wished}: a change takes \
                     the filter off for a moment (`nicgate detach {interface}`, then `nicgate reload`)"
                ));
            }
            true
        });
        self.composition += u64::from(self.filters.len() != before);
        notes
    }

    /// Leaves these interfaces without a filter until the next reload: the operator takes it off.
    pub(super) fn release(&mut self, interfaces: &[String]) {
        self.released.extend(interfaces.iter().cloned());
    }

    /// Compares what is on the interfaces with what the configuration wants, and puts it right. `contents` counts
    /// the prefixes in the kernel as well.
    ///
    /// The first value is `None` only if the thread broke off.
    pub(super) async fn audit(
        self,
        wanted: Vec<Wanted>,
        monitors: &Monitors,
        bans: Option<Desired>,
        contents: bool,
    ) -> (Option<Self>, Audit) {
        let audited = away(move || {
            let mut enforced = self;
            let audit = enforced.audit_here(&wanted, bans.as_ref(), contents);
            (enforced, audit)
        });
        match audited.await {
            Ok((enforced, audit)) => {
                monitors.watch(enforced.composition, &enforced.filters);
                (Some(enforced), audit)
            }
            Err(error) => {
                tracing::error!("the audit of what is enforced broke off: {error:#}");
                (None, Audit::default())
            }
        }
    }

    fn audit_here(&mut self, wanted: &[Wanted], bans: Option<&Desired>, contents: bool) -> Audit {
        let mut audit = Audit::default();
        let last_seen = std::mem::replace(&mut self.seen, Instant::now());
        for wish in wanted {
            if self.released.contains(&*wish.name) {
                continue;
            }
            let at = self.filters.iter().position(|filter| filter.interface() == &*wish.name);
            if let Some(at) = at {
                match self.filters[at].fault() {
                    None if contents => self.mend_contents(at, &mut audit),
                    None => {}
                    Some(fault) => {
                        tracing::error!(interface = &*wish.name, "not filtered any more: {fault}");
                        self.filters.remove(at);
                        self.missing.insert(wish.name.clone(), Missing::new(&wish.name, fault, last_seen));
                        audit.changed = true;
                    }
                }
            }
            if !self.missing.contains_key(&wish.name) {
                continue;
            }
            self.attach_again(wish, bans, &mut audit);
        }
        self.composition += u64::from(audit.changed);
        audit
    }

    /// Attaches to an interface that is not filtered, if that can be done now.
    fn attach_again(&mut self, wish: &Wanted, bans: Option<&Desired>, audit: &mut Audit) {
        let Some(missing) = self.missing.get_mut(&wish.name) else { return };
        if !kernel::interface_exists(&wish.name) {
            missing.code = Code::InterfaceMissing;
            missing.remind(&wish.name);
            return;
        }
        // The tables are laid out again each time: twice the memory all the time would cost more.
        let attached = Layout::new(self.engine, self.compiled.clone())
            .map_err(Into::into)
            .and_then(|layout| Filter::attach_with(&wish.name, wish.mode, &layout, bans));
        match attached {
            Ok((filter, report)) => {
                let milliseconds = missing.began.elapsed().as_millis() as u64;
                log_attached(&report);
                notes_of(&report).for_each(|note| tracing::warn!("{note}"));
                tracing::warn!(
                    interface = &*wish.name,
                    milliseconds,
                    "filtered again; it was not: {}",
                    missing.why
                );
                self.filters.push(filter);
                self.missing.remove(&wish.name);
                audit.changed = true;
                audit.mended += 1;
            }
            Err(error) => {
                missing.code = Code::NotAttached;
                let why = format!("{error:#}");
                if missing.why != why {
                    tracing::error!(
                        interface = &*wish.name,
                        "cannot be filtered, trying again every second: {why}"
                    );
                    missing.why = why;
                }
                missing.remind(&wish.name);
            }
        }
    }

    /// Publishes the table again when the kernel has lost some of it.
    fn mend_contents(&mut self, at: usize, audit: &mut Audit) {
        let filter = &mut self.filters[at];
        let interface = filter.interface().to_owned();
        match filter.complete() {
            Ok(true) => {}
            Ok(false) => {
                tracing::error!(
                    interface,
                    "prefixes are missing from the kernel's table: publishing it again"
                );
                let published = Layout::new(self.engine, self.compiled.clone())
                    .map_err(Into::into)
                    .and_then(|layout| filter.publish(&layout));
                match published {
                    Ok(_) => audit.mended += 1,
                    Err(error) => tracing::error!(interface, "could not publish the table again: {error:#}"),
                }
            }
            Err(error) => tracing::error!(interface, "the kernel's table cannot be read: {error:#}"),
        }
    }

    /// What of the configuration is not in force.
    pub(super) fn alarms(&self) -> Vec<Alarm> {
        let missing = self.missing.iter().map(|(name, missing)| Alarm {
            code: missing.code,
            what: format!("{name} is not filtered: {}", missing.why),
            since: missing.since.into(),
            remedy: "nicgate attaches to it as soon as that can be done".to_owned(),
        });
        let released = self.released.iter().map(|name| Alarm {
            code: Code::Detached,
            what: format!("{name} is not filtered: `nicgate detach` took the filter off"),
            since: None.into(),
            remedy: "`nicgate reload` attaches to it again".to_owned(),
        });
        missing.chain(released).collect()
    }

    /// Each interface's bans.
    pub(super) fn bans(&self) -> Vec<(String, BanMaps)> {
        self.filters.iter().map(|filter| (filter.interface().to_owned(), filter.bans())).collect()
    }

    /// What is in force on each interface.
    pub(super) async fn status(self) -> (Option<Self>, Value) {
        let looked = away(move || {
            let each = self.filters.iter().map(|filter| match filter.status() {
                Ok(status) => json!(status),
                Err(error) => json!({"interface": filter.interface(), "error": format!("{error:#}")}),
            });
            let status = Value::Array(each.collect());
            (self, status)
        });
        match looked.await {
            Ok((enforced, status)) => (Some(enforced), status),
            Err(_) => (None, Value::Null),
        }
    }
}

pub(super) fn wanted(config: &Config) -> Vec<Wanted> {
    let wanted = |interface: &Interface| Wanted {
        name: interface.name.clone(),
        mode: interface.mode,
        required: interface.required,
    };
    config.interfaces.iter().map(wanted).collect()
}

fn missing_of(failed: Vec<(Wanted, anyhow::Error)>) -> BTreeMap<Arc<str>, Missing> {
    let now = Instant::now();
    let missing = failed.into_iter().map(|(wish, error)| {
        let why = format!("{error:#}");
        tracing::error!(interface = &*wish.name, "not filtered, trying again every second: {why}");
        let missing = Missing::new(&wish.name, why, now);
        (wish.name, missing)
    });
    missing.collect()
}

/// What came of attaching to several interfaces.
struct Attached {
    filters: Vec<Filter>,
    reports: Vec<AttachReport>,
    failed: Vec<(Wanted, anyhow::Error)>,
}

/// The mode that a wish leaves no choice about.
fn fixed(wish: InterfaceMode) -> Option<Mode> {
    match wish {
        InterfaceMode::Auto => None,
        InterfaceMode::Native => Some(Mode::Native),
        InterfaceMode::Generic => Some(Mode::Generic),
        InterfaceMode::Offload => Some(Mode::Offload),
    }
}

/// Attaches to each of them. If one that is required fails, nothing new stays attached.
fn attach_all(mut wanted: Vec<Wanted>, layout: &Layout, bans: Option<&Desired>) -> anyhow::Result<Attached> {
    // What can fail goes first, so that what is taken over keeps its table when it does.
    let pinned = kernel::attached()?;
    wanted.sort_by_key(|wish| pinned.iter().any(|pinned| **pinned == *wish.name));
    let (mut filters, mut reports): (Vec<Filter>, Vec<AttachReport>) = (Vec::new(), Vec::new());
    let mut failed = Vec::new();
    for wish in wanted {
        match Filter::attach_with(&wish.name, wish.mode, layout, bans) {
            Ok((filter, report)) => {
                filters.push(filter);
                reports.push(report);
            }
            Err(error) if wish.required => {
                take_off_new(filters, &reports);
                return Err(error.context(format!("interface {}, which is required", wish.name)));
            }
            Err(error) => failed.push((wish, error)),
        }
    }
    Ok(Attached { filters, reports, failed })
}

/// Gives filters their former table back.
fn put_back(filters: &mut [Filter], keep: &HashSet<&str>, engine: Engine, compiled: Arc<Compiled>) {
    let layout = match Layout::new(engine, compiled) {
        Ok(layout) => layout,
        Err(error) => return tracing::error!("the former table could not be laid out again: {error}"),
    };
    for filter in filters.iter_mut().filter(|filter| keep.contains(filter.interface())) {
        if let Err(error) = filter.publish(&layout) {
            let interface = filter.interface();
            tracing::error!(interface, "the former table could not be put back: {error:#}");
        }
    }
}

/// What was taken over goes on enforcing; what is new is taken off again.
fn take_off_new(filters: Vec<Filter>, reports: &[AttachReport]) {
    for (filter, report) in filters.into_iter().zip(reports) {
        if !report.adopted
            && let Err(error) = filter.detach()
        {
            tracing::error!("{error:#}");
        }
    }
}

fn log_attached(report: &AttachReport) {
    tracing::info!(
        interface = report.interface,
        mode = %report.mode,
        link = %report.link,
        adopted = report.adopted,
        v4_prefixes = report.published.v4_entries,
        v6_prefixes = report.published.v6_entries,
        "the filter is in force"
    );
}

fn notes_of(report: &AttachReport) -> impl Iterator<Item = String> {
    let notes = report.notes.iter().chain(&report.published.warnings);
    notes.map(|note| format!("{}: {note}", report.interface))
}

/// Runs what blocks on a thread of its own.
pub(super) async fn away<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| anyhow!(error))
        .context("a kernel thread broke off")
}
