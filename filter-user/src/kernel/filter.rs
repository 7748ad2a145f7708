//! The filter on one interface.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use aya::{
    TestRunOptions,
    maps::{IterableMap, MapData},
    programs::{ProgramInfo, TestRun, loaded_programs},
};
use filter_ebpf::layout::{self, Figures, Lookups, flags};
use serde::{Deserialize, Serialize};

use super::{
    addresses::{Addresses, Layout},
    bans::BanMaps,
    bpffs::Bpffs,
    debug::DebugLines,
    events::Events,
    installed,
    lines::Lines,
    link::{self, Device, LinkKind, Mode},
    object::Loaded,
    pins::Pins,
    publish::{self, PublishReport},
    state::MappedState,
    stats::{self, Stats},
    status::{Entries, Status},
    sys,
    tables::{Tables, Tries},
};
use crate::{
    bans::Desired,
    model::{Engine, InterfaceMode},
    offload::Compiled,
};

/// Lines are added in steps, and a table may grow by an eighth before its program is replaced by one with
/// more: loading one costs more than publishing a small table.
const STEP: usize = 128;

/// The filter on one interface. What it enforces goes on when this value is dropped and when the process dies;
/// only [`Filter::detach`] ends it.
pub struct Filter {
    device: Device,
    pins: Pins,
    tables: Tables,
    /// Held by the one controller of the interface; readers have none.
    _lock: Option<File>,
    debug: Option<DebugLines>,
}

/// What is to be attached.
#[derive(Clone, Copy)]
struct Order<'a> {
    mode: InterfaceMode,
    layout: &'a Layout,
    bans: Option<&'a Desired>,
}

/// How an interface came to be filtered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttachReport {
    /// The interface.
    pub interface: String,
    /// The filter was in force already and was taken over without a gap.
    pub adopted: bool,
    /// The mode in force.
    pub mode: Mode,
    /// What holds the program in place.
    pub link: LinkKind,
    /// The first table.
    pub published: PublishReport,
    /// Where the next best thing was taken, and why.
    pub notes: Vec<String>,
}

impl Filter {
    /// Loads the program, fills its first table, and only then attaches it; or takes over what is already
    /// attached and pinned, without a gap.
    ///
    /// # Errors
    ///
    /// No such interface, missing privileges, another program on the interface, a table that is too large, or
    /// whatever the kernel refuses. What was enforced before still is.
    pub fn attach(interface: &str, mode: InterfaceMode, layout: &Layout) -> Result<(Self, AttachReport)> {
        Self::attach_in(&Bpffs::default(), interface, mode, layout)
    }

    /// [`Self::attach`], with these bans in force from the first packet on. Without any the pinned ones stay.
    ///
    /// # Errors
    ///
    /// As [`Self::attach`].
    pub fn attach_with(
        interface: &str,
        mode: InterfaceMode,
        layout: &Layout,
        bans: Option<&Desired>,
    ) -> Result<(Self, AttachReport)> {
        Self::attach_order(&Bpffs::default(), interface, &Order { mode, layout, bans })
    }

    /// [`Self::attach`] with pins elsewhere.
    ///
    /// # Errors
    ///
    /// As [`Self::attach`].
    pub fn attach_in(
        bpffs: &Bpffs,
        interface: &str,
        mode: InterfaceMode,
        layout: &Layout,
    ) -> Result<(Self, AttachReport)> {
        Self::attach_order(bpffs, interface, &Order { mode, layout, bans: None })
    }

    fn attach_order(bpffs: &Bpffs, interface: &str, order: &Order<'_>) -> Result<(Self, AttachReport)> {
        let layout = order.layout;
        let device = Device::named(interface)?;
        device.speaks_ethernet()?;
        bpffs.mount()?;
        let pins = Pins::new(bpffs, interface);
        let fresh = !pins.exist();
        pins.create(layout.engine())?;
        let lock = pins.lock()?;
        let result = Present::find(&device, &pins)
            .and_then(|present| Self::attach_locked(device, &pins, lock, present, order));
        if result.is_err() && fresh {
            // Nothing was attached; leave nothing behind.
            let _ = pins.remove();
        }
        result
    }

