//! xdp-filter with the same list.

use benchmarks::{
    test_run::Timed,
    xdp_filter::{CAPACITY, Features, XdpFilter},
};
use kit::netns::Lab;

use crate::input::Input;

/// Where it is loaded: onto one end of a pair of virtual interfaces. Nothing is ever sent there.
pub(crate) struct Edge(Lab);

/// Its programs, each with a table of its own. They go on when xdp-filter is unloaded.
pub(crate) struct FilterPrograms {
    pub(crate) addresses: Timed,
    pub(crate) all: Timed,
}

impl Edge {
    /// Makes the interface.
    ///
    /// # Errors
    ///
    /// Without root.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Lab::new("verdict").map(Self)
    }

    /// The programs; nothing when xdp-filter cannot hold the list, which has networks in it or is too long.
    pub(crate) fn programs(&self, input: &Input) -> anyhow::Result<Option<FilterPrograms>> {
        let single = input.list.iter().all(|prefix| prefix.prefix_len() == prefix.max_prefix_len());
        if !single || input.list.len() > CAPACITY {
            return Ok(None);
        }
        let program = |features| {
            let denied = input.list.iter().map(|prefix| prefix.addr());
            XdpFilter::load(self.0.edge(), self.0.interface(), features, denied)?.program()
        };
        Ok(Some(FilterPrograms { addresses: program(Features::Addresses)?, all: program(Features::All)? }))
    }
}
