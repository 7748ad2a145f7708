//! Asking the authorities that a policy names: HTTP backends in Flussonic's protocol, and `securetoken`,
//! which is answered here.
//!
//! All authorities of a policy are asked in parallel. The first that allows ends the question and the rest
//! are cancelled; otherwise every one is waited for within one timeout that covers connecting and answering. It runs
//! from when the question is sent: waiting for a turn has a time of its own, and a question that gets none is no outage
//! of the backend.
//!
//! What stands between a question and its backend, from the outside in: the [`breaker`] (a backend that does not respond
//! is asked by single questions only), the [`turns`] (so many at once, fair between addresses), their number
//! ([`concurrency`]: fewer while the backend is slow), and the connection.

mod ask;
mod breaker;
mod concurrency;
mod connect;
mod counters;
mod endpoint;
mod http_backend;
mod question;
mod resolve;
mod secure_token;
mod terms;
mod turns;

pub use ask::{Answered, Backends, Conclusion, Redirect, Wanted};
pub use counters::{BackendStatus, Bucket, Latency};
pub use endpoint::AskLimits;
pub use question::{Question, RequestType};
pub(crate) use resolve::Names;
pub use secure_token::verify as verify_secure_token;
pub use terms::{DEFAULT_AUTH_DURATION, MAX_AUTH_DURATION};
