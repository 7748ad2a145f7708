//! Limited numbers of sessions: of a user (X-Max-Sessions, X-Unique), of a token, of an address.
//!
//! A session that begins claims a place of each that counts it. Where all are taken, one whose player has gone quiet
//! gives its place up at once: it is most likely the same viewer, on another channel. Whoever comes back to a place that
//! was given up so may take it again, for the viewer may have changed back, but not again and again: then two players
//! are at work.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use smallvec::SmallVec;

use super::{
    entry::{Place, Presence, Session, State},
    holder::Holder,
    moment::Moment,
};

/// Parts with a lock of their own.
const SHARDS: usize = 64;
/// How often sessions may take places back from each other: an odd number, so that it is the newer one of two that has
/// none in the end.
const MOST_RETURNS: u8 = 3;
/// Within how long.
const RETURNS_WITHIN: Duration = Duration::from_secs(60);

/// A claim to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) holder: Holder,
    /// How many sessions there may be.
    pub(super) most: u32,
    /// All others have to go.
    pub(super) unique: bool,
    /// For how long a refusal holds.
    pub(super) refuse_for: Duration,
    /// Whether the token of whom is refused is refused, too.
    pub(super) with_token: bool,
}

/// Why a claim failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// A session that has a place shows the same token.
    pub(super) shares_token: bool,
    /// It is of no use to try again soon.
    pub(super) for_good: bool,
}

/// The places of one holder, in the order in which they were taken.
#[derive(Debug, Default)]
struct Account {
    places: SmallVec<[Arc<Session>; 1]>,
    /// How often places were taken back since then.
    returns: (u8, Moment),
}

type Shard = Mutex<HashMap<Holder, Account>>;

/// Every holder that has places.
#[derive(Debug)]
pub(super) struct Claims(Box<[Shard]>);

impl Claims {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| Shard::default()).collect())
    }

    fn accounts(&self, holder: Holder) -> MutexGuard<'_, HashMap<Holder, Account>> {
        self.0[holder.part(SHARDS)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a session; those that lost theirs to it, and were open, are added to `lost`.
    pub(super) fn take(
        &self,
        session: &Arc<Session>,
        claim: &Claim,
        (now, presence): (Moment, &Presence),
        lost: &mut Vec<Arc<Session>>,
    ) -> Result<(), Taken> {
        let mut accounts = self.accounts(claim.holder);
        let account = accounts.entry(claim.holder).or_default();
        let taken = account.take(session, claim, (now, presence), lost);
        if taken.is_ok() {
            let mut state = session.state();
            if !state.holders.contains(&claim.holder) {
                state.holders.push(claim.holder);
            }
        }
        if account.places.is_empty() {
            accounts.remove(&claim.holder);
        }
        taken
    }

    /// Gives a session's place up, unless it has claimed it again meanwhile.
    pub(super) fn release(&self, session: &Arc<Session>, holder: Holder) {
        let mut accounts = self.accounts(holder);
        if session.state().holders.contains(&holder) {
            return;
        }
        if let Some(account) = accounts.get_mut(&holder) {
            account.places.retain(|one| !Arc::ptr_eq(one, session));
            if account.places.is_empty() {
                accounts.remove(&holder);
            }
        }
    }

    /// Whether a session has a place among the first `most`.
    pub(super) fn is_among_first(&self, session: &Arc<Session>, claim: &Claim) -> bool {
        let accounts = self.accounts(claim.holder);
        let places = accounts.get(&claim.holder).map_or(&[][..], |account| &account.places);
        places.iter().take(claim.most as usize).any(|one| Arc::ptr_eq(one, session))
    }

    /// Puts a session into the places of another.
    pub(super) fn hand_over(&self, from: &Arc<Session>, to: &Arc<Session>, holders: &[Holder]) {
        for holder in holders {
            if let Some(account) = self.accounts(*holder).get_mut(holder) {
                account
                    .places
                    .iter_mut()
                    .filter(|one| Arc::ptr_eq(one, from))
                    .for_each(|one| *one = to.clone());
            }
        }
    }
}

impl Account {
    fn take(
        &mut self,
        session: &Arc<Session>,
        claim: &Claim,
        (now, presence): (Moment, &Presence),
        lost: &mut Vec<Arc<Session>>,
    ) -> Result<(), Taken> {
        if self.places.iter().any(|one| Arc::ptr_eq(one, session)) {
            return Ok(());
        }
        let returns = self.may_return(session, (now, presence))?;
        let others = if claim.unique { 0 } else { (claim.most as usize).saturating_sub(1) };
        let too_many = self.places.len().saturating_sub(others);
        let mut spare: Vec<Arc<Session>> =
            self.places.iter().filter(|one| claim.unique || quiet(one, now, presence)).cloned().collect();
        if spare.len() < too_many {
            return Err(self.taken(session, false));
        }
        spare.sort_by_key(|one| one.seen());
        for one in spare.into_iter().take(too_many) {
            self.places.retain(|place| !Arc::ptr_eq(place, &one));
            if lose(&one, claim.holder, session) {
                lost.push(one);
            }
        }
        self.places.push(session.clone());
        self.returns = returns;
        Ok(())
    }

