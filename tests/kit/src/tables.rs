//! Compiled tables made by hand, without a configuration.

use std::{net::IpAddr, sync::Arc};

use filter_user::{
    address::{Partition, net_range_v4, net_range_v6},
    model::{Engine, Origin, PolicyId, Proto, ServiceKey},
    offload::{Cell, ClassId, Column, ColumnId, Compiled, CompiledService, DropRule, DropRuleId},
    table::Layout,
};
use ipnet::IpNet;

/// A table in the making. Class 0 is what no network names.
#[derive(Clone, Debug, Default)]
pub struct Table {
    services: Vec<(ServiceKey, ColumnId)>,
    nets: Vec<(IpNet, ClassId)>,
    /// For each class, the rule that drops it in each column.
    rows: Vec<Vec<Option<u32>>>,
    rules: Vec<(String, u64, u32)>,
    shadow: bool,
}

impl Table {
    /// A table with this many columns and a class 0 that passes everywhere.
    pub fn new(columns: usize) -> Self {
        Self { rows: vec![vec![None; columns]], ..Self::default() }
    }

    /// Protects a port, by the column of this number.
    #[must_use]
    pub fn service(mut self, proto: Proto, port: u16, address: Option<IpAddr>, column: u32) -> Self {
        self.services.push((ServiceKey { proto, port, address }, ColumnId(column)));
        self
    }

    /// Adds a rule, identified by its text; returns its number.
    pub fn rule(&mut self, text: &str, line: u32) -> u32 {
        let identity = text.bytes().fold(14_695_981_039_346_656_037u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211)
        });
        self.rules.push((text.to_owned(), identity, line));
        self.rules.len() as u32 - 1
    }

    /// Adds a class; returns its number.
    pub fn class(&mut self, row: Vec<Option<u32>>) -> ClassId {
        assert_eq!(row.len(), self.rows[0].len(), "one cell for each column");
        self.rows.push(row);
        ClassId(self.rows.len() as u32 - 1)
    }

    /// Puts a network into a class. Where networks overlap, the lowest class counts.
    #[must_use]
    pub fn net(mut self, net: &str, class: ClassId) -> Self {
        self.nets.push((net.parse().expect("a network"), class));
        self
    }

    /// Adds networks.
    #[must_use]
    pub fn nets(mut self, nets: impl IntoIterator<Item = (IpNet, ClassId)>) -> Self {
        self.nets.extend(nets);
        self
    }

    /// Judge and count, drop nothing.
    #[must_use]
    pub fn shadow(mut self) -> Self {
        self.shadow = true;
        self
    }

    /// The simplest one: a rule, and networks that it drops on these ports.
    pub fn denying(text: &str, nets: &[&str], ports: &[(Proto, u16)]) -> Self {
        let mut table = Self::new(1);
        let rule = table.rule(text, 9);
        let class = table.class(vec![Some(rule)]);
        for (proto, port) in ports {
            table = table.service(*proto, *port, None, 0);
        }
        nets.iter().fold(table, |table, net| table.net(net, class))
    }

    /// The table, laid out for an engine.
    ///
    /// # Panics
    ///
    /// When it is too large for the kernel's maps.
    pub fn layout(self, engine: Engine) -> Layout {
        Layout::new(engine, self.compiled()).expect("a table that fits")
    }

    /// The table.
    pub fn compiled(self) -> Compiled {
        let columns = self.rows[0].len();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (net, class) in self.nets {
            match net {
                IpNet::V4(net) => {
                    let (first, last) = net_range_v4(net);
                    v4.push((first, last, class));
                }
                IpNet::V6(net) => {
                    let (first, last) = net_range_v6(net);
                    v6.push((first, last, class));
                }
            }
        }
        let cells: Vec<Cell> = self
            .rows
            .iter()
            .flat_map(|row| {
                let everywhere = row.iter().all(Option::is_some);
                let hidden = row.first().copied().flatten().filter(|_| everywhere);
                row.iter().copied().chain([hidden]).map(|cell| cell.map(DropRuleId))
            })
            .collect();
        Compiled {
            v4: Partition::from_nested(v4, ClassId(0)),
            v6: Partition::from_nested(v6, ClassId(0)),
            services: self
                .services
                .into_iter()
                .map(|(key, column)| CompiledService { key, column })
                .collect(),
            columns: (0..columns as u32)
                .map(|id| Column { policies: vec![PolicyId(id)], proxies: Vec::new(), open: None })
                .collect(),
            cells,
            rules: self
                .rules
                .into_iter()
                .map(|(text, identity, line)| DropRule {
                    policy: PolicyId(0),
                    policy_name: Arc::from("made_by_hand"),
                    rule: None,
                    text: text.into(),
                    origin: Origin { file: Arc::from("test.conf"), line, column: 5 },
                    identity,
                })
                .collect(),
            shadow: self.shadow,
        }
    }
}
