//! xdp-filter of Debian's xdp-tools, which drops exact addresses.

use std::{
    fs,
    net::IpAddr,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use aya::{
    maps::{Map, MapData, PerCpuHashMap, PerCpuValues},
    util::nr_cpus,
};
use serde_json::Value;

use crate::test_run::Timed;
use kit::netns::Namespace;

/// How many addresses of each family it holds.
pub const CAPACITY: usize = 10_000;

/// Where it pins its tables, for all interfaces.
const PINS: &str = "/sys/fs/bpf/xdp-filter";
/// Its flag for addresses that are compared with a frame's source.
const SOURCE: u64 = 1;

/// What it looks at; it has a program for each choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Features {
    /// IPv4 and IPv6 addresses. The least that does what nicgate is compared in.
    Addresses,
    /// Hardware addresses and ports as well.
    All,
}

/// xdp-filter on an interface, natively, until it is dropped. One at a time on a machine.
#[derive(Debug)]
pub struct XdpFilter {
    namespace: Namespace,
    interface: String,
}

impl XdpFilter {
    /// Loads it and denies sources.
    ///
    /// # Errors
    ///
    /// When it is missing, or refuses the interface, or has no room.
    pub fn load(
        namespace: &Namespace,
        interface: &str,
        features: Features,
        denied: impl IntoIterator<Item = IpAddr>,
    ) -> anyhow::Result<Self> {
        // It pins there, and in nowhere else.
        if !fs::read_to_string("/proc/self/mounts")?.contains(" /sys/fs/bpf bpf ") {
            said(Command::new("mount").args(["-t", "bpf", "bpf", "/sys/fs/bpf"]))?;
        }
        let features = if features == Features::All { "all" } else { "ipv4,ipv6" };
        let mut load = namespace.command("xdp-filter");
        said(load.args(["load", interface, "--mode", "native", "--features", features]))?;
        let loaded = Self { namespace: namespace.clone(), interface: interface.to_owned() };
        // Its command takes one address at a time, with a process for each.
        let (mut v4, mut v6) = (table::<4>("filter_ipv4")?, table::<16>("filter_ipv6")?);
        let value = || PerCpuValues::try_from(vec![SOURCE; nr_cpus().map_err(|(_, error)| error)?]);
        for address in denied {
            match address {
                IpAddr::V4(address) => v4.insert(address.octets(), value()?, 0)?,
                IpAddr::V6(address) => v6.insert(address.octets(), value()?, 0)?,
            }
        }
        Ok(loaded)
    }

    /// Frames that it says it dropped so far.
    ///
    /// # Errors
    ///
    /// When it cannot be asked.
    pub fn dropped(&self) -> anyhow::Result<u64> {
        let text = said(self.namespace.command("xdp-filter").arg("status"))?;
        dropped(&text).with_context(|| format!("there is no counter in:\n{text}"))
    }

    /// Its program, as the interface runs it.
    ///
    /// # Errors
    ///
    /// When the interface has none.
    pub fn program(&self) -> anyhow::Result<Timed> {
        let text = said(self.namespace.command("ip").args(["-json", "link", "show", &self.interface]))?;
        let links: Value = serde_json::from_str(&text).context("`ip -json link` printed no JSON")?;
        let id = links[0]["xdp"]["prog"]["id"].as_u64().context("the interface has no XDP program")?;
        Timed::by_id(u32::try_from(id)?)
    }
}

impl Drop for XdpFilter {
    fn drop(&mut self) {
        if let Err(error) = said(self.namespace.command("xdp-filter").args(["unload", &self.interface])) {
            eprintln!("{error:#}");
        }
    }
}

fn table<const N: usize>(name: &str) -> anyhow::Result<PerCpuHashMap<MapData, [u8; N], u64>> {
    let path = format!("{PINS}/{name}");
    let data = MapData::from_pin(&path).with_context(|| format!("cannot open {path}"))?;
    Ok(PerCpuHashMap::try_from(Map::PerCpuHashMap(data))?)
}

/// The number of packets in the line of `xdp-filter status` that tells of drops.
fn dropped(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.trim_start().starts_with("XDP_DROP"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Runs a command and returns what it printed.
///
/// # Errors
///
/// When it cannot be run or fails.
pub fn said(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::dropped;

    #[test]
    fn reads_its_counter() {
        let status = "CURRENT XDP-FILTER STATUS:\n\nAggregate per-action statistics:\n  XDP_ABORTED           0 pkts           0 KiB\n  XDP_DROP             42 pkts           2 KiB\n  XDP_PASS              7 pkts           1 KiB\n";
        assert_eq!(dropped(status), Some(42));
        assert_eq!(dropped("nothing"), None);
    }
}
