//! How long a session lasts, and when its player has gone.

use std::time::Duration;

use super::{
    entry::{Place, Presence, Session, State},
    moment::Moment,
    verdict::Cached,
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
    /// How long its player may be quiet before it counts as gone.
    pub(super) fn idle(&self, least: Duration) -> Duration {
        self.pace().map_or(least, |pace| least.max(2 * pace))
    }

    /// Whether its player seems to be gone, in the eyes of a session that would take its place and was asked for over
    /// `presence`: it has nothing on its way, and its connection has ended, or is used for the other session now, or
    /// it has not asked for what a player would have asked for.
    pub(super) fn is_quiet(&self, state: &State, now: Moment, presence: &Presence) -> bool {
        let left =
            || state.connection.as_ref().is_some_and(|last| last.strong_count() == 0 || presence.is(last));
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
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::{
        super::{
            entry::Pending,
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
        // What came by a proxy's connection is not gone with that of another one.
        viewer.state().connection = Presence::unknown().note();
        assert!(!quiet(5.0, &Presence::unknown()) && !quiet(5.0, &other) && quiet(91.0, &other));
        viewer.state().connection = own.note();
        drop(own);
        assert!(quiet(1.0, &other));
        viewer.state().live = 1;
        assert!(!quiet(1000.0, &other));
    }
}
