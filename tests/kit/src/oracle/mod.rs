//! The naive oracle: what section 1 of DESIGN.md says, written to be obviously right and nothing else.
//!
//! It shares no type and no line with `filter_user`: an address is compared with a prefix bit by bit, a
//! list is searched from its first entry, and what the NIC may drop is found by trying every request
//! that the rules can tell apart. Every disagreement with nicgate is a bug in one of the two.

mod config;
mod judge;
mod model;
mod nic;

pub use config::{Config, Service, ServiceKind, Stream};
pub use judge::{Answer, Judgement, Verdict, conclude, judge};
pub use model::{Action, Authority, CountryTable, Kind, Policy, Prefix, Request, Rule, Value, mapped_to_v4};
pub use nic::{every_request_is_denied, nic_may_drop};
