//! Attaching: a filter where there was none, or in place of the one that is there, without a gap.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{
    bpffs::Bpffs,
    debug::DebugLines,
    device::{Device, LinkKind, Mode},
    error::Result,
    filter::Filter,
    pins::{Lock, Pins},
    place::{Placed, load, put, room_for, settle},
    present::Present,
    publish::{self, PublishReport},
    reader::Reader,
};
use crate::{bans::Desired, model::InterfaceMode, table::Layout};

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
    /// Linux 5.15: LPM_TRIE in arrays of maps, mmap-able arrays (`BPF_F_MMAPABLE`, 5.5), ring buffers (5.8), bans by
    /// `bpf_ktime_get_boot_ns` (5.8). With BPF links (5.9) nobody else can take the filter off; before 5.18 drivers
    /// refuse it while jumbo frames or LRO are on (`BPF_F_XDP_HAS_FRAGS`). The versions are those of
    /// <https://github.com/iovisor/bcc/blob/master/docs/kernel-versions.md> and of the kernel's own history.
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
        mut lock: Lock,
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
        let published = publish::publish(&mut tables, &mut lock, compiled, addresses, begin)?;

        let mut notes = Vec::new();
        if let Err(error) = banned {
            notes.push(format!("the filter is in force, but not every ban is: {error}"));
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
            notes.push(format!("the filter is in force, but its pins are not all in order: {error}"));
        }
        let report = AttachReport { interface: device.name.clone(), adopted, mode, link, published, notes };
        let debug = if loaded.debug { Some(DebugLines::new(&mut loaded.object)?) } else { None };
        Ok((Self::new(Reader { device, pins: pins.clone(), tables }, lock, debug), report))
    }
}

/// A link keeps its mode; changing it means a moment without a filter, which is the operator's choice.
fn other_mode(device: &Device, wish: InterfaceMode, mode: Mode) -> Option<String> {
    let wished = Mode::wished(wish).filter(|wished| *wished != mode)?;
    Some(format!(
        "{} goes on in {mode} mode although the configuration says {wished}: a change takes the filter off \
         for a moment (`nicgate detach {}`, then attach again)",
        device.name, device.name
    ))
}
