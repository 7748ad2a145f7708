//! The HTTP gate: listens, judges every request, and passes what is admitted to the media server.
//!
//! A connection is framed and checked by [`guard`] before hyper sees it; a request's target is read by
//! [`target`], judged by [`crate::session`], and forwarded in the one form in which it was judged. HTTP/1.1
//! over plain TCP.

mod body;
mod chunked;
mod connection;
mod counters;
mod gates;
mod guard;
mod head;
mod headers;
mod limits;
mod listen;
mod log;
mod operation;
mod seats;
mod serve;
mod target;
mod tunnel;
mod upstream;
mod wire;

pub use counters::{GateCounters, RuleCount};
pub use gates::{Gates, Prepared};
pub use head::{Framing, Head, Reject, length as head_length, read as read_head};
pub use limits::Limits;
pub use listen::ListenError;
pub use operation::{operation, proto};
pub use target::{Ambiguous, Target, read as read_target};
