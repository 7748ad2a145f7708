//! The offload compiler: from the model to what the NIC may drop. Pure: no I/O, no knowledge of the kernel.

mod change;
mod compile;
mod decide;
mod memo;
mod model;
mod report;
mod rules;

pub use change::{Prefixes, ServiceChange, changes};
pub use compile::{DropPrefixes, compile};
pub use decide::Decisions;
pub use model::{Cell, ClassId, Column, ColumnId, Compiled, CompiledService, DropRule, DropRuleId};
pub use report::{Extent, Place, RuleReport, Runs, report};
