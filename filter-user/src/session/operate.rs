//! What operators do with sessions.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Cut, SessionFilter, SessionInfo, SessionSort, Sessions,
    entry::{Place, Session},
    info::{Counts, info},
    kicked::KickedRecord,
};
use crate::{judge::Refusal, kernel::wall_clock};

/// What became of sessions that an operator ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kicked {
    /// Sessions that were ended.
    pub sessions: u64,
    /// Their transfers that were cut.
    pub transfers: u64,
}

/// What became of sessions about which an operator has the backends asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reauthorised {
    /// Sessions about which they are being asked.
    pub asked: u64,
    /// Sessions about which they were never asked, or are being asked already.
    pub passed_over: u64,
}

impl Sessions {
    /// The open sessions, the latest used first.
    pub fn list(&self) -> Vec<SessionInfo> {
        self.list_of(&SessionFilter::default(), SessionSort::Used)
    }

    /// The open sessions of a filter.
    pub fn list_of(&self, filter: &SessionFilter, sort: SessionSort) -> Vec<SessionInfo> {
        let (now, wall) = (self.clock.now(), wall_clock());
        let matching = self.table.all().filter(|session| filter.matches(session));
        let mut list: Vec<_> = matching
            .filter_map(|session| {
                let info = info(&session, now, wall)?;
                let rank = match sort {
                    SessionSort::Used => u64::MAX - session.seen().0,
                    SessionSort::Bytes => u64::MAX - info.bytes,
                    SessionSort::Age => session.opened.0,
                };
                Some((rank, info))
            })
            .collect();
        list.sort_by_key(|(rank, _)| *rank);
        list.into_iter().map(|(_, info)| info).collect()
    }

    fn open_of(&self, filter: &SessionFilter) -> Vec<Arc<Session>> {
        let open = |session: &Arc<Session>| matches!(session.state().place, Place::Held);
        self.table.all().filter(|session| filter.matches(session) && open(session)).collect()
    }

    /// Ends the open sessions of a filter, cuts what they have on its way, and refuses their tokens for that time. Who has
    /// no token is refused on that stream, from that address.
    pub fn kick(&self, filter: &SessionFilter, refuse_for: Duration) -> Kicked {
        let mut kicked = Kicked::default();
        for session in self.open_of(filter) {
            self.send_away(KickedRecord {
                token: session.kept.shown_token().map(Into::into),
                operation: session.operation,
                stream: session.stream.name.clone(),
                address: session.address,
                left: refuse_for,
            });
            if !self.table.remove(&session) {
                continue;
            }
            self.closed(&session);
            kicked.sessions += 1;
            kicked.transfers += self.cut_all(&session, Cut::Kicked);
            Counts::add(&self.counts.kicked, 1);
            tracing::info!(
                stream = %session.stream.name, client = %session.address, session = %session.id,
                seconds = refuse_for.as_secs(), "an operator ended a session"
            );
        }
        kicked
    }

    /// Refuses a token, or a client without one, for a time.
    pub(super) fn send_away(&self, kicked: KickedRecord) {
        let now = self.clock.now();
        let KickedRecord { token, operation, stream, address, left } = &kicked;
        let name = self.name(token.as_deref(), (*operation, stream, *address));
        self.refused.insert(name, now.after(*left), Refusal::Kicked, now);
        self.kicked.add(kicked, now);
    }

    /// Has the backends asked again about the open sessions of a filter, in the background.
    pub fn reauthorise(self: &Arc<Self>, filter: &SessionFilter) -> Reauthorised {
        let mut done = Reauthorised::default();
        for session in self.open_of(filter) {
            if self.recheck(&session) {
                done.asked += 1;
            } else {
                done.passed_over += 1;
            }
        }
        done
    }
}
