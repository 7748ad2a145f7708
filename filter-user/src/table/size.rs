//! What the kernel's maps can hold.

use filter_ebpf::{
    flat::CLASSES,
    layout::{CELLS, MAX_RULES, MAX_SERVICES},
};

use crate::{model::Engine, offload::Compiled};

/// A table is larger than the kernel's maps; what was enforced before still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// More rules that drop than [`MAX_RULES`].
    #[error(
        "{0} rules drop at the NIC, but its table holds {MAX_RULES}: put the addresses into a list file, which is one \
         rule (`deny ip file \"PATH\";`)"
    )]
    Rules(usize),
    /// More services than [`MAX_SERVICES`].
    #[error("{0} ports are protected, but the NIC's table holds {MAX_SERVICES}: protect fewer ports")]
    Services(usize),
    /// Classes times distinct policy sets exceed the verdict table.
    #[error(
        "{classes} classes of addresses times {columns} sets of policies are more than the {CELLS} verdicts that the \
         NIC's table holds: let more ports share a policy, or join rules"
    )]
    Cells {
        /// Classes of addresses.
        classes: usize,
        /// Distinct sets of policies, and one.
        columns: usize,
    },
    /// More classes than the `flat` engine numbers.
    #[error(
        "{0} classes of addresses are more than the {CLASSES} that the engine `flat` numbers: join rules, or set `engine lpm;`"
    )]
    Classes(usize),
    /// More addresses than the `flat` engine reaches.
    #[error(
        "the addresses need more memory than the engine `flat` reaches (512 MiB for one table): join prefixes, or set \
         `engine lpm;`"
    )]
    Addresses,
}

/// Whether a table of this size can be published at all.
///
/// # Errors
///
/// What is too large, and the remedy.
pub fn fits(engine: Engine, compiled: &Compiled) -> Result<(), TooLarge> {
    if compiled.rules.len() > MAX_RULES as usize {
        return Err(TooLarge::Rules(compiled.rules.len()));
    }
    if compiled.services.len() > MAX_SERVICES as usize {
        return Err(TooLarge::Services(compiled.services.len()));
    }
    if compiled.cells.len() > CELLS {
        return Err(TooLarge::Cells { classes: compiled.classes(), columns: compiled.row() });
    }
    if engine == Engine::Flat && compiled.classes() > CLASSES {
        return Err(TooLarge::Classes(compiled.classes()));
    }
    Ok(())
}