    fn attach_locked(
        device: Device,
        pins: &Pins,
        lock: File,
        present: Present,
        order: &Order<'_>,
    ) -> Result<(Self, AttachReport)> {
        let begin = Instant::now();
        let Order { mode: wish, layout, bans } = *order;
        let Layout { compiled, addresses } = layout;
        let engine = layout.engine();
        let (mut loaded, mut tables) = load(&device, pins, engine, room_for(addresses.lines()))?;
        // Tables that are pinned already hold bans, and a program may judge by them.
        let banned = bans.map_or(Ok(()), |bans| tables.bans.sync(bans));
        let program = present.program_info()?;
        let mut present = Some(present);
        // A program of the same tables reads other lines than the new one. Both hold the live generation, so
        // that the new program takes over first, and the table changes for it alone.
        let same = match &program {
            Some(program) => program.map_ids()?.is_some_and(|maps| maps.contains(&tables.state_id)),
            None => false,
        };
        let early = match present.take_if(|_| same) {
            Some(present) => Some(put(&mut loaded, &device, pins, present, wish)?),
            None => None,
        };
        let published = publish::publish(&mut tables, compiled, addresses, begin)?;

        let mut notes = Vec::new();
        if let Err(error) = banned {
            notes.push(format!("the filter is in force, but not every ban is: {error:#}"));
        }
        if !loaded.frags {
            notes.push(
                "this kernel is older than 5.18: drivers refuse the filter while jumbo frames or LRO are on"
                    .to_owned(),
            );
        }
        let adopted = program.is_some();
        let placed = match (early, present) {
            (Some(placed), _) => placed,
            (None, present) => put(&mut loaded, &device, pins, present.unwrap_or(Present::Nothing), wish)?,
        };
        let Placed { link, mode, notes: more } = placed;
        notes.extend(more);
        if adopted && let Some(note) = other_mode(&device, wish, mode) {
            notes.push(note);
        }
        if let Err(error) = settle(pins, engine, loaded.program()?) {
            notes.push(format!("the filter is in force, but its pins are not all in order: {error:#}"));
        }
        let report = AttachReport { interface: device.name.clone(), adopted, mode, link, published, notes };
        let debug = if loaded.debug { Some(DebugLines::new(&mut loaded.object)?) } else { None };
        Ok((Self { device, pins: pins.clone(), tables, _lock: Some(lock), debug }, report))
    }

    /// Opens what is pinned, to look at it. No controller need run.
    ///
    /// # Errors
    ///
    /// Nothing is attached to the interface, or another version of nicgate attached it.
    pub fn open(interface: &str) -> Result<Self> {
        Self::open_in(&Bpffs::default(), interface)
    }

