//! What is in the tables of one measurement, and what is asked.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process,
};

use anyhow::{Context, anyhow};
use filter_user::{
    load,
    model::Proto,
    offload::{ClassId, Compiled},
};
use ipnet::IpNet;
use kit::{
    frames::{self, TCP},
    tables::Table,
};

use crate::sets::{Set, V4_COUNTRY, V6_COUNTRY, addresses};

/// The port that is protected.
const PORT: u16 = 80;
/// How many sources are looked at for the share of those that are dropped.
const SAMPLE: usize = 100_000;

/// A table, and where packets come from.
pub(crate) struct Input {
    pub(crate) set: Set,
    /// What it is called in tables, when the set's name does not say it.
    pub(crate) prefixes: u32,
    pub(crate) compiled: Compiled,
    /// The prefixes as a list has them: in no order.
    pub(crate) list: Vec<IpNet>,
    /// Whether the list is the set's; else it is a table of countries.
    pub(crate) has_listed: bool,
    /// The share of sources from anywhere that the table drops.
    pub(crate) dropped: f64,
    /// A source that is dropped, and one that is not.
    pub(crate) denied: IpAddr,
    pub(crate) allowed: IpAddr,
}

impl Input {
    /// One rule drops the first `prefixes` of a set.
    pub(crate) fn list(set: Set, prefixes: u32) -> anyhow::Result<Self> {
        let mut table = Table::new(1).service(Proto::Tcp, PORT, None, 0);
        let rule = table.rule("deny ip file", 1);
        let class = table.class(vec![Some(rule)]);
        let list: Vec<IpNet> = set.prefixes(prefixes).collect();
        let compiled = table.nets(list.iter().map(|net| (*net, class))).compiled();
        Self::new(set, compiled, list, true)
    }

    /// `allow country RU US` with a full database: everything else is dropped. IPv4 and IPv6. The list is the
    /// networks of the two, which are fewer.
    pub(crate) fn countries(database: &Path) -> anyhow::Result<[Self; 2]> {
        let text = format!(
            "geoip \"{}\";\nauth_backend home {{\n  allow country RU US;\n}}\nguard tcp {PORT} auth://home;\n",
            database.display()
        );
        let of = |set: Set| {
            let compiled = compiled(&text)?;
            let column = compiled.services[0].column;
            let passes = |class: ClassId| compiled.cell(class, column).is_none();
            let mut list: Vec<IpNet> = if set.v6 {
                compiled.v6.prefixes(passes).collect()
            } else {
                compiled.v4.prefixes(passes).collect()
            };
            shuffle(&mut list);
            Self::new(set, compiled, list, false)
        };
        Ok([of(V4_COUNTRY)?, of(V6_COUNTRY)?])
    }

    fn new(set: Set, compiled: Compiled, list: Vec<IpNet>, has_listed: bool) -> anyhow::Result<Self> {
        let drops = |address: &IpAddr| compiled.verdict(*address, 0).is_some();
        let sample = || addresses(set.anywhere()).take(SAMPLE);
        let dropped = sample().filter(drops).count() as f64 / SAMPLE as f64;
        let mut denied: Box<dyn Iterator<Item = IpAddr>> = if has_listed {
            Box::new(addresses(set.listed()).skip(list.len() / 3))
        } else {
            Box::new(sample())
        };
        let denied = denied.find(drops).context("a table that drops nothing")?;
        let allowed = sample().find(|address| !drops(address)).context("a table that drops everything")?;
        Ok(Self {
            set,
            prefixes: u32::try_from(list.len())?,
            list,
            has_listed,
            dropped,
            denied,
            allowed,
            compiled,
        })
    }

    /// Sources out of the list, one of each prefix in turn.
    pub(crate) fn listed(&self) -> impl Iterator<Item = IpAddr> {
        // A source of the set, moved into the prefix: in a list of the set's own it is there already.
        self.list.iter().zip(addresses(self.set.listed())).map(|(prefix, source)| within(*prefix, source))
    }

    /// A packet to the protected port.
    pub(crate) fn frame(&self, source: IpAddr) -> Vec<u8> {
        frames::to_port(source, self.host(), TCP, PORT)
    }

    /// A packet to a port that is not protected.
    pub(crate) fn elsewhere(&self) -> Vec<u8> {
        frames::to_port(self.denied, self.host(), TCP, PORT + 1)
    }

    fn host(&self) -> IpAddr {
        let [v4, v6]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()];
        if self.set.v6 { v6 } else { v4 }
    }
}

