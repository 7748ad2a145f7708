//! The two object files with XDP programs: the product's, and the one with what only measures.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use anyhow::Context;
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel, include_bytes_aligned,
    maps::{MapData, MapInfo},
    programs::Xdp,
};
use filter_ebpf::layout;
use filter_user::{kernel, model::Engine};

/// The programs that only measure, built by `build.rs`.
static MEASURING: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/nicgate-measure"));

/// An object file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// The product's: what judges packets.
    Product,
    /// What only measures.
    Measuring,
}

impl Object {
    /// The file.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Self::Product => kernel::OBJECT,
            Self::Measuring => MEASURING,
        }
    }

    /// The names of its programs, sorted. Reads the file alone, and so needs no privileges.
    ///
    /// # Errors
    ///
    /// It is no object file.
    pub fn programs(self) -> anyhow::Result<Vec<String>> {
        let mut names: Vec<String> = aya_obj::Object::parse(self.bytes())?.programs.into_keys().collect();
        names.sort();
        Ok(names)
    }
}

/// What is set when an object is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) engine: Engine,
    /// Lines for each generation.
    pub(crate) room: u32,
    /// The program's own debug lines; what only measures has none.
    pub(crate) debug: bool,
    pub(crate) log: VerifierLogLevel,
}

impl Settings {
    pub(crate) fn new(engine: Engine, room: u32) -> Self {
        Self { engine, room, debug: false, log: VerifierLogLevel::default() }
    }
}

/// Makes an object's maps, but for those that are pinned in a directory, and loads none of its programs.
pub(crate) fn open(object: Object, settings: Settings, pins: &[(&str, &Path)]) -> anyhow::Result<Ebpf> {
    let Settings { engine, room, debug, log } = settings;
    let engine = match engine {
        Engine::Lpm => layout::engine::LPM,
        Engine::Flat => layout::engine::FLAT,
    };
    let debug = u8::from(debug);
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(log);
    loader.override_global(layout::ENGINE_GLOBAL, &engine, true);
    loader.override_global(layout::LINES_GLOBAL, &room, true);
    loader.override_global(layout::DEBUG_GLOBAL, &debug, object == Object::Product);
    loader.map_max_entries(layout::map::LINES, (room * layout::GENERATIONS).max(1));
    for (name, path) in pins {
        loader.map_pin_path(name, *path);
    }
    loader.load(object.bytes()).context("cannot make the maps")
}

/// A program of an object.
pub(crate) fn program<'a>(object: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut Xdp> {
    Ok(object.program_mut(name).with_context(|| format!("the object has no program {name}"))?.try_into()?)
}

/// Bytes of maps, as the kernel accounts for them.
///
/// # Errors
///
/// The kernel refuses to show them.
pub fn memory(maps: &[u32]) -> anyhow::Result<u64> {
    maps.iter().try_fold(0, |sum, id| {
        let map = MapData::from_id(*id)?;
        let path = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let memory = text.lines().find_map(|line| line.strip_prefix("memlock:"));
        Ok(sum + memory.with_context(|| format!("{path} has no memlock"))?.trim().parse::<u64>()?)
    })
}

/// The one of these maps that has this name.
pub(crate) fn named(maps: &[u32], name: &str) -> anyhow::Result<MapInfo> {
    for id in maps {
        let info = MapInfo::from_id(*id)?;
        if info.name_as_str() == Some(name) {
            return Ok(info);
        }
    }
    anyhow::bail!("none of the maps is {name}")
}