    /// Whether a session that lost its place may claim it again; returns how often that was done, with this time.
    fn may_return(
        &self,
        session: &Session,
        (now, presence): (Moment, &Presence),
    ) -> Result<(u8, Moment), Taken> {
        let (count, since) = match self.returns {
            (count, since) if now.since(since) < RETURNS_WITHIN => (count, since),
            _ => (0, now),
        };
        let by = match &session.state().place {
            Place::Lost(by) => by.upgrade(),
            _ => return Ok((count, since)),
        };
        let there = |by: &Arc<Session>| self.places.iter().any(|one| Arc::ptr_eq(one, by));
        if let Some(by) = by.filter(there) {
            if count >= MOST_RETURNS {
                return Err(self.taken(session, true));
            }
            if !quiet(&by, now, presence) {
                return Err(self.taken(session, false));
            }
        }
        Ok((count.saturating_add(1), since))
    }

    fn taken(&self, session: &Session, for_good: bool) -> Taken {
        let token = session.kept.token();
        let shares_token = token.is_some() && self.places.iter().any(|one| one.kept.token() == token);
        Taken { shares_token, for_good }
    }
}

fn quiet(session: &Session, now: Moment, presence: &Presence) -> bool {
    let state = session.state();
    state.closed || session.is_quiet(&state, now, presence)
}

