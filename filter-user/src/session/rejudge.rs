//! Live transfers, when what they were judged by changes.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Cut, Sessions, Snapshot,
    snapshot::Fingerprint,
    standing::{Session, Standing},
    transfer::Running,
};
use crate::{
    bans::BanIndex,
    judge::{Ground, Verdict},
    model::PolicyId,
};

/// How soon a question that could not be asked is tried again for a transfer that goes on meanwhile.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a reload did to the live transfers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejudged {
    /// They go on.
    pub kept: u64,
    /// They were cut.
    pub cut: u64,
    /// They go on until the backends have been asked.
    pub asked: u64,
}

impl Sessions {
    /// Replaces what requests are judged by, and judges every live transfer anew.
    pub fn rejudge(self: &Arc<Self>, snapshot: &Arc<Snapshot>) -> Rejudged {
        self.swap(snapshot.clone());
        self.backends.retain(&snapshot.config);
        let running = self.table().running(None);
        let mut rejudged = Rejudged::default();
        for (session, running) in running {
            match self.verdict_now(snapshot, &session, &running) {
                Now::Keep => rejudged.kept += 1,
                Now::Cut(why) => {
                    self.cut(&running, why);
                    rejudged.cut += 1;
                }
                Now::Ask(id) => {
                    rejudged.asked += 1;
                    self.ask_for(snapshot, session, running, id);
                }
            }
        }
        rejudged
    }

    /// What [`Self::rejudge`] would do to the live transfers, without doing it.
    pub fn outlook(&self, snapshot: &Snapshot) -> Rejudged {
        let mut outlook = Rejudged::default();
        for (session, running) in self.table().running(None) {
            match self.verdict_now(snapshot, &session, &running) {
                Now::Keep => outlook.kept += 1,
                Now::Cut(_) => outlook.cut += 1,
                Now::Ask(_) => outlook.asked += 1,
            }
        }
        outlook
    }

    /// Replaces whom the gates refuse, and cuts the live transfers of those who are banned now.
    ///
    /// Returns what became of them; nothing is cut in shadow mode.
    pub fn ban(&self, bans: BanIndex) -> Rejudged {
        self.swap_bans(bans);
        let snapshot = self.snapshot();
        let running = self.table().running(None);
        let mut rejudged = Rejudged::default();
        for (_, running) in running {
            let judgement = self.judge(&snapshot, &running.request);
            if !snapshot.config.shadow && judgement.ground == Ground::Banned {
                self.cut(&running, Cut::AddressBanned);
                rejudged.cut += 1;
            } else {
                rejudged.kept += 1;
            }
        }
        rejudged
    }

    fn cut(&self, running: &Running, why: Cut) {
        running.cut(why);
        self.table().counters().cut += 1;
    }

    /// Cuts the session's transfers that the lists leave to the backends.
    pub(super) fn cut_asking(&self, session: &Arc<Session>, why: Cut) {
        let snapshot = self.snapshot();
        if snapshot.config.shadow {
            return;
        }
        let running = self.table().running(Some(session));
        for (_, running) in running {
            if self.judge(&snapshot, &running.request).ground.asks().is_some() {
                self.cut(&running, why);
            }
        }
    }

    fn verdict_now(&self, snapshot: &Snapshot, session: &Session, running: &Running) -> Now {
        let ground = self.judge(snapshot, &running.request).ground;
        match (ground, ground.asks()) {
            (Ground::NoStream, _) => Now::Cut(Cut::StreamGone),
            _ if snapshot.config.shadow => Now::Keep,
            (Ground::Banned, _) => Now::Cut(Cut::AddressBanned),
            (_, Some(id)) => {
                let fingerprint = Fingerprint::of(snapshot.config.policy(id));
                match &*session.standing.borrow() {
                    Standing::Settled(settled) if settled.holds(fingerprint) => {
                        if settled.conclusion.decision.verdict == Verdict::Allow {
                            Now::Keep
                        } else {
                            Now::Cut(Cut::Rules)
                        }
                    }
                    _ => Now::Ask(id),
                }
            }
            (ground, None) if ground.admits() => Now::Keep,
            _ => Now::Cut(Cut::Rules),
        }
    }

    /// Asks in the background; the transfer goes on meanwhile.
    fn ask_for(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        session: Arc<Session>,
        running: Arc<Running>,
        id: PolicyId,
    ) {
        let (sessions, snapshot) = (self.clone(), snapshot.clone());
        tokio::spawn(async move {
            let settled = loop {
                match sessions.settle(&session, &snapshot, id, &running.request).await {
                    Some(settled) => break settled,
                    // A later reload judges the transfer itself.
                    None if !Arc::ptr_eq(&snapshot, &sessions.snapshot()) => return,
                    // It could not be asked: the transfer was admitted before, and goes on until it can be.
                    None => tokio::time::sleep(ASK_AGAIN).await,
                }
            };
            let current = Arc::ptr_eq(&snapshot, &sessions.snapshot());
            // A later reload has judged the transfer itself.
            if current && settled.conclusion.decision.verdict == Verdict::Deny {
                sessions.cut(&running, Cut::Rules);
            }
        });
    }
}

enum Now {
    Keep,
    Cut(Cut),
    Ask(PolicyId),
}
