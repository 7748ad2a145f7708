//! Waiting until no packet is judged by a table any more (RCU).

use std::thread::{self, JoinHandle};

use anyhow::{Result, anyhow};

/// Whether packets may still be judged by the generation that is not live. A generation is written over only
/// when none is: the wait for it begins with the switch, and is over long before the next table is compiled.
#[derive(Debug, Default)]
pub(super) enum Grace {
    /// Nobody waited: another process may have been stopped before it did.
    #[default]
    Unknown,
    /// A thread waits.
    Passing(JoinHandle<Result<()>>),
    /// There are none.
    Over,
}

impl Grace {
    /// Waits on a thread of its own.
    pub(super) fn passing(wait: impl FnOnce() -> Result<()> + Send + 'static) -> Result<Self> {
        Ok(Self::Passing(thread::Builder::new().name("nicgate-grace".into()).spawn(wait)?))
    }

    /// Waits until the wait is over; an error if there was none, or it failed.
    pub(super) fn finish(&mut self) -> Result<()> {
        match std::mem::take(self) {
            Self::Unknown => return Err(anyhow!("nobody waited for the last packets")),
            Self::Passing(thread) => thread.join().map_err(|_| anyhow!("the waiting thread broke off"))??,
            Self::Over => {}
        }
        *self = Self::Over;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Grace;

    #[test]
    fn it_is_over_only_when_somebody_waited_and_did_not_fail() {
        assert!(Grace::default().finish().is_err());
        let mut failed = Grace::passing(|| anyhow::bail!("no")).unwrap();
        assert!(failed.finish().is_err());
        assert!(failed.finish().is_err(), "a failure is not forgotten");
        let mut over = Grace::passing(|| Ok(())).unwrap();
        over.finish().unwrap();
        over.finish().unwrap();
    }
}
