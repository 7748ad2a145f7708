//! The offload compiler: from the model to what the NIC may drop. Pure: no I/O, no knowledge of the kernel.

mod model;

pub use model::{Cell, ClassId, Column, ColumnId, Compiled, CompiledService, DropRule, DropRuleId};