    /// [`Self::open`] with pins elsewhere.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_in(bpffs: &Bpffs, interface: &str) -> Result<Self> {
        let device = Device::named(interface)?;
        let pins = Pins::new(bpffs, interface);
        if !pins.exist() {
            bail!("nicgate is not attached to {interface}");
        }
        let present = [Engine::Flat, Engine::Lpm].into_iter().filter(|engine| pins.maps(*engine).is_dir());
        let mut found = None;
        for engine in present {
            let lines = Lines::from_pin(&pins.maps(engine).join(layout::map::LINES))?;
            let tables = Tables::from_pins(&pins.maps(engine), lines, engine)?;
            let filter =
                Self { device: device.clone(), pins: pins.clone(), tables, _lock: None, debug: None };
            // An upgrade that was cut short leaves tables that nothing judges by.
            if filter
                .program()?
                .and_then(|program| program.map_ids().ok().flatten())
                .is_none_or(|maps| maps.contains(&filter.tables.state_id))
            {
                return Ok(filter);
            }
            found = Some(engine);
        }
        match found {
            Some(_) => {
                bail!("the filter on {interface} runs with other tables than this version's: attach again")
            }
            None => bail!(
                "the filter on {interface} was attached by another version of nicgate: use that version's command, or attach again"
            ),
        }
    }

    /// How the program looks up addresses.
    pub fn engine(&self) -> Engine {
        self.tables.engine
    }

    /// The program on the interface, if it is ours.
    fn program(&self) -> Result<Option<ProgramInfo>> {
        match Present::find(&self.device, &self.pins) {
            Ok(present) => present.program_info(),
            Err(_) => Ok(None),
        }
    }

    /// The interface.
    pub fn interface(&self) -> &str {
        &self.device.name
    }

    /// Puts another table into force, all of it at once.
    ///
    /// # Errors
    ///
    /// It is laid out for another engine, or the kernel refuses something: the table before is still in force,
    /// complete.
    pub fn publish(&mut self, layout: &Layout) -> Result<PublishReport> {
        let begin = Instant::now();
        let Layout { compiled, addresses } = layout;
        if layout.engine() != self.tables.engine {
            bail!(
                "{} runs with the engine {}, and the table is laid out for {}",
                self.device.name,
                self.tables.engine,
                layout.engine()
            );
        }
        let room = room_for(addresses.lines());
        let result = if addresses.lines() > self.tables.lines.room() { self.grow(room) } else { Ok(()) };
        result
            .and_then(|()| publish::publish(&mut self.tables, compiled, addresses, begin))
            .with_context(|| format!("interface {}", self.device.name))
    }

    /// Replaces the program by one with more lines, which judges like the one before.
    fn grow(&mut self, room: usize) -> Result<()> {
        let engine = self.tables.engine;
        let (mut loaded, mut tables) = load(&self.device, &self.pins, engine, room)
            .context("could not make room for the next table; the one before is still in force")?;
        let present = Present::find(&self.device, &self.pins)?;
        if matches!(present, Present::Nothing) {
            bail!("the filter was taken off by something else: restart nicgate to attach it again");
        }
        put(&mut loaded, &self.device, &self.pins, present, InterfaceMode::Auto)?;
        // The maps of bans are the same, and whoever holds them knows what is in them.
        tables.bans = self.tables.bans.clone();
        self.tables = tables;
        settle(&self.pins, engine, loaded.program()?)
    }

    /// The counters.
    ///
    /// # Errors
    ///
    /// The kernel refuses to show them.
    pub fn stats(&self) -> Result<Stats> {
        stats::read(&self.tables)
    }

    /// The mode in force; `None` when the program is not on the interface any more, or the interface is gone.
    pub fn mode(&self) -> Option<Mode> {
        match Present::find(&self.device, &self.pins) {
            Ok(Present::Link(_, mode) | Present::Netlink(_, mode)) => Some(mode),
            Ok(Present::Nothing) | Err(_) => None,
        }
    }

    /// Looks whether the filter is where it was attached: what is wrong, or `None`. Cheap: one question to the
    /// kernel, and the names of the pins.
    pub fn fault(&self) -> Option<String> {
        let now = match Device::named(&self.device.name) {
            Err(_) => return Some("the interface is gone".to_owned()),
            Ok(now) => now,
        };
        if now.index != self.device.index {
            return Some("the interface was made again".to_owned());
        }
        match Present::find(&self.device, &self.pins) {
            Err(error) => return Some(format!("{error:#}")),
            Ok(Present::Nothing) => return Some("the filter was taken off".to_owned()),
            Ok(Present::Link(..) | Present::Netlink(..)) => {}
        }
        let pinned = self.pins.program().exists() && self.pins.maps(self.tables.engine).is_dir();
        (!pinned).then(|| "the pins were removed".to_owned())
    }

    /// Whether the live table is whole in the kernel. Counts every prefix: about a second for a million.
    ///
    /// # Errors
    ///
    /// The kernel refuses to show it.
    pub fn complete(&self) -> Result<bool> {
        let status = table_status(&self.tables, &self.device.name)?;
        Ok(status.v4.complete() && status.v6.complete())
    }

    /// What is in force. Counts every prefix in the kernel's maps: about a second for a million.
    ///
    /// # Errors
    ///
    /// The kernel refuses to show it.
    pub fn status(&self) -> Result<Status> {
        let mut status = table_status(&self.tables, &self.device.name)?;
        status.pins = Some(self.pins.dir().to_owned());
        match Present::find(&self.device, &self.pins) {
            Ok(Present::Link(link, mode)) => {
                status.program = Some(link.info()?.program_id());
                (status.mode, status.link) = (Some(mode), Some(LinkKind::BpfLink));
            }
            Ok(Present::Netlink(program, mode)) => {
                status.program = Some(program.id());
                (status.mode, status.link) = (Some(mode), Some(LinkKind::Netlink));
            }
            // Not attached (any more): the tables alone filter nothing, and the status says so.
            Ok(Present::Nothing) | Err(_) => {}
        }
        Ok(status)
    }

    /// Reports one drop in `one_in`; 0 reports none.
    pub fn set_sampling(&self, one_in: u32) {
        self.tables.state.set_sampling(one_in);
    }

    /// Sets the sampling from elsewhere than where the filter is.
    pub fn sampler(&self) -> Sampler {
        Sampler(self.tables.state.clone())
    }

    /// The runtime bans, to be changed from elsewhere than where the filter is.
    pub fn bans(&self) -> BanMaps {
        self.tables.bans.clone()
    }

    /// Sampled drops. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// The kernel refuses to show them.
    pub fn events(&self) -> Result<Events> {
        events(&self.tables)
    }

    /// The program's own debug lines, if they were asked for when it was loaded; once.
    pub fn debug_lines(&mut self) -> Option<DebugLines> {
        self.debug.take()
    }

    /// Takes the filter off and removes everything that was pinned.
    ///
    /// # Errors
    ///
    /// What could not be removed; the filter may still be in force.
    pub fn detach(self) -> Result<()> {
        remove(&self.device, &self.pins)
    }
}

