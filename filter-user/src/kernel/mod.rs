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
mod debug;
mod events;
mod filter;
mod flat;
mod grace;
mod image;
mod installed;
mod lines;
mod link;
mod netlink;
mod object;
mod pins;
mod prefixes;
mod publish;
mod ranges;
mod slots;
mod state;
mod stats;
mod status;
mod sys;
mod tables;
mod verifier;

pub use addresses::Layout;
pub use bans::BanMaps;
pub use bpffs::Bpffs;
pub use debug::DebugLines;
pub use events::{DropEvent, Events};
pub use filter::{AttachReport, Bench, Filter, Ran, Sampler, attached, detach, interface_exists};
pub use image::{Image, Slots, TooLarge, fits};
pub use link::{LinkKind, Mode};
pub use netlink::LinkEvents;
pub use publish::PublishReport;
pub use stats::{Count, RuleStats, ServiceStats, Stats};
pub use status::{Entries, Status};
pub use verifier::Verified;
