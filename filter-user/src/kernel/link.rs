//! What holds a program in place on an interface.

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use aya::programs::{
    ProgramError, Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};

use super::{
    device::{Device, LinkKind, Mode},
    error::{Context as _, Error, Result, errno},
    sys::netlink,
};
use crate::model::InterfaceMode;

/// A program that was just attached.
pub(super) struct NewLink {
    pub(super) mode: Mode,
    pub(super) kind: LinkKind,
    /// What was taken instead of what was wished for.
    pub(super) notes: Vec<String>,
}

/// Attaches a program to an interface that has none, and pins the link.
pub(super) fn attach(program: &mut Xdp, device: &Device, wish: InterfaceMode, pin: &Path) -> Result<NewLink> {
    let mut notes = Vec::new();
    let mode = match wish {
        InterfaceMode::Offload => {
            return Err(Error::unsupported(format!(
                "{}: mode offload needs a program that was built for one NIC's own processor, which nicgate's is not: \
                 use `mode auto` or `mode native`",
                device.name
            )));
        }
        InterfaceMode::Generic => Mode::Generic,
        InterfaceMode::Native | InterfaceMode::Auto => Mode::Native,
    };
    let (kind, mode) = match try_mode(program, device, mode, pin) {
        Ok(kind) => (kind, mode),
        Err(Refused::Attach(error)) if wish == InterfaceMode::Auto && !is_final(&error) => {
            let reason = Error::of(&error);
            let kind = try_mode(program, device, Mode::Generic, pin).map_err(|error| error.report(device))?;
            notes.push(format!(
                "{} runs in generic mode, about ten times slower, because its driver refused native mode: {reason}",
                device.name
            ));
            (kind, Mode::Generic)
        }
        Err(error) if wish == InterfaceMode::Native => {
            return Err(error.report(device)).with_context(|| {
                format!("{} cannot run the filter in native mode (`mode auto` would fall back)", device.name)
            });
        }
        Err(error) => return Err(error.report(device)),
    };
    if kind == LinkKind::Netlink {
        notes.push(format!(
            "the kernel has no BPF link for {}: the filter stays attached without one, but other tools can take it off",
            device.name
        ));
    }
    Ok(NewLink { mode, kind, notes })
}

/// Whether the kernel refused for lack of privileges, or because something else is there: no other mode helps.
fn is_final(error: &ProgramError) -> bool {
    matches!(errno(error), Some(libc::EPERM | libc::EBUSY | libc::EEXIST | libc::ENODEV))
}

enum Refused {
    Attach(ProgramError),
    Pin(Error),
}

impl Refused {
    fn report(self, device: &Device) -> Error {
        match self {
            Self::Attach(error) => {
                if matches!(errno(&error), Some(libc::EBUSY | libc::EEXIST))
                    && let Ok(Some((program, _))) = device.attached()
                {
                    return device.taken(program);
                }
                Error::of(&error).doing(format_args!("could not attach to {}", device.name))
            }
            Self::Pin(error) => error,
        }
    }
}

fn try_mode(program: &mut Xdp, device: &Device, mode: Mode, pin: &Path) -> Result<LinkKind, Refused> {
    let xdp_mode = match mode {
        Mode::Native => XdpMode::Driver,
        Mode::Generic => XdpMode::Skb,
        Mode::Offload => XdpMode::Hardware,
    };
    let link = program
        .attach_to_if_index(device.index, xdp_mode)
        .and_then(|id| program.take_link(id))
        .map_err(Refused::Attach)?;
    // Without a BPF link aya attaches by netlink, says nothing, and would take the program off when this value
    // is dropped. There is no way to look into it but to try.
    if is_netlink(&link) {
        std::mem::forget(link);
        return Ok(LinkKind::Netlink);
    }
    let link = FdLink::try_from(link).map_err(|error| Refused::Pin(error.into()))?;
    link.pin(pin)
        .with_context(|| format!("could not pin the link at {}", pin.display()))
        .map_err(Refused::Pin)?;
    Ok(LinkKind::BpfLink)
}

/// aya names the kind of a link in its debug form only.
fn is_netlink(link: &XdpLink) -> bool {
    format!("{link:?}").contains("NlLink")
}

/// A pinned link and the id of its program.
pub(super) fn pinned(path: &Path) -> Result<Option<(FdLink, u32)>> {
    if !path.exists() {
        return Ok(None);
    }
    let link = PinnedLink::from_pin(path).with_context(|| format!("could not open {}", path.display()))?;
    let link = FdLink::from(link);
    let program = link.info().with_context(|| format!("{} is no link", path.display()))?.program_id();
    Ok(Some((link, program)))
}

/// Puts another program into a pinned link; no packet goes unfiltered.
pub(super) fn replace_in_link(program: &mut Xdp, link: FdLink) -> Result<()> {
    let link = XdpLink::try_from(link).context("the pinned link is not an XDP link")?;
    let id = program.attach_to_link(link).context("could not put the new program into the pinned link")?;
    // Closes the descriptor; the pin keeps the link.
    drop(program.take_link(id)?);
    Ok(())
}

/// The same for a program without a link.
pub(super) fn replace_by_netlink(
    device: &Device,
    program: Option<BorrowedFd<'_>>,
    expected: BorrowedFd<'_>,
    mode: Mode,
) -> Result<()> {
    netlink::replace(device.index, program, expected.as_fd(), mode.flags())
        .with_context(|| format!("could not replace the program on {}", device.name))
}
