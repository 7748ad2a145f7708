//! What has been put on the interfaces, and what could not be put there. Everything here blocks.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{Alarm, BanController, Code, Monitors, View};
use crate::{
    bans::Desired,
    kernel::{self, AttachReport, Filter, Mode, PublishReport, wall_clock},
    model::{Config, Engine, Interface, InterfaceMode},
    offload::Compiled,
    session::Sessions,
    table::Layout,
};

/// Everything that is enforced outside of the gates: the filters and the bans.
pub struct Enforced {
    filters: Vec<Filter>,
    compiled: Arc<Compiled>,
    engine: Engine,
    bans: BanController,
    monitors: Arc<Monitors>,
    /// Changes whenever another filter joins or one leaves.
    composition: u64,
    /// Interfaces of the configuration in force.
    wanted: Vec<Wanted>,
    /// Those of them that are not filtered.
    missing: BTreeMap<Arc<str>, Missing>,
    /// Interfaces that `nicgate detach` took the filter off; the next reload attaches to them again.
    released: BTreeSet<String>,
    /// When everything was last seen in its place.
    seen: Instant,
    /// How many times something was put right.
    mended: u64,
    /// The filters' interfaces, while everything is left to another process.
    left: Option<Vec<String>>,
    /// Jobs that broke off and have not succeeded since: the last message, and the seconds since 1970 of the first.
    broken: BTreeMap<&'static str, (String, u64)>,
}

/// An interface of the configuration.
#[derive(Clone)]
struct Wanted {
    name: Arc<str>,
    mode: InterfaceMode,
    required: bool,
}

/// Why an interface is not filtered although the configuration names it.
#[derive(Clone, Debug)]
struct Missing {
    code: Code,
    why: String,
    /// In seconds since 1970.
    since: u64,
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
            since: wall_clock().saturating_sub(now.saturating_duration_since(began)).as_secs(),
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

/// What a reload did.
#[derive(Clone, Debug)]
pub struct Change {
    /// What was put on each interface.
    pub published: Vec<Published>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// How long the kernel's side took.
    pub spent: Spent,
}

/// What was put on an interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Published {
    /// The interface.
    pub interface: String,
    /// The table.
    pub published: PublishReport,
}

/// How long the kernel's side of a reload took, all interfaces together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Writing tables.
    pub write: Duration,
    /// Waiting for the last packets of the tables that were written over.
    pub wait: Duration,
}

impl Spent {
    fn add(&mut self, report: &PublishReport) {
        self.write += report.write;
        self.wait += report.wait;
    }
}

impl Enforced {
    /// Reads the bans, which the gates refuse by from now on, and attaches to every interface of the configuration,
    /// or takes over what is attached already. The bans are in force there from the first packet on; without any,
    /// those stay that are in force. Their drops go to `monitors`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// Another controller has the bans, a required interface cannot be filtered, or the system refuses every one.
    pub fn begin(
        config: &Config,
        layout: &Layout,
        bans_file: &Path,
        sessions: Arc<Sessions>,
        monitors: Arc<Monitors>,
    ) -> anyhow::Result<Self> {
        let mut bans = BanController::open(bans_file, sessions, monitors.names().clone())?;
        let wanted = wanted(config);
        let Attached { mut filters, reports, mut failed } =
            attach_all(wanted.clone(), layout, bans.desired(config).as_ref())?;
        // One that does not exist is waited for. Where the system refuses every one, it is better to say so and
        // stop: the operator looks at the first start.
        let exists = |(interface, _): &(Wanted, kernel::Error)| kernel::interface_exists(&interface.name);
        if failed.len() == wanted.len()
            && let Some(at) = failed.iter().position(exists)
        {
            let (interface, error) = failed.swap_remove(at);
            return Err(anyhow::Error::new(error).context(format!("interface {}", interface.name)));
        }
        for report in &reports {
            log_attached(report);
            notes_of(report).for_each(|note| tracing::warn!("{note}"));
        }
        // There are none unless the operator asked for them when the program was loaded.
        for lines in filters.iter_mut().filter_map(Filter::debug_lines) {
            tokio::spawn(lines.run());
        }
        bans.configure(config);
        let mut enforced = Self {
            filters,
            compiled: layout.compiled().clone(),
            engine: layout.engine(),
            bans,
            monitors,
            composition: 0,
            wanted,
            missing: missing_of(reasons(failed)),
            released: BTreeSet::new(),
            seen: Instant::now(),
            mended: 0,
            left: None,
            broken: BTreeMap::new(),
        };
        enforced.hand_out_bans();
        Ok(enforced)
    }

