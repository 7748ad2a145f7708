//! The control socket: one JSON request a connection, one JSON reply; `monitor` is answered by a line for each event
//! until the client goes away. Carries [`operations`](crate::operations), and knows nothing of what they do.

mod client;
mod server;

pub use client::{Client, ClientError};
pub use server::{ControlSocket, serve};

/// Where the socket is unless the operator says otherwise.
pub const DEFAULT_PATH: &str = "/run/nicgate/control.sock";
