//! A client that sends exactly what it is told.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::net::{IpAddr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::wait::PATIENCE;

/// An answer as it was on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The decoded body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection with its unread bytes.
#[derive(Debug)]
pub struct Client {
    /// The socket, for what the methods do not do.
    pub stream: TcpStream,
    /// Read and not yet used.
    pub buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await.unwrap().unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Connects from one of this host's addresses, of which loopback has millions.
    pub async fn connect_from(source: impl Into<IpAddr>, address: SocketAddr) -> Self {
        let source = source.into();
        let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
        socket.bind((source, 0).into()).unwrap();
        let stream = timeout(PATIENCE, socket.connect(address)).await.unwrap().unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The gate may have closed already: what it answered is still to be read.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Sends a GET.
    pub async fn get(&mut self, target: &str) -> Reply {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: tv.example\r\n\r\n")).await;
        self.reply().await
    }

    async fn more(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("an answer in time") {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                true
            }
        }
    }

    /// Reads one head; status 0 when the connection ended.
    pub async fn head(&mut self) -> Reply {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            if !self.more().await {
                return Reply::default();
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Reply { status, headers, body: Vec::new() }
    }

    /// Reads one whole answer; status 0 when the connection ended before its end.
    pub async fn reply(&mut self) -> Reply {
        let mut reply = self.head().await;
        if reply.status < 200 || matches!(reply.status, 204 | 304) {
            return reply;
        }
        if reply.header("transfer-encoding").is_some() {
            loop {
                let Some(chunk) = self.chunk().await else { return Reply::default() };
                if chunk.is_empty() {
                    return reply;
                }
                reply.body.extend(chunk);
            }
        }
        let length: usize = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.buffer.len() < length {
            if !self.more().await {
                return Reply::default();
            }
        }
        reply.body = self.buffer.drain(..length).collect();
        reply
    }

    /// Reads one chunk of a chunked body: empty at its end, `None` when the connection ended.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let size = std::str::from_utf8(&self.buffer[..end]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                if self.buffer.len() >= end + 2 + size + 2 {
                    let all: Vec<u8> = self.buffer.drain(..end + 2 + size + 2).collect();
                    return Some(all[end + 2..end + 2 + size].to_vec());
                }
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads until the other side closes, and whether it did.
    pub async fn closed(&mut self) -> bool {
        while self.more().await {}
        true
    }
}