/// Takes a session's place away, for another; whether it was open.
fn lose(session: &Session, holder: Holder, to: &Arc<Session>) -> bool {
    let State { place, holders, .. } = &mut *session.state();
    holders.retain(|one| *one != holder);
    matches!(std::mem::replace(place, Place::Lost(Arc::downgrade(to))), Place::Held)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            holder::{Digests, What},
            made::{at, session},
            table::Table,
        },
        *,
    };

    struct User {
        claims: Claims,
        claim: Claim,
    }

    /// A player with its connection.
    struct Player(Arc<Session>, Presence);

    impl User {
        fn with(most: u32, unique: bool) -> Self {
            let holder = Digests::new().of(What::User("7"));
            let refuse_for = Duration::from_secs(60);
            Self {
                claims: Claims::new(),
                claim: Claim { holder, most, unique, refuse_for, with_token: true },
            }
        }

        /// The player asks for something.
        fn asks(&self, player: &Player, seconds: f64) -> Result<usize, Taken> {
            let Player(session, presence) = player;
            session.touch(at(seconds));
            session.state().connection = presence.note();
            let mut lost = Vec::new();
            self.claims.take(session, &self.claim, (at(seconds), presence), &mut lost)?;
            session.state().place = Place::Held;
            Ok(lost.len())
        }

        fn has(&self, player: &Player) -> bool {
            let accounts = self.claims.accounts(self.claim.holder);
            accounts
                .get(&self.claim.holder)
                .is_some_and(|account| account.places.iter().any(|one| Arc::ptr_eq(one, &player.0)))
        }
    }

    impl Player {
        fn new(token: &str) -> Self {
            Self(session(&Table::new(), "192.0.2.1", token, at(0.0)), Presence::new())
        }

        /// It closes its connection after each request.
        fn hangs_up(&mut self) {
            self.1 = Presence::new();
        }
    }

    const BUSY: Taken = Taken { shares_token: false, for_good: false };

    #[test]
    fn there_is_room_for_so_many_and_one_more_is_refused() {
        let user = User::with(2, false);
        let [a, b, c] = ["a", "b", "c"].map(Player::new);
        assert_eq!((user.asks(&a, 0.0), user.asks(&b, 0.0)), (Ok(0), Ok(0)));
        assert_eq!(user.asks(&c, 1.0), Err(BUSY));
        assert_eq!(
            (user.asks(&a, 2.0), user.asks(&b, 2.0)),
            (Ok(0), Ok(0)),
            "they have their places already"
        );
        let same = Player::new("a");
        assert_eq!(user.asks(&same, 2.0), Err(Taken { shares_token: true, ..BUSY }));
        // One that is given up is free, once its session does not want it any more.
        user.claims.release(&a.0, user.claim.holder);
        assert!(user.has(&a), "it has claimed it again meanwhile");
        a.0.state().holders.clear();
        user.claims.release(&a.0, user.claim.holder);
        assert_eq!(user.asks(&c, 3.0), Ok(0));
        assert!(
            user.claims.is_among_first(&b.0, &user.claim) && user.claims.is_among_first(&c.0, &user.claim)
        );
        let fewer = Claim { most: 1, ..user.claim };
        assert!(user.claims.is_among_first(&b.0, &fewer) && !user.claims.is_among_first(&c.0, &fewer));
    }

    #[test]
    fn a_viewer_who_changes_channels_has_room_at_once() {
        for leaves in ["hangs up", "goes on by the same connection", "is late"] {
            let user = User::with(1, false);
            let (mut a, mut b) = (Player::new("a"), Player::new("b"));
            assert_eq!(user.asks(&a, 0.0), Ok(0));
            let now = match leaves {
                "hangs up" => {
                    a.hangs_up();
                    0.1
                }
                "is late" => 16.0,
                _ => {
                    b.1 = a.1.clone();
                    0.1
                }
            };
            assert_eq!(user.asks(&b, now), Ok(1), "{leaves}");
            assert!(user.has(&b) && !user.has(&a));
            assert!(matches!(a.0.state().place, Place::Lost(_)));
            assert!(a.0.state().holders.is_empty());
        }
        let user = User::with(1, false);
        let (mut a, b) = (Player::new("a"), Player::new("b"));
        assert_eq!(user.asks(&a, 0.0), Ok(0));
        a.hangs_up();
        a.0.state().live = 1;
        assert_eq!(user.asks(&b, 100.0), Err(BUSY), "what has a body on its way is not quiet");
    }

    #[test]
    fn the_one_that_was_quiet_longest_makes_room() {
        let user = User::with(3, false);
        let mut players = ["a", "b", "c"].map(Player::new);
        for (player, seconds) in players.iter().zip([2.0, 1.0, 3.0]) {
            assert_eq!(user.asks(player, seconds), Ok(0));
        }
        players.iter_mut().for_each(Player::hangs_up);
        assert_eq!(user.asks(&Player::new("d"), 4.0), Ok(1));
        assert_eq!(players.map(|player| user.has(&player)), [true, false, true]);
    }

    #[test]
    fn a_unique_session_takes_all_places_live_ones_too() {
        let user = User::with(9, false);
        let [a, b] = ["a", "b"].map(Player::new);
        assert_eq!((user.asks(&a, 0.0), user.asks(&b, 0.0)), (Ok(0), Ok(0)));
        a.0.state().live = 1;
        let unique = User { claims: user.claims, claim: Claim { unique: true, ..user.claim } };
        let c = Player::new("c");
        assert_eq!(unique.asks(&c, 0.0), Ok(2));
        assert_eq!([&a, &b, &c].map(|player| unique.has(player)), [false, false, true]);
        // The former ones do not come back as long as it is there.
        a.0.state().live = 0;
        assert_eq!(unique.asks(&a, 1.0), Err(BUSY));
        assert_eq!(unique.asks(&a, 17.0), Ok(1), "it has gone");
    }

    #[test]
    fn two_players_that_hang_up_after_each_request_do_not_share_a_place_for_long() {
        let user = User::with(1, false);
        let mut players = ["a", "b"].map(Player::new);
        let mut refused = Vec::new();
        for turn in 0..20 {
            let player = &mut players[turn % 2];
            let answer = user.asks(player, turn as f64 * 3.0);
            player.hangs_up();
            if answer.is_err() {
                refused.push((turn % 2, answer));
            }
        }
        assert_eq!(refused.len(), 8, "from the sixth request on, whenever it comes");
        let for_good = Err(Taken { for_good: true, ..BUSY });
        assert!(refused.iter().all(|refused| *refused == (1, for_good)), "the newer one: {refused:?}");
        assert!(user.has(&players[0]));
    }

    #[test]
    fn a_viewer_may_change_back_now_and_then() {
        let user = User::with(1, false);
        let mut players = ["a", "b"].map(Player::new);
        for turn in 0..20 {
            let player = &mut players[turn % 2];
            assert!(user.asks(player, turn as f64 * 25.0).is_ok(), "turn {turn}");
            player.hangs_up();
        }
    }

    #[test]
    fn nothing_is_left_of_a_user_without_sessions() {
        let user = User::with(1, false);
        let a = Player::new("a");
        assert_eq!(user.asks(&a, 0.0), Ok(0));
        let Player(b, _) = Player::new("b");
        user.claims.hand_over(&a.0, &b, &[user.claim.holder]);
        assert!(!user.has(&a));
        user.claims.release(&b, user.claim.holder);
        assert!(user.claims.0.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
