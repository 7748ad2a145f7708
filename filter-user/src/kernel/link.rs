//! Interfaces, and what holds a program in place there.

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use anyhow::{Context, Result, anyhow, bail};
use aya::programs::{
    ProgramError, Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    loaded_programs,
    xdp::XdpLink,
};
use serde::{Deserialize, Serialize};

use super::{
    object::{errno, explain, is_final},
    sys::{self, netlink},
};
use crate::model::InterfaceMode;

/// The mode in which a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver, before the socket buffer exists.
    Native,
    /// In the network stack, after the socket buffer exists: about ten times slower.
    Generic,
    /// On the NIC.
    Offload,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offload => "offload",
        })
    }
}

impl Mode {
    fn from_attached(mode: u8) -> Option<Self> {
        match mode {
            1 => Some(Self::Native),
            2 => Some(Self::Generic),
            3 => Some(Self::Offload),
            _ => None,
        }
    }

    /// `XDP_FLAGS_*_MODE`.
    fn flags(self) -> u32 {
        match self {
            Self::Generic => 1 << 1,
            Self::Native => 1 << 2,
            Self::Offload => 1 << 3,
        }
    }
}

/// What holds the program in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// A pinned BPF link, which nobody else can replace.
    BpfLink,
    /// The interface itself, by netlink: `ip link set dev IFACE xdp off` would take it off.
    Netlink,
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BpfLink => "BPF link",
            Self::Netlink => "netlink, without a link",
        })
    }
}

/// A network interface of this network namespace.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) index: u32,
}

impl Device {
    /// Finds an interface.
    pub(super) fn named(name: &str) -> Result<Self> {
        match sys::index_of(name) {
            None => bail!("there is no interface {name}; there are: {}", sys::names().join(", ")),
            Some(index) => Ok(Self { name: name.to_owned(), index }),
        }
    }

    /// An error for an interface whose frames do not begin with an Ethernet header: the program would read the middle
    /// of an IP header for an EtherType, and drop nothing that it should.
    pub(super) fn speaks_ethernet(&self) -> Result<()> {
        let kind = netlink::link_type(self.index)
            .with_context(|| format!("could not ask the kernel what {} is", self.name))?;
        if matches!(kind, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK) {
            return Ok(());
        }
        bail!(
            "{} has no Ethernet frames (link type {kind}: tun, WireGuard, PPP, GRE and SIT are such devices), and cannot be \
             filtered: name the network card beneath it, or filter where the tunnel ends",
            self.name
        )
    }

    /// The program that runs on it, if any, and how.
    pub(super) fn attached(&self) -> Result<Option<(u32, Mode)>> {
        let attached = netlink::attached(self.index)
            .with_context(|| format!("could not ask the kernel what runs on {}", self.name))?;
        let Some(attached) = attached else { return Ok(None) };
        match Mode::from_attached(attached.mode) {
            Some(mode) => Ok(Some((attached.program, mode))),
            None => bail!(
                "several XDP programs run on {} at once, in different modes: \
                 take them off first (`ip -details link show dev {}` shows them)",
                self.name,
                self.name
            ),
        }
    }

    /// The error for an interface that is taken.
    pub(super) fn taken(&self, program: u32) -> anyhow::Error {
        let device = &self.name;
        anyhow!(
            "another XDP program runs on {device}: {}. An interface takes one: \
             remove it (`ip link set dev {device} xdp off`, or stop what attached it), then try again",
            program_name(program)
        )
    }
}

fn program_name(id: u32) -> String {
    let name = loaded_programs()
        .flatten()
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .filter(|name| !name.is_empty());
    match name {
        Some(name) => format!("{name} (id {id})"),
        None => format!("id {id}"),
    }
}

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
        InterfaceMode::Offload => bail!(
            "{}: mode offload needs a program that was built for one NIC's own processor, which nicgate's is \
             not: use `mode auto` or `mode native`",
            device.name
        ),
        InterfaceMode::Generic => Mode::Generic,
        InterfaceMode::Native | InterfaceMode::Auto => Mode::Native,
    };
    let (kind, mode) = match try_mode(program, device, mode, pin) {
        Ok(kind) => (kind, mode),
        Err(Refused::Attach(error)) if wish == InterfaceMode::Auto && !is_final(&error) => {
            let reason = explain(&error);
            let kind = try_mode(program, device, Mode::Generic, pin).map_err(|error| error.report(device))?;
            notes.push(format!(
                "{} runs in generic mode, about ten times slower, because its driver refused native mode: {reason:#}",
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

enum Refused {
    Attach(ProgramError),
    Pin(anyhow::Error),
}

impl Refused {
    fn report(self, device: &Device) -> anyhow::Error {
        match self {
            Self::Attach(error) => {
                if matches!(errno(&error), Some(libc::EBUSY | libc::EEXIST))
                    && let Ok(Some((program, _))) = device.attached()
                {
                    return device.taken(program);
                }
                explain(&error).context(format!("could not attach to {}", device.name))
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
