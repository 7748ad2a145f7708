//! The raw side of a client's connection, in front of hyper.
//!
//! hyper, like most servers, tolerates some of what proxies read differently. Three ways to be strict were
//! weighed: to write an HTTP/1 server (much code that hyper has right), to check what hyper has parsed (too
//! late: it no longer shows what was tolerated), and this one: frame every request here, refuse what is
//! ambiguous, and hand hyper only heads and chunks that this side has written itself. hyper then cannot
//! read anything in another way, and goes on doing what it does well.
//!
//! A refused head reaches hyper as an innocent last request, and its refusal goes through [`Wire`] to the
//! service that answers it: the answer comes in pipeline order and is counted and logged like any other.

use std::{
    future::Future,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Limits,
    chunked::{Chunked, Progress},
    head::{self, Framing, Reject},
    wire::{Fact, Wire},
};
use crate::model::Limit;

/// How much is read from the client at once, in bytes.
const READ_SIZE: usize = 16 * 1024;
/// How much of a closed connection is read on at most, in bytes.
const LINGER_BYTES: usize = 256 * 1024;
/// What hyper gets in place of a refused head.
const LAST_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// A chunked body of nothing.
const NO_CHUNKS: &[u8] = b"0\r\n\r\n";
/// What makes hyper's body decoder fail.
const BROKEN_CHUNK: &[u8] = b"!\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Between requests or in a head; so many bytes of it have been looked at.
    Head {
        looked: usize,
    },
    Length(u64),
    Chunked(Chunked),
    /// After a head that asks to switch protocols.
    Upgrade,
    /// The protocol was switched.
    Raw,
    /// Nothing more is read.
    Ended,
}

