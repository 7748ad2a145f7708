//! A session: what never changes of it, and its state.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use smallvec::SmallVec;
use tokio::sync::watch;

use super::{
    SessionKey,
    holder::Holder,
    kept::Kept,
    key::{KeyRef, SessionId},
    moment::Moment,
    protocol::Protocol,
    stream::Stream,
    verdict::Cached,
};
use crate::{
    backend::Answered,
    judge::{Refusal, Request},
    model::Operation,
};

/// A client's connection, as far as sessions are concerned: whether it is still there.
#[derive(Clone, Debug)]
pub struct Presence(Option<Arc<()>>);

/// A session. What never changes is beside what a lock protects; a request that is only looked up writes to what stands
/// between.
#[derive(Debug)]
pub(super) struct Session {
    /// Of its key.
    pub(super) hash: u64,
    pub(super) id: SessionId,
    pub(super) operation: Operation,
    pub(super) stream: Arc<Stream>,
    /// The client; canonical.
    pub(super) address: IpAddr,
    pub(super) kept: Kept,
    pub(super) opened: Moment,
    /// When its last request came, or its last transfer ended.
    seen: AtomicU64,
    /// Bytes of its transfers, either way.
    pub(super) bytes: AtomicU64,
    /// The target duration of its playlist in milliseconds; 0 when that is not known.
    pace: AtomicU32,
    /// Its place in the table's order.
    pub(super) slot: AtomicU32,
    protocol: AtomicU8,
    /// Whether it was used since it was last considered for eviction.
    pub(super) used: AtomicBool,
    state: Mutex<State>,
}

/// What a session is counted as.
#[derive(Debug, Default)]
pub(super) enum Place {
    /// Nobody counts it: no request was admitted yet, or its player has gone quiet.
    #[default]
    None,
    /// It is open.
    Held,
    /// This other session of its user has taken its place.
    Lost(Weak<Session>),
    /// It is refused.
    Refused { until: Moment, why: Refusal },
}

/// What changes of a session.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What the backends said.
    pub(super) cached: Option<Cached>,
    /// The question that is on its way.
    pub(super) asking: Option<Arc<Pending>>,
    pub(super) place: Place,
    /// Those of whose sessions it is one, where their number is limited.
    pub(super) holders: SmallVec<[Holder; 1]>,
    /// X-UserId.
    pub(super) user: Option<Arc<str>>,
    /// Transfers that run.
    pub(super) live: u32,
    /// The number of the next question.
    pub(super) number: u32,
    /// It has left the table.
    pub(super) closed: bool,
    /// The connection of its last request, if that was the client's own.
    pub(super) connection: Option<Weak<()>>,
    /// Where it came from, if it has moved.
    pub(super) travel: Option<Box<Travel>>,
}

/// Where a session was before, and when it left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Travel {
    pub(super) from: IpAddr,
    pub(super) at: Moment,
}

/// What became of a question.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// It was not asked, for a limit of nicgate's own.
    NotAsked,
    /// What was said, and each backend's answer.
    Said(Cached, Arc<[Answered]>),
}

/// A question on its way, for those that wait for it.
#[derive(Debug)]
pub(super) struct Pending(pub(super) watch::Sender<Option<Outcome>>);

