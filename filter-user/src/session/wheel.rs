//! When each session has to be looked at: a wheel of short intervals, in place of a timer for each.

use std::time::Duration;

use super::moment::Moment;

/// How long one interval is. What is due is done so much later at most.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// The intervals of one turn. What is due later is looked at once a turn.
const BUCKETS: u32 = 256;

/// The number of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(pub(super) u32);

impl Tick {
    /// The first that begins at the moment or later.
    pub(super) fn at(moment: Moment) -> Self {
        Self((moment.0.div_ceil(TICK.as_nanos() as u64)) as u32)
    }

    /// The last that has begun.
    pub(super) fn passed(now: Moment) -> Self {
        Self((now.0 / TICK.as_nanos() as u64) as u32)
    }
}

/// Which slots are due when. A slot can be in it more than once; its owner knows which entry counts.
#[derive(Debug)]
pub(super) struct Wheel {
    buckets: Vec<Vec<u32>>,
    /// The last one that was looked at.
    done: Tick,
}

impl Default for Wheel {
    fn default() -> Self {
        Self { buckets: vec![Vec::new(); BUCKETS as usize], done: Tick::default() }
    }
}

impl Wheel {
    /// Makes a slot due; returns when that is: not before the next interval, and within a turn.
    pub(super) fn insert(&mut self, slot: u32, due: Tick) -> Tick {
        let due = Tick(due.0.clamp(self.done.0 + 1, self.done.0 + BUCKETS - 1));
        self.buckets[(due.0 % BUCKETS) as usize].push(slot);
        due
    }

    /// The slots of the next interval, if it has passed.
    pub(super) fn next(&mut self, now: Tick) -> Option<(Tick, Vec<u32>)> {
        if self.done >= now {
            return None;
        }
        // After a long pause every slot is found within one turn.
        self.done.0 = (self.done.0 + 1).max(now.0.saturating_sub(BUCKETS));
        let slots = std::mem::take(&mut self.buckets[(self.done.0 % BUCKETS) as usize]);
        Some((self.done, slots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_due_once_in_its_interval_and_not_before() {
        let mut wheel = Wheel::default();
        let dues = [1, 2, 2, 255];
        for (slot, due) in dues.into_iter().enumerate() {
            assert_eq!(wheel.insert(slot as u32, Tick(due)), Tick(due));
        }
        let mut seen = Vec::new();
        for now in 0..300 {
            while let Some((tick, slots)) = wheel.next(Tick(now)) {
                assert_eq!(tick, Tick(now));
                seen.extend(slots.into_iter().map(|slot| (tick.0, slot)));
            }
        }
        assert_eq!(seen, [(1, 0), (2, 1), (2, 2), (255, 3)]);
    }

    #[test]
    fn what_is_far_away_is_looked_at_once_a_turn_and_what_is_past_soon() {
        let mut wheel = Wheel::default();
        assert!(wheel.next(Tick(0)).is_none());
        assert_eq!(std::iter::from_fn(|| wheel.next(Tick(1000))).count(), 257);
        assert_eq!(wheel.insert(7, Tick(u32::MAX)), Tick(1255));
        assert_eq!(wheel.insert(8, Tick(3)), Tick(1001));
        assert_eq!(wheel.next(Tick(1001)), Some((Tick(1001), vec![8])));
    }

    #[test]
    fn intervals_and_moments_agree() {
        let tick = TICK.as_nanos() as u64;
        for (moment, at, passed) in [(0, 0, 0), (1, 1, 0), (tick, 1, 1), (tick + 1, 2, 1)] {
            assert_eq!((Tick::at(Moment(moment)), Tick::passed(Moment(moment))), (Tick(at), Tick(passed)));
        }
    }
}
