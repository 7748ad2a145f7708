//! What a configuration means: policies, streams, protected ports, interfaces. Pure: no text, no I/O.

mod configuration;
mod gate;
mod interface;
mod mask;
mod policy;
mod service;
mod session;
mod stream;

pub use configuration::{Config, Listener};
pub use gate::{Cors, Gate, PlayerToken, TokenFrom};
pub use interface::{Engine, Interface, InterfaceMode};
pub use policy::{
    Action, Authority, BackendRule, Country, List, Matcher, Origin, Policy, PolicyBuilder, PolicyId, Rule,
    RuleId, Stage,
};
pub(crate) use policy::{AddressRules, RuleLabel};
pub use service::{NotAService, OpenReason, Proto, Service, ServiceKey, ServiceKind};
pub use session::{Follows, MaxSessions, SessionSettings};
pub use stream::{Access, Operation, Stream};

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
