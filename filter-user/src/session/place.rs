//! A session's place: what makes it an open one, and what it is refused for.

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{
    Cut, Presence, Sessions, Snapshot,
    claims::{Claim, Taken},
    entry::{Place, Session},
    holder::{Holder, What},
    info::Counts,
    moment::Moment,
};
use crate::{
    judge::{Ground, Refusal},
    model::{MaxSessions, Stage},
};

/// How often a session that waits for a place looks for one.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Why a session has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// It has left the table.
    Gone,
    /// It is refused.
    Refused(Refusal),
}

/// Why a session has no place yet.
enum NotYet {
    No(NoPlace),
    Taken(Claim, Taken),
    /// As many play the stream as may.
    Full,
}

type Claimed = SmallVec<[Claim; 2]>;

impl Sessions {
    /// Why a session that is there is refused now, if it is.
    pub(super) fn refusal(&self, session: &Session, now: Moment) -> Option<Refusal> {
        match session.state().place {
            Place::Held => return None,
            Place::Refused { until, why } if now < until => return Some(why),
            _ => {}
        }
        self.refused.get(|| self.name_of_session(session), now)
    }

    /// The places that a session needs, admitted on this ground. In shadow mode it needs none: nobody is refused.
    fn claims_of(&self, snapshot: &Snapshot, session: &Session, ground: &Ground) -> Claimed {
        let mut claims = Claimed::new();
        let Ground::Judged(id, decision) = ground else { return claims };
        if snapshot.config.shadow {
            return claims;
        }
        let state = session.state();
        if let (Stage::Backend, Some(cached), Some(user)) = (decision.stage, &state.cached, &state.user) {
            // A backend that wants no session at all says so with its status: 0 is no limit.
            let most = cached.said.max_sessions.filter(|most| *most > 0);
            if most.is_some() || cached.said.unique {
                claims.push(Claim {
                    holder: self.digests.of(What::User(user)),
                    most: most.unwrap_or(u32::MAX),
                    unique: cached.said.unique,
                    refuse_for: Duration::from_secs(cached.holds.into()),
                    with_token: true,
                });
            }
        }
        drop(state);
        let policy = snapshot.config.policy(*id);
        let local = |holder, most| Claim {
            holder,
            most,
            unique: false,
            refuse_for: self.limits().ban,
            with_token: false,
        };
        let (name, address) = (&**policy.name(), session.address);
        let MaxSessions { per_token, per_address } = policy.max_sessions();
        if let Some((most, _)) = per_token {
            // Without a token of its own, the address is all that is known of a viewer.
            let what = match session.kept.shown_token() {
                Some(token) => What::TokenOf { policy: name, token },
                None => What::AddressOf { policy: name, address },
            };
            claims.push(local(self.digests.of(what), *most));
        }
        if let Some((most, _)) = per_address {
            claims.push(local(self.digests.of(What::AddressOf { policy: name, address }), *most));
        }
        claims
    }

