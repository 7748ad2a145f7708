//! An edge with nicgate's program on its wire and a table made by hand, for floods of known sources.

use std::net::Ipv4Addr;

use filter_user::{
    kernel::{AttachReport, Filter, Stats},
    model::{Engine, InterfaceMode, Proto},
};

use crate::{
    netns::{EDGE_MAC, EDGE_V4, Lab},
    pktgen::Order,
    tables::Table,
};

/// The protected port.
const PORT: u16 = 5000;
/// The sources of a flood; the first half of them is denied. For benchmarks, by RFC 2544.
const SOURCES: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(198, 18, 0, 0), Ipv4Addr::new(198, 18, 0, 255));
const DENIED: &str = "198.18.0.0/25";

/// A lab whose edge is filtered.
pub struct Guarded {
    lab: Lab,
    filter: Filter,
    /// How the filter was attached.
    pub report: AttachReport,
}

/// What a flood came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Frames that the filter dropped.
    pub dropped: u64,
    /// Frames that it passed.
    pub passed: u64,
}

impl Guarded {
    /// Makes the lab and attaches the filter.
    ///
    /// # Errors
    ///
    /// When this is not root, or the kernel refuses.
    pub fn new(label: &str, mode: InterfaceMode, engine: Engine) -> anyhow::Result<Self> {
        let lab = Lab::new(label)?;
        let table = Table::denying(&format!("deny ip {DENIED}"), &[DENIED], &[(Proto::Udp, PORT)]);
        let layout = table.layout(engine);
        let (filter, report) = lab.edge().run(|| Filter::attach(lab.interface(), mode, &layout))?;
        Ok(Self { lab, filter, report })
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// An order for pktgen whose sources are denied and admitted in turn, half of them each, out of the router.
    pub fn order(&self) -> Order {
        Order {
            interface: "edge".to_owned(),
            mac: EDGE_MAC,
            sources: SOURCES,
            destination: EDGE_V4,
            port: PORT,
            size: crate::pktgen::SMALLEST,
            clones: 0,
            threads: 1,
            count: 0,
            rate: None,
            limit: std::time::Duration::from_secs(60),
        }
    }

    /// What arrived at the protected port so far.
    ///
    /// # Errors
    ///
    /// When the kernel does not show the counters.
    pub fn arrived(&self) -> anyhow::Result<Arrived> {
        Ok(arrived(&self.filter.stats()?))
    }

    /// Takes the filter off.
    ///
    /// # Errors
    ///
    /// When something cannot be removed.
    pub fn detach(self) -> anyhow::Result<()> {
        let Self { lab, filter, .. } = self;
        Ok(lab.edge().run(|| filter.detach())?)
    }
}

fn arrived(stats: &Stats) -> Arrived {
    let services = || stats.services.iter();
    Arrived {
        dropped: services().map(|service| service.dropped.packets).sum(),
        passed: services().map(|service| service.passed.packets).sum(),
    }
}
