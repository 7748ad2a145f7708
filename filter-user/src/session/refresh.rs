//! Each session's own task: it asks the backends, asks them again when their verdict runs out, and closes the
//! session in the end.

use std::{
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{
    Cut, Sessions, Snapshot,
    snapshot::Fingerprint,
    standing::{Session, Settled, Standing},
    transfer::moved,
};
use crate::{
    backend::{AskLimits, Conclusion, Question, RequestType},
    judge::{Answer, Request, Verdict},
    model::PolicyId,
};

impl Session {
    /// Makes sure that somebody closes the session in the end.
    pub(super) fn ensure_refresher(self: &Arc<Self>, sessions: &Arc<Sessions>) {
        let idle = {
            let refresher = self.refresher.lock().unwrap_or_else(PoisonError::into_inner);
            refresher.as_ref().is_none_or(tokio::task::AbortHandle::is_finished)
        };
        if idle {
            self.refresh(sessions, None);
        }
    }

    /// Starts the session's task, in place of the one that it had. With `ask`, it first asks the backends.
    ///
    /// The question is in a task of its own so that a client that goes away does not cancel it for the
    /// others that wait: some tokens are good for one question only.
    pub(super) fn refresh(
        self: &Arc<Self>,
        sessions: &Arc<Sessions>,
        ask: Option<(Arc<Snapshot>, PolicyId, Arc<Request>)>,
    ) {
        let task = tokio::spawn(refresh(Arc::downgrade(sessions), Arc::downgrade(self), ask)).abort_handle();
        let mut refresher = self.refresher.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(former) = refresher.replace(task) {
            former.abort();
        }
    }
}

/// Neither the sessions nor the session are kept alive while the task sleeps.
async fn refresh(
    sessions: Weak<Sessions>,
    session: Weak<Session>,
    ask: Option<(Arc<Snapshot>, PolicyId, Arc<Request>)>,
) {
    let mut next_number = 0;
    if let Some((snapshot, id, request)) = ask {
        let (Some(sessions), Some(session)) = (sessions.upgrade(), session.upgrade()) else { return };
        sessions.question(&session, &snapshot, (id, request), &mut next_number).await;
    }
    loop {
        let Some((window, wake)) = plan(&sessions, &session) else { return };
        sleep_until(wake).await;
        let (Some(sessions), Some(session)) = (sessions.upgrade(), session.upgrade()) else { return };
        if sessions.table().close_if_idle(&session, window) {
            return;
        }
        let Some(fingerprint) = session.due() else { continue };
        let snapshot = sessions.snapshot();
        let stream = snapshot.config.stream_for(&session.first.path);
        match stream.and_then(|stream| stream.access(session.first.operation).policy()) {
            Some(id) if Fingerprint::of(snapshot.config.policy(id)) == fingerprint => {
                let asked = (id, session.first.clone());
                sessions.question(&session, &snapshot, asked, &mut next_number).await;
                sessions.rejudge_session(&session);
            }
            // A reload made the verdict worthless; the next request asks anew.
            _ => {
                session.standing.send_replace(Standing::Unasked);
            }
        }
    }
}

/// How long the session may be idle, and when to look at it again; `None` when it is closed.
fn plan(sessions: &Weak<Sessions>, session: &Weak<Session>) -> Option<(Duration, Instant)> {
    let (sessions, session) = (sessions.upgrade()?, session.upgrade()?);
    let last_use = sessions.table().last_use(&session)?;
    let now = Instant::now();
    let (window, wake) = match &*session.standing.borrow() {
        Standing::Settled(settled) if settled.conclusion.decision.verdict == Verdict::Allow => {
            (settled.window, settled.until)
        }
        Standing::Settled(settled) => (Duration::ZERO, settled.until),
        // There is nothing to remember of it.
        Standing::Overloaded => (Duration::ZERO, now),
        Standing::Unasked | Standing::Asking => (sessions.limits.idle, last_use + sessions.limits.idle),
    };
    // A banned session can have live transfers that the lists admit: nothing is due then.
    Some((window, if wake > now { wake } else { now + Duration::from_secs(1) }))
}

impl Session {
    /// Whether an admission has run out, so that the backends have to be asked again.
    fn due(&self) -> Option<Fingerprint> {
        match &*self.standing.borrow() {
            Standing::Settled(settled)
                if settled.conclusion.decision.verdict == Verdict::Allow
                    && settled.until <= Instant::now() =>
            {
                Some(settled.fingerprint)
            }
            _ => None,
        }
    }
}

impl Sessions {
    /// Asks the backends and writes down what they said.
    async fn question(
        self: &Arc<Self>,
        session: &Arc<Session>,
        snapshot: &Snapshot,
        (id, request): (PolicyId, Arc<Request>),
        next_number: &mut u64,
    ) {
        let policy = snapshot.config.policy(id);
        let fingerprint = Fingerprint::of(policy);
        let (stream_clients, total_clients) = {
            let mut table = self.table();
            table.counters().questions += 1;
            table.clients(&session.key.stream)
        };
        let question = Question {
            request,
            name: session.key.stream.clone(),
            address: session.key.address,
            request_type: if *next_number == 0 { RequestType::New } else { RequestType::Update },
            request_number: *next_number,
            session_id: session.id.clone(),
            duration: session.opened.elapsed(),
            bytes: moved(&session.bytes),
            stream_clients,
            total_clients,
        };
        // Requests wait for the answer while there is none; later questions are for the session itself.
        let first = matches!(*session.standing.borrow(), Standing::Asking);
        let asked_for = Arc::downgrade(session);
        let wanted = move || {
            !first || asked_for.upgrade().is_some_and(|session| session.standing.receiver_count() > 0)
        };
        let limits = AskLimits::of(&snapshot.config);
        let conclusion = self.backends.ask_while(policy, question, limits, Arc::new(wanted)).await;
        tracing::debug!(
            stream = %session.key.stream, session = %session.id, number = *next_number,
            verdict = ?conclusion.decision.verdict, answers = ?conclusion.answers, "asked the backends"
        );
        // A session that only the default opened is still new to the backends.
        if conclusion.responded() || *next_number > 0 {
            *next_number += 1;
        }
        let overloaded = conclusion.overloaded;
        if overloaded {
            self.table().counters().unasked += 1;
        }
        session.standing.send_modify(|standing| {
            let settled = self.settled(conclusion, fingerprint);
            *standing = match standing {
                // An open session goes on; a new one is told to come back.
                Standing::Settled(former) if overloaded && former.fingerprint == fingerprint => {
                    Standing::Settled(Settled { until: settled.0.until, ..former.clone() })
                }
                _ if overloaded => Standing::Overloaded,
                // Already open: backends that do not respond change nothing.
                Standing::Settled(former) if former.fingerprint == fingerprint && !settled.1 => {
                    Standing::Settled(Settled { until: settled.0.until, ..former.clone() })
                }
                _ => Standing::Settled(settled.0),
            };
        });
    }

    /// What to remember, and whether any backend responded.
    fn settled(&self, conclusion: Conclusion, fingerprint: Fingerprint) -> (Settled, bool) {
        let responded = conclusion.responded() && !conclusion.overloaded;
        let allowed = conclusion.answers.iter().any(|answered| answered.answer == Some(Answer::Allow));
        let holds = if allowed {
            conclusion.auth_duration
        } else if responded {
            self.limits.ban
        } else {
            self.limits.outage
        };
        let settled = Settled {
            fingerprint,
            until: Instant::now() + holds,
            window: if allowed { conclusion.auth_duration } else { self.limits.idle },
            conclusion: Arc::new(conclusion),
        };
        (settled, responded)
    }

    /// After a question: cuts what the session's verdict no longer admits.
    fn rejudge_session(&self, session: &Arc<Session>) {
        let banned = matches!(
            &*session.standing.borrow(),
            Standing::Settled(settled) if settled.conclusion.decision.verdict == Verdict::Deny
        );
        if banned {
            self.cut_asking(session, Cut::Banned);
        }
    }
}
