//! Reading a raw request head strictly. What passes can be read in one way only, and is written again for
//! hyper from what was read here.

use http::StatusCode;

use super::Limits;
use crate::model::Limit;

/// How a request's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Content-Length, 0 when neither header is there.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
}

/// A head that can be read in one way only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The target in origin form: an absolute form was compared with Host and stripped.
    pub target: Vec<u8>,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether an empty chunked body has to follow, of which `written` says nothing: ffmpeg deletes with one.
    pub empty_chunks: bool,
    /// Whether it does something at the upstream, so that it is delivered though its client does not wait.
    pub acts: bool,
    /// Whether the client wants to switch to a protocol that passes; never with a body.
    pub upgrade: bool,
    /// The head for hyper: `/` as the target, header lines in canonical form.
    pub written: Vec<u8>,
}

/// Why a connection ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The answer.
    pub status: StatusCode,
    /// For the log and the client.
    pub reason: &'static str,
    /// The limit of nicgate's own that is exceeded, if one is.
    pub limit: Option<Limit>,
}

impl Reject {
    /// A 400.
    pub fn bad(reason: &'static str) -> Self {
        Self::with(StatusCode::BAD_REQUEST, reason)
    }

    /// Another status.
    pub(crate) fn with(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason, limit: None }
    }

    /// A limit is exceeded.
    pub(super) fn limited(limit: Limit, status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason, limit: Some(limit) }
    }
}

/// Methods whose bodies servers leave unread (RFC 9110, 9.3: their content has no defined meaning).
const BODILESS: [&[u8]; 4] = [b"GET", b"HEAD", b"OPTIONS", b"DELETE"];

/// The one protocol that an upgrade may switch to: `h2c` would carry requests past the judge.
const UPGRADE: &[u8] = b"websocket";

/// Finds the end of a head: the length with the empty line. Every line must end in CRLF.
///
/// # Errors
///
/// A line that ends in a bare LF, or a bare CR.
pub fn length(bytes: &[u8], from: usize) -> Result<Option<usize>, Reject> {
    // A CR at the very end may still get its LF.
    for at in from.saturating_sub(3)..bytes.len() {
        match bytes[at] {
            b'\n' if at == 0 || bytes[at - 1] != b'\r' => return Err(Reject::bad("bare LF in head")),
            b'\r' if bytes.get(at + 1).is_some_and(|next| *next != b'\n') => {
                return Err(Reject::bad("bare CR in head"));
            }
            b'\n' if bytes[..=at].ends_with(b"\r\n\r\n") => return Ok(Some(at + 1)),
            0 => return Err(Reject::bad("NUL in head")),
            _ => {}
        }
    }
    Ok(None)
}

/// Reads a whole head, the empty line included.
///
/// # Errors
///
/// What makes it ambiguous, or too large.
pub fn read(head: &[u8], limits: &Limits) -> Result<Head, Reject> {
    let head = head.strip_suffix(b"\r\n\r\n").ok_or(Reject::bad("head has no end"))?;
    let mut lines = Lines(Some(head));
    let request_line = lines.next().unwrap_or_default();
    let RequestLine { method, target, version } = read_request_line(request_line)?;
    if target.len() > limits.target_bytes {
        return Err(Reject::limited(Limit::TargetBytes, StatusCode::URI_TOO_LONG, "target is too long"));
    }
    let mut seen = Seen::default();
    let mut fields = Vec::with_capacity(head.len());
    for (count, line) in lines.enumerate() {
        if count >= limits.headers {
            return Err(Reject::limited(
                Limit::HeaderLines,
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "too many headers",
            ));
        }
        let (name, value) = read_field(line)?;
        seen.note(name, value)?;
        if method == b"DELETE" && name.eq_ignore_ascii_case(b"transfer-encoding") {
            continue;
        }
        for part in [name, b": ", value, b"\r\n"] {
            fields.extend_from_slice(part);
        }
    }
    let target = origin_form(target, seen.host, version)?;
    let mut framing = seen.framing(version)?;
    let empty_chunks = method == b"DELETE" && framing == Framing::Chunked;
    if empty_chunks {
        framing = Framing::Length(0);
    }
    // What the upstream leaves unread of it would be its next request, which nobody has judged.
    if framing != Framing::Length(0) && BODILESS.contains(&method) {
        return Err(Reject::bad("body of a request that has none"));
    }
    let acts = !matches!(method, b"GET" | b"HEAD" | b"OPTIONS");
    let upgrade = seen.websocket
        && seen.connection_upgrade
        && version == b"HTTP/1.1"
        && method == b"GET"
        && framing == Framing::Length(0);
    let written = [method, b" / ", version, b"\r\n", &fields, b"\r\n"].concat();
    Ok(Head { target: target.to_vec(), framing, empty_chunks, acts, upgrade, written })
}

struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.take()?;
        match rest.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => {
                self.0 = Some(&rest[end + 2..]);
                Some(&rest[..end])
            }
            None => Some(rest),
        }
    }
}

struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: &'a [u8],
}

fn read_request_line(line: &[u8]) -> Result<RequestLine<'_>, Reject> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Reject::bad("request line is not three words"));
    };
    if method.is_empty() || method.len() > 32 || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Reject::bad("method is not a token"));
    }
    if !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") {
        let known = version.starts_with(b"HTTP/") && version.len() == 8;
        let status = if known { StatusCode::HTTP_VERSION_NOT_SUPPORTED } else { StatusCode::BAD_REQUEST };
        return Err(Reject::with(status, "not HTTP/1.1 or HTTP/1.0"));
    }
    if method == b"CONNECT" || method == b"TRACE" {
        return Err(Reject::with(StatusCode::METHOD_NOT_ALLOWED, "method is not served"));
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(Reject::bad("target has characters that have to be encoded"));
    }
    Ok(RequestLine { method, target, version })
}

