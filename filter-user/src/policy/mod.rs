//! The policy: what an `auth_backend` block says, and how a request is judged by it. Pure: no I/O.

mod judge;
mod model;

pub use judge::{Answer, Decision, STEPS, Step, Subject, Verdict};
pub use model::{
    Action, Authority, BackendRule, Country, List, Matcher, Origin, Policy, PolicyBuilder, PolicyId, Rule,
    RuleId, Stage,
};
pub(crate) use model::{NO_RULE, RuleLabel};

/// Knows the country of an address.
pub trait Countries: Send + Sync {
    /// The country, or `None` when the database does not know the address.
    fn country(&self, address: std::net::IpAddr) -> Option<Country>;
}

/// Without a database no address has a country.
impl Countries for () {
    fn country(&self, _: std::net::IpAddr) -> Option<Country> {
        None
    }
}
