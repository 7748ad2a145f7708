//! The HTTP gate: listens, judges every request, and passes what is admitted to the media server.
//!
//! A request's target is read by [`crate::http`], judged by [`crate::judge`], and forwarded in the one form in
//! which it was judged. HTTP/1.1 over plain TCP.

mod announced;
mod answer;
mod body;
mod client;
mod connection;
mod connection_limits;
mod counters;
mod forward;
mod gates;
mod headers;
mod kind;
mod limits;
mod listen;
mod log;
mod manifest;
mod operation;
mod pace;
mod player_token;
mod resource;
mod serve;
mod sockets;
mod token;
mod tunnel;
mod upstream;
mod validators;

pub use counters::{GateCounters, RuleCount};
pub use gates::{Gates, Prepared};
pub use limits::Limits;
pub use listen::ListenError;
pub use operation::{operation, proto};
pub use player_token::TokenKey;
pub use sockets::Inherited;
pub use upstream::{ServerState, ServerStatus, UpstreamStatus};
