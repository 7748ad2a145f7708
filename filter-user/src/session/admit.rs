//! Admitting a request: its judgement, what the backends say where the lists leave it to them, and whether its session
//! has a place.

use std::sync::Arc;

use super::{
    Presence, Sessions, Snapshot, Transfer,
    entry::{Outcome, Session},
    place::NoPlace,
    snapshot::Fingerprint,
};
use crate::{
    backend::{Answered, Redirect},
    judge::{Ground, Judgement, Request, judge},
    kernel::boottime,
    model::{Limit, PolicyId},
};

/// What became of a request.
#[derive(Debug)]
pub struct Admission {
    /// What was said of it; no backend remains to be asked.
    pub judgement: Judgement,
    /// Where the backends send a refused client.
    pub redirect: Option<Redirect>,
    /// What the backends said, when they were asked, now or earlier in the session.
    pub answers: Arc<[Answered]>,
    /// The transfer, when the request may pass: in shadow mode also when it is denied.
    pub transfer: Option<Transfer>,
}

impl From<Judgement> for Admission {
    fn from(judgement: Judgement) -> Self {
        Self { judgement, redirect: None, answers: Arc::default(), transfer: None }
    }
}

impl Sessions {
    /// Judges a request by the snapshot that it was read by, asking the backends if the lists leave it to them and
    /// their verdict is not known. `presence` is the connection that it came by.
    ///
    /// `None` when a reload or a ban came in between: the request has to be read and judged anew, so that no
    /// request is judged by a mixture of two configurations.
    pub async fn admit(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        request: &Arc<Request>,
        presence: &Presence,
    ) -> Option<Admission> {
        let bans = self.bans();
        let judgement = judge(&snapshot.config, &*snapshot.countries, &bans, boottime(), request);
        let mut admission = Admission::from(judgement);
        let passes = |ground: &Ground| ground.admits() || snapshot.config.shadow;
        if admission.judgement.ground.asks().is_none() && !passes(&admission.judgement.ground) {
            return Some(admission);
        }
        let Some(session) = self.session_of(snapshot, request, presence, &mut admission.judgement) else {
            return Some(admission);
        };
        if let Some(id) = admission.judgement.ground.asks() {
            self.hear(&session, snapshot, id, request, &mut admission).await;
        }
        if !passes(&admission.judgement.ground) {
            return Some(admission);
        }
        match self.take_place(&session, snapshot, &admission.judgement.ground, presence).await {
            Ok(()) => {}
            Err(NoPlace::Gone) => return None,
            Err(NoPlace::Refused(why)) => {
                admission.judgement.ground = Ground::Refused(why);
                return Some(admission);
            }
        }
        let (running, key) = self.begin(&session, request, presence)?;
        let transfer = Transfer { sessions: self.clone(), running, key };
        // A reload swaps first and then re-judges what is registered, and so does a ban. Registered before
        // the swap, this transfer is re-judged there; after it, here.
        if !Arc::ptr_eq(snapshot, &self.snapshot_now()) || !Arc::ptr_eq(&bans, &self.bans()) {
            return None;
        }
        admission.transfer = Some(transfer);
        Some(admission)
    }

    /// The request's session, unless there is none for it; then the ground says why.
    fn session_of(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        request: &Request,
        presence: &Presence,
        judgement: &mut Judgement,
    ) -> Option<Arc<Session>> {
        let stream = judgement.stream.clone()?;
        let now = self.clock.now();
        let mut found = self.find(&stream, request, now);
        let mut refused = match &found {
            Some(session) => self.refusal(session, now),
            None => self.refused.get(|| self.name_of(&stream, request), now),
        };
        if found.is_none() && refused.is_none() {
            match self.follow(snapshot, &stream, request, (now, presence)) {
                Some(Ok(session)) => found = Some(session),
                Some(Err(why)) => refused = Some(why),
                None => {}
            }
        }
        if let Some(why) = refused {
            judgement.ground = Ground::Refused(why);
            if !snapshot.config.shadow {
                return None;
            }
        }
        if found.is_some() {
            return found;
        }
        let opened = self.open(snapshot, &stream, (request, now));
        let opened = opened.inspect_err(|limit| judgement.ground = Ground::Limited(*limit)).ok()?;
        self.settle_down(snapshot, request, &opened);
        Some(opened)
    }

    /// Puts what the backends say in place of the question for them.
    async fn hear(
        self: &Arc<Self>,
        session: &Arc<Session>,
        snapshot: &Arc<Snapshot>,
        id: PolicyId,
        request: &Arc<Request>,
        admission: &mut Admission,
    ) {
        let fingerprint = Fingerprint::of(snapshot.config.policy(id));
        admission.judgement.ground = match self.settle(session, snapshot, (id, fingerprint), request).await {
            Outcome::Said(cached, answers) => {
                admission.redirect = cached.said.redirect.clone();
                admission.answers = answers;
                Ground::Judged(id, cached.said.decision)
            }
            Outcome::NotAsked => Ground::Limited(Limit::Questions),
        };
    }
}