impl Session {
    /// A new session of a request.
    pub(super) fn new(hash: u64, stream: Arc<Stream>, request: &Request, kept: Kept, now: Moment) -> Self {
        Self {
            hash,
            id: SessionId::new(),
            operation: request.operation,
            stream,
            address: request.address.to_canonical(),
            kept,
            opened: now,
            seen: AtomicU64::new(now.0),
            bytes: AtomicU64::new(0),
            pace: AtomicU32::new(0),
            slot: AtomicU32::new(u32::MAX),
            protocol: AtomicU8::new(Protocol::named(request.proto).to_byte()),
            used: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// The session as it goes on from another address, with the key's hash there.
    pub(super) fn continued(
        &self,
        state: &State,
        (hash, address): (u64, IpAddr),
        kept: Kept,
        now: Moment,
    ) -> Self {
        let place = match &state.place {
            Place::Held => Place::Held,
            Place::Lost(by) => Place::Lost(by.clone()),
            Place::None | Place::Refused { .. } => Place::None,
        };
        let state = State {
            cached: state.cached.clone(),
            place,
            holders: state.holders.clone(),
            user: state.user.clone(),
            number: state.number,
            travel: Some(Box::new(Travel { from: self.address, at: now })),
            ..State::default()
        };
        let of = |counter: &AtomicU64| AtomicU64::new(counter.load(Ordering::Relaxed));
        Self {
            hash,
            id: self.id,
            operation: self.operation,
            stream: self.stream.clone(),
            address,
            kept,
            opened: self.opened,
            seen: AtomicU64::new(now.0),
            bytes: of(&self.bytes),
            pace: AtomicU32::new(self.pace.load(Ordering::Relaxed)),
            slot: AtomicU32::new(u32::MAX),
            protocol: AtomicU8::new(self.protocol.load(Ordering::Relaxed)),
            used: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn key(&self) -> KeyRef<'_> {
        KeyRef {
            operation: self.operation,
            stream: &self.stream.name,
            address: self.address,
            token: self.kept.token(),
        }
    }

    pub(super) fn owned_key(&self) -> SessionKey {
        SessionKey {
            operation: self.operation,
            stream: self.stream.name.clone(),
            address: self.address,
            token: self.kept.token().map(Into::into),
        }
    }

    /// Notes that it is used now.
    pub(super) fn touch(&self, now: Moment) {
        self.seen.store(now.0, Ordering::Relaxed);
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn seen(&self) -> Moment {
        Moment(self.seen.load(Ordering::Relaxed))
    }

    /// Notes what was learnt from a manifest.
    pub(super) fn learn(&self, protocol: Option<Protocol>, target_duration: Option<Duration>) {
        if let Some(protocol) = protocol {
            self.protocol.store(protocol.to_byte(), Ordering::Relaxed);
        }
        if let Some(pace) = target_duration {
            self.pace.store(u32::try_from(pace.as_millis()).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        Protocol::from_byte(self.protocol.load(Ordering::Relaxed))
    }

    /// How often its player asks for something at least, where that is known.
    pub(super) fn pace(&self) -> Option<Duration> {
        let pace = self.pace.load(Ordering::Relaxed);
        (pace > 0).then(|| Duration::from_millis(pace.into()))
    }

    /// The first request as later questions tell of it.
    pub(super) fn request(&self) -> Request {
        let text = |text: Option<&str>| text.map(Arc::from);
        let player = &self.kept.player;
        Request {
            operation: self.operation,
            path: self.stream.name.clone(),
            proto: self.protocol().as_str(),
            address: self.address,
            port: 0,
            token: text(self.kept.shown_token()),
            auto_token: None,
            ua: text(player.ua.as_deref()),
            referer: text(player.referer.as_deref()),
            origin: None,
            host: text(player.host.as_deref()),
            query: text(self.kept.query()),
        }
    }
}

impl Presence {
    /// A client's connection that has just begun.
    #[expect(clippy::new_without_default, reason = "one differs from every other one")]
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// A proxy's connection, by which many clients can come: it says nothing about any of them.
    pub fn unknown() -> Self {
        Self(None)
    }

    /// Whether it is that one.
    pub(super) fn is(&self, last: &Weak<()>) -> bool {
        self.0.as_ref().is_some_and(|own| std::ptr::eq(last.as_ptr(), Arc::as_ptr(own)))
    }

    pub(super) fn noted(&self, last: Option<&Weak<()>>) -> bool {
        last.map_or(self.0.is_none(), |last| self.is(last))
    }

    pub(super) fn note(&self) -> Option<Weak<()>> {
        self.0.as_ref().map(Arc::downgrade)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            made::{at, session},
            table::Table,
        },
        *,
    };

    #[test]
    fn later_questions_tell_what_was_learnt() {
        let viewer = session(&Table::new(), "192.0.2.1", "t", at(0.0));
        viewer.learn(Some(Protocol::named("dash")), None);
        let request = viewer.request();
        assert_eq!((request.proto, request.token.as_deref()), ("dash", Some("t")));
        assert_eq!((&*request.path, request.ua.as_deref()), ("cam", Some("VLC")));
    }
}
