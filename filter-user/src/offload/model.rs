//! What the offload compiler gives.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

use crate::{
    address::{Partition, canonical},
    model::{OpenReason, Origin, PolicyId, RuleId, ServiceKey},
};

/// A set of addresses that every service treats alike. Classes are numbered from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u32);

impl ClassId {
    /// Its place among all classes.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of services that treat every address alike, because the same policies lie behind them, and the same proxies in
/// front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(pub u32);

impl ColumnId {
    /// Its place in a row.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A rule that drops at the NIC, by its place in [`Compiled::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DropRuleId(pub u32);

/// What the NIC does with a class on a service: pass, or drop on account of a rule.
pub type Cell = Option<DropRuleId>;

/// What a dropped packet is counted against: a rule in the file, or a policy's missing `allow default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropRule {
    /// The policy.
    pub policy: PolicyId,
    /// The policy's name.
    pub policy_name: Arc<str>,
    /// The rule; `None` for the default.
    pub rule: Option<RuleId>,
    /// The rule as written; `default deny` for the default.
    pub text: Arc<str>,
    /// The rule's place; for the default, that of the policy.
    pub origin: Origin,
    /// Survives a reload that leaves the rule as it is: derived from the policy's name, the rule's text
    /// and how many equal ones precede it, never from line numbers. Distinct within one compilation.
    pub identity: u64,
}

/// A distinct set of policies, and of proxies in front, that one or more services have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The policies.
    pub policies: Vec<PolicyId>,
    /// Addresses that are never dropped here, because their packets carry the requests of others; sorted.
    pub proxies: Vec<IpNet>,
    /// Why nothing is dropped here, if so.
    pub open: Option<OpenReason>,
}

/// A service and its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompiledService {
    /// The port.
    pub key: ServiceKey,
    /// What its packets are judged by.
    pub column: ColumnId,
}

/// The compiler's output, independent of the kernel structure that holds it.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The class of every IPv4 address.
    pub v4: Partition<u32, ClassId>,
    /// The class of every IPv6 address. The IPv4-mapped block `::ffff:0:0/96` means nothing here: such
    /// addresses are looked up as IPv4.
    pub v6: Partition<u128, ClassId>,
    /// In the order of [`crate::model::Config::services`].
    pub services: Vec<CompiledService>,
    /// The distinct policy sets. One more column than these exists in `cells`: the last one, which drops
    /// what every service drops, for packets whose port cannot be seen.
    pub columns: Vec<Column>,
    /// The table, one row of `columns.len() + 1` cells for each class.
    pub cells: Vec<Cell>,
    /// The rules that drop something, by [`DropRuleId`].
    pub rules: Vec<DropRule>,
    /// Judge and count, drop nothing.
    pub shadow: bool,
}

impl Compiled {
    /// Cells in a row: the columns and the one for hidden ports.
    pub fn row(&self) -> usize {
        self.columns.len() + 1
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.cells.len() / self.row()
    }

    /// The column for packets whose port cannot be seen.
    pub fn hidden_column(&self) -> ColumnId {
        ColumnId(self.columns.len() as u32)
    }

    /// The class of an address.
    pub fn class(&self, address: IpAddr) -> ClassId {
        match canonical(address) {
            IpAddr::V4(v4) => self.v4.get(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.get(v6.to_bits()),
        }
    }

    /// What the table says of a class.
    pub fn cell(&self, class: ClassId, column: ColumnId) -> Cell {
        self.cells[class.index() * self.row() + column.index()]
    }

    /// What the NIC does with a packet from `address` to the service at `service` in [`Self::services`].
    pub fn verdict(&self, address: IpAddr, service: usize) -> Cell {
        self.cell(self.class(address), self.services[service].column)
    }

    /// A rule that drops.
    pub fn rule(&self, id: DropRuleId) -> &DropRule {
        &self.rules[id.0 as usize]
    }
}
