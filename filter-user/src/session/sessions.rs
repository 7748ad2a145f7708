//! Every session, and the snapshot that they are judged by.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};

use super::{
    SessionCounters, SessionLimits, Snapshot,
    claims::Claims,
    entry::{Place, Presence, Session},
    follow::Whereabouts,
    holder::{Digests, Holder, What},
    info::Counts,
    kept::{Kept, Players, key_token},
    key::KeyRef,
    kicked::KickedNames,
    live::{Live, Running},
    moment::{Clock, Moment},
    refused::Refused,
    stream::{Stream, Streams},
    sweep,
    table::Table,
    verdict::Sayings,
};
use crate::{
    backend::{BackendStatus, Backends},
    bans::BanIndex,
    judge::{Judgement, Request, judge},
    kernel::boottime,
    limits::LimitHits,
    model::{Limit, Operation},
};

/// Every session, and the snapshot that they are judged by.
#[derive(Debug)]
pub struct Sessions {
    current: ArcSwap<Snapshot>,
    bans: ArcSwap<BanIndex>,
    pub(super) clock: Clock,
    pub(super) table: Table,
    pub(super) live: Live,
    pub(super) claims: Claims,
    pub(super) refused: Refused,
    pub(super) kicked: KickedNames,
    pub(super) digests: Digests,
    streams: Streams,
    pub(super) players: Players,
    pub(super) sayings: Sayings,
    pub(super) whereabouts: Whereabouts,
    pub(super) counts: Counts,
    pub(super) backends: Backends,
    limits: SessionLimits,
    hits: Arc<LimitHits>,
    sweeping: AtomicBool,
}

impl Sessions {
    /// No session yet.
    pub fn new(snapshot: Arc<Snapshot>, limits: SessionLimits) -> Arc<Self> {
        let hits: Arc<LimitHits> = Arc::default();
        Arc::new(Self {
            current: ArcSwap::new(snapshot),
            bans: ArcSwap::default(),
            clock: Clock::new(),
            table: Table::new(),
            live: Live::new(),
            claims: Claims::new(),
            refused: Refused::new(),
            kicked: KickedNames::default(),
            digests: Digests::new(),
            streams: Streams::default(),
            players: Players::new(),
            sayings: Sayings::default(),
            whereabouts: Whereabouts::new(),
            counts: Counts::default(),
            backends: Backends::new(hits.clone()),
            limits,
            hits,
            sweeping: AtomicBool::new(false),
        })
    }

