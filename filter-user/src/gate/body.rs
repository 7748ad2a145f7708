//! Bodies on their way through: counted, never kept, and cut when their transfer is.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::{
    counters::{GateState, add},
    pace::Pace,
};
use crate::{
    http::Wire,
    manifest::Playlist,
    session::{Cut, Meter, Transfer},
};

/// Why a body breaks off.
#[derive(Debug)]
pub(super) enum Broken {
    Cut(Cut),
    Hyper(hyper::Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(why) => write!(f, "transfer was cut: {why:?}"),
            Self::Hyper(error) => write!(f, "peer broke off: {error}"),
        }
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Cut(_) => None,
            Self::Hyper(error) => Some(error),
        }
    }
}

type CutSignal = Pin<Box<dyn Future<Output = Cut> + Send>>;

/// Tells the connection that an answer is finished, when it is dropped.
#[derive(Debug)]
pub(super) struct Answer(Wire);

impl Answer {
    pub(super) fn to(wire: &Wire) -> Self {
        Self(wire.clone())
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.answered();
    }
}

enum Source {
    /// All of it.
    Whole(Full<Bytes>),
    Upstream(Incoming),
    /// What was read of it already, then the rest, through a playlist's rewriting if it is one.
    Begun(Bytes, Incoming, Option<Box<Playlist>>),
}

/// What a client gets.
pub(super) struct ResponseBody {
    source: Source,
    own: bool,
    transfer: Option<(Transfer, Meter, CutSignal)>,
    /// For a manifest, until it has said what is to be learnt.
    pub(super) pace: Option<Pace>,
    gate: Arc<GateState>,
    /// Set when the response is complete; dropped with it.
    pub(super) answer: Option<Answer>,
}

impl ResponseBody {
    pub(super) fn own(gate: &Arc<GateState>, text: impl Into<Bytes>) -> Self {
        let source = Source::Whole(Full::new(text.into()));
        Self { source, own: true, transfer: None, pace: None, gate: gate.clone(), answer: None }
    }

    /// Whether it is an answer of nicgate's own.
    pub(super) fn is_own(&self) -> bool {
        self.own
    }

    /// As it comes from the upstream.
    pub(super) fn upstream(gate: &Arc<GateState>, body: Incoming, transfer: Transfer) -> Self {
        Self::of(gate, Source::Upstream(body), transfer)
    }

    /// What was read whole.
    pub(super) fn whole(gate: &Arc<GateState>, body: impl Into<Bytes>, transfer: Transfer) -> Self {
        Self::of(gate, Source::Whole(Full::new(body.into())), transfer)
    }

    /// What was begun to be read, as it was.
    pub(super) fn begun(gate: &Arc<GateState>, read: Bytes, rest: Incoming, transfer: Transfer) -> Self {
        Self::of(gate, Source::Begun(read, rest, None), transfer)
    }

    /// A playlist whose beginning has been written anew; `rest` still has to be.
    pub(super) fn playlist(
        gate: &Arc<GateState>,
        written: impl Into<Bytes>,
        rest: Incoming,
        playlist: Playlist,
        transfer: Transfer,
    ) -> Self {
        Self::of(gate, Source::Begun(written.into(), rest, Some(Box::new(playlist))), transfer)
    }

