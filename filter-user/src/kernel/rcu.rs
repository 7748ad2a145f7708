//! RCU grace periods: waiting until no packet is judged by a table any more.
//!
//! A packet is judged inside of one RCU read-side critical section: drivers run XDP programs within one poll of NAPI,
//! under `local_bh_disable()` (`bpf_prog_run_xdp` in include/net/xdp.h says so). After `synchronize_rcu` nobody reads
//! any more what was unpublished before it.

use std::thread::{self, JoinHandle};

use super::error::{Context as _, Error, Result};

/// The grace period of the generation that is not live: whether packets may still be judged by it. A generation is
/// written over only when none is: the grace period begins with the switch, and is over long before the next table is
/// compiled.
#[derive(Debug, Default)]
pub(super) enum GracePeriod {
    /// Nobody waited: another process may have been stopped before it did.
    #[default]
    Unknown,
    /// A thread waits.
    Passing(JoinHandle<Result<()>>),
    /// There are none.
    Over,
}

impl GracePeriod {
    /// Waits on a thread of its own.
    pub(super) fn passing(wait: impl FnOnce() -> Result<()> + Send + 'static) -> Result<Self> {
        let thread = thread::Builder::new().name("nicgate-rcu".into()).spawn(wait);
        Ok(Self::Passing(thread.context("could not start a thread that waits for RCU")?))
    }

    /// Waits until the wait is over; an error if there was none, or it failed.
    pub(super) fn finish(&mut self) -> Result<()> {
        match std::mem::take(self) {
            Self::Unknown => return Err(Error::unexpected("nobody waited for the last packets")),
            Self::Passing(thread) => {
                thread.join().map_err(|_| Error::unexpected("the waiting thread broke off"))??;
            }
            Self::Over => {}
        }
        *self = Self::Over;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, GracePeriod};

    #[test]
    fn it_is_over_only_when_somebody_waited_and_did_not_fail() {
        assert!(GracePeriod::default().finish().is_err());
        let mut failed = GracePeriod::passing(|| Err(Error::unexpected("no"))).unwrap();
        assert!(failed.finish().is_err());
        assert!(failed.finish().is_err(), "a failure is not forgotten");
        let mut over = GracePeriod::passing(|| Ok(())).unwrap();
        over.finish().unwrap();
        over.finish().unwrap();
    }
}
