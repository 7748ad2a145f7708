//! Asking the backends of a session: once however many requests wait, and again when their verdict runs out.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::{
    Cut, Sessions, Snapshot,
    entry::{Outcome, Pending, Session},
    info::Counts,
    snapshot::Fingerprint,
    verdict::Cached,
};
use crate::{
    backend::{AskLimits, Conclusion, Question, RequestType},
    judge::{Answer, Ground, Request},
    model::PolicyId,
};

/// Clears the way for the next question, also when this one breaks off.
struct Asking {
    session: Arc<Session>,
    pending: Arc<Pending>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut state = self.session.state();
        if state.asking.as_ref().is_some_and(|asking| Arc::ptr_eq(asking, &self.pending)) {
            state.asking = None;
        }
    }
}

impl Sessions {
    /// What the backends say of the session: as remembered, else as they are asked now.
    pub(super) async fn settle(
        self: &Arc<Self>,
        session: &Arc<Session>,
        snapshot: &Arc<Snapshot>,
        (id, fingerprint): (PolicyId, Fingerprint),
        request: &Arc<Request>,
    ) -> Outcome {
        // Longer than any question takes; only a question that broke off lets it pass.
        let policy = snapshot.config.policy(id);
        let patience = AskLimits::of(&snapshot.config).longest(policy) + Duration::from_secs(1);
        loop {
            let mut answer = {
                let mut state = session.state();
                if let Some(cached) = &state.cached
                    && cached.holds(fingerprint, self.clock.now())
                {
                    return Outcome::Said(cached.clone(), cached.said.answers.clone());
                }
                match &state.asking {
                    Some(pending) => pending.0.subscribe(),
                    None => {
                        let (pending, answer) = pending();
                        state.asking = Some(pending.clone());
                        // What was denied, or said by other backends, was no session of these.
                        state.number = 0;
                        self.spawn_question(session, pending, (snapshot.clone(), id, request.clone()), true);
                        answer
                    }
                }
            };
            let outcome = timeout(patience, answer.wait_for(Option::is_some)).await;
            match outcome.ok().and_then(Result::ok).and_then(|outcome| outcome.clone()) {
                Some(Outcome::Said(cached, _)) if cached.said.fingerprint != fingerprint => {}
                Some(outcome) => return outcome,
                // Nobody has said anything: the default is for backends that were asked and are silent.
                None => return Outcome::NotAsked,
            }
        }
    }

    /// Asks the backends again of an open session. False when there is nothing to ask: they were not asked before, or
    /// are being asked.
    pub(super) fn recheck(self: &Arc<Self>, session: &Arc<Session>) -> bool {
        let snapshot = self.snapshot();
        let stream = snapshot.config.stream_for(&session.stream.name);
        let policy = stream.and_then(|stream| stream.access(session.operation).policy());
        let mut state = session.state();
        let Some(cached) = state.cached.as_ref().filter(|cached| cached.said.allows()) else { return false };
        if state.asking.is_some() {
            return false;
        }
        match policy {
            Some(id) if Fingerprint::of(snapshot.config.policy(id)) == cached.said.fingerprint => {
                let (pending, _) = pending();
                state.asking = Some(pending.clone());
                drop(state);
                let request = Arc::new(session.request());
                self.spawn_question(session, pending, (snapshot, id, request), false);
                true
            }
            // A reload made the verdict worthless; the next request asks anew.
            _ => {
                state.cached = None;
                false
            }
        }
    }

    /// The question is in a task of its own so that a client that goes away does not cancel it for the others that wait:
    /// some tokens are good for one question only.
    fn spawn_question(
        self: &Arc<Self>,
        session: &Arc<Session>,
        pending: Arc<Pending>,
        asked: (Arc<Snapshot>, PolicyId, Arc<Request>),
        first: bool,
    ) {
        let sessions = self.clone();
        let asking = Asking { session: session.clone(), pending };
        tokio::spawn(async move { sessions.question(&asking, asked, first).await });
    }

