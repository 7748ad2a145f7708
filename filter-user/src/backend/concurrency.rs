//! How many questions a backend is asked at once: fewer while that makes it quicker.
//!
//! Three ways were weighed. A gradient of answer times drifts with its own idea of what is normal. Fewer after time-outs
//! alone is too late: with `allow default` each of them admits somebody. This one is TCP's: it begins with all that the
//! operator allows, halves when answers are late, and grows by one for each round of answers. Late answers alone prove
//! nothing, since some questions take long however few are asked: when half as many questions are not answered quicker,
//! the backend gets its number back.

use std::time::{Duration, Instant};

/// Fewer questions at once are not asked, unless the operator allows fewer.
const FEWEST: usize = 8;
/// How long the quickest answer is remembered, and late answers are put up with that fewer questions do not help.
const MEMORY: Duration = Duration::from_secs(60);
/// A question that is answered in less than this share of the first time was helped.
const QUICKER: f64 = 0.8;

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was answered, whatever the answer, after this time.
    Answered(Duration),
    /// There was no answer in time.
    TimedOut,
}

/// How many questions may be asked at once.
#[derive(Debug)]
pub(super) struct Concurrency {
    max: usize,
    limit: f64,
    /// Below it the limit grows by one for each answer, above it by one for each round.
    threshold: f64,
    round: Round,
    /// While it is seen whether half as many questions help: the limit before, and the mean time of answers then.
    trial: Option<(f64, f64)>,
    /// Late answers are put up with until then.
    patient_until: Option<Instant>,
    fastest: Fastest,
}

/// The questions that were sent since the limit last changed, as far as they have ended.
#[derive(Debug)]
struct Round {
    began: Instant,
    ended: u32,
    late: u32,
    timed_out: u32,
    seconds: f64,
}

/// The quickest answer of the last one or two [`MEMORY`]s.
#[derive(Debug)]
struct Fastest {
    since: Instant,
    now: Option<Duration>,
    before: Option<Duration>,
}

impl Concurrency {
    pub(super) fn new(max: usize, now: Instant) -> Self {
        Self {
            max,
            limit: max as f64,
            threshold: max as f64,
            round: Round::new(now),
            trial: None,
            patient_until: None,
            fastest: Fastest { since: now, now: None, before: None },
        }
    }

    /// How many at once now.
    pub(super) fn limit(&self) -> usize {
        // Between one and `max`, so that nothing is lost.
        self.limit as usize
    }

    fn fewest(&self) -> f64 {
        self.max.min(FEWEST) as f64
    }

    /// Begins with few questions, as after a silence.
    pub(super) fn restart(&mut self, now: Instant) {
        self.limit = self.fewest();
        self.trial = None;
        self.round = Round::new(now);
    }

    /// Takes note of a question that was sent at `sent` and could take `timeout`; `busy` when about as many were being
    /// asked as the limit allows.
    pub(super) fn ended(
        &mut self,
        outcome: Outcome,
        sent: Instant,
        now: Instant,
        timeout: Duration,
        busy: bool,
    ) {
        let late = match outcome {
            Outcome::Answered(took) => {
                let fastest = self.fastest.note(took, now);
                took > timeout / 2 && took > fastest * 2
            }
            Outcome::TimedOut => true,
        };
        if !late && busy {
            self.limit += if self.limit < self.threshold { 1.0 } else { 1.0 / self.limit };
            self.limit = self.limit.min(self.max as f64);
        }
        // A question from before the last change tells nothing about it.
        if sent < self.round.began {
            return;
        }
        let round = &mut self.round;
        round.ended += 1;
        round.late += u32::from(late);
        match outcome {
            Outcome::Answered(took) => round.seconds += took.as_secs_f64(),
            Outcome::TimedOut => {
                round.timed_out += 1;
                round.seconds += timeout.as_secs_f64();
            }
        }
        if f64::from(round.ended) >= (self.limit / 4.0).max(4.0) {
            self.judge_round(now);
        }
    }