/// Says how many drops of an interface are reported.
pub struct Sampler(Arc<MappedState>);

impl Sampler {
    /// Reports one drop in `one_in`; 0 reports none.
    pub fn set_sampling(&self, one_in: u32) {
        self.0.set_sampling(one_in);
    }
}

fn events(tables: &Tables) -> Result<Events> {
    let ring = MapData::from_id(tables.events).context("could not open the events")?;
    let rules = MapData::from_id(tables.rules.map().info()?.id())?;
    Events::new(ring, rules)
}

/// How many entries a generation really has, for IPv4 and IPv6.
fn installed(tables: &Tables, generation: u32, table: &Figures) -> Result<(usize, usize)> {
    match tables.engine {
        Engine::Lpm => {
            let Tries { v4, v6 } = tables.tries(generation)?;
            Ok((v4.map_or(Ok(0), |trie| trie.count())?, v6.map_or(Ok(0), |trie| trie.count())?))
        }
        Engine::Flat => {
            let lines = tables.lines.read_all(generation);
            // What leads nowhere counts for nothing: the difference to what should be there is an alarm.
            let v4 = installed::installed_v4(&lines, &table.roots[0]).unwrap_or(0);
            Ok((v4, installed::installed_v6(&lines, &table.roots[1]).unwrap_or(0)))
        }
    }
}

/// How often a table is read again that is switched while it is read.
const READS: u32 = 4;

fn table_status(tables: &Tables, interface: &str) -> Result<Status> {
    let mut reads = 0;
    loop {
        reads += 1;
        let status = table_status_once(tables, interface)?;
        // A table that is not live any more may be written over by the next one.
        if status.generation == tables.state.live() || reads == READS {
            return Ok(status);
        }
    }
}

