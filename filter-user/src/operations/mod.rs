//! What an operator can ask of a running controller: one list of requests, a type for each reply, and the one place
//! where they are carried out.
//!
//! The control socket and the command line speak in these types; a further transport only has to carry them. A reply's
//! field names are stable, and fields are only ever added.

mod carry_out;
mod next;
mod ownership;
mod reply;
mod request;
mod shrunk;

pub use carry_out::{Operations, Parts};
pub use next::{Next, ReloadError, Seconds};
pub use reply::{
    Controller, ControllerStatus, Counters, Fault, HandedOver, HandingOver, Released, Reloaded, Reply,
    SessionList, Status,
};
pub use request::{Heir, Request};