    /// What requests are judged by now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The same, without a count that all processors share.
    pub(super) fn snapshot_now(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Whom the gates refuse now.
    pub(super) fn bans(&self) -> Guard<Arc<BanIndex>> {
        self.bans.load()
    }

    pub(super) fn swap_bans(&self, bans: BanIndex) {
        self.bans.store(Arc::new(bans));
    }

    pub(super) fn swap(&self, snapshot: Arc<Snapshot>) {
        self.current.store(snapshot);
    }

    /// The table's figures.
    pub fn counters(&self) -> SessionCounters {
        self.counts.read(self.table.entries(), self.table.bytes(), self.live.count())
    }

    /// How often limits of nicgate's own were reached; gates count theirs here, too.
    pub fn hits(&self) -> &Arc<LimitHits> {
        &self.hits
    }

    /// Every backend that was asked: how it stands, and what was counted.
    pub fn backends(&self) -> Vec<BackendStatus> {
        self.backends.status()
    }

    /// The bounds that the configuration sets now.
    pub(super) fn limits(&self) -> SessionLimits {
        self.limits.set_by(&self.current.load().config)
    }

    /// What is said of a request before any backend is asked.
    pub(super) fn judge(&self, snapshot: &Snapshot, request: &Request) -> Judgement {
        judge(&snapshot.config, &*snapshot.countries, &self.bans(), boottime(), request)
    }

    /// The hash of a request's key.
    pub(super) fn hash_of(&self, stream: &str, request: &Request) -> u64 {
        self.table.hash(&key_of(stream, request))
    }

    /// The session of a request, if there is one.
    pub(super) fn find(&self, stream: &str, request: &Request, now: Moment) -> Option<Arc<Session>> {
        let key = key_of(stream, request);
        let session = self.table.find(self.table.hash(&key), &key)?;
        session.touch(now);
        Some(session)
    }

    /// A new session for a request, unless there is one by now.
    pub(super) fn open(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        stream: &Arc<str>,
        (request, now): (&Request, Moment),
    ) -> Result<Arc<Session>, Limit> {
        let limits = self.limits.set_by(&snapshot.config);
        let hash = self.hash_of(stream, request);
        let kept = Kept::of(request, self.players.of(request));
        let session = Arc::new(Session::new(hash, self.streams.get(stream), request, kept, now));
        let mut gone = Vec::new();
        let opened = self.table.insert(&session, &limits, &mut gone);
        Counts::add(&self.counts.evicted, gone.len());
        gone.iter().for_each(|session| self.closed(session));
        match &opened {
            Ok(inserted) if Arc::ptr_eq(inserted, &session) => {
                Counts::add(&self.counts.opened, 1);
                self.keep_swept();
            }
            Ok(_) => {}
            Err(limit) => {
                Counts::add(&self.counts.overflowed, 1);
                let remedy = "answered 503: every session that could make room has a live transfer";
                self.hits.hit(*limit, limits.value(*limit), request.address, remedy);
            }
        }
        opened
    }

    /// Starts what looks after all sessions, unless it runs.
    pub(super) fn keep_swept(self: &Arc<Self>) {
        if !self.sweeping.swap(true, Ordering::Relaxed) {
            sweep::start(self);
        }
    }

    /// The stream that sessions of this name belong to.
    pub(super) fn stream(&self, name: &Arc<str>) -> Arc<Stream> {
        self.streams.get(name)
    }

    /// What a request is refused by: its token, whoever shows it. One that nicgate gave is none, for whoever is
    /// refused gets another one.
    pub(super) fn name_of(&self, stream: &str, request: &Request) -> Holder {
        let address = request.address.to_canonical();
        self.name(request.token.as_deref(), (request.operation, stream, address))
    }

    /// The same, of a session.
    pub(super) fn name_of_session(&self, session: &Session) -> Holder {
        let place = (session.operation, &*session.stream.name, session.address);
        self.name(session.kept.shown_token(), place)
    }

    pub(super) fn name(
        &self,
        token: Option<&str>,
        (operation, stream, address): (Operation, &str, IpAddr),
    ) -> Holder {
        self.digests.of(match token {
            Some(token) => What::Token(token),
            None => What::Nameless { operation, stream, address },
        })
    }

    /// After a session has left the table: nobody counts it any more.
    pub(super) fn closed(&self, session: &Arc<Session>) {
        let held = matches!(std::mem::take(&mut session.state().place), Place::Held);
        if held {
            self.count_out(session);
        }
        self.release(session);
    }

    /// After a session has ceased to be open.
    pub(super) fn count_out(&self, session: &Session) {
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
        session.stream.leave(session.operation);
    }

    /// Counts a session as open, unless its stream has as many as it may.
    pub(super) fn count_in(&self, session: &Session, most: Option<u32>) -> bool {
        let entered = session.stream.enter(session.operation, most);
        if entered {
            self.counts.open.fetch_add(1, Ordering::Relaxed);
        }
        entered
    }

    /// Gives up the places that a session has.
    pub(super) fn release(&self, session: &Arc<Session>) {
        let holders = std::mem::take(&mut session.state().holders);
        holders.into_iter().for_each(|holder| self.claims.release(session, holder));
    }

    /// Registers a live transfer; `None` when the session has left the table, or lost its place, meanwhile.
    pub(super) fn begin(
        &self,
        session: &Arc<Session>,
        request: &Arc<Request>,
        presence: &Presence,
    ) -> Option<(Arc<Running>, usize)> {
        let running = Running::new(session.clone(), request.clone());
        // Registered first: whoever takes the place away afterwards finds it.
        let key = self.live.insert(running.clone());
        let begun = {
            let mut state = session.state();
            let begun = !state.closed && matches!(state.place, Place::Held);
            if begun {
                state.live += 1;
                if !presence.noted(state.connection.as_ref()) {
                    state.connection = presence.note();
                }
            }
            begun
        };
        if !begun {
            self.live.remove(&running, key);
        }
        begun.then_some((running, key))
    }

    /// Ends a live transfer.
    pub(super) fn end(&self, running: &Running, key: usize) {
        self.live.remove(running, key);
        running.session.touch(self.clock.now());
        running.session.state().live -= 1;
    }
}

fn key_of<'a>(stream: &'a str, request: &'a Request) -> KeyRef<'a> {
    KeyRef {
        operation: request.operation,
        stream,
        address: request.address.to_canonical(),
        token: key_token(request),
    }
}