fn table_status_once(tables: &Tables, interface: &str) -> Result<Status> {
    let live = tables.live();
    let (generation, table) = live.unwrap_or_default();
    let (v4, v6) = if live.is_some() {
        installed(tables, layout::generation_index(generation), &table)?
    } else {
        (0, 0)
    };
    Ok(Status {
        interface: interface.to_owned(),
        mode: None,
        link: None,
        program: None,
        pins: None,
        generation,
        published: table.published,
        shadow: table.flags & flags::SHADOW != 0,
        services: tables.live_services()?.len(),
        rules: tables.live_rules()?.len(),
        v4: Entries { desired: table.v4_entries as usize, installed: v4 },
        v6: Entries { desired: table.v6_entries as usize, installed: v6 },
        bans: tables.bans.entries()?,
        sampling: tables.state.sampling(),
    })
}

/// Interfaces that nicgate filters, from the pins, whether or not a controller runs.
///
/// # Errors
///
/// The pins cannot be looked at: they are for root alone.
pub fn attached() -> Result<Vec<String>> {
    Pins::interfaces(&Bpffs::default())
}

/// Whether there is an interface of this name in this network namespace.
pub fn interface_exists(name: &str) -> bool {
    Device::named(name).is_ok()
}

/// Takes the filter off an interface, whichever version attached it, and also when the interface itself is
/// gone and only pins are left.
///
/// # Errors
///
/// Nothing is attached, or something could not be removed.
pub fn detach(bpffs: &Bpffs, interface: &str) -> Result<()> {
    let pins = Pins::new(bpffs, interface);
    if !pins.exist() {
        bail!("nicgate is not attached to {interface}");
    }
    match Device::named(interface) {
        Ok(device) => remove(&device, &pins),
        Err(_) => pins.remove().with_context(|| format!("could not remove {}", pins.dir().display())),
    }
}

fn remove(device: &Device, pins: &Pins) -> Result<()> {
    match Present::find(device, pins) {
        Ok(Present::Netlink(program, mode)) => {
            let program = program.fd()?;
            link::replace_by_netlink(device, None, program.as_fd(), mode)?;
        }
        Ok(Present::Link(..)) => {
            sys::detach_link(&pins.link())
                .with_context(|| format!("could not detach the filter from {}", device.name))?;
        }
        // Somebody else's program, or none: only pins are left to be removed.
        Ok(Present::Nothing) | Err(_) => {}
    }
    pins.remove().with_context(|| format!("could not remove {}", pins.dir().display()))
}

/// What is on an interface before anything is done.
enum Present {
    /// Neither a program nor a living link.
    Nothing,
    /// Ours, by its link.
    Link(aya::programs::links::FdLink, Mode),
    /// Ours, without a link.
    Netlink(Box<ProgramInfo>, Mode),
}

impl Present {
    /// The program; `None` if there is none.
    fn program_info(&self) -> Result<Option<ProgramInfo>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Link(link, _) => {
                let id = link.info()?.program_id();
                Ok(loaded_programs().flatten().find(|program| program.id() == id))
            }
            Self::Netlink(program, _) => {
                let id = program.id();
                Ok(loaded_programs().flatten().find(|program| program.id() == id))
            }
        }
    }

    /// An error if there is another program than ours.
    fn find(device: &Device, pins: &Pins) -> Result<Self> {
        let attached = device.attached()?;
        let link = link::pinned(&pins.link())?;
        let Some((program, mode)) = attached else { return Ok(Self::Nothing) };
        if let Some((link, linked)) = link
            && linked == program
        {
            return Ok(Self::Link(link, mode));
        }
        if let Ok(pinned) = ProgramInfo::from_pin(pins.program())
            && pinned.id() == program
        {
            return Ok(Self::Netlink(Box::new(pinned), mode));
        }
        Err(device.taken(program))
    }
}

/// A link keeps its mode; changing it means a moment without a filter, which is the operator's choice.
fn other_mode(device: &Device, wish: InterfaceMode, mode: Mode) -> Option<String> {
    let wished = match wish {
        InterfaceMode::Auto => return None,
        InterfaceMode::Native => Mode::Native,
        InterfaceMode::Generic => Mode::Generic,
        InterfaceMode::Offload => Mode::Offload,
    };
    (wished != mode).then(|| {
        format!(
            "{} goes on in {mode} mode although the configuration says {wished}: a change takes the filter off \
             for a moment (`nicgate detach {}`, then attach again)",
            device.name, device.name
        )
    })
}

