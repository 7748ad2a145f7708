//! Network interfaces, and what runs on them.

use std::fmt;

use aya::programs::loaded_programs;
use serde::{Deserialize, Serialize};

use super::{
    error::{Context as _, Error, ErrorKind, Result},
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
    /// The mode that a wish leaves no choice about.
    pub fn wished(wish: InterfaceMode) -> Option<Self> {
        match wish {
            InterfaceMode::Auto => None,
            InterfaceMode::Native => Some(Self::Native),
            InterfaceMode::Generic => Some(Self::Generic),
            InterfaceMode::Offload => Some(Self::Offload),
        }
    }

    fn from_attached(mode: u8) -> Option<Self> {
        match mode {
            1 => Some(Self::Native),
            2 => Some(Self::Generic),
            3 => Some(Self::Offload),
            _ => None,
        }
    }

    /// `XDP_FLAGS_*_MODE`.
    pub(super) fn flags(self) -> u32 {
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
    /// A pinned BPF link (Linux 5.9), which nobody else can replace.
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
            None => Err(ErrorKind::NoInterface { name: name.to_owned(), others: sys::names() }.into()),
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
        Err(Error::unsupported(format!(
            "{} has no Ethernet frames (link type {kind}: tun, WireGuard, PPP, GRE and SIT are such devices), and cannot be \
             filtered: name the network card beneath it, or filter where the tunnel ends",
            self.name
        )))
    }

    /// The program that runs on it, if any, and how.
    pub(super) fn attached(&self) -> Result<Option<(u32, Mode)>> {
        let attached = netlink::attached(self.index)
            .with_context(|| format!("could not ask the kernel what runs on {}", self.name))?;
        let Some(attached) = attached else { return Ok(None) };
        match Mode::from_attached(attached.mode) {
            Some(mode) => Ok(Some((attached.program, mode))),
            None => Err(Error::unsupported(format!(
                "several XDP programs run on {0} at once, in different modes: take them off first (`ip -details link \
                 show dev {0}` shows them)",
                self.name
            ))),
        }
    }

    /// The error for an interface that is taken.
    pub(super) fn taken(&self, program: u32) -> Error {
        ErrorKind::Taken { interface: self.name.clone(), program: program_name(program) }.into()
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
