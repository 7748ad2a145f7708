//! Sessions: what makes a viewer one viewer.
//!
//! Requests with one key (operation, stream, address, token) are one session, whatever their protocol. The lists of a
//! policy are judged on every request. Only what the backends said is remembered, for X-AuthDuration. One question at a
//! time is asked for a session, however many requests wait on it. When the verdict runs out and the session is still
//! open, the backends are asked again in the background; a ban cuts its live transfers.
//!
//! A session is open from its first request that is admitted until its player has gone: while transfers run, and after
//! the last request for as long as its playlist lets expect another one. What the backends said outlives it for a while,
//! so that a player that comes back after a pause costs no question. An open session has a place among those of its
//! user (X-Max-Sessions, X-Unique), its token and its address, where these are limited.
//!
//! No lock is taken by every request, no timer belongs to one session, and nothing here grows beyond its bounds.
//!
//! Locks are taken in one order: of the table an order, then a part of the index, then a session's state; of the claims
//! one holder's part, then a session's state. The table and the claims are never held together. A session's state
//! comes last: nothing of this room is locked under it, and nobody holds two. All other locks are taken alone.

mod admit;
mod ask;
mod claims;
mod entry;
mod follow;
mod hand_over;
mod holder;
mod index;
mod info;
mod kept;
mod key;
mod kicked;
mod lifetime;
mod limits;
mod list;
mod live;
#[cfg(test)]
mod made;
mod moment;
mod operate;
mod order;
mod place;
mod protocol;
mod refused;
mod rejudge;
mod sessions;
mod snapshot;
mod stream;
mod sweep;
mod table;
mod transfer;
mod verdict;
mod wheel;

pub use admit::Admission;
pub use entry::Presence;
pub use hand_over::{Past, SessionRecord};
pub use info::{SessionCounters, SessionFilter, SessionInfo, SessionSort};
pub use key::{SessionId, SessionKey};
pub use kicked::KickedRecord;
pub use limits::SessionLimits;
pub use live::Cut;
pub use operate::{Kicked, Reauthorised};
pub use protocol::Protocol;
pub use rejudge::Rejudged;
pub use sessions::Sessions;
pub use snapshot::Snapshot;
pub use transfer::{Meter, Transfer};