    /// Leaves everything to another process: no interface and no file is locked any more, nothing is changed or put
    /// right from here, and what the kernel enforces stays.
    ///
    /// # Errors
    ///
    /// The bans are not on the disk, where the other process would read them; nothing was left then.
    pub fn leave(&mut self) -> anyhow::Result<()> {
        if self.left.is_some() {
            return Ok(());
        }
        self.bans.leave()?;
        self.left = Some(self.filters.drain(..).map(|filter| filter.interface().to_owned()).collect());
        self.composition += 1;
        self.hand_out_bans();
        Ok(())
    }

    /// Takes everything back that was left. What cannot be taken back now is tried again by the next audits. Must be
    /// called inside a tokio runtime.
    pub fn take_back(&mut self) {
        if self.left.take().is_none() {
            return;
        }
        self.bans.take_back();
        let wanted = self.wanted.iter().filter(|wish| !self.released.contains(&*wish.name));
        let wanted = wanted.map(|wish| Wanted { required: false, ..wish.clone() }).collect();
        let attached = Layout::new(self.engine, self.compiled.clone())
            .map_err(Into::into)
            .and_then(|layout| attach_all(wanted, &layout, self.bans.desired_now().as_ref()));
        match attached {
            Ok(Attached { filters, reports, failed }) => {
                reports.iter().for_each(log_attached);
                self.filters = filters;
                self.missing.extend(missing_of(reasons(failed)));
            }
            Err(error) => {
                tracing::error!("the filters could not be taken back, trying again every second: {error:#}");
                let why = error.to_string();
                self.missing
                    .extend(missing_of(self.wanted.iter().map(|wish| (wish.name.clone(), why.clone()))));
            }
        }
        self.seen = Instant::now();
        self.composition += 1;
        self.hand_out_bans();
    }

    /// What it leaves behind for those who look.
    pub(super) fn view(&self) -> View {
        let filtered = || self.filters.iter().map(|filter| filter.interface().to_owned()).collect();
        View {
            interfaces: self.left.clone().unwrap_or_else(filtered),
            alarms: self.alarms(),
            mended: self.mended,
            bans: self.bans.status(),
            audited: self.seen,
        }
    }

    /// Takes note of a job that succeeded, or broke off with this message.
    pub(super) fn note(&mut self, job: &'static str, panic: Option<String>) {
        match panic {
            None => drop(self.broken.remove(job)),
            Some(message) => {
                tracing::error!("the {job} broke off: {message}");
                let since = self.broken.get(job).map_or_else(|| wall_clock().as_secs(), |(_, since)| *since);
                self.broken.insert(job, (message, since));
            }
        }
    }

    /// Puts a new table on every interface, attaches to new ones, leaves those that are gone.
    ///
    /// # Errors
    ///
    /// Some of it cannot be done; all interfaces have their former table then.
    pub fn change(&mut self, config: &Config, layout: &Layout) -> kernel::Result<Change> {
        let wanted = wanted(config);
        let change = self.change_filters(&wanted, layout, self.bans.desired(config).as_ref());
        if change.is_ok() {
            self.wanted = wanted;
            self.bans.configure(config);
        }
        // Also when it failed: filters may have been let go.
        self.hand_out_bans();
        change
    }

