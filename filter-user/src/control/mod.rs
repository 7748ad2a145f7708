//! The control socket: one JSON request a connection, one JSON reply; `monitor` is answered by a line for each event
//! until the client goes away. Carries [`operations`](crate::operations), and knows nothing of what they do.
//!
//! Two controllers, of which one takes over from the other, speak over a [`Channel`], which the answer to
//! [`HandOver`](crate::operations::Request::HandOver) brings.

mod channel;
mod client;
mod descriptors;
mod server;

pub use channel::Channel;
pub use client::{Client, ClientError};
pub use server::{Asker, ControlSocket, Passed, serve};

/// Where the socket is unless the operator says otherwise.
pub const DEFAULT_PATH: &str = "/run/nicgate/control.sock";