    fn judge_round(&mut self, now: Instant) {
        let Round { ended, late, timed_out, seconds, .. } = self.round;
        let mean = seconds / f64::from(ended);
        self.round = Round::new(now);
        let trial = self.trial.take();
        if timed_out * 4 >= ended {
            self.halve();
        } else if let Some((before, mean_before)) = trial
            && mean > mean_before * QUICKER
        {
            self.limit = before;
            self.threshold = before;
            self.patient_until = Some(now + MEMORY);
        } else if late * 2 >= ended && self.patient_until.is_none_or(|until| until <= now) {
            self.trial = Some((self.limit, mean));
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.limit = (self.limit / 2.0).max(self.fewest());
        self.threshold = self.limit;
    }
}

impl Round {
    fn new(began: Instant) -> Self {
        Self { began, ended: 0, late: 0, timed_out: 0, seconds: 0.0 }
    }
}

impl Fastest {
    fn note(&mut self, took: Duration, now: Instant) -> Duration {
        if now.duration_since(self.since) >= MEMORY {
            self.before = self.now.take();
            self.since = now;
        }
        let fastest = self.now.map_or(took, |fastest| fastest.min(took));
        self.now = Some(fastest);
        self.before.map_or(fastest, |before| before.min(fastest))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BinaryHeap;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(3);

    /// A backend as a model of time: asked for a while with more questions than it can ever be asked at once.
    struct World {
        now: Instant,
        concurrency: Concurrency,
        /// Answers that are on their way: when they come (the earliest first), when they were asked for, and how they end.
        coming: BinaryHeap<std::cmp::Reverse<(Instant, Instant, bool)>>,
        answered: usize,
        timed_out: usize,
        most: usize,
    }

    impl World {
        fn new(max: usize) -> Self {
            let now = Instant::now();
            let concurrency = Concurrency::new(max, now);
            Self { now, concurrency, coming: BinaryHeap::new(), answered: 0, timed_out: 0, most: 0 }
        }

        /// Asks for `duration`; `takes` says how long a question takes when so many are being asked.
        fn run(&mut self, duration: Duration, mut takes: impl FnMut(usize) -> Duration) {
            let end = self.now + duration;
            while self.now < end {
                while self.coming.len() < self.concurrency.limit() {
                    let took = takes(self.coming.len());
                    let at = self.now + took.min(TIMEOUT);
                    self.coming.push(std::cmp::Reverse((at, self.now, took >= TIMEOUT)));
                }
                self.most = self.most.max(self.coming.len());
                let std::cmp::Reverse((at, sent, late)) = self.coming.pop().expect("one is being asked");
                self.now = at;
                let outcome = if late {
                    self.timed_out += 1;
                    Outcome::TimedOut
                } else {
                    self.answered += 1;
                    Outcome::Answered(at - sent)
                };
                self.concurrency.ended(outcome, sent, at, TIMEOUT, true);
            }
        }
    }

    /// One worker: each question waits for those before it.
    fn one_at_a_time(each: Duration) -> impl FnMut(usize) -> Duration {
        move |asked| each * (asked as u32 + 1)
    }

    #[test]
    fn a_backend_that_is_slow_but_steady_keeps_its_number() {
        let mut world = World::new(256);
        world.run(Duration::from_secs(60), |_| Duration::from_secs(2));
        assert_eq!((world.concurrency.limit(), world.timed_out), (256, 0));
        assert!(world.answered >= 256 * 29, "{} answers", world.answered);
    }

    #[test]
    fn a_backend_that_gets_slower_the_more_it_is_asked_is_asked_less() {
        let mut world = World::new(256);
        world.run(Duration::from_secs(60), one_at_a_time(Duration::from_millis(20)));
        let limit = world.concurrency.limit();
        assert!((20..=150).contains(&limit), "{limit} at once");
        let before = world.timed_out;
        world.run(Duration::from_secs(60), one_at_a_time(Duration::from_millis(20)));
        assert_eq!(world.timed_out, before, "and nobody waits in vain any more");
        // It becomes quick, and gets all of its number back.
        world.run(Duration::from_secs(600), |_| Duration::from_millis(20));
        assert_eq!(world.concurrency.limit(), 256);
    }

    #[test]
    fn questions_that_take_long_however_few_are_asked_cost_little() {
        let mut world = World::new(256);
        let mut n = 0;
        world.run(Duration::from_secs(120), |_| {
            n += 1;
            Duration::from_millis(if n % 20 == 0 { 5 } else { 2000 })
        });
        let best = 256.0 * 120.0 / 1.9;
        assert!(world.answered as f64 > best * 0.9, "{} of {best} answers", world.answered);
        assert_eq!(world.timed_out, 0);
    }

    #[test]
    fn a_backend_that_never_answers_is_asked_little() {
        let mut world = World::new(256);
        world.run(Duration::from_secs(60), |_| TIMEOUT);
        assert_eq!(world.concurrency.limit(), FEWEST);
        let mut world = World::new(2);
        world.run(Duration::from_secs(60), |_| TIMEOUT);
        assert_eq!(world.concurrency.limit(), 2, "never fewer than that, nor more than is allowed");
    }

    #[test]
    fn a_few_that_hang_do_not_count_for_all() {
        let mut world = World::new(256);
        let mut n = 0;
        world.run(Duration::from_secs(60), |_| {
            n += 1;
            if n % 10 == 0 { TIMEOUT } else { Duration::from_millis(20) }
        });
        assert_eq!(world.concurrency.limit(), 256);
    }

    #[test]
    fn after_a_silence_it_begins_with_few_and_doubles() {
        let mut world = World::new(256);
        world.concurrency.restart(world.now);
        assert_eq!(world.concurrency.limit(), FEWEST);
        world.run(Duration::from_secs(1), |_| Duration::from_millis(20));
        assert_eq!((world.concurrency.limit(), world.most), (256, 256));
    }
}
