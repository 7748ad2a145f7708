//! Live transfers, when what they were judged by changes.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Cut, Sessions, Snapshot,
    entry::{Outcome, Session},
    info::Counts,
    live::Running,
    snapshot::Fingerprint,
};
use crate::{bans::BanIndex, judge::Ground, model::PolicyId};

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
        let mut rejudged = Rejudged::default();
        for running in self.live.all() {
            match self.verdict_now(snapshot, &running) {
                Now::Keep => rejudged.kept += 1,
                Now::Cut(why) => {
                    self.cut(&running, why);
                    rejudged.cut += 1;
                }
                Now::Ask(id) => {
                    rejudged.asked += 1;
                    self.ask_for(snapshot, running, id);
                }
            }
        }
        rejudged
    }

    /// Replaces whom the gates refuse, and cuts the live transfers of those who are banned now.
    ///
    /// Returns what became of them; nothing is cut in shadow mode.
    pub fn ban(&self, bans: BanIndex) -> Rejudged {
        self.swap_bans(bans);
        let snapshot = self.snapshot();
        let mut rejudged = Rejudged::default();
        for running in self.live.all() {
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
        if running.cut(why) {
            Counts::add(&self.counts.cut, 1);
        }
    }

    /// Cuts the session's transfers; returns how many there were.
    pub(super) fn cut_all(&self, session: &Session, why: Cut) -> u64 {
        let running = self.live.of(session);
        running.iter().for_each(|running| self.cut(running, why));
        running.len() as u64
    }

    /// Cuts the session's transfers that the lists leave to the backends.
    pub(super) fn cut_asking(&self, session: &Session, why: Cut) {
        let snapshot = self.snapshot();
        for running in self.live.of(session) {
            if self.judge(&snapshot, &running.request).ground.asks().is_some() {
                self.cut(&running, why);
            }
        }
    }

    fn verdict_now(&self, snapshot: &Snapshot, running: &Running) -> Now {
        let ground = self.judge(snapshot, &running.request).ground;
        match (ground, ground.asks()) {
            (Ground::NoStream, _) => Now::Cut(Cut::StreamGone),
            _ if snapshot.config.shadow => Now::Keep,
            (Ground::Banned, _) => Now::Cut(Cut::AddressBanned),
            (_, Some(id)) => {
                let fingerprint = Fingerprint::of(snapshot.config.policy(id));
                match &running.session.state().cached {
                    Some(cached) if cached.holds(fingerprint, self.clock.now()) => {
                        if cached.said.allows() {
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
    fn ask_for(self: &Arc<Self>, snapshot: &Arc<Snapshot>, running: Arc<Running>, id: PolicyId) {
        let (sessions, snapshot) = (self.clone(), snapshot.clone());
        tokio::spawn(async move {
            let asked = (id, Fingerprint::of(snapshot.config.policy(id)));
            let allowed = loop {
                match sessions.settle(&running.session, &snapshot, asked, &running.request).await {
                    Outcome::Said(cached, _) => break cached.said.allows(),
                    // A later reload judges the transfer itself.
                    Outcome::NotAsked if !Arc::ptr_eq(&snapshot, &sessions.snapshot()) => return,
                    // It could not be asked: the transfer was admitted before, and goes on until it can be.
                    Outcome::NotAsked => tokio::time::sleep(ASK_AGAIN).await,
                }
            };
            // A later reload has judged the transfer itself.
            if !allowed && Arc::ptr_eq(&snapshot, &sessions.snapshot()) {
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