    fn of(gate: &Arc<GateState>, source: Source, transfer: Transfer) -> Self {
        let cut: CutSignal = Box::pin(transfer.cut());
        let meter = transfer.meter();
        let transfer = Some((transfer, meter, cut));
        Self { source, own: false, transfer, pace: None, gate: gate.clone(), answer: None }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if let Some((transfer, _, cut)) = &mut this.transfer
            && let Poll::Ready(why) = cut.as_mut().poll(cx)
        {
            tracing::info!(service = %this.gate.key, session = %transfer.session_id(), ?why, "cut a transfer");
            add(&this.gate.cut, 1);
            this.transfer = None;
            return Poll::Ready(Some(Err(Broken::Cut(why))));
        }
        let frame = match &mut this.source {
            Source::Whole(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(|never| match never {}))
            }
            Source::Upstream(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(Broken::Hyper))
            }
            Source::Begun(begun, _, _) if !begun.is_empty() => Some(Ok(Frame::data(std::mem::take(begun)))),
            Source::Begun(_, rest, None) => {
                ready!(Pin::new(rest).poll_frame(cx)).map(|frame| frame.map_err(Broken::Hyper))
            }
            Source::Begun(_, rest, Some(playlist)) => ready!(poll_playlist(cx, rest, playlist)),
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let bytes = data.remaining() as u64;
            add(&this.gate.bytes_sent, bytes);
            if let Some((transfer, meter, _)) = &this.transfer {
                meter.moved(bytes);
                if this.pace.as_mut().is_some_and(|pace| pace.see(data, transfer)) {
                    this.pace = None;
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(body) => body.is_end_stream(),
            Source::Upstream(body) => body.is_end_stream(),
            // A playlist may still have a line to write when nothing more comes.
            Source::Begun(begun, rest, playlist) => {
                begun.is_empty() && rest.is_end_stream() && playlist.is_none()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(body) => body.size_hint(),
            Source::Upstream(body) => body.size_hint(),
            Source::Begun(begun, rest, None) => {
                let (begun, rest) = (begun.len() as u64, rest.size_hint());
                let mut hint = SizeHint::new();
                hint.set_lower(begun.saturating_add(rest.lower()));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(begun.saturating_add(upper));
                }
                hint
            }
            Source::Begun(_, _, Some(_)) => SizeHint::new(),
        }
    }
}

/// The next piece of a playlist, with the token.
fn poll_playlist(
    cx: &mut Context<'_>,
    rest: &mut Incoming,
    playlist: &mut Playlist,
) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
    let mut out = Vec::new();
    loop {
        match ready!(Pin::new(&mut *rest).poll_frame(cx)) {
            Some(Ok(frame)) => {
                // Trailers would be about other bytes.
                if let Some(data) = frame.data_ref() {
                    playlist.push(data, &mut out);
                }
                if !out.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(out.into()))));
                }
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(Broken::Hyper(error)))),
            None => {
                playlist.finish(&mut out);
                return Poll::Ready((!out.is_empty()).then(|| Ok(Frame::data(out.into()))));
            }
        }
    }
}

/// When something of a request's body last moved, and whether the client broke it off.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<Instant>>, Arc<AtomicBool>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())), Arc::default())
    }

    pub(super) fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the client broke off.
    pub(super) fn broken_off(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// What the upstream gets.
pub(super) struct RequestBody {
    /// `None` for a request without a body.
    pub(super) source: Option<(Incoming, CutSignal)>,
    pub(super) gate: Arc<GateState>,
    pub(super) meter: Meter,
    pub(super) activity: Activity,
}

impl RequestBody {
    pub(super) fn new(gate: &Arc<GateState>, body: Incoming, transfer: &Transfer) -> Self {
        let source: Option<(Incoming, CutSignal)> =
            if body.is_end_stream() { None } else { Some((body, Box::pin(transfer.cut()))) };
        Self { source, gate: gate.clone(), meter: transfer.meter(), activity: Activity::new() }
    }

    /// The same request's, when it has none: to be sent again.
    pub(super) fn without_source(&self) -> Self {
        Self {
            source: None,
            gate: self.gate.clone(),
            meter: self.meter.clone(),
            activity: self.activity.clone(),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let Some((body, cut)) = &mut this.source else { return Poll::Ready(None) };
        if let Poll::Ready(why) = cut.as_mut().poll(cx) {
            this.source = None;
            return Poll::Ready(Some(Err(Broken::Cut(why))));
        }
        let frame = ready!(Pin::new(body).poll_frame(cx));
        this.activity.note();
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            add(&this.gate.bytes_received, data.len() as u64);
            this.meter.moved(data.len() as u64);
        }
        if let Some(Err(_)) = &frame {
            this.activity.1.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Broken::Hyper)))
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.source.as_ref().map_or(SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}