/// Loads the program with the pinned tables and new lines, into which the live generation is copied before they
/// are pinned.
fn load(device: &Device, pins: &Pins, engine: Engine, room: usize) -> Result<(Loaded, Tables)> {
    let pin = pins.maps(engine).join(layout::map::LINES);
    let old = if pin.exists() { Some(Lines::from_pin(&pin)?) } else { None };
    let mut loaded = Loaded::new(Some(pins), engine, room.max(old.as_ref().map_or(0, Lines::used)))?;
    let lines = loaded.lines()?;
    let mut tables = Tables::from_pins(&pins.maps(engine), lines, engine).with_context(|| {
        format!(
            "the pinned tables of {} are of another build and still in force: `nicgate detach {}` removes them",
            device.name, device.name
        )
    })?;
    if let Some((serial, _)) = tables.live()
        && let Some(old) = &old
    {
        tables.lines.take_over(old, layout::generation_index(serial))?;
    }
    tables.lines.pin(&pin)?;
    Ok((loaded, tables))
}

/// Lines for a table of so many, and for one that is somewhat larger.
fn room_for(lines: usize) -> usize {
    (lines + lines / 8).next_multiple_of(STEP).max(STEP)
}

/// A program that is in place.
struct Placed {
    link: LinkKind,
    mode: Mode,
    notes: Vec<String>,
}

/// Attaches a program, or puts it in place of the one that is there.
fn put(
    loaded: &mut Loaded,
    device: &Device,
    pins: &Pins,
    present: Present,
    wish: InterfaceMode,
) -> Result<Placed> {
    let program = loaded.program()?;
    match present {
        Present::Nothing => {
            // Of an interface that is gone: such a link holds nothing in place.
            if pins.link().exists() {
                fs::remove_file(pins.link())?;
            }
            let new = link::attach(program, device, wish, &pins.link())?;
            Ok(Placed { link: new.kind, mode: new.mode, notes: new.notes })
        }
        Present::Link(link, mode) => {
            link::replace_in_link(program, link)?;
            Ok(Placed { link: LinkKind::BpfLink, mode, notes: Vec::new() })
        }
        Present::Netlink(old, mode) => {
            let old = old.fd()?;
            link::replace_by_netlink(device, Some(program.fd()?.as_fd()), old.as_fd(), mode)?;
            Ok(Placed { link: LinkKind::Netlink, mode, notes: Vec::new() })
        }
    }
}

/// Pins the program that is now in force, and removes what only an older one used.
fn settle(pins: &Pins, engine: Engine, program: &mut aya::programs::Xdp) -> Result<()> {
    let next = pins.next_program();
    if next.exists() {
        fs::remove_file(&next)?;
    }
    program.pin(&next)?;
    fs::rename(&next, pins.program())?;
    pins.remove_other_layouts(engine)?;
    Ok(())
}

/// What the program did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// It was dropped.
    pub dropped: bool,
    /// The mean time of one run.
    pub duration: Duration,
}

/// A program and tables that are attached to nothing and pinned nowhere: for tests and measurements.
pub struct Bench {
    loaded: Loaded,
    tables: Tables,
}

impl Bench {
    /// Loads the program; there is no table yet.
    ///
    /// # Errors
    ///
    /// Missing privileges, or whatever the kernel refuses.
    pub fn new(engine: Engine) -> Result<Self> {
        Self::with_room(engine, STEP)
    }

    fn with_room(engine: Engine, room: usize) -> Result<Self> {
        let mut loaded = Loaded::new(None, engine, room)?;
        let lines = loaded.lines()?;
        let tables = Tables::from_object(&mut loaded.object, lines, engine)?;
        Ok(Self { loaded, tables })
    }

