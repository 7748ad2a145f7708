//! One task looks after all sessions: it ends those whose players have gone, and asks the backends again.

use std::sync::{Arc, Weak};

use tokio::time::{MissedTickBehavior, interval};

use super::{Sessions, wheel::TICK};

/// Starts it. It ends with the sessions.
pub(super) fn start(sessions: &Arc<Sessions>) {
    tokio::spawn(run(Arc::downgrade(sessions)));
}

async fn run(sessions: Weak<Sessions>) {
    let mut timer = interval(TICK);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let Some(sessions) = sessions.upgrade() else { return };
        sessions.sweep();
    }
}

impl Sessions {
    fn sweep(self: &Arc<Self>) {
        let now = self.clock.now();
        let swept = self.table.sweep(now, self.limits().idle);
        for session in &swept.ended {
            self.count_out(session);
            self.release(session);
        }
        swept.closed.iter().for_each(|session| self.closed(session));
        for session in &swept.ask {
            self.recheck(session);
        }
        self.refused.sweep(now);
    }
}
