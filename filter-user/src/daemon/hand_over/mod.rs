//! One controller takes over from another, so that nobody is refused meanwhile.
//!
//! Three ways were weighed. With `SO_REUSEPORT` both processes have sockets of their own, and connections that wait to
//! be accepted by the former one are reset when it closes its own. A program that replaces itself by `exec` keeps its
//! sockets, and loses every transfer. So the next process asks the former one over the control socket for its listening
//! sockets, as HAProxy's and Envoy's do: they are the same sockets, and connections wait in them.
//!
//! [`message`] has the steps, and who owns what in between.

mod give;
mod message;
mod process;
mod sessions;
mod take;

pub(super) use give::{Successor, give};
pub(super) use sessions::take as take_sessions;
pub(super) use take::{Former, Released};
