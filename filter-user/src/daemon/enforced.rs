use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use super::{monitor::Monitors, reload::Next};
use crate::{
    bans::Desired,
    config::{Config, Engine, InterfaceMode},
    kernel::{self, AttachReport, BanMaps, Filter, Layout, Mode, PublishReport},
    offload::Compiled,
};

/// What the controller has put on the interfaces. Its calls into the kernel take long for large tables, so
/// they are made on a thread of their own, which owns this value meanwhile.
pub(super) struct Enforced {
    filters: Vec<Filter>,
    compiled: Arc<Compiled>,
    /// Changes whenever another filter joins or one leaves.
    composition: u64,
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
        let (mut filters, reports) = away(move || attach_all(wanted, &layout, bans.as_ref())).await??;
        for report in &reports {
            log_attached(report);
            notes_of(report).for_each(|note| tracing::warn!("{note}"));
        }
        // There are none unless the operator asked for them when the program was loaded.
        for lines in filters.iter_mut().filter_map(Filter::debug_lines) {
            tokio::spawn(lines.run());
        }
        monitors.watch(0, &filters);
        Ok(Self { filters, compiled: next.layout.compiled().clone(), composition: 0 })
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
        wanted: &[(Arc<str>, InterfaceMode)],
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
        let new = wanted.iter().filter(|(name, _)| !present.contains(&**name)).cloned().collect();
        let (attached, attach_reports) = match attach_all(new, layout, bans) {
            Ok(attached) => attached,
            Err(error) => return (self, Err(error)),
        };
        let mut published = Vec::new();
        let mut spent = Spent::default();
        let keep: HashSet<&str> = wanted.iter().map(|(name, _)| &**name).collect();
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
        let changed = leaves || !attached.is_empty();
        let filters = stay.into_iter().chain(attached).collect();
        let composition = self.composition + u64::from(changed);
        let change = Change { published: Value::Array(published), notes, spent };
        (Self { filters, compiled: layout.compiled().clone(), composition }, Ok(change))
    }

    /// Lets go of filters that somebody took off, or whose interface was removed and perhaps made again: a
    /// table for them would be enforced by nothing. What the configuration names is attached anew.
    ///
    /// Returns what the operator should know of them, and of those in another mode than is wished for.
    fn look_after(&mut self, wanted: &[(Arc<str>, InterfaceMode)]) -> Vec<String> {
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
            let wish = wanted.iter().find(|(name, _)| **name == *interface).map(|(_, wish)| *wish);
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

fn wanted(config: &Config) -> Vec<(Arc<str>, InterfaceMode)> {
    config.interfaces.iter().map(|interface| (interface.name.clone(), interface.mode)).collect()
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

/// Attaches to all of them or, where nothing was attached before, to none.
fn attach_all(
    mut wanted: Vec<(Arc<str>, InterfaceMode)>,
    layout: &Layout,
    bans: Option<&Desired>,
) -> anyhow::Result<(Vec<Filter>, Vec<AttachReport>)> {
    // What can fail goes first, so that what is taken over keeps its table when it does.
    let pinned = kernel::attached()?;
    wanted.sort_by_key(|(name, _)| pinned.iter().any(|pinned| **pinned == **name));
    let (mut filters, mut reports): (Vec<Filter>, Vec<AttachReport>) = (Vec::new(), Vec::new());
    for (name, mode) in wanted {
        match Filter::attach_with(&name, mode, layout, bans) {
            Ok((filter, report)) => {
                filters.push(filter);
                reports.push(report);
            }
            Err(error) => {
                take_off_new(filters, &reports);
                return Err(error.context(format!("interface {name}")));
            }
        }
    }
    Ok((filters, reports))
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