fn read_field(line: &[u8]) -> Result<(&[u8], &[u8]), Reject> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Reject::bad("folded header line"));
    }
    let colon =
        line.iter().position(|byte| *byte == b':').ok_or(Reject::bad("header line without a colon"))?;
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(Reject::bad("space before a header's colon"));
    }
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Reject::bad("header name is not a token"));
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Reject::bad("control character in a header"));
    }
    Ok((name, value))
}

/// Without spaces and tabs around; other white space is not optional white space in HTTP.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The name as everyone behind could read it: lower case, `_` and `.` taken for `-`.
pub(crate) fn canonical_name(name: &[u8]) -> Vec<u8> {
    name.iter()
        .map(|byte| match byte {
            b'_' | b'.' => b'-',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
    websocket: bool,
    connection_upgrade: bool,
    upgrades: bool,
}

impl<'a> Seen<'a> {
    fn note(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Reject> {
        let canonical = canonical_name(name);
        let exact = name.eq_ignore_ascii_case(&canonical);
        match canonical.as_slice() {
            b"content-length" | b"transfer-encoding" | b"host" if !exact => {
                Err(Reject::bad("header name is an alias of another"))
            }
            b"content-length" => {
                let length = read_length(value)?;
                match self.length.replace(length) {
                    None => Ok(()),
                    Some(_) => Err(Reject::bad("Content-Length is given twice")),
                }
            }
            b"transfer-encoding" => {
                if std::mem::replace(&mut self.chunked, true) {
                    return Err(Reject::bad("Transfer-Encoding is given twice"));
                }
                if value.eq_ignore_ascii_case(b"chunked") {
                    Ok(())
                } else {
                    Err(Reject::bad("Transfer-Encoding is not chunked alone"))
                }
            }
            b"host" => {
                if !is_host(value) {
                    return Err(Reject::bad("Host is malformed"));
                }
                match self.host.replace(value) {
                    None => Ok(()),
                    Some(_) => Err(Reject::bad("Host is given twice")),
                }
            }
            b"expect" if exact && !value.eq_ignore_ascii_case(b"100-continue") => {
                Err(Reject::with(StatusCode::EXPECTATION_FAILED, "unknown expectation"))
            }
            b"upgrade" if exact => {
                self.websocket = value.eq_ignore_ascii_case(UPGRADE) && !self.upgrades;
                self.upgrades = true;
                Ok(())
            }
            b"connection" if exact => {
                self.connection_upgrade |= value
                    .split(|byte| *byte == b',')
                    .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn framing(&self, version: &[u8]) -> Result<Framing, Reject> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Reject::bad("both Content-Length and Transfer-Encoding")),
            (true, None) if version == b"HTTP/1.0" => Err(Reject::bad("Transfer-Encoding in HTTP/1.0")),
            (true, None) => Ok(Framing::Chunked),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

fn read_length(value: &[u8]) -> Result<u64, Reject> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Reject::bad("Content-Length is malformed"));
    }
    let length = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
    // Some count with a sign.
    length
        .filter(|length| *length <= i64::MAX as u64)
        .ok_or(Reject::with(StatusCode::PAYLOAD_TOO_LARGE, "Content-Length is larger than anything"))
}

/// A host name or address with an optional port (RFC 9112, 3.2). An empty Host names nothing.
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (address, if port.is_empty() { None } else { Some(port.strip_prefix(':').unwrap_or("?")) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let named = text.starts_with('[') || host.bytes().all(plain);
    let numbered = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    !host.is_empty() && host.len() <= 255 && named && port.is_none_or(numbered)
}

/// How much of a refused request's first line is logged, in bytes.
const LOGGED: usize = 200;

/// The beginning of a request's first line for the log, escaped.
pub(crate) fn excerpt(request: &[u8]) -> String {
    let line = request.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    line[..line.len().min(LOGGED)].escape_ascii().to_string()
}

/// The answer to a PROXY protocol header that nobody was to send.
pub(crate) const STRANGE_PROXY: &str =
    "PROXY protocol from an address that the gate does not trust: `proxy_protocol from ADDRESS;`";

/// Whether a connection begins with a PROXY protocol header, version 1 or 2.
pub(crate) fn is_proxy_protocol(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PROXY ") || bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n")
}

/// Strips `http://host` off an absolute target, when it names the same host as the Host header.
fn origin_form<'a>(target: &'a [u8], host: Option<&[u8]>, version: &[u8]) -> Result<&'a [u8], Reject> {
    if host.is_none() && version == b"HTTP/1.1" {
        return Err(Reject::bad("no Host"));
    }
    if target.starts_with(b"/") {
        return Ok(target);
    }
    let scheme = target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case(b"http://"));
    let (Some(_), Some(host)) = (scheme, host) else {
        return Err(Reject::bad("target is not a path"));
    };
    let rest = &target[7..];
    let (authority, path) = rest.split_at(rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len()));
    if !authority.eq_ignore_ascii_case(host) {
        return Err(Reject::bad("target names another host than Host"));
    }
    if path.is_empty() { Err(Reject::bad("target has no path")) } else { Ok(path) }
}

#[cfg(test)]
mod tests;
