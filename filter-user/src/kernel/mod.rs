//! The kernel's side of the filter: the XDP program, its maps, its link and its pins. The only place that
//! knows aya and makes raw system calls.
//!
//! Linux 5.15 and newer, CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN (or root). Where a newer feature is
//! missing, the next best is taken and named in the [`AttachReport`]. An item's documentation names the first kernel
//! that has what it needs, if that is newer than Linux 5.5, or if there is a fallback. The versions are those of
//! <https://github.com/iovisor/bcc/blob/master/docs/kernel-versions.md> unless another source is named.
//!
//! [`Filter`] owns what is on an interface: it holds the lock, and alone publishes and detaches. [`Reader`] looks at it,
//! whether or not a controller runs.
//!
//! An interface's table is published in generations. The complete next table is built beside the live one,
//! one 8-byte store switches, and nothing of the old one is reused before every packet that it may still
//! judge has left the program.

mod attach;
mod bans;
mod bpffs;
mod count;
mod debug;
mod detach;
mod device;
mod error;
mod events;
mod filter;
mod link;
mod memory;
mod object;
mod pins;
mod place;
mod present;
mod publish;
mod rcu;
mod reader;
mod state;
mod stats;
mod status;
mod sys;
mod tables;
mod tries;
mod unattached;
mod values;

pub use attach::AttachReport;
pub use bans::BanMaps;
pub use bpffs::Bpffs;
pub use count::Count;
pub use debug::DebugLines;
pub use detach::{attached, detach, interface_exists};
pub use device::{LinkKind, Mode};
pub use error::{Error, ErrorKind, Result};
pub use events::{DropEvent, Events};
pub use filter::{Filter, Sampler};
pub use object::OBJECT;
pub use publish::PublishReport;
pub use reader::Reader;
pub use stats::{RuleStats, ServiceStats, Stats};
pub use status::{Entries, Status};
pub use sys::{LinkEvents, boottime, wall_clock};
pub use unattached::{Ran, Unattached};
