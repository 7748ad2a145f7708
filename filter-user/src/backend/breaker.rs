//! A backend that does not answer is not asked for a while: what it would not answer counts as not responding at once.
//!
//! Any answer shows that it responds, also one with a status from 500 on.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

/// How many questions in a row have to stay without an answer when several addresses have caused them.
const FAILURES: u32 = 8;
/// How many when one address has caused all of them: it may have found a question that a backend hangs on, and nobody
/// else's questions are to be refused for that.
const FAILURES_OF_ONE: u32 = 32;
/// How long no question is sent, until a single one tries.
const PAUSE: Duration = Duration::from_secs(1);
/// How long an address waits whose question has tried in vain, so that others can try.
const PAUSE_OF_ONE: Duration = Duration::from_secs(3);

/// Whether a question may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// It may.
    Ask,
    /// It may, and all others wait for what becomes of it.
    Probe,
    /// It counts as not answered.
    NotResponding,
}

/// A circuit breaker. Addresses are those that a single client controls.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Questions without an answer since the last answer.
    failures: u32,
    /// Who caused the first of them, and whether others did, too.
    first: Option<IpAddr>,
    several: bool,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    since: Instant,
    /// When a question may try.
    probe_at: Instant,
    probing: bool,
    /// Whose question tried last, and until when that one does not try again.
    tried: Option<(IpAddr, Instant)>,
}

impl Breaker {
    /// Whether a question that `address` causes may be asked now.
    pub(super) fn permit(&mut self, address: IpAddr, now: Instant) -> Permit {
        let Some(open) = &mut self.open else { return Permit::Ask };
        let waits = open.tried.is_some_and(|(tried, until)| tried == address && now < until);
        if open.probing || now < open.probe_at || waits {
            return Permit::NotResponding;
        }
        open.probing = true;
        Permit::Probe
    }

    /// An answer came. Returns how long the breaker was open, if it was.
    pub(super) fn answered(&mut self, now: Instant) -> Option<Duration> {
        let open = self.open.take();
        *self = Self::default();
        open.map(|open| now.duration_since(open.since))
    }

    /// No answer came to a question that `address` caused. True when that opens the breaker.
    pub(super) fn failed(&mut self, address: IpAddr, probe: bool, now: Instant) -> bool {
        if let Some(open) = &mut self.open {
            if probe {
                open.probing = false;
                open.probe_at = now + PAUSE;
                open.tried = Some((address, now + PAUSE_OF_ONE));
            }
            return false;
        }
        self.failures += 1;
        self.several |= *self.first.get_or_insert(address) != address;
        let opens = self.failures >= if self.several { FAILURES } else { FAILURES_OF_ONE };
        if opens {
            let tried = (!self.several).then_some((address, now + PAUSE_OF_ONE));
            self.open = Some(Open { since: now, probe_at: now + PAUSE, probing: false, tried });
        }
        opens
    }

    /// The question that tried was given up: another one may try.
    pub(super) fn gave_up(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// Since when it has been open; `None` when it is not.
    pub(super) fn open_since(&self) -> Option<Instant> {
        self.open.map(|open| open.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// Opens a breaker; the failures are those of several addresses.
    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for n in 1..FAILURES {
            assert!(!breaker.failed(address(n as u8), false, now));
        }
        assert!(breaker.failed(address(0), false, now));
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_any_answer_closes_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for n in 1..FAILURES {
            assert!(!breaker.failed(address(n as u8), false, now));
        }
        assert_eq!(breaker.answered(now), None, "not in a row any more");
        let mut breaker = opened(now);
        assert_eq!(breaker.permit(address(1), now), Permit::NotResponding);
        assert!(!breaker.failed(address(1), false, now), "it is open already");
        assert_eq!(breaker.answered(now + PAUSE / 2), Some(PAUSE / 2), "one that was sent before it opened");
        assert_eq!(breaker.permit(address(1), now), Permit::Ask);
    }

    #[test]
    fn single_questions_try() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + PAUSE;
        assert_eq!(breaker.permit(address(1), later), Permit::Probe);
        assert_eq!(breaker.permit(address(2), later), Permit::NotResponding, "one at a time");
        assert!(!breaker.failed(address(1), true, later));
        assert_eq!(breaker.permit(address(2), later), Permit::NotResponding, "not at once");
        let later = later + PAUSE;
        assert_eq!(breaker.permit(address(1), later), Permit::NotResponding, "others first");
        assert_eq!(breaker.permit(address(2), later), Permit::Probe);
        breaker.gave_up();
        assert_eq!(breaker.permit(address(3), later), Permit::Probe);
        assert_eq!(breaker.answered(later), Some(PAUSE * 2));
        assert_eq!(breaker.permit(address(1), later), Permit::Ask);
        let mut breaker = opened(now);
        assert_eq!(breaker.permit(address(1), now + PAUSE), Permit::Probe);
        assert!(!breaker.failed(address(1), true, now + PAUSE));
        let alone = now + PAUSE + PAUSE_OF_ONE;
        assert_eq!(breaker.permit(address(1), alone), Permit::Probe, "where nobody else asks");
    }

    #[test]
    fn one_address_alone_needs_many_and_does_not_try_first() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_OF_ONE {
            assert!(!breaker.failed(address(1), false, now));
        }
        assert!(breaker.failed(address(1), false, now));
        assert_eq!(breaker.permit(address(1), now + PAUSE), Permit::NotResponding);
        assert_eq!(breaker.permit(address(2), now + PAUSE), Permit::Probe);
    }
}