    fn hand_out_bans(&mut self) {
        let maps = |filter: &Filter| (filter.interface().to_owned(), filter.bans());
        self.bans.interfaces(self.filters.iter().map(maps).collect());
        self.monitors.watch(self.composition, &self.filters);
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one transaction: what was begun is taken back where something fails"
    )]
    fn change_filters(
        &mut self,
        wanted: &[Wanted],
        layout: &Layout,
        bans: Option<&Desired>,
    ) -> kernel::Result<Change> {
        let engine = layout.engine();
        if let Some(filter) = self.filters.iter().find(|filter| filter.engine() != engine) {
            return Err(filter.other_engine(engine));
        }
        let mut notes = self.let_go_of_lost(wanted);
        let present: HashSet<String> = self.filters.iter().map(|f| f.interface().to_owned()).collect();
        let new = wanted.iter().filter(|wish| !present.contains(&*wish.name)).cloned().collect();
        let Attached { filters: attached, reports: attach_reports, failed: not_attached } =
            attach_all(new, layout, bans)?;
        let mut published = Vec::new();
        let mut spent = Spent::default();
        let keep: HashSet<&str> = wanted.iter().map(|wish| &*wish.name).collect();
        let mut failed = None;
        for (index, filter) in self.filters.iter_mut().enumerate() {
            if !keep.contains(filter.interface()) {
                continue;
            }
            let interface = filter.interface().to_owned();
            match filter.publish(layout) {
                Ok(report) => {
                    notes.extend(report.warnings.iter().map(|note| format!("{interface}: {note}")));
                    spent.add(&report);
                    published.push(Published { interface, published: report });
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
            return Err(error);
        }
        for report in &attach_reports {
            log_attached(report);
            notes.extend(notes_of(report));
            spent.add(&report.published);
            let interface = report.interface.clone();
            published.push(Published { interface, published: report.published.clone() });
        }
        for (interface, error) in &not_attached {
            notes.push(format!(
                "{} is NOT filtered, and is tried again every second: {error}",
                interface.name
            ));
        }
        let (stay, leave): (Vec<_>, Vec<_>) = std::mem::take(&mut self.filters)
            .into_iter()
            .partition(|filter| keep.contains(filter.interface()));
        self.composition += u64::from(!leave.is_empty() || !attached.is_empty());
        self.filters = stay.into_iter().chain(attached).collect();
        self.compiled = layout.compiled().clone();
        self.engine = engine;
        self.missing = missing_of(reasons(not_attached));
        self.released = BTreeSet::new();
        self.seen = Instant::now();
        for filter in leave {
            let interface = filter.interface().to_owned();
            match filter.detach() {
                Ok(()) => tracing::info!(interface, "detached: the configuration no longer names it"),
                Err(error) => tracing::error!(interface, "could not detach: {error}"),
            }
        }
        Ok(Change { published, notes, spent })
    }

    /// Lets go of filters that somebody took off, or whose interface was removed and perhaps made again: a
    /// table for them would be enforced by nothing. What the configuration names is attached anew.
    ///
    /// Returns what the operator should know of them, and of those in another mode than is wished for.
    fn let_go_of_lost(&mut self, wanted: &[Wanted]) -> Vec<String> {
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
            if let Some(wished) = wish.and_then(Mode::wished).filter(|wished| *wished != mode) {
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
    pub fn release(&mut self, interfaces: &[String]) {
        self.released.extend(interfaces.iter().cloned());
    }

    /// Compares what is on the interfaces with what the configuration wants, and puts it right. `contents` counts
    /// the prefixes in the kernel as well, and compares the bans there with the table.
    pub fn audit(&mut self, contents: bool) {
        if self.left.is_some() {
            return;
        }
        let mut changed = false;
        let last_seen = std::mem::replace(&mut self.seen, Instant::now());
        for wish in self.wanted.clone() {
            if self.released.contains(&*wish.name) {
                continue;
            }
            let at = self.filters.iter().position(|filter| filter.interface() == &*wish.name);
            if let Some(at) = at {
                match self.filters[at].fault() {
                    None if contents => self.mend_contents(at),
                    None => {}
                    Some(fault) => {
                        tracing::error!(interface = &*wish.name, "not filtered any more: {fault}");
                        self.filters.remove(at);
                        self.missing.insert(wish.name.clone(), Missing::new(&wish.name, fault, last_seen));
                        changed = true;
                    }
                }
            }
            if self.missing.contains_key(&wish.name) {
                changed |= self.attach_again(&wish);
            }
        }
        self.composition += u64::from(changed);
        if changed {
            self.hand_out_bans();
        }
        if contents {
            self.mended += self.bans.audit();
        }
        self.bans.tick();
    }

    /// Attaches to an interface that is not filtered, if that can be done now; true if it was.
    fn attach_again(&mut self, wish: &Wanted) -> bool {
        let Some(missing) = self.missing.get_mut(&wish.name) else { return false };
        if !kernel::interface_exists(&wish.name) {
            missing.code = Code::InterfaceMissing;
            missing.remind(&wish.name);
            return false;
        }
        // The tables are laid out again each time: twice the memory all the time would cost more.
        let attached =
            Layout::new(self.engine, self.compiled.clone()).map_err(Into::into).and_then(|layout| {
                Filter::attach_with(&wish.name, wish.mode, &layout, self.bans.desired_now().as_ref())
            });
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
                self.mended += 1;
                true
            }
            Err(error) => {
                missing.code = Code::NotAttached;
                let why = format!("{error}");
                if missing.why != why {
                    tracing::error!(
                        interface = &*wish.name,
                        "cannot be filtered, trying again every second: {why}"
                    );
                    missing.why = why;
                }
                missing.remind(&wish.name);
                false
            }
        }
    }

    /// Publishes the table again when the kernel has lost some of it.
    fn mend_contents(&mut self, at: usize) {
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
                    Ok(_) => self.mended += 1,
                    Err(error) => tracing::error!(interface, "could not publish the table again: {error}"),
                }
            }
            Err(error) => tracing::error!(interface, "the kernel's table cannot be read: {error}"),
        }
    }

    /// What is not in force, as far as is known without looking at every prefix.
    fn alarms(&self) -> Vec<Alarm> {
        let missing = self.missing.iter().map(|(name, missing)| {
            let what = format!("{name} is not filtered: {}", missing.why);
            Alarm::new(missing.code, what, "nicgate attaches to it as soon as that can be done")
                .since(missing.since)
        });
        let released = self.released.iter().map(|name| {
            let what = format!("{name} is not filtered: `nicgate detach` took the filter off");
            Alarm::new(Code::Detached, what, "`nicgate reload` attaches to it again")
        });
        let broken = self.broken.iter().map(|(job, (message, since))| {
            let what = format!("the {job} broke off ({message}): not everything may be in force");
            let remedy = "nicgate goes on and tries again; please report it, and restart nicgate if it stays";
            Alarm::new(Code::WatchBroken, what, remedy).since(*since)
        });
        let status = self.bans.status();
        let unsaved = status.not_saved.map(|error| {
            let what = format!("bans are not saved: {error}");
            Alarm::new(Code::BansNotSaved, what, "nicgate tries again every few seconds")
        });
        let not_in_force = status.not_in_force.into_iter().map(|error| {
            let what = format!("not all bans are in force on {error}");
            Alarm::new(Code::BansMissing, what, "nicgate tries again every few seconds")
        });
        missing.chain(released).chain(broken).chain(unsaved).chain(not_in_force).collect()
    }

    /// The runtime bans.
    pub fn bans(&mut self) -> &mut BanController {
        &mut self.bans
    }
}

