//! What the flood meets: nicgate, its peers, and the two ends of the scale.

use std::{io::Write, process::Stdio};

use anyhow::{Context, bail};
use benchmarks::xdp_filter::{Features, XdpFilter, said};
use kit::{
    netns::Namespace,
    xdp::{Attached, Program},
};

use crate::{flood, scene::Scene};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    None,
    Iptables,
    Nftables,
    XdpFilter,
    Nicgate,
    BareDrop,
}

/// In the order of the table.
pub(crate) const PEERS: [Peer; 6] =
    [Peer::None, Peer::Iptables, Peer::Nftables, Peer::XdpFilter, Peer::Nicgate, Peer::BareDrop];

impl Peer {
    /// For the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "no filter",
            Self::Iptables => "iptables raw + ipset",
            Self::Nftables => "nftables ingress",
            Self::XdpFilter => "xdp-filter",
            Self::Nicgate => "nicgate",
            Self::BareDrop => "bare XDP_DROP",
        }
    }

    /// Sets it up on the edge. Every way in which frames can arrive is native XDP, so that the wire costs all the
    /// same; what works in the stack has a program in front of it that passes everything.
    pub(crate) fn install(self, scene: &Scene) -> anyhow::Result<Installed> {
        let edge = scene.lab.edge();
        let (mut attached, mut loaded) = (None, None);
        match self {
            Self::None => attached = Some(attach(scene, &Program::pass()?)?),
            Self::Iptables => {
                attached = Some(attach(scene, &Program::pass()?)?);
                iptables(edge)?;
            }
            Self::Nftables => {
                attached = Some(attach(scene, &Program::pass()?)?);
                let file = scene.write("flood.nft", &nftables(scene.lab.interface()));
                said(edge.command("nft").arg("-f").arg(file))?;
            }
            Self::XdpFilter => {
                let interface = scene.lab.interface();
                loaded = Some(XdpFilter::load(edge, interface, Features::Addresses, flood::sources())?);
            }
            Self::Nicgate => {}
            Self::BareDrop => attached = Some(attach(scene, &Program::bare_drop()?)?),
        }
        Ok(Installed { peer: self, _attached: attached, loaded })
    }
}

/// A peer at work, until it is dropped.
pub(crate) struct Installed {
    peer: Peer,
    _attached: Option<Attached>,
    loaded: Option<XdpFilter>,
}

impl Installed {
    /// Frames that it says it dropped so far; `None` for those that do not count.
    pub(crate) fn dropped(&self, scene: &Scene) -> anyhow::Result<Option<u64>> {
        let edge = scene.lab.edge();
        Ok(match self.peer {
            Peer::None | Peer::BareDrop => None,
            Peer::Iptables => {
                let mut sum = 0;
                for command in ["iptables", "ip6tables"] {
                    let text = said(edge.command(command).args(["-t", "raw", "-nvxL", "PREROUTING"]))?;
                    let rule =
                        text.lines().find(|line| line.contains("DROP")).context("no rule that drops")?;
                    sum += number(rule.split_whitespace().next(), &text)?;
                }
                Some(sum)
            }
            Peer::Nftables => {
                let text = said(edge.command("nft").args(["list", "chain", "netdev", "flood", "ingress"]))?;
                let counters = text.split("counter packets ").skip(1);
                let counts = counters.map(|rest| number(rest.split_whitespace().next(), &text));
                Some(counts.sum::<anyhow::Result<u64>>()?)
            }
            Peer::XdpFilter => self.loaded.as_ref().map(XdpFilter::dropped).transpose()?,
            Peer::Nicgate => Some(scene.dropped()?),
        })
    }
}

fn number(word: Option<&str>, text: &str) -> anyhow::Result<u64> {
    word.and_then(|word| word.parse().ok()).with_context(|| format!("there is no counter in:\n{text}"))
}

fn attach(scene: &Scene, program: &Program) -> anyhow::Result<Attached> {
    scene.lab.edge().run(|| {
        let interface = kit::device::index(scene.lab.interface())?;
        program.attach(interface).context("cannot attach an XDP program")
    })
}

fn iptables(edge: &Namespace) -> anyhow::Result<()> {
    let mut restore = String::new();
    for (set, family) in [("flood4", "inet"), ("flood6", "inet6")] {
        restore.push_str(&format!("create {set} hash:net family {family} maxelem 131072\n"));
    }
    for address in flood::sources() {
        let set = if address.is_ipv4() { "flood4" } else { "flood6" };
        restore.push_str(&format!("add {set} {address}\n"));
    }
    let mut ipset = edge.command("ipset");
    let mut child = ipset.arg("restore").stdin(Stdio::piped()).spawn().context("cannot run ipset")?;
    child.stdin.take().expect("it was piped").write_all(restore.as_bytes())?;
    if !child.wait()?.success() {
        bail!("`ipset restore` failed");
    }
    for (command, set) in [("iptables", "flood4"), ("ip6tables", "flood6")] {
        let rule = ["-t", "raw", "-A", "PREROUTING", "-m", "set", "--match-set", set, "src", "-j", "DROP"];
        said(edge.command(command).args(rule))?;
    }
    Ok(())
}

fn nftables(interface: &str) -> String {
    let list = |v4: bool| {
        let own = flood::sources().into_iter().filter(|address| address.is_ipv4() == v4);
        own.map(|address| address.to_string()).collect::<Vec<_>>().join(",")
    };
    let (v4, v6) = (list(true), list(false));
    format!(
        "table netdev flood {{\n\
         set sources4 {{ type ipv4_addr; flags interval; elements = {{ {v4} }} }}\n\
         set sources6 {{ type ipv6_addr; flags interval; elements = {{ {v6} }} }}\n\
         chain ingress {{\n\
         type filter hook ingress device {interface} priority -500;\n\
         ip saddr @sources4 counter drop\n\
         ip6 saddr @sources6 counter drop\n\
         }}\n}}\n"
    )
}
