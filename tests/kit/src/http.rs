//! A small HTTP/1.1 client: one request on one connection, from a chosen address.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::netns::Namespace;

/// One GET request.
#[derive(Clone, Debug)]
pub struct Get {
    source: Option<IpAddr>,
    server: SocketAddr,
    target: String,
    headers: Vec<(String, String)>,
    timeout: Duration,
}

/// A response, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without any chunk framing.
    pub body: Vec<u8>,
}

impl Response {
    /// The first field of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| &**value)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Get {
    /// A request for `target` (path and query) at `server`.
    pub fn new(server: impl Into<SocketAddr>, target: impl Into<String>) -> Self {
        Self {
            source: None,
            server: server.into(),
            target: target.into(),
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
        }
    }

    /// From this address, one of the client's own.
    #[must_use]
    pub fn from(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// With a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives up after this long, connecting included; 10 seconds unless said otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends the request from inside a namespace.
    ///
    /// # Errors
    ///
    /// `TimedOut` when nobody answers, as when packets are dropped; `ConnectionRefused`, `ConnectionReset`;
    /// `InvalidData` when the answer is not HTTP; `UnexpectedEof` when it ends early.
    pub fn send(&self, namespace: &Namespace) -> io::Result<Response> {
        namespace.run(|| self.send_here())
    }

    /// Sends the request from the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// As [`Get::send`].
    pub fn send_here(&self) -> io::Result<Response> {
        let deadline = Instant::now() + self.timeout;
        let socket = Socket::new(Domain::for_address(self.server), Type::STREAM, None)?;
        if let Some(source) = self.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&self.server.into(), self.timeout)?;
        let mut stream = Deadline { stream: socket.into(), deadline };
        let mut head =
            format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.target, self.server);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        parse(&answer)
    }
}

/// A stream that gives up at a point in time, however slowly it drips.
struct Deadline {
    stream: std::net::TcpStream,
    deadline: Instant,
}

impl Read for Deadline {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => error,
        })
    }
}

fn parse(answer: &[u8]) -> io::Result<Response> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let end = find(answer, b"\r\n\r\n").ok_or_else(|| bad("the answer has no end of its head"))?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| bad("the head is not text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| bad("no status line"))?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &answer[end + 4..];
    let field = |name: &str| headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let body = if field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        dechunk(rest)?
    } else if let Some(length) = field("content-length") {
        let length: usize = length.parse().map_err(|_| bad("a length that is no number"))?;
        rest.get(..length).ok_or(io::ErrorKind::UnexpectedEof)?.to_vec()
    } else {
        rest.to_vec()
    };
    Ok(Response { status, headers, body })
}

fn dechunk(mut rest: &[u8]) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = find(rest, b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|line| line.split(';').next());
        let size = size.and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
        let size = size.ok_or(io::ErrorKind::InvalidData)?;
        if size == 0 {
            return Ok(body);
        }
        let chunk = rest.get(end + 2..end + 2 + size).ok_or(io::ErrorKind::UnexpectedEof)?;
        body.extend_from_slice(chunk);
        rest = rest.get(end + 2 + size + 2..).ok_or(io::ErrorKind::UnexpectedEof)?;
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::{Response, parse};

    #[test]
    fn reads_bodies_of_all_three_framings() {
        let body = |text: &str| parse(text.as_bytes()).map(|response: Response| response.text());
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd").unwrap(), "abc");
        assert_eq!(body("HTTP/1.1 200 OK\r\n\r\nabcd").unwrap(), "abcd");
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n";
        assert_eq!(body(chunked).unwrap(), "abcd");
    }

    #[test]
    fn an_answer_that_ends_early_is_an_error() {
        for text in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
        ] {
            assert_eq!(
                parse(text.as_bytes()).unwrap_err().kind(),
                std::io::ErrorKind::UnexpectedEof,
                "{text:?}"
            );
        }
    }
}
