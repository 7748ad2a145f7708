//! What was seen on a walk.

use std::{fmt, time::Duration};

/// How soon it should be.
pub(super) const SOON: Duration = Duration::from_secs(2);

/// What was seen on a walk.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(super) steps: usize,
    pub(super) probes: usize,
    pub(super) dropped: usize,
    pub(super) answers: usize,
    pub(super) times: Vec<Duration>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, probes, dropped, answers, times } = self;
        let mut times = times.clone();
        times.sort_unstable();
        let soon = times.iter().filter(|time| **time <= SOON).count();
        let at =
            |part: usize| times.get(times.len() * part / 100).or(times.last()).copied().unwrap_or_default();
        write!(
            f,
            "{steps} steps: {probes} datagrams and {answers} answers were as they have to be, {dropped} of the \
             datagrams dropped; right again within {SOON:?} after {soon} steps, median {:?}, longest {:?}",
            at(50),
            at(100)
        )
    }
}
