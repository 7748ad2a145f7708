//! What an operator can ask of a running controller: one list of requests, a type for each reply, and the one place
//! where they are carried out.
//!
//! The control socket and the command line speak in these types; a further transport only has to carry them. A reply's
//! field names are stable, and fields are only ever added.

mod carry_out;
mod confirm;
mod diff;
mod history;
mod next;
mod ownership;
mod reload;
mod reply;
mod request;
mod shrunk;

pub use carry_out::{Operations, Parts};
pub use diff::difference;
pub use next::{Next, ReloadError, Seconds};
pub use reply::{
    Confirmed, Controller, ControllerStatus, Counters, Difference, Fault, HandedOver, HandingOver, Released,
    Reloaded, Reply, SessionList, Status, ViewersChange,
};
pub use request::{Heir, Request};
