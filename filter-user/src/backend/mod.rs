//! Asking the authorities that a policy names: HTTP backends in Flussonic's protocol, and `securetoken`,
//! which is answered here.
//!
//! All authorities of a policy are asked in parallel. The first that allows ends the question and the rest
//! are cancelled; otherwise every one is waited for within one timeout that covers connecting and answering. It runs
//! from when the question is sent: waiting for a turn has a time of its own ([`TURN_WAIT`]), and a question that gets
//! none is no outage of the backend.

mod ask;
mod http_backend;
mod question;
mod secure_token;
mod turns;

pub use ask::{Answered, Backends, Conclusion, DEFAULT_AUTH_DURATION, MAX_AUTH_DURATION, Redirect, Wanted};
pub use http_backend::{QUESTIONS_PER_BACKEND, TURN_WAIT};
pub use question::{Question, RequestType};
pub use secure_token::verify as verify_secure_token;
