//! What a configuration means: policies, streams, protected ports, interfaces. Pure: no text, no I/O.

mod backend;
mod configuration;
mod country;
mod gate;
mod index;
mod interface;
mod limit;
mod mask;
mod policy;
mod rule;
mod service;
mod session;
mod stream;
mod trust;
mod upstream;

pub use backend::{BackendOptions, Pem, Secret};
pub use configuration::{Config, Listener};
pub use country::{Countries, Country};
pub use gate::{Cors, Gate, PlayerToken, TokenFrom};
pub(crate) use index::{AddressRules, CountryRules, RuleLabel};
pub use interface::{Engine, Interface, InterfaceMode};
pub use limit::{Limit, Limits, Setting, Unit};
pub use policy::{Policy, PolicyBuilder, PolicyId};
pub use rule::{Action, Authority, BackendRule, List, Matcher, Origin, Rule, RuleId, Stage};
pub use service::{NotAService, OpenReason, Proto, Service, ServiceKey, ServiceKind};
pub use session::{Follows, MaxSessions, SessionSettings};
pub use stream::{Access, Operation, Stream};
pub use trust::{AddressHeader, RealIp, Trust};
pub use upstream::{HealthCheck, ServerAddress, Upstream, UpstreamServer};
