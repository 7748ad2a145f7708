//! Sessions as they are shown, and counted.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    SessionId, SessionKey,
    entry::{Place, Session},
    moment::Moment,
};
use crate::{judge::Verdict, model::Stage};

/// Figures of the session table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCounters {
    /// Sessions that are open: of a player that is there.
    pub open: u64,
    /// Sessions in the table, denied ones and those of players that have gone quiet included.
    pub entries: u64,
    /// About as many bytes as they take.
    #[serde(default)]
    pub bytes: u64,
    /// Transfers that run now.
    pub transfers: u64,
    /// Sessions ever opened.
    pub opened: u64,
    /// Idle sessions that had to leave because the table was full.
    pub evicted: u64,
    /// Requests refused because the table, or their address's share of it, was full of live sessions.
    pub overflowed: u64,
    /// Questions asked of backends.
    pub questions: u64,
    /// Times that the backends were not asked, for a limit of nicgate's own.
    pub unasked: u64,
    /// Transfers that were cut.
    pub cut: u64,
    /// Sessions that were refused, or lost their place, because their user, token or address has too many.
    #[serde(default)]
    pub over_limit: u64,
    /// Sessions that operators ended.
    #[serde(default)]
    pub kicked: u64,
    /// Sessions that went on from another address.
    #[serde(default)]
    pub moved: u64,
}

/// What is counted as it happens, never by a request of a session that is open.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) open: AtomicU64,
    pub(super) opened: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) overflowed: AtomicU64,
    pub(super) questions: AtomicU64,
    pub(super) unasked: AtomicU64,
    pub(super) cut: AtomicU64,
    pub(super) over_limit: AtomicU64,
    pub(super) kicked: AtomicU64,
    pub(super) moved: AtomicU64,
}

impl Counts {
    pub(super) fn add(counter: &AtomicU64, amount: usize) {
        counter.fetch_add(amount as u64, Ordering::Relaxed);
    }

    /// With what the table knows.
    pub(super) fn read(&self, entries: usize, bytes: usize, transfers: usize) -> SessionCounters {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Self { open, opened, evicted, overflowed, questions, unasked, cut, over_limit, kicked, moved } =
            self;
        SessionCounters {
            open: of(open),
            entries: entries as u64,
            bytes: bytes as u64,
            transfers: transfers as u64,
            opened: of(opened),
            evicted: of(evicted),
            overflowed: of(overflowed),
            questions: of(questions),
            unasked: of(unasked),
            cut: of(cut),
            over_limit: of(over_limit),
            kicked: of(kicked),
            moved: of(moved),
        }
    }
}

/// One session, for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its id, as backends see it.
    pub id: SessionId,
    /// What makes it one session.
    #[serde(flatten)]
    pub key: SessionKey,
    /// The media protocol, as far as it is known.
    pub proto: Arc<str>,
    /// When it was opened, in seconds since 1970.
    pub opened_at: u64,
    /// How long ago, in seconds.
    pub open_seconds: u64,
    /// Seconds since its last request.
    pub idle_seconds: u64,
    /// Transfers that run now.
    pub transfers: usize,
    /// Bytes moved.
    pub bytes: u64,
    /// What the backends said, when they were asked.
    pub verdict: Option<Verdict>,
    /// Whether the backends or the default decided.
    pub stage: Option<Stage>,
    /// In how many seconds the backends are asked again.
    #[serde(default)]
    pub verdict_seconds: Option<u64>,
    /// X-UserId.
    pub user_id: Option<Arc<str>>,
    /// The User-Agent that opened it.
    pub user_agent: Option<Arc<str>>,
}

/// Which sessions are meant: those that all of this is true of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionFilter {
    /// The one with this id.
    #[serde(default)]
    pub id: Option<SessionId>,
    /// Those of this stream.
    #[serde(default)]
    pub stream: Option<Arc<str>>,
    /// Those of this X-UserId.
    #[serde(default)]
    pub user: Option<Arc<str>>,
    /// Those of this address.
    #[serde(default)]
    pub ip: Option<IpAddr>,
}

/// In which order sessions are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionSort {
    /// The latest used first.
    #[default]
    Used,
    /// Those that have moved most first.
    Bytes,
    /// The oldest first.
    Age,
}

impl SessionFilter {
    /// Whether it says nothing.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn matches(&self, session: &Session) -> bool {
        let Self { id, stream, user, ip } = self;
        let is = |wanted: &Option<Arc<str>>, text: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| text == Some(wanted))
        };
        id.is_none_or(|id| id == session.id)
            && is(stream, Some(&session.stream.name))
            && ip.is_none_or(|ip| ip.to_canonical() == session.address)
            && (user.is_none() || is(user, session.state().user.as_deref()))
    }
}

/// The session as it is shown; `None` when it is not open. `wall` is the time since 1970.
pub(super) fn info(session: &Session, now: Moment, wall: Duration) -> Option<SessionInfo> {
    let state = session.state();
    if !matches!(state.place, Place::Held) {
        return None;
    }
    let open = now.since(session.opened);
    let idle = if state.live > 0 { Duration::ZERO } else { now.since(session.seen()) };
    let cached = state.cached.as_ref();
    Some(SessionInfo {
        id: session.id,
        key: session.owned_key(),
        proto: session.protocol().as_str().into(),
        opened_at: wall.saturating_sub(open).as_secs(),
        open_seconds: open.as_secs(),
        idle_seconds: idle.as_secs(),
        transfers: state.live as usize,
        bytes: session.bytes.load(Ordering::Relaxed),
        verdict: cached.map(|cached| cached.said.decision.verdict),
        stage: cached.map(|cached| cached.said.decision.stage),
        verdict_seconds: cached.map(|cached| cached.until.since(now).as_secs()),
        user_id: state.user.clone(),
        user_agent: session.kept.player.ua.as_deref().map(Into::into),
    })
}