fn wanted(config: &Config) -> Vec<Wanted> {
    let wanted = |interface: &Interface| Wanted {
        name: interface.name.clone(),
        mode: interface.mode,
        required: interface.required,
    };
    config.interfaces.iter().map(wanted).collect()
}

fn missing_of(failed: impl Iterator<Item = (Arc<str>, String)>) -> BTreeMap<Arc<str>, Missing> {
    let now = Instant::now();
    let missing = failed.map(|(name, why)| {
        tracing::error!(interface = &*name, "not filtered, trying again every second: {why}");
        let missing = Missing::new(&name, why, now);
        (name, missing)
    });
    missing.collect()
}

/// Interfaces with the reason why each is not filtered.
fn reasons(failed: Vec<(Wanted, kernel::Error)>) -> impl Iterator<Item = (Arc<str>, String)> {
    failed.into_iter().map(|(wish, error)| (wish.name, error.to_string()))
}

/// What came of attaching to several interfaces.
struct Attached {
    filters: Vec<Filter>,
    reports: Vec<AttachReport>,
    failed: Vec<(Wanted, kernel::Error)>,
}

/// Attaches to each of them. If one that is required fails, nothing new stays attached.
fn attach_all(mut wanted: Vec<Wanted>, layout: &Layout, bans: Option<&Desired>) -> kernel::Result<Attached> {
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
                return Err(error.doing(format_args!("interface {}, which is required", wish.name)));
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
            tracing::error!(interface, "the former table could not be put back: {error}");
        }
    }
}

/// What was taken over goes on enforcing; what is new is taken off again.
fn take_off_new(filters: Vec<Filter>, reports: &[AttachReport]) {
    for (filter, report) in filters.into_iter().zip(reports) {
        if !report.adopted
            && let Err(error) = filter.detach()
        {
            tracing::error!("{error}");
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
