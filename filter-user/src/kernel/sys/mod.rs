//! Every raw system call of the process.

mod bpf;
mod clock;
mod interfaces;
mod mapping;
mod mount;
pub(in crate::kernel) mod netlink;

pub(super) use bpf::{delete, detach_link, lookup, update};
pub(super) use clock::monotonic;
pub use clock::{boottime, wall_clock};
pub(super) use interfaces::{index_of, names};
pub(super) use mapping::Mapping;
pub(super) use mount::{is_bpffs, mount_bpffs};
pub use netlink::LinkEvents;
