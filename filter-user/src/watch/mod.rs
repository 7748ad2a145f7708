//! What is enforced, compared with what should be: one owner of filters and bans, an audit, alarms.
//!
//! The [`Enforcer`] owns every [`Filter`](crate::kernel::Filter) and every runtime ban, on a thread of its own,
//! because calls into the kernel take long for large tables. Whoever wants something of them sends it a job; what a
//! job leaves behind can be looked at in its [`View`] without waiting for the next one.

mod alarm;
mod bans;
mod enforced;
mod enforcer;
mod monitor;
mod status;

pub use alarm::{Alarm, Code};
pub use bans::{
    BanChange, BanController, BanCounters, BanError, BanInfo, BanList, BanNames, BanOrder, BansMade,
    BansStatus, Done, Enforcement, NamedBan, Unbanned,
};
pub use enforced::{Change, Enforced, Published, Spent};
pub use enforcer::{BrokeOff, Enforcer, View};
pub use monitor::{BACKLOG as MONITOR_BACKLOG, Missed, Monitors, Observed, Subscription};
pub use status::{InterfaceStatus, alarms_of};
