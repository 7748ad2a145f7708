//! Loading the program.

use aya::{Ebpf, EbpfLoader, include_bytes_aligned, programs::Xdp, util::KernelVersion};
use filter_ebpf::layout;

use super::{
    error::{Context as _, Error, Result},
    memory::TableMemory,
    pins::Pins,
};
use crate::{model::Engine, table::TooLarge};

/// The object file with the XDP programs that judge packets, built by `build.rs`: one that takes packets in several
/// buffers (BPF_F_XDP_HAS_FRAGS, Linux 5.18), and one for older kernels.
pub static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/nicgate-xdp"));

/// Environment variable: any value but `0` turns on the program's own debug lines.
const DEBUG: &str = "NICGATE_BPF_DEBUG";

/// A program in the kernel, not attached.
pub(super) struct Loaded {
    pub(super) object: Ebpf,
    /// Takes packets in several buffers.
    pub(super) frags: bool,
    /// Writes debug lines.
    pub(super) debug: bool,
}

impl Loaded {
    /// Loads the program, with the maps that are pinned or, without pins, with maps of its own. Maps that are
    /// not pinned yet will be, but for the `flat` engine's lines: these are always new, `room` for each
    /// generation.
    pub(super) fn new(pins: Option<&Pins>, engine: Engine, room: usize) -> Result<Self> {
        let debug = std::env::var_os(DEBUG).is_some_and(|value| value != "0");
        let mut object = object(pins, engine, room, debug)?;
        let frags = match program(&mut object, layout::PROGRAM)?.load() {
            Ok(()) => true,
            // BPF_F_XDP_HAS_FRAGS is refused before Linux 5.18.
            Err(error) if knows_frags() => {
                return Err(error).context("could not load the XDP program");
            }
            Err(_) => {
                program(&mut object, layout::PROGRAM_LINEAR)?
                    .load()
                    .context("could not load the XDP program")?;
                false
            }
        };
        Ok(Self { object, frags, debug })
    }

    /// The program's lines; once.
    pub(super) fn lines(&mut self) -> Result<TableMemory> {
        match self.object.take_map(layout::map::LINES) {
            Some(aya::maps::Map::Array(map)) => TableMemory::new(map),
            _ => Err(Error::unexpected(format!("the program has no map {}", layout::map::LINES))),
        }
    }

    /// The program that was loaded.
    pub(super) fn program(&mut self) -> Result<&mut Xdp> {
        program(&mut self.object, if self.frags { layout::PROGRAM } else { layout::PROGRAM_LINEAR })
    }
}

/// The maps, and programs that are not loaded yet: see [`Loaded::new`].
fn object(pins: Option<&Pins>, engine: Engine, room: usize, debug: bool) -> Result<Ebpf> {
    let global = u8::from(debug);
    let mut loader = EbpfLoader::new();
    loader.override_global(layout::DEBUG_GLOBAL, &global, true);
    let selected = match engine {
        Engine::Lpm => layout::engine::LPM,
        Engine::Flat => layout::engine::FLAT,
    };
    loader.override_global(layout::ENGINE_GLOBAL, &selected, true);
    let room = u32::try_from(room).map_err(|_| TooLarge::Addresses)?;
    loader.override_global(layout::LINES_GLOBAL, &room, true);
    loader.map_max_entries(layout::map::LINES, (room * layout::GENERATIONS).max(1));
    if let Some(pins) = pins {
        for name in layout::map::ALL.into_iter().filter(|name| *name != layout::map::LINES) {
            loader.map_pin_path(name, pins.maps(engine).join(name));
        }
    }
    loader.load(OBJECT).context("could not create the maps")
}

/// A kernel that does not tell its version is taken for a new one, whose error is then shown.
fn knows_frags() -> bool {
    KernelVersion::current().map_or(true, |version| version >= KernelVersion::new(5, 18, 0))
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = object.program_mut(name);
    Ok(program.ok_or_else(|| Error::unexpected(format!("the object has no program {name}")))?.try_into()?)
}
