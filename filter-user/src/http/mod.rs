//! Strict HTTP: what stands in front of every listener.
//!
//! A connection is framed and checked by [`framer`] before hyper sees it; a request's target is read by [`target`].
//! What passes can be read in one way only. The service behind a listener is the only difference between them.

mod chunked;
mod forwarded;
mod framer;
mod head;
mod limits;
pub mod proxy_protocol;
mod target;
mod wire;

pub use forwarded::{Client, client};
pub(crate) use framer::Framer;
pub use head::{Framing, Head, Reject, length as head_length, read as read_head};
pub(crate) use head::{STRANGE_PROXY, canonical_name, excerpt};
pub use limits::Limits;
pub use target::{
    Ambiguous, LONGEST_TOKEN, Target, read as read_target, read_with_segment as read_target_with_segment,
};
pub(crate) use wire::{Fact, Upgrade, Wire};
