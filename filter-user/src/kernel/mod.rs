//! The kernel's side of the filter: the XDP program, its maps, its link and its pins. The only place that
//! knows aya and makes raw system calls.
//!
//! Linux 5.15 and newer, CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN (or root). Where a newer feature is
//! missing, the next best is taken and named in the [`AttachReport`].
//!
//! An interface's table is published in generations. The complete next table is built beside the live one,
//! one 8-byte store switches, and nothing of the old one is reused before every packet that it may still
//! judge has left the program.

mod addresses;
mod bans;
mod bpffs;
mod count;
mod debug;
mod events;
mod filter;
mod flat;
mod grace;
mod image;
mod installed;
mod lines;
mod link;
mod object;
mod pins;
mod prefixes;
mod publish;
mod ranges;
mod size;
mod slots;
mod state;
mod stats;
mod status;
mod sys;
mod tables;
mod values;
mod verifier;

pub use addresses::Layout;
pub use bans::BanMaps;
pub use bpffs::Bpffs;
pub use count::Count;
pub use debug::DebugLines;
pub use events::{DropEvent, Events};
pub use filter::{AttachReport, Bench, Filter, Ran, Sampler, attached, detach, interface_exists};
pub use image::{Image, Slots};
pub use link::{LinkKind, Mode};
pub use publish::PublishReport;
pub use size::{TooLarge, fits};
pub use stats::{RuleStats, ServiceStats, Stats};
pub use status::{Entries, Status};
pub use sys::{LinkEvents, boottime, wall_clock};
pub use verifier::Verified;