/// Frames and checks what a client sends before hyper sees it.
#[derive(Debug)]
pub(crate) struct Framer<S> {
    inner: S,
    wire: Wire,
    limits: Limits,
    reading: Reading,
    /// Read and not yet looked at.
    input: BytesMut,
    /// Looked at, for hyper.
    output: BytesMut,
    /// No whole head has come yet: the head's time runs from the connection's start.
    fresh: bool,
    /// The client has sent its last byte.
    eof: bool,
    /// The last request does something, and has come whole.
    whole: bool,
    /// When the current head, body or pause has lasted too long.
    read_deadline: Timer,
    write_deadline: Timer,
    linger_deadline: Timer,
    lingered: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Framer<S> {
    pub(crate) fn new(inner: S, wire: Wire, limits: Limits) -> Self {
        Self {
            inner,
            wire,
            limits,
            reading: Reading::Head { looked: 0 },
            input: BytesMut::new(),
            output: BytesMut::new(),
            fresh: true,
            eof: false,
            whole: false,
            read_deadline: Timer::default(),
            write_deadline: Timer::default(),
            linger_deadline: Timer::default(),
            lingered: 0,
        }
    }

    /// With bytes that were read already.
    pub(crate) fn with_input(mut self, input: BytesMut) -> Self {
        self.input = input;
        self
    }

    /// Refuses the connection, whatever else comes.
    pub(crate) fn refusing(mut self, reject: Reject, seen: &[u8]) -> Self {
        self.refuse_head(reject, seen);
        self
    }

    fn refuse(&mut self, reject: Reject) {
        let input = self.input.split();
        self.refuse_head(reject, &input);
    }

    fn refuse_head(&mut self, reject: Reject, head: &[u8]) {
        self.wire.push(Fact::Reject(reject, head::excerpt(head)));
        self.output.extend_from_slice(LAST_REQUEST);
        self.input.clear();
        self.reading = Reading::Ended;
        self.read_deadline.stop();
    }

    /// Moves whole pieces from input to output. False when more input has to come first.
    fn digest(&mut self) -> bool {
        match self.reading {
            Reading::Head { looked } => return self.digest_head(looked),
            Reading::Length(left) => {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(self.input.len());
                if taken == 0 {
                    return false;
                }
                // The output is empty whenever this is called: the bytes move without a copy.
                self.output.unsplit(self.input.split_to(taken));
                self.read_deadline.stop();
                self.whole = left == taken as u64;
                self.reading = match left - taken as u64 {
                    0 => Reading::Head { looked: 0 },
                    left => Reading::Length(left),
                };
            }
            Reading::Chunked(mut state) => match state.step(&mut self.input, &mut self.output) {
                Ok(Progress::Starved) => {
                    self.reading = Reading::Chunked(state);
                    return false;
                }
                Ok(Progress::Moved) => {
                    self.read_deadline.stop();
                    let done = state == Chunked::Done;
                    self.whole = done;
                    self.reading = if done { Reading::Head { looked: 0 } } else { Reading::Chunked(state) };
                }
                Err(fault) => {
                    self.wire.set_body_fault(fault);
                    self.output.extend_from_slice(BROKEN_CHUNK);
                    self.input.clear();
                    self.reading = Reading::Ended;
                }
            },
            Reading::Raw => {
                if self.input.is_empty() {
                    return false;
                }
                std::mem::swap(&mut self.input, &mut self.output);
            }
            Reading::Upgrade | Reading::Ended => return false,
        }
        true
    }

    fn digest_head(&mut self, looked: usize) -> bool {
        if self.fresh && looked == 0 && head::is_proxy_protocol(&self.input) {
            self.refuse(Reject::bad(head::STRANGE_PROXY));
            return true;
        }
        if self.input[..] == *b"\r" {
            // Its LF decides whether this is an empty line; packets are cut anywhere.
            return false;
        }
        if looked == 0 && self.input.starts_with(b"\r\n") {
            // One empty line after a body is an old habit of clients (RFC 9112, 2.2); a second one is not.
            self.input.advance(2);
        }
        let (head, read) = match head::length(&self.input, looked) {
            Ok(Some(length)) if length <= self.limits.head_bytes => {
                let read = head::read(&self.input[..length], &self.limits);
                let rest = &self.input[length..];
                if read.as_ref().is_ok_and(|head| head.empty_chunks) && !rest.starts_with(NO_CHUNKS) {
                    if NO_CHUNKS.starts_with(rest) {
                        return false;
                    }
                    self.refuse(Reject::bad("body of a request that has none"));
                    return true;
                }
                (self.input.split_to(length), read)
            }
            Ok(None) if self.input.len() < self.limits.head_bytes => {
                self.reading = Reading::Head { looked: self.input.len() };
                return false;
            }
            Ok(_) => {
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                self.refuse(Reject::limited(Limit::HeadBytes, status, "head is too long"));
                return true;
            }
            Err(reject) => {
                self.refuse(reject);
                return true;
            }
        };
        self.read_deadline.stop();
        self.fresh = false;
        match read {
            Err(reject) => self.refuse_head(reject, &head),
            Ok(head) => {
                if head.empty_chunks {
                    self.input.advance(NO_CHUNKS.len());
                }
                self.whole = head.acts && head.framing == Framing::Length(0);
                self.output.extend_from_slice(&head.written);
                self.reading = match head.framing {
                    _ if head.upgrade => Reading::Upgrade,
                    Framing::Chunked => Reading::Chunked(Chunked::Size),
                    Framing::Length(0) => Reading::Head { looked: 0 },
                    Framing::Length(length) => Reading::Length(length),
                };
                self.wire.push(Fact::Request { target: head.target, upgrade: head.upgrade });
            }
        }
        true
    }

    /// Whether the client has taken too long over what it is sending.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        let allowed = match self.reading {
            Reading::Head { .. } if self.fresh || !self.input.is_empty() => self.limits.head_time,
            Reading::Head { .. } => self.limits.idle_time,
            Reading::Length(_) | Reading::Chunked(_) => self.limits.body_time,
            Reading::Upgrade | Reading::Raw | Reading::Ended => return false,
        };
        if self.read_deadline.poll(cx, allowed).is_pending() {
            return false;
        }
        self.read_deadline.stop();
        match self.reading {
            Reading::Head { .. } if !self.input.is_empty() => {
                let status = StatusCode::REQUEST_TIMEOUT;
                self.refuse(Reject::with(status, "head took too long"));
            }
            Reading::Head { .. } => {
                if !self.wire.is_idle() {
                    // An answer is still on its way: the pause has not begun.
                    return self.poll_too_slow(cx);
                }
                self.eof = true;
            }
            _ => {
                self.wire.set_body_fault("body took too long");
                self.eof = true;
            }
        }
        true
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let was_empty = self.input.is_empty();
        let mut space = [const { MaybeUninit::uninit() }; READ_SIZE];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer))?;
        self.input.extend_from_slice(buffer.filled());
        let read = buffer.filled().len();
        if read == 0 {
            self.eof = true;
        } else if was_empty && !self.fresh && matches!(self.reading, Reading::Head { .. }) {
            // The pause is over; the head's own time begins.
            self.read_deadline.stop();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Framer<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.output.is_empty() {
                let taken = this.output.len().min(buffer.remaining());
                buffer.put_slice(&this.output[..taken]);
                this.output.advance(taken);
                return Poll::Ready(Ok(()));
            }
            if this.reading == Reading::Ended {
                // hyper answers and closes; an end of input would make it give up the answer.
                return Poll::Pending;
            }
            if this.reading == Reading::Upgrade {
                this.reading = match ready!(this.wire.poll_upgrade(cx)) {
                    true => Reading::Raw,
                    false => Reading::Head { looked: 0 },
                };
            }
            if this.digest() {
                continue;
            }
            if this.eof {
                // A publisher closes right after its last byte. What came whole is delivered whole: hyper would give
                // the request up when it learns of the end.
                if this.whole && this.wire.poll_idle(cx).is_pending() {
                    return Poll::Pending;
                }
                return Poll::Ready(Ok(()));
            }
            match this.poll_input(cx) {
                Poll::Ready(result) => result?,
                Poll::Pending if this.poll_too_slow(cx) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Framer<S> {
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.write_deadline.poll(cx, self.limits.send_time));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing"))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Framer<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_write(cx, bytes) {
            Poll::Ready(result) => {
                this.write_deadline.stop();
                Poll::Ready(result)
            }
            Poll::Pending => this.poll_stalled(cx).map(Err),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_write_vectored(cx, slices) {
            Poll::Ready(result) => {
                this.write_deadline.stop();
                Poll::Ready(result)
            }
            Poll::Pending => this.poll_stalled(cx).map(Err),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    /// Closes the sending side, then reads on for a moment: closing with unread bytes would send a reset
    /// that can destroy the last answer before the client has read it.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        let mut scratch = [0; 4096];
        while !this.eof && this.lingered < LINGER_BYTES {
            if this.linger_deadline.poll(cx, this.limits.linger_time).is_ready() {
                break;
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => this.lingered += buffer.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A deadline that starts with the first poll and can be stopped.
#[derive(Debug, Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Timer {
    fn poll(&mut self, cx: &mut Context<'_>, allowed: Duration) -> Poll<()> {
        if !std::mem::replace(&mut self.running, true) {
            let deadline = Instant::now() + allowed;
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(deadline),
                none => *none = Some(Box::pin(sleep_until(deadline))),
            }
        }
        self.sleep.as_mut().map_or(Poll::Pending, |sleep| sleep.as_mut().poll(cx))
    }

    fn stop(&mut self) {
        self.running = false;
    }
}
