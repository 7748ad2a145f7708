//! The policy: what an `auth_backend` block says, and how a request is judged by it. Pure: no I/O.

mod judge;
mod model;

pub use judge::{Answer, Decision, Subject, Verdict};
pub use model::{
    Action, Authority, BackendRule, Country, List, Matcher, Origin, Policy, PolicyBuilder, PolicyId, Rule,
    RuleId, Stage,
};
