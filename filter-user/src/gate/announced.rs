//! Connections that begin with a header of the PROXY protocol.

use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::http::{
    Reject,
    proxy_protocol::{self, Announced, BadAnnouncement},
};

/// How a connection of a trusted proxy begins.
#[derive(Debug)]
pub(super) enum Beginning {
    /// With a header; then what came after it.
    Announced(Announced, BytesMut),
    /// With something that is refused; then what that was.
    Refused(Reject, BytesMut),
    /// It ended before its first byte: a proxy looks whether somebody listens.
    Nothing,
}

/// Reads the header within `time`.
pub(super) async fn read(stream: &mut TcpStream, time: Duration) -> Beginning {
    let deadline = Instant::now() + time;
    // A header is seldom longer, and its reader says how long it may be.
    let mut bytes = BytesMut::with_capacity(512);
    loop {
        match proxy_protocol::read(&bytes) {
            Ok(Some((announced, length))) => {
                let rest = bytes.split_off(length);
                return Beginning::Announced(announced, rest);
            }
            Ok(None) => {}
            Err(BadAnnouncement(reason)) => return Beginning::Refused(Reject::bad(reason), bytes),
        }
        match timeout_at(deadline, stream.read_buf(&mut bytes)).await {
            Ok(Ok(0) | Err(_)) if bytes.is_empty() => return Beginning::Nothing,
            Ok(Ok(0) | Err(_)) => return Beginning::Refused(Reject::bad("PROXY header is cut"), bytes),
            Ok(Ok(_)) => {}
            Err(_) => {
                let status = StatusCode::REQUEST_TIMEOUT;
                return Beginning::Refused(Reject::with(status, "PROXY header took too long"), bytes);
            }
        }
    }
}
