//! A session, and how long it lasts.

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

/// How long a verdict is remembered for a player that has gone quiet, and may come back: after a pause, or with what it
/// had buffered played. The session itself ends much earlier.
const REMEMBERED: Duration = Duration::from_secs(600);
/// How long a session lasts of which there is nothing to remember: its first request is being judged.
const BEGINNING: Duration = Duration::from_secs(1);
/// How far questions of sessions that were admitted at the same time are spread at most.
const LONGEST_SPREAD: Duration = Duration::from_secs(30);
/// How often a player asks for something at least, where its playlist does not say so.
const USUAL_PACE: Duration = Duration::from_secs(10);

/// A client's connection, as far as sessions are concerned: whether it is still there.
#[derive(Clone, Debug, Default)]
pub struct Presence(Arc<()>);

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
    /// The connection of its last request.
    pub(super) connection: Weak<()>,
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

/// What has to be done with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing until then.
    Keep(Moment),
    /// Its verdict runs out.
    Ask,
    /// Its player has gone.
    End,
    /// There is nothing to remember of it.
    Close,
}

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
    fn pace(&self) -> Option<Duration> {
        let pace = self.pace.load(Ordering::Relaxed);
        (pace > 0).then(|| Duration::from_millis(pace.into()))
    }

    /// How long its player may be quiet before it counts as gone.
    pub(super) fn idle(&self, least: Duration) -> Duration {
        self.pace().map_or(least, |pace| least.max(2 * pace))
    }

    /// Whether its player seems to be gone, in the eyes of a session that would take its place and was asked for over
    /// `presence`: it has nothing on its way, and its connection has ended, or is used for the other session now, or
    /// it has not asked for what a player would have asked for.
    pub(super) fn is_quiet(&self, state: &State, now: Moment, presence: &Presence) -> bool {
        let left = || {
            let last = &state.connection;
            last.strong_count() == 0 || std::ptr::eq(last.as_ptr(), Arc::as_ptr(&presence.0))
        };
        let late = || now.since(self.seen()) > self.pace().unwrap_or(USUAL_PACE).mul_f64(1.5);
        state.live == 0 && (left() || late())
    }

    /// When the backends have to be asked again.
    pub(super) fn recheck(&self, cached: &Cached) -> Moment {
        let spread = (Duration::from_secs(cached.holds.into()) / 10).min(LONGEST_SPREAD);
        cached.until.before(self.id.part_of(spread))
    }

    /// What has to be done with it now.
    pub(super) fn due(&self, state: &State, now: Moment, least_idle: Duration) -> Due {
        let used = if state.live > 0 { now } else { self.seen() };
        match &state.place {
            Place::Held => {
                let end = used.after(self.idle(least_idle));
                if now >= end {
                    return Due::End;
                }
                match &state.cached {
                    Some(cached) if cached.said.allows() && state.asking.is_none() => {
                        let recheck = self.recheck(cached);
                        if now >= recheck { Due::Ask } else { Due::Keep(end.min(recheck)) }
                    }
                    _ => Due::Keep(end),
                }
            }
            Place::Refused { until, .. } if now >= *until => Due::Close,
            Place::Refused { until, .. } => Due::Keep(*until),
            Place::None | Place::Lost(_) => {
                let until = match &state.cached {
                    _ if state.live > 0 || state.asking.is_some() => now.after(BEGINNING),
                    Some(cached) => cached.until.min(used.after(REMEMBERED)),
                    None => used.after(BEGINNING),
                };
                if now >= until { Due::Close } else { Due::Keep(until) }
            }
        }
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
            host: text(player.host.as_deref()),
            query: text(self.kept.query()),
        }
    }
}

