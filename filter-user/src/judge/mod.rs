//! The judge: a request goes in, a verdict with its stage, rule and reason comes out. Pure: the clock is given.
//!
//! [`judge`] is the only place that says in which order things are looked at: the stream, the bans, who judges the
//! operation, `no_auto_token`, the policy. The gate asks it for every request, a reload for every live transfer, and
//! `nicgate explain` for a request that is only supposed.

mod auto_token;
mod policy;
mod request;

pub use auto_token::{AutoTokens, is_auto_token};
pub use policy::{Answer, Decision, STEPS, Step, Subject, Verdict};
pub use request::{Ground, Judgement, Refusal, Request, judge};