    /// Asks the backends and writes down what they said. A question that requests wait for is not sent when none of them
    /// waits any more.
    async fn question(
        self: &Arc<Self>,
        asking: &Asking,
        (snapshot, id, request): (Arc<Snapshot>, PolicyId, Arc<Request>),
        first: bool,
    ) {
        let session = &asking.session;
        let policy = snapshot.config.policy(id);
        let fingerprint = Fingerprint::of(policy);
        Counts::add(&self.counts.questions, 1);
        let number = session.state().number;
        let question = self.question_of(session, request, number);
        let pending = asking.pending.clone();
        let wanted = move || !first || pending.0.receiver_count() > 0;
        let limits = AskLimits::of(&snapshot.config);
        let conclusion = self.backends.ask_while(policy, question, limits, Arc::new(wanted)).await;
        tracing::debug!(
            stream = %session.stream.name, session = %session.id, number,
            verdict = ?conclusion.decision.verdict, answers = ?conclusion.answers, "asked the backends"
        );
        let outcome = self.note(session, fingerprint, &conclusion);
        if let Outcome::Said(cached, _) = &outcome {
            self.table.look_at(session, session.recheck(cached));
            if !first {
                self.after_recheck(session, &snapshot, Ground::Judged(id, cached.said.decision));
            }
        }
        asking.pending.0.send_replace(Some(outcome));
    }

    fn question_of(&self, session: &Session, request: Arc<Request>, number: u32) -> Question {
        let counters = &self.counts;
        Question {
            request,
            name: session.stream.name.clone(),
            address: session.address,
            request_type: if number == 0 { RequestType::New } else { RequestType::Update },
            request_number: number.into(),
            session_id: session.id.to_string().into(),
            duration: self.clock.now().since(session.opened),
            bytes: session.bytes.load(std::sync::atomic::Ordering::Relaxed),
            stream_clients: session.stream.open(),
            total_clients: counters.open.load(std::sync::atomic::Ordering::Relaxed) as usize,
        }
    }

    /// Remembers what was said.
    fn note(&self, session: &Session, fingerprint: Fingerprint, conclusion: &Conclusion) -> Outcome {
        let (cached, responded) = self.cached(fingerprint, conclusion);
        let mut state = session.state();
        state.asking = None;
        // A session that only the default opened is still new to the backends.
        if conclusion.responded() || state.number > 0 {
            state.number = state.number.saturating_add(1);
        }
        if conclusion.overloaded {
            Counts::add(&self.counts.unasked, 1);
        }
        match &mut state.cached {
            // Admitted already: backends that do not respond, or could not be asked, change nothing.
            Some(former) if former.said.fingerprint == fingerprint && former.said.allows() && !responded => {
                former.until = cached.until;
                Outcome::Said(former.clone(), conclusion.answers.clone())
            }
            // A new one is told to come back.
            _ if conclusion.overloaded => Outcome::NotAsked,
            _ => {
                state.cached = Some(cached.clone());
                state.user = conclusion.user_id.clone();
                Outcome::Said(cached, conclusion.answers.clone())
            }
        }
    }

    /// What to remember, and whether any backend responded.
    fn cached(&self, fingerprint: Fingerprint, conclusion: &Conclusion) -> (Cached, bool) {
        let responded = conclusion.responded() && !conclusion.overloaded;
        let allowed = conclusion.answers.iter().any(|answered| answered.answer == Some(Answer::Allow));
        let holds = if allowed {
            conclusion.auth_duration
        } else if responded {
            self.limits().ban
        } else {
            self.limits().outage
        };
        let cached = Cached {
            said: self.sayings.share(fingerprint, conclusion),
            until: self.clock.now().after(holds),
            holds: u32::try_from(holds.as_secs()).unwrap_or(u32::MAX),
        };
        (cached, responded)
    }

    /// Ends what a new verdict of an open session no longer admits.
    fn after_recheck(&self, session: &Arc<Session>, snapshot: &Snapshot, ground: Ground) {
        if snapshot.config.shadow {
            return;
        }
        if ground.admits() {
            self.renew_place(session, snapshot, &ground);
        } else {
            self.close_place(session);
            self.cut_asking(session, Cut::Banned);
        }
    }
}

fn pending() -> (Arc<Pending>, watch::Receiver<Option<Outcome>>) {
    let (sender, receiver) = watch::channel(None);
    (Arc::new(Pending(sender)), receiver)
}
