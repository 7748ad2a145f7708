//! Sessions on their way from a process to the one that takes over from it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    SessionId, SessionKey, Sessions, Snapshot,
    entry::{Place, Session},
    info::Counts,
    kept::Kept,
    kicked::KickedRecord,
    moment::Moment,
    protocol::Protocol,
    snapshot::Fingerprint,
    verdict::Cached,
};
use crate::{
    backend::Conclusion,
    judge::{Decision, Ground, Judgement, Refusal, Request, Verdict},
    model::{PolicyId, Stage},
};

/// What one process tells the next. Times are lengths, for the two have clocks of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionRecord {
    /// A session.
    Session(Box<Past>),
    /// Who an operator has sent away.
    Kicked(KickedRecord),
}

/// A session that was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    id: SessionId,
    #[serde(flatten)]
    key: SessionKey,
    /// nicgate gave the token.
    token_given: bool,
    proto: Arc<str>,
    user_agent: Option<Arc<str>>,
    referer: Option<Arc<str>>,
    host: Option<Arc<str>>,
    query: Option<Arc<str>>,
    /// Since it began.
    open: Duration,
    /// Since it was last used.
    quiet: Duration,
    bytes: u64,
    target_duration: Option<Duration>,
    /// Questions that were asked about it.
    questions: u32,
    user: Option<Arc<str>>,
    /// Its player is there.
    held: bool,
    /// For how long it is refused still, and why.
    refused: Option<(Duration, Refusal)>,
    verdict: Option<VerdictRecord>,
}

/// What backends said when they admitted a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct VerdictRecord {
    /// Of the policy: in another one, the verdict means nothing.
    fingerprint: Fingerprint,
    stage: Stage,
    /// For how long it holds still.
    until: Duration,
    /// X-AuthDuration, in seconds.
    holds: u32,
    max_sessions: Option<u32>,
    unique: bool,
}

impl Sessions {
    /// Every session that the next process has to know of: those that are open, or refused, or admitted by backends. What
    /// was denied is asked about anew.
    pub fn export(&self) -> impl Iterator<Item = SessionRecord> {
        let now = self.clock.now();
        let kicked = self.kicked.left(now).into_iter().map(SessionRecord::Kicked);
        let session = move |session: Arc<Session>| record(&session, now).map(Box::new);
        kicked.chain(self.table.all().filter_map(session).map(SessionRecord::Session))
    }

    /// Takes over what was told. False when it means nothing here: its stream or its policy is another one by now, or there is
    /// no room.
    pub fn import(self: &Arc<Self>, record: &SessionRecord) -> bool {
        match record {
            SessionRecord::Session(past) => self.restore(past),
            SessionRecord::Kicked(kicked) => {
                self.send_away(kicked.clone());
                true
            }
        }
    }

    fn restore(self: &Arc<Self>, record: &Past) -> bool {
        let (snapshot, now) = (self.snapshot(), self.clock.now());
        let Some(stream) = snapshot.config.streams.get(&*record.key.stream) else { return false };
        let policy = stream.access(record.key.operation).policy();
        let fingerprint = policy.map(|id| Fingerprint::of(snapshot.config.policy(id)));
        let verdict = record.verdict.as_ref().filter(|verdict| fingerprint == Some(verdict.fingerprint));
        let request = record.request();
        let session = self.restored(record, &request, now);
        {
            let mut state = session.state();
            state.cached = verdict.map(|verdict| self.said(verdict, now));
            state.number = if verdict.is_some() { record.questions } else { 0 };
            state.user = record.user.clone().filter(|_| verdict.is_some());
            if let Some((left, why)) = record.refused {
                state.place = Place::Refused { until: now.after(left), why };
            }
        }
        let ground = self.ground(&snapshot, &request, &session);
        let wanted = record.refused.is_some() || verdict.is_some() || (record.held && ground.admits());
        if !wanted || !self.put(&session) {
            return false;
        }
        self.settle_down(&snapshot, &request, &session);
        if let Some((left, why)) = record.refused.filter(|_| session.kept.shown_token().is_some()) {
            self.refused.insert(self.name_of_session(&session), now.after(left), why, now);
        }
        if record.held && ground.admits() {
            self.place_again(&session, &snapshot, &ground);
        }
        true
    }