impl Presence {
    /// A connection that has just begun.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn noted(&self, last: &Weak<()>) -> bool {
        std::ptr::eq(last.as_ptr(), Arc::as_ptr(&self.0))
    }

    pub(super) fn note(&self) -> Weak<()> {
        Arc::downgrade(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            made::{at, session},
            snapshot::Fingerprint,
            table::Table,
            verdict::Said,
        },
        *,
    };
    use crate::{
        judge::{Decision, Verdict},
        model::Stage,
    };

    const IDLE: Duration = Duration::from_secs(30);

    fn said(verdict: Verdict, until: Moment, holds: u32) -> Cached {
        let decision = Decision { verdict, stage: Stage::Backend, rule: None };
        let said = Said {
            fingerprint: Fingerprint::default(),
            decision,
            redirect: None,
            answers: Arc::default(),
            max_sessions: None,
            unique: false,
        };
        Cached { said: Arc::new(said), until, holds }
    }

    fn viewer() -> Arc<Session> {
        let viewer = session(&Table::new(), "192.0.2.1", "t", at(0.0));
        viewer.state().place = Place::Held;
        viewer
    }

    fn due(session: &Session, seconds: f64) -> Due {
        session.due(&session.state(), at(seconds), IDLE)
    }

    #[test]
    fn a_session_ends_when_its_player_has_gone_and_not_with_its_verdict() {
        let viewer = viewer();
        viewer.state().cached = Some(said(Verdict::Allow, at(36_000.0), 36_000));
        viewer.touch(at(10.0));
        assert_eq!(due(&viewer, 39.9), Due::Keep(at(40.0)));
        assert_eq!(due(&viewer, 40.0), Due::End);
        // Its playlist lets expect longer pauses, or shorter ones.
        viewer.learn(None, Some(Duration::from_secs(20)));
        assert_eq!(due(&viewer, 40.0), Due::Keep(at(50.0)));
        viewer.learn(None, Some(Duration::from_secs(2)));
        assert_eq!(due(&viewer, 40.0), Due::End);
        // While a body is on its way its player is there.
        viewer.state().live = 1;
        assert!(matches!(due(&viewer, 1000.0), Due::Keep(_)));
    }

    #[test]
    fn the_backends_are_asked_again_a_little_before_the_verdict_runs_out() {
        let viewer = viewer();
        viewer.state().live = 1;
        for (holds, earliest) in [(10, 9.0), (36_000, 35_970.0)] {
            let until = at(f64::from(holds));
            viewer.state().cached = Some(said(Verdict::Allow, until, holds));
            assert!(matches!(due(&viewer, earliest - 0.1), Due::Keep(_)), "not earlier than that");
            assert_eq!(due(&viewer, f64::from(holds)), Due::Ask);
        }
        // Once is enough.
        viewer.state().asking = Some(Arc::new(Pending(watch::Sender::new(None))));
        assert!(matches!(due(&viewer, 36_000.0), Due::Keep(_)));
    }

    #[test]
    fn a_verdict_is_remembered_for_a_player_that_pauses_and_not_for_ever() {
        let viewer = viewer();
        viewer.state().place = Place::None;
        viewer.touch(at(100.0));
        viewer.state().cached = Some(said(Verdict::Allow, at(36_000.0), 36_000));
        assert_eq!(due(&viewer, 100.0), Due::Keep(at(700.0)));
        assert_eq!(due(&viewer, 700.0), Due::Close);
        viewer.state().cached = Some(said(Verdict::Allow, at(150.0), 60));
        assert_eq!(due(&viewer, 149.0), Due::Keep(at(150.0)));
        assert_eq!(due(&viewer, 150.0), Due::Close, "nobody is asked about a player that has gone");
        viewer.state().cached = Some(said(Verdict::Deny, at(110.0), 10));
        assert_eq!(due(&viewer, 110.0), Due::Close);
        viewer.state().cached = None;
        assert_eq!(due(&viewer, 101.0), Due::Close);
    }

    #[test]
    fn a_player_is_quiet_when_its_connection_has_ended_or_it_is_late() {
        let viewer = viewer();
        let (own, other) = (Presence::new(), Presence::new());
        let quiet = |seconds, of: &Presence| viewer.is_quiet(&viewer.state(), at(seconds), of);
        viewer.state().connection = own.note();
        assert!(!quiet(5.0, &other), "it can ask for more");
        assert!(quiet(5.0, &own), "its connection is used for another channel");
        assert!(quiet(15.1, &other));
        viewer.learn(None, Some(Duration::from_secs(60)));
        assert!(!quiet(80.0, &other) && quiet(91.0, &other));
        drop(own);
        assert!(quiet(1.0, &other));
        viewer.state().live = 1;
        assert!(!quiet(1000.0, &other));
    }

    #[test]
    fn later_questions_tell_what_was_learnt() {
        let viewer = viewer();
        viewer.learn(Some(Protocol::named("dash")), None);
        let request = viewer.request();
        assert_eq!((request.proto, request.token.as_deref()), ("dash", Some("t")));
        assert_eq!((&*request.path, request.ua.as_deref()), ("cam", Some("VLC")));
    }
}
