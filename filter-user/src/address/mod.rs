//! Addresses, prefixes and piecewise-constant functions over an address space.

mod partition;
mod sort;
mod space;

pub(crate) use partition::range_prefixes;
pub use partition::{Partition, Piece};
pub use space::{Address, canonical, net_range_v4, net_range_v6, subscriber};
