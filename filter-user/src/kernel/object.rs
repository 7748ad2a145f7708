use anyhow::{Context, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    programs::{ProgramError, Xdp},
    util::KernelVersion,
};
use filter_ebpf::layout;

use super::pins::Pins;

/// The XDP program, built by `build.rs`.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/nicgate-xdp"));

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
    /// not pinned yet will be.
    pub(super) fn new(pins: Option<&Pins>) -> Result<Self> {
        let debug = std::env::var_os(DEBUG).is_some_and(|value| value != "0");
        let global = u8::from(debug);
        let mut loader = EbpfLoader::new();
        loader.override_global(layout::DEBUG_GLOBAL, &global, true);
        if let Some(pins) = pins {
            for name in layout::map::ALL {
                loader.map_pin_path(name, pins.maps().join(name));
            }
        }
        let mut object =
            loader.load(OBJECT).map_err(|error| explain(&error)).context("could not create the maps")?;
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

    /// The program that was loaded.
    pub(super) fn program(&mut self) -> Result<&mut Xdp> {
        program(&mut self.object, if self.frags { layout::PROGRAM } else { layout::PROGRAM_LINEAR })
    }
}

/// A kernel that does not tell its version is taken for a new one, whose error is then shown.
fn knows_frags() -> bool {
    KernelVersion::current().map_or(true, |version| version >= KernelVersion::new(5, 18, 0))
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
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
