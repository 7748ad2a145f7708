//! What an engine knows of a table's addresses.

use std::sync::Arc;

use filter_ebpf::layout::LINE_CELLS;

use super::{
    flat::Flat,
    prefixes::{Prefix, cover},
    ranges::ranges,
    size::{TooLarge, fits},
};
use crate::{
    model::Engine,
    offload::{ClassId, Compiled},
};

/// A compiled table and its addresses in an engine's own form: laid out once, put into force on any number of
/// interfaces.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) addresses: Addresses,
}

impl Layout {
    /// Lays out a table for an engine.
    ///
    /// # Errors
    ///
    /// What is too large for the kernel's maps, and the remedy.
    pub fn new(engine: Engine, compiled: impl Into<Arc<Compiled>>) -> Result<Self, TooLarge> {
        let compiled = compiled.into();
        let addresses = Addresses::new(engine, &compiled)?;
        Ok(Self { compiled, addresses })
    }

    /// The table.
    pub fn compiled(&self) -> &Arc<Compiled> {
        &self.compiled
    }

    /// The engine.
    pub fn engine(&self) -> Engine {
        self.addresses.engine()
    }
}

/// A table's addresses in an engine's own form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Addresses {
    /// Prefixes for two tries, and the classes of what they do not cover.
    Lpm {
        v4: Vec<Prefix<u32>>,
        v6: Vec<Prefix<u128>>,
        default_v4: ClassId,
        default_v6: ClassId,
        /// Lines of verdicts.
        verdicts: usize,
    },
    /// Buckets, and how many ranges of addresses stand out from the rest.
    Flat { flat: Box<Flat>, v4: usize, v6: usize },
}

impl Addresses {
    /// Lays out the addresses of a table that [`fits`].
    pub(crate) fn new(engine: Engine, compiled: &Compiled) -> Result<Self, TooLarge> {
        fits(engine, compiled)?;
        let verdicts = compiled.cells.len().div_ceil(LINE_CELLS);
        match engine {
            Engine::Lpm => {
                let (default_v4, v4) = cover(&compiled.v4);
                let (default_v6, v6) = cover(&compiled.v6);
                Ok(Self::Lpm { v4, v6, default_v4, default_v6, verdicts })
            }
            Engine::Flat => {
                let flat =
                    Flat::new(&compiled.v4, &compiled.v6, verdicts).map_err(|_| TooLarge::Addresses)?;
                let (v4, v6) = (ranges(&compiled.v4), ranges(&compiled.v6));
                Ok(Self::Flat { flat: Box::new(flat), v4, v6 })
            }
        }
    }

    pub(crate) fn engine(&self) -> Engine {
        match self {
            Self::Lpm { .. } => Engine::Lpm,
            Self::Flat { .. } => Engine::Flat,
        }
    }

    /// How many there are, IPv4 and IPv6.
    pub(crate) fn entries(&self) -> (usize, usize) {
        match self {
            Self::Lpm { v4, v6, .. } => (v4.len(), v6.len()),
            Self::Flat { v4, v6, .. } => (*v4, *v6),
        }
    }

    /// Lines that the table needs, those of the verdicts included.
    pub(crate) fn lines(&self) -> usize {
        match self {
            Self::Lpm { verdicts, .. } => *verdicts,
            Self::Flat { flat, .. } => flat.first_line() + flat.lines().len(),
        }
    }
}