    /// As [`Filter::publish`]; but when the table needs more room, with a new program and new maps, whose
    /// counters begin at zero.
    ///
    /// # Errors
    ///
    /// As [`Filter::publish`].
    pub fn publish(&mut self, compiled: &Compiled) -> Result<PublishReport> {
        let begin = Instant::now();
        let engine = self.tables.engine;
        let addresses = Addresses::new(engine, compiled)?;
        if addresses.lines() > self.tables.lines.room() {
            *self = Self::with_room(engine, room_for(addresses.lines()))?;
        }
        publish::publish(&mut self.tables, compiled, &addresses, begin)
    }

    /// Looks up [`layout::LOOKUPS`] addresses, `repeat` times, with nothing else around; returns the mean time
    /// of one lookup. Afterwards `lookups` holds the sum of the classes and where the sequence goes on.
    ///
    /// # Errors
    ///
    /// There is no table yet, or the kernel refuses.
    pub fn look_up(&mut self, lookups: &mut Lookups, repeat: u32) -> Result<f64> {
        let result = self.loaded.look_up(layout::PROGRAM_LOOKUPS, lookups, repeat)?;
        Ok(result.as_nanos() as f64 / f64::from(layout::LOOKUPS))
    }

    /// What [`Bench::look_up`] takes without the lookups: the addresses are drawn, and nothing is looked up.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn draw(&mut self, lookups: &mut Lookups, repeat: u32) -> Result<f64> {
        let result = self.loaded.look_up(layout::PROGRAM_DRAWS, lookups, repeat)?;
        Ok(result.as_nanos() as f64 / f64::from(layout::LOOKUPS))
    }

    /// Runs nothing but a bare `return XDP_DROP` on a frame; returns the mean time of one run.
    ///
    /// # Errors
    ///
    /// As [`Bench::run`].
    pub fn bare(&mut self, frame: &[u8], repeat: u32) -> Result<Duration> {
        self.loaded.measure(layout::PROGRAM_BARE, frame, repeat)
    }

    /// Bytes of all maps, as the kernel accounts for them.
    ///
    /// # Errors
    ///
    /// The kernel refuses to show it.
    pub fn memory(&mut self) -> Result<u64> {
        self.loaded.memory()
    }

    /// Runs the program on a frame, `repeat` times (BPF_PROG_TEST_RUN).
    ///
    /// # Errors
    ///
    /// The kernel refuses frames shorter than 14 bytes and longer than a page, about.
    pub fn run(&mut self, frame: &[u8], repeat: u32) -> Result<Ran> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let result = self.loaded.program()?.test_run(options).context("BPF_PROG_TEST_RUN")?;
        match result.return_value {
            1 => Ok(Ran { dropped: true, duration: result.duration }),
            2 => Ok(Ran { dropped: false, duration: result.duration }),
            other => Err(anyhow!("the program returned {other}")),
        }
    }

    /// Instructions that the verifier looked at (Linux 5.16); it gives up at a million.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub fn verified_instructions(&mut self) -> Result<Option<u32>> {
        Ok(self.loaded.program()?.info()?.verified_instruction_count())
    }

    /// As [`Filter::stats`].
    ///
    /// # Errors
    ///
    /// As [`Filter::stats`].
    pub fn stats(&self) -> Result<Stats> {
        stats::read(&self.tables)
    }

    /// The tables' part of [`Filter::status`].
    ///
    /// # Errors
    ///
    /// As [`Filter::status`].
    pub fn status(&self) -> Result<Status> {
        table_status(&self.tables, "")
    }

    /// As [`Filter::set_sampling`].
    pub fn set_sampling(&self, one_in: u32) {
        self.tables.state.set_sampling(one_in);
    }

    /// As [`Filter::bans`].
    pub fn bans(&self) -> BanMaps {
        self.tables.bans.clone()
    }

    /// As [`Filter::events`].
    ///
    /// # Errors
    ///
    /// As [`Filter::events`].
    pub fn events(&self) -> Result<Events> {
        events(&self.tables)
    }
}
