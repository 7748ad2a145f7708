//! Sessions: what makes a viewer one viewer.
//!
//! The lists of a policy are judged on every request. Only what the backends said is remembered, for
//! X-AuthDuration, under the session's key (operation, stream, address, protocol, token). One question at a
//! time is asked for a session, however many requests wait on it. When the verdict runs out and the session
//! is still open, the backends are asked again in the background; a ban cuts its live transfers.
//!
//! A session is open while transfers run and, after the last request, for as long as a verdict holds.
//! X-Max-Sessions and X-Unique are read by `backend` and not acted upon.

mod admit;
mod key;
mod refresh;
mod rejudge;
mod snapshot;
mod standing;
mod table;
mod transfer;

pub use admit::{Admission, SessionLimits, Sessions};
pub use key::SessionKey;
pub use rejudge::Rejudged;
pub use snapshot::Snapshot;
pub use table::{SessionCounters, SessionInfo};
pub use transfer::{Cut, Meter, Transfer};
