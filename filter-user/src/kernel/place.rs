//! Loading a program around the pinned tables, and putting it in place.

use std::{fs, os::fd::AsFd as _};

use aya::programs::Xdp;
use filter_ebpf::layout;

use super::{
    device::{Device, LinkKind, Mode},
    error::{Context as _, Result},
    link,
    memory::TableMemory,
    object::Loaded,
    pins::Pins,
    present::Present,
    tables::Tables,
};
use crate::model::{Engine, InterfaceMode};

/// Lines are added in steps, and a table may grow by an eighth before its program is replaced by one with
/// more: loading one costs more than publishing a small table.
pub(super) const STEP: usize = 128;

/// Loads the program with the pinned tables and new lines, into which the live generation is copied before they
/// are pinned.
pub(super) fn load(device: &Device, pins: &Pins, engine: Engine, room: usize) -> Result<(Loaded, Tables)> {
    let pin = pins.maps(engine).join(layout::map::LINES);
    let old = if pin.exists() { Some(TableMemory::from_pin(&pin)?) } else { None };
    let mut loaded = Loaded::new(Some(pins), engine, room.max(old.as_ref().map_or(0, TableMemory::used)))?;
    let memory = loaded.lines()?;
    let mut tables = Tables::from_pins(&pins.maps(engine), memory, engine).with_context(|| {
        format!(
            "the pinned tables of {} are of another build and still in force: `nicgate detach {}` removes them",
            device.name, device.name
        )
    })?;
    if let Some((serial, _)) = tables.live()
        && let Some(old) = &old
    {
        tables.memory.take_over(old, layout::generation_index(serial))?;
    }
    tables.memory.pin(&pin)?;
    Ok((loaded, tables))
}

/// Lines for a table of so many, and for one that is somewhat larger.
pub(super) fn room_for(lines: usize) -> usize {
    (lines + lines / 8).next_multiple_of(STEP).max(STEP)
}

/// A program that is in place.
pub(super) struct Placed {
    pub(super) link: LinkKind,
    pub(super) mode: Mode,
    pub(super) notes: Vec<String>,
}

/// Attaches a program, or puts it in place of the one that is there.
pub(super) fn put(
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
pub(super) fn settle(pins: &Pins, engine: Engine, program: &mut Xdp) -> Result<()> {
    let next = pins.next_program();
    if next.exists() {
        fs::remove_file(&next)?;
    }
    program.pin(&next)?;
    fs::rename(&next, pins.program())?;
    pins.remove_other_layouts(engine)?;
    Ok(())
}
