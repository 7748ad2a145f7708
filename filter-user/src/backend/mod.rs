//! Asking the authorities that a policy names: HTTP backends in Flussonic's protocol, and `securetoken`,
//! which is answered here.
//!
//! All authorities of a policy are asked in parallel. The first that allows ends the question and the rest
//! are cancelled; otherwise every one is waited for within one timeout that covers waiting for a turn,
//! connecting and answering.

mod ask;
mod http_backend;
mod question;
mod secure_token;

pub use ask::{Answered, Backends, Conclusion, DEFAULT_AUTH_DURATION, MAX_AUTH_DURATION, Redirect};
pub use http_backend::QUESTIONS_PER_BACKEND;
pub use question::{Operation, Question, RequestType};
pub use secure_token::verify as verify_secure_token;
