//! Saying something that happens often only now and then.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often one thing is said.
const INTERVAL: Duration = Duration::from_secs(60);

/// Lets one message a minute through, and counts those that it holds back.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    said: Option<Instant>,
    held_back: u64,
}

impl Throttle {
    /// Whether to say it now: then how many times it was held back since it was last said.
    pub fn say(&self) -> Option<u64> {
        self.say_at(Instant::now())
    }

    fn say_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.said.is_some_and(|said| now.duration_since(said) < INTERVAL) {
            state.held_back += 1;
            return None;
        }
        state.said = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_then_one_a_minute() {
        let throttle = Throttle::default();
        let begin = Instant::now();
        assert_eq!(throttle.say_at(begin), Some(0));
        for second in 1..60 {
            assert_eq!(throttle.say_at(begin + Duration::from_secs(second)), None);
        }
        assert_eq!(throttle.say_at(begin + INTERVAL), Some(59));
        assert_eq!(throttle.say_at(begin + INTERVAL * 3), Some(0));
    }
}
