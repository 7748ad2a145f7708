//! An edge host, a router and clients in network namespaces, joined by virtual cables; all of it goes when it is dropped.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::{Namespace, janitor, link};

/// The edge host's IPv4 address.
pub const EDGE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The edge host's IPv6 address.
pub const EDGE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// The edge interface's hardware address.
pub const EDGE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The hardware address at the other end of the edge's wire.
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// The router's end of the edge's wire.
const WIRE: &str = "edge";

/// An edge host, the router in front of it, and clients behind the router.
#[derive(Debug)]
pub struct Lab {
    number: u32,
    label: String,
    interface: String,
    // What Drop removes: names, because a namespace whose making failed half-way has one too.
    made: Vec<String>,
    hosts: Option<(Namespace, Namespace)>,
    clients: u32,
}

impl Lab {
    /// Makes the edge host and the router, connected and up. The label appears in the namespaces' names.
    ///
    /// # Errors
    ///
    /// When this is not root, or `ip` is missing or refuses.
    pub fn new(label: &str) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(janitor::sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let interface = janitor::interface_name(number);
        let mut lab =
            Self { number, label: label.to_owned(), interface, made: Vec::new(), hosts: None, clients: 0 };
        let edge = lab.host("edge")?;
        let router = lab.host("router")?;
        lab.hosts = Some((edge, router.clone()));
        router.sysctl("ipv4/ip_forward", "1")?;
        router.sysctl("ipv6/conf/all/forwarding", "1")?;
        lab.plug()?;
        Ok(lab)
    }

    /// Makes the edge's wire, and gives both of its ends their addresses and routes.
    ///
    /// # Errors
    ///
    /// When `ip` refuses, because there is one for example.
    pub fn plug(&self) -> anyhow::Result<()> {
        let (edge, router, name) = (self.edge(), self.router(), &self.interface);
        router.batch(&format!(
            "link add {WIRE} address {} type veth peer name {name} netns {} address {}\n",
            mac(ROUTER_MAC),
            edge.name(),
            mac(EDGE_MAC)
        ))?;
        edge.batch(&format!("link set {name} up\n"))?;
        router.batch(&format!(
            "addr add {ROUTER_V4}/30 dev {WIRE}\naddr add {ROUTER_V6}/64 dev {WIRE} nodad\nlink set {WIRE} up\n"
        ))?;
        wait_up(router, WIRE)?;
        self.address(name)
    }

    /// Gives the edge's interface, under its present name, its addresses and routes, which it loses when it goes down.
    ///
    /// # Errors
    ///
    /// When `ip` refuses, or the interface does not come up.
    pub fn address(&self, name: &str) -> anyhow::Result<()> {
        let edge = self.edge();
        wait_up(edge, name)?;
        edge.batch(&format!(
            "addr replace {EDGE_V4}/30 dev {name}\naddr replace {EDGE_V6}/64 dev {name} nodad\n\
             route replace default via {ROUTER_V4} dev {name}\nroute replace default via {ROUTER_V6} dev {name}\n"
        ))
    }

    /// The host that nicgate protects; it answers at [`EDGE_V4`] and [`EDGE_V6`].
    pub fn edge(&self) -> &Namespace {
        &self.hosts.as_ref().expect("made by new").0
    }

    /// The host between the clients and the edge.
    pub fn router(&self) -> &Namespace {
        &self.hosts.as_ref().expect("made by new").1
    }

    /// The interface of the edge that everything comes in through. Its name is unique on this machine, so that
    /// what is pinned for it is, too.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// A host at these addresses.
    ///
    /// # Errors
    ///
    /// When `ip` refuses.
    pub fn client(&mut self, name: &str, addresses: &[IpAddr]) -> anyhow::Result<Namespace> {
        let client = self.host(name)?;
        self.clients += 1;
        let port = format!("c{}", self.clients);
        let router = self.router();
        // Clients reach the router at a link-local address, because it has no other on their links.
        router.batch(&format!(
            "link add {port} type veth peer name eth0 netns {}\naddr add fe80::1/64 dev {port} nodad\n\
             link set {port} up\n",
            client.name()
        ))?;
        let own =
            addresses.iter().map(|own| format!("addr add {} dev eth0{}\n", host_prefix(*own), nodad(*own)));
        client.batch(&format!(
            "{}link set eth0 up\nroute add default via {ROUTER_V4} dev eth0 onlink\n",
            own.collect::<String>()
        ))?;
        wait_up(router, &port)?;
        wait_up(&client, "eth0")?;
        client.batch("route add default via fe80::1 dev eth0\n")?;
        let routes =
            addresses.iter().map(|address| format!("route add {} dev {port}\n", host_prefix(*address)));
        router.batch(&routes.collect::<String>())?;
        Ok(client)
    }

    /// The router's end of the edge's wire, for frames of any making.
    ///
    /// # Errors
    ///
    /// When the kernel has no packet sockets.
    pub fn wire(&self) -> io::Result<Wire> {
        self.router().run(|| Wire::open(WIRE))
    }

    /// The names of the namespaces.
    pub fn namespaces(&self) -> &[String] {
        &self.made
    }

    fn host(&mut self, name: &str) -> anyhow::Result<Namespace> {
        let name = janitor::namespace_name(self.number, &self.label, name);
        if self.made.contains(&name) {
            bail!("{name} exists already: give every host another name");
        }
        self.made.push(name.clone());
        Namespace::create(&name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.hosts = None;
        for name in &self.made {
            if std::path::Path::new("/run/netns").join(name).exists() {
                janitor::remove_namespace(name);
            }
        }
        janitor::remove_pins(&self.interface);
    }
}

/// One end of the edge's wire, as a packet socket.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    fn open(interface: &str) -> io::Result<Self> {
        let index = link::index(interface)?;
        // Protocol 0: it sends, and receives nothing.
        // SAFETY: socket takes no pointers.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just opened and that nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: a structure of integers, for which zeroes are valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_ifindex = index;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address is of the type and length that the family has.
        match unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } {
            0 => Ok(Self { socket }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sends one Ethernet frame, its header included.
    ///
    /// # Errors
    ///
    /// When the frame is longer than the interface allows, or the interface is gone.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and the length are those of the slice.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn wait_up(namespace: &Namespace, interface: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    namespace.run(|| {
        while !link::running(interface).with_context(|| format!("no interface {interface}"))? {
            if Instant::now() > deadline {
                bail!("{interface} did not come up within 20 seconds");
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    })
}

fn host_prefix(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

fn nodad(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " nodad" } else { "" }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