/// The address in a network that has the other's bits for its host part.
fn within(net: IpNet, source: IpAddr) -> IpAddr {
    match (net, source) {
        (IpNet::V4(net), IpAddr::V4(source)) => {
            Ipv4Addr::from_bits(net.network().to_bits() | source.to_bits() & net.hostmask().to_bits()).into()
        }
        (IpNet::V6(net), IpAddr::V6(source)) => {
            Ipv6Addr::from_bits(net.network().to_bits() | source.to_bits() & net.hostmask().to_bits()).into()
        }
        (net, _) => net.addr(),
    }
}

/// A policy of 100 rules as people write them: addresses, networks, tokens and user agents, over a few policies
/// and ports.
pub(crate) fn hundred_rules() -> anyhow::Result<Compiled> {
    compiled(&hundred_rules_text())
}

fn hundred_rules_text() -> String {
    let mut text = String::new();
    for policy in 0..4 {
        text.push_str(&format!("auth_backend policy{policy} {{\n"));
        for rule in 0..25 {
            let low = policy * 25 + rule;
            text.push_str(&match rule % 8 {
                0 => format!("  deny ip 198.51.{low}.0/24;\n"),
                1 => format!("  deny ip 203.0.113.{low};\n"),
                2 => format!("  deny ip 2001:db8:{low:x}::/48;\n"),
                3 => format!("  allow ip 198.51.{}.128/25;\n", low - 3),
                4 => format!("  drop ip 192.0.2.{low};\n"),
                5 => format!("  deny ua \"restreamer {low}\";\n"),
                6 => format!("  deny token stolen{low};\n"),
                _ => format!("  deny ip 10.{low}/16;\n"),
            });
        }
        text.push_str("  allow default;\n}\n");
    }
    text.push_str("guard tcp 1935 auth://policy0;\nguard tcp 554 auth://policy1;\n");
    text.push_str("guard udp 9998 auth://policy2;\nguard tcp 80 auth://policy3;\n");
    text
}

/// A configuration's table, the way that it takes to an interface.
fn compiled(text: &str) -> anyhow::Result<Compiled> {
    let path = std::env::temp_dir().join(format!("nicgate-bench-verdict-{}.conf", process::id()));
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let loaded = load::load(&path, &|_| ()).map_err(|error| anyhow!("{error}"));
    std::fs::remove_file(&path)?;
    Ok(loaded?.0.compile())
}

/// The same disorder every time (Fisher and Yates).
fn shuffle<T>(items: &mut [T]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(last, (state >> 33) as usize % (last + 1));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Input, hundred_rules, shuffle, within};
    use crate::sets::{V4_MIXED, V6_DENSE, addresses};

    #[test]
    fn a_hundred_rules_of_which_most_are_the_kernels() {
        let compiled = hundred_rules().unwrap();
        assert_eq!(compiled.services.len(), 4);
        assert!(compiled.rules.len() > 60, "{} rules in the kernel", compiled.rules.len());
        let text = super::hundred_rules_text();
        assert_eq!(
            text.lines().filter(|line| line.starts_with("  ") && !line.contains("default")).count(),
            100
        );
    }

    #[test]
    fn a_list_has_a_denied_and_an_allowed_source() {
        for set in [V4_MIXED, V6_DENSE] {
            let input = Input::list(set, 1_000).unwrap();
            let dropped = |address: IpAddr| input.compiled.verdict(address, 0).is_some();
            assert!(dropped(input.denied) && !dropped(input.allowed), "{}", set.name);
            assert_eq!(input.prefixes, 1_000);
        }
    }

    #[test]
    fn listed_sources_are_those_of_the_set() {
        let input = Input::list(V4_MIXED, 100).unwrap();
        assert!(input.listed().eq(addresses(V4_MIXED.listed()).take(100)));
        let [net, source] = ["10.0.0.0/8", "1.2.3.4/32"].map(|text| text.parse::<ipnet::IpNet>().unwrap());
        assert_eq!(within(net, source.addr()).to_string(), "10.2.3.4");
    }

    #[test]
    fn shuffling_loses_nothing() {
        let mut items: Vec<u32> = (0..1_000).collect();
        shuffle(&mut items);
        assert!(items.windows(2).filter(|pair| pair[0] < pair[1]).count() < 600, "in no order");
        items.sort_unstable();
        assert!(items.iter().copied().eq(0..1_000));
    }
}