    fn restored(&self, record: &Past, request: &Request, now: Moment) -> Arc<Session> {
        let kept = Kept::of(request, self.players.of(request));
        let hash = self.hash_of(&record.key.stream, request);
        let stream = self.stream(&record.key.stream);
        let mut session = Session::new(hash, stream, request, kept, now);
        session.id = record.id;
        session.opened = now.before(record.open);
        *session.bytes.get_mut() = record.bytes;
        session.learn(None, record.target_duration);
        session.touch(now.before(record.quiet));
        Arc::new(session)
    }

    fn said(&self, verdict: &VerdictRecord, now: Moment) -> Cached {
        let conclusion = Conclusion {
            decision: Decision { verdict: Verdict::Allow, stage: verdict.stage, rule: None },
            auth_duration: Duration::from_secs(verdict.holds.into()),
            user_id: None,
            max_sessions: verdict.max_sessions,
            unique: verdict.unique,
            redirect: None,
            answers: Arc::default(),
            overloaded: false,
        };
        let said = self.sayings.share(verdict.fingerprint, &conclusion);
        Cached { said, until: now.after(verdict.until), holds: verdict.holds }
    }

    /// On what ground the session is admitted here, if it is.
    fn ground(&self, snapshot: &Snapshot, request: &Request, session: &Session) -> Ground {
        let Judgement { ground, .. } = self.judge(snapshot, request);
        let judged = |id: PolicyId| {
            let state = session.state();
            state.cached.as_ref().map(|cached| Ground::Judged(id, cached.said.decision))
        };
        ground.asks().and_then(judged).unwrap_or(ground)
    }

    /// Puts a session into the table. False when there is no room, or another one of its key.
    fn put(self: &Arc<Self>, session: &Arc<Session>) -> bool {
        let mut gone = Vec::new();
        let inserted = self.table.insert(session, &self.limits(), &mut gone);
        Counts::add(&self.counts.evicted, gone.len());
        gone.iter().for_each(|session| self.closed(session));
        self.keep_swept();
        inserted.is_ok_and(|inserted| Arc::ptr_eq(&inserted, session))
    }
}

impl Past {
    /// What its player would send.
    fn request(&self) -> Request {
        let SessionKey { operation, stream, address, token } = &self.key;
        let (auto_token, token) =
            if self.token_given { (token.clone(), None) } else { (None, token.clone()) };
        Request {
            operation: *operation,
            path: stream.clone(),
            proto: Protocol::named(&self.proto).as_str(),
            address: *address,
            port: 0,
            token,
            auto_token,
            ua: self.user_agent.clone(),
            referer: self.referer.clone(),
            // The page that was told is in the Referer's place.
            origin: None,
            host: self.host.clone(),
            query: self.query.clone(),
        }
    }
}

/// The session as it is told; `None` when there is nothing to tell.
fn record(session: &Session, now: Moment) -> Option<Past> {
    let state = session.state();
    let refused = match state.place {
        Place::Refused { until, why } if now < until => Some((until.since(now), why)),
        _ => None,
    };
    let held = matches!(state.place, Place::Held);
    let allows = state.cached.as_ref().filter(|cached| cached.said.allows());
    if state.closed || !(held || refused.is_some() || allows.is_some()) {
        return None;
    }
    let verdict = allows.map(|cached| VerdictRecord {
        fingerprint: cached.said.fingerprint,
        stage: cached.said.decision.stage,
        until: cached.until.since(now),
        holds: cached.holds,
        max_sessions: cached.said.max_sessions,
        unique: cached.said.unique,
    });
    let text = |text: Option<&str>| text.map(Arc::from);
    let player = &session.kept.player;
    Some(Past {
        id: session.id,
        key: session.owned_key(),
        token_given: session.kept.token().is_some() && session.kept.shown_token().is_none(),
        proto: session.protocol().as_str().into(),
        user_agent: text(player.ua.as_deref()),
        referer: text(player.referer.as_deref()),
        host: text(player.host.as_deref()),
        query: text(session.kept.query()),
        open: now.since(session.opened),
        quiet: if state.live > 0 { Duration::ZERO } else { now.since(session.seen()) },
        bytes: session.bytes.load(std::sync::atomic::Ordering::Relaxed),
        target_duration: session.pace(),
        questions: state.number,
        user: state.user.clone(),
        held,
        refused,
        verdict,
    })
}
