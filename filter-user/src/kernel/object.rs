//! Loading the program.

use std::{
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader, TestRunOptions, VerifierLogLevel, include_bytes_aligned,
    maps::MapData,
    programs::{ProgramError, TestRun, Xdp},
    util::KernelVersion,
};
use filter_ebpf::layout::{self, Lookups};

use super::{lines::Lines, pins::Pins};
use crate::model::Engine;

/// The XDP program, built by `build.rs`.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/nicgate-xdp"));

/// Environment variable: any value but `0` turns on the program's own debug lines.
const DEBUG: &str = "NICGATE_BPF_DEBUG";

/// What a program returns for a packet that goes on.
const XDP_PASS: u32 = 2;

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
        let mut object = object(pins, engine, room, debug, VerifierLogLevel::default())?;
        let frags = match program(&mut object, layout::PROGRAM)?.load() {
            Ok(()) => true,
            // BPF_F_XDP_HAS_FRAGS is refused before Linux 5.18.
            Err(error) if knows_frags() => {
                return Err(explain(&error)).context("could not load the XDP program");
            }
            Err(_) => {
                program(&mut object, layout::PROGRAM_LINEAR)?
                    .load()
                    .map_err(|error| explain(&error))
                    .context("could not load the XDP program")?;
                false
            }
        };
        Ok(Self { object, frags, debug })
    }

    /// The program's lines; once.
    pub(super) fn lines(&mut self) -> Result<Lines> {
        match self.object.take_map(layout::map::LINES) {
            Some(aya::maps::Map::Array(map)) => Lines::new(map),
            _ => Err(anyhow!("the program has no map {}", layout::map::LINES)),
        }
    }

    /// Runs a program that only measures on a frame.
    pub(super) fn measure(&mut self, name: &str, frame: &[u8], repeat: u32) -> Result<Duration> {
        let program = measuring(&mut self.object, name)?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        Ok(program.test_run(options).context("BPF_PROG_TEST_RUN")?.duration)
    }

    /// Runs a program that takes [`Lookups`].
    pub(super) fn look_up(&mut self, name: &str, lookups: &mut Lookups, repeat: u32) -> Result<Duration> {
        let program = measuring(&mut self.object, name)?;
        let mut frame = [lookups.seed, lookups.sum, lookups.random, lookups.set, lookups.chained, lookups.v6];
        let mut data = Vec::new();
        frame.iter().for_each(|word| data.extend(word.to_ne_bytes()));
        let mut after = vec![0; data.len()];
        let options = TestRunOptions {
            data_in: Some(&data),
            data_out: Some(&mut after),
            repeat,
            ..TestRunOptions::new()
        };
        let result = program.test_run(options).context("BPF_PROG_TEST_RUN")?;
        if result.return_value != XDP_PASS {
            bail!("{name} returned {}", result.return_value);
        }
        for (word, bytes) in frame.iter_mut().zip(after.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into()?);
        }
        (lookups.seed, lookups.sum) = (frame[0], frame[1]);
        Ok(result.duration)
    }

    /// Bytes of the program's maps, as the kernel accounts for them.
    pub(super) fn memory(&mut self) -> Result<u64> {
        let maps = self.program()?.info()?.map_ids()?.context("the kernel does not tell a program's maps")?;
        maps.into_iter().try_fold(0, |sum, id| {
            let map = MapData::from_id(id)?;
            let path = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
            let text = std::fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
            let memory = text.lines().find_map(|line| line.strip_prefix("memlock:"));
            Ok(sum + memory.with_context(|| format!("{path} has no memlock"))?.trim().parse::<u64>()?)
        })
    }

    /// The program that was loaded.
    pub(super) fn program(&mut self) -> Result<&mut Xdp> {
        program(&mut self.object, if self.frags { layout::PROGRAM } else { layout::PROGRAM_LINEAR })
    }
}

/// The maps, and programs that are not loaded yet: see [`Loaded::new`].
pub(super) fn object(
    pins: Option<&Pins>,
    engine: Engine,
    room: usize,
    debug: bool,
    log: VerifierLogLevel,
) -> Result<Ebpf> {
    let global = u8::from(debug);
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(log);
    loader.override_global(layout::DEBUG_GLOBAL, &global, true);
    let selected = match engine {
        Engine::Lpm => layout::engine::LPM,
        Engine::Flat => layout::engine::FLAT,
    };
    loader.override_global(layout::ENGINE_GLOBAL, &selected, true);
    let room = u32::try_from(room).context("the table of addresses is too large")?;
    loader.override_global(layout::LINES_GLOBAL, &room, true);
    loader.map_max_entries(layout::map::LINES, (room * layout::GENERATIONS).max(1));
    if let Some(pins) = pins {
        for name in layout::map::ALL.into_iter().filter(|name| *name != layout::map::LINES) {
            loader.map_pin_path(name, pins.maps(engine).join(name));
        }
    }
    loader.load(OBJECT).map_err(|error| explain(&error)).context("could not create the maps")
}

/// A program that only measures; loaded when it is first asked for.
fn measuring<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = program(object, name)?;
    if program.fd().is_err() {
        program.load().map_err(|error| explain(&error)).with_context(|| format!("could not load {name}"))?;
    }
    Ok(program)
}

/// A kernel that does not tell its version is taken for a new one, whose error is then shown.
fn knows_frags() -> bool {
    KernelVersion::current().map_or(true, |version| version >= KernelVersion::new(5, 18, 0))
}

pub(super) fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(object.program_mut(name).with_context(|| format!("the object has no program {name}"))?.try_into()?)
}

/// The system's reason, if one of an error's causes has one.
pub(super) fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

/// An error of the kernel in an operator's words.
pub(super) fn explain(error: &(dyn std::error::Error + 'static)) -> anyhow::Error {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    if errno(error) == Some(libc::EPERM) {
        anyhow!("{text} (run as root, or with the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN)")
    } else {
        anyhow!(text)
    }
}

/// Whether the kernel refused for lack of privileges, or because something else is there: no other mode helps.
pub(super) fn is_final(error: &ProgramError) -> bool {
    matches!(errno(error), Some(libc::EPERM | libc::EBUSY | libc::EEXIST | libc::ENODEV))
}