    /// Makes a session that was admitted an open one; waits for a place for as long as a player may take to leave its
    /// former one.
    pub(super) async fn take_place(
        self: &Arc<Self>,
        session: &Arc<Session>,
        snapshot: &Snapshot,
        ground: &Ground,
        presence: &Presence,
    ) -> Result<(), NoPlace> {
        if matches!(session.state().place, Place::Held) {
            return Ok(());
        }
        let claims = self.claims_of(snapshot, session, ground);
        let most = most_of(snapshot, session);
        let wait_until = self.clock.now().after(self.limits().grace);
        loop {
            match self.try_place(session, &claims, (presence, most)) {
                Ok(()) => return Ok(()),
                Err(NotYet::No(why)) => return Err(why),
                Err(NotYet::Taken(claim, taken)) => {
                    if taken.for_good || self.clock.now() >= wait_until {
                        self.refuse(session, &claim, taken);
                        return Err(NoPlace::Refused(Refusal::SessionLimit));
                    }
                }
                // Who has just left is another viewer, and is gone for good only when it has been quiet for a while.
                Err(NotYet::Full) => {
                    self.refuse_for(session, self.limits().ban);
                    return Err(NoPlace::Refused(Refusal::SessionLimit));
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Gives a session its places that it had in another process, if they are free.
    pub(super) fn place_again(&self, session: &Arc<Session>, snapshot: &Snapshot, ground: &Ground) {
        let claims = self.claims_of(snapshot, session, ground);
        // Who began first has come first: nobody makes room.
        let claims: Claimed = claims.into_iter().map(|claim| Claim { unique: false, ..claim }).collect();
        let most = most_of(snapshot, session);
        // Without a place it is as one whose player has been quiet; the next request of it claims one.
        let _ = self.try_place(session, &claims, (&Presence::unknown(), most));
    }

    fn try_place(
        &self,
        session: &Arc<Session>,
        claims: &[Claim],
        (presence, most): (&Presence, Option<u32>),
    ) -> Result<(), NotYet> {
        let now = self.clock.now();
        if session.state().closed {
            return Err(NotYet::No(NoPlace::Gone));
        }
        if let Some(why) = self.refusal(session, now) {
            return Err(NotYet::No(NoPlace::Refused(why)));
        }
        let mut lost = Vec::new();
        for claim in claims {
            let taken = self.claims.take(session, claim, (now, presence), &mut lost);
            if let Err(taken) = taken {
                self.release(session);
                self.lost(&lost);
                return Err(NotYet::Taken(*claim, taken));
            }
        }
        self.lost(&lost);
        self.hold(session, claims, most)
    }

    /// Counts a session as open that has its places, unless `most` play its stream.
    fn hold(&self, session: &Arc<Session>, claims: &[Claim], most: Option<u32>) -> Result<(), NotYet> {
        let opened = {
            let mut state = session.state();
            // Another one may have taken a place from it already.
            let has_all = claims.iter().all(|claim| state.holders.contains(&claim.holder));
            if state.closed || !has_all {
                drop(state);
                self.release(session);
                return Err(NotYet::No(NoPlace::Gone));
            }
            let opened = !matches!(state.place, Place::Held);
            if opened && !self.count_in(session, most) {
                drop(state);
                self.release(session);
                return Err(NotYet::Full);
            }
            state.place = Place::Held;
            opened
        };
        if opened {
            self.table.set_held(session, true);
        }
        Ok(())
    }

    /// After sessions have lost their places to another: they are no longer open, and what they have on its way is
    /// cut.
    fn lost(&self, sessions: &[Arc<Session>]) {
        for session in sessions {
            self.count_out(session);
            self.release(session);
            self.table.set_held(session, false);
            self.cut_all(session, Cut::SessionLimit);
            Counts::add(&self.counts.over_limit, 1);
        }
    }

    /// Refuses a session for as long as the claim says, with its token unless a session that has a place shows it, too.
    fn refuse(&self, session: &Arc<Session>, claim: &Claim, taken: Taken) {
        let refused = self.refuse_for(session, claim.refuse_for);
        if refused && claim.with_token && !taken.shares_token && session.kept.shown_token().is_some() {
            let now = self.clock.now();
            let (until, why) = (now.after(claim.refuse_for), Refusal::SessionLimit);
            self.refused.insert(self.name_of_session(session), until, why, now);
        }
    }

    /// Refuses a session for that time. False when another request of the session was quicker.
    fn refuse_for(&self, session: &Arc<Session>, time: Duration) -> bool {
        let until = self.clock.now().after(time);
        let why = Refusal::SessionLimit;
        let place = std::mem::replace(&mut session.state().place, Place::Refused { until, why });
        if let Place::Refused { .. } = place {
            return false;
        }
        if let Place::Held = place {
            self.count_out(session);
            self.table.set_held(session, false);
        }
        self.release(session);
        self.cut_all(session, Cut::SessionLimit);
        Counts::add(&self.counts.over_limit, 1);
        true
    }

    /// After the backends were asked again of an open session: whether it still has a place on their new terms.
    pub(super) fn renew_place(&self, session: &Arc<Session>, snapshot: &Snapshot, ground: &Ground) {
        if !matches!(session.state().place, Place::Held) {
            return;
        }
        let claims = self.claims_of(snapshot, session, ground);
        let former: Vec<_> = {
            let mut state = session.state();
            let wanted = |holder: &Holder| claims.iter().any(|claim| claim.holder == *holder);
            let (kept, former): (Vec<_>, _) =
                std::mem::take(&mut state.holders).into_iter().partition(wanted);
            state.holders = kept.into();
            former
        };
        former.into_iter().for_each(|holder| self.claims.release(session, holder));
        let (now, nowhere) = (self.clock.now(), Presence::new());
        for claim in &claims {
            // The others that are there were admitted as this one was: which of them began first decides.
            let claim = Claim { unique: false, ..*claim };
            let mut lost = Vec::new();
            let taken = self.claims.take(session, &claim, (now, &nowhere), &mut lost);
            self.lost(&lost);
            let too_many = Taken { shares_token: false, for_good: true };
            let refused = match taken {
                Ok(()) if self.claims.is_among_first(session, &claim) => continue,
                Ok(()) => too_many,
                Err(taken) => taken,
            };
            self.refuse(session, &claim, refused);
            return;
        }
    }

    /// Ends an open session whose verdict is a ban by now; requests that the lists admit open it again.
    pub(super) fn close_place(&self, session: &Arc<Session>) {
        let place = std::mem::take(&mut session.state().place);
        if let Place::Held = place {
            self.count_out(session);
            self.table.set_held(session, false);
        }
        self.release(session);
    }
}

/// How many may do that with the session's stream.
fn most_of(snapshot: &Snapshot, session: &Session) -> Option<u32> {
    let stream = snapshot.config.streams.get(&session.stream.name).filter(|_| !snapshot.config.shadow);
    stream.and_then(|stream| stream.most(session.operation))
}
