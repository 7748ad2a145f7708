//! The kernel's own packet generator, driven through `/proc/net/pktgen`.

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{netns::Namespace, rights};

/// The generator's directory for the calling thread's namespace; `/proc/net` would be the first thread's.
const DIRECTORY: &str = "/proc/thread-self/net/pktgen";

/// The shortest frame that pktgen makes here: its headers and its own stamp.
pub const SMALLEST: u32 = 60;

/// What is to be sent: UDP over IPv4, from every source of a range in turn.
#[derive(Clone, Debug)]
pub struct Order {
    /// Out of this interface.
    pub interface: String,
    /// To this hardware address.
    pub mac: [u8; 6],
    /// From these addresses, first and last.
    pub sources: (Ipv4Addr, Ipv4Addr),
    /// To this address.
    pub destination: Ipv4Addr,
    /// To this port.
    pub port: u16,
    /// The length of a frame in bytes, without its checksum.
    pub size: u32,
    /// How often each frame is sent again as it is. Virtual interfaces allow none.
    pub clones: u32,
    /// How many cores send.
    pub threads: u32,
    /// How many frames in all.
    pub count: u64,
    /// At most this many frames a second in all; as fast as possible when there is none.
    pub rate: Option<u64>,
    /// When to stop although not all are sent.
    pub limit: Duration,
}

/// What one core sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The core.
    pub core: u32,
    /// Frames that the interface took.
    pub packets: u64,
    /// Frames that it refused.
    pub errors: u64,
    /// How long it took.
    pub took: Duration,
}

impl Sent {
    /// Frames a second.
    pub fn rate(&self) -> f64 {
        self.packets as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// Whether the generator is there.
///
/// # Errors
///
/// What is missing, and what to do about it.
pub fn available() -> anyhow::Result<()> {
    if !rights::is_root() {
        bail!("pktgen needs root: run this as root");
    }
    if Path::new(DIRECTORY).is_dir() {
        return Ok(());
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let index = fs::read_to_string(format!("/lib/modules/{release}/modules.dep")).unwrap_or_default();
    if index.contains("/pktgen.ko") {
        bail!("there is no /proc/net/pktgen: load the kernel's generator first, with `modprobe pktgen`");
    }
    bail!(
        "the running kernel ({release}) has no pktgen, neither built in nor as a module: `cargo xtask vm -- \
         bench-pktgen` runs the same benchmark on a kernel that has it, in a virtual machine"
    )
}

/// Checks an order before anything is sent.
///
/// # Errors
///
/// What is wrong with it.
pub fn check(order: &Order) -> anyhow::Result<()> {
    if order.mac[0] & 1 != 0 || order.mac == [0; 6] {
        bail!("the hardware address must be that of one machine, not a group's and not all zeroes");
    }
    if order.sources.0 > order.sources.1 {
        bail!("the range of sources ends ({}) before it begins ({})", order.sources.1, order.sources.0);
    }
    if !(SMALLEST..=9000).contains(&order.size) {
        bail!("a frame has {SMALLEST} to 9000 bytes, not {}", order.size);
    }
    if order.count == 0 || order.threads == 0 {
        bail!("nothing is to be sent: --count and --threads are at least 1");
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if order.threads as usize > cores {
        bail!("{} cores are to send, and there are {cores}", order.threads);
    }
    Ok(())
}

/// Sends, from inside a namespace, and waits until all is sent or the time is up.
///
/// # Errors
///
/// When the order is wrong, or the generator refuses a part of it. Nothing of it stays set up.
pub fn send(namespace: Option<&Namespace>, order: &Order) -> anyhow::Result<Vec<Sent>> {
    check(order)?;
    match namespace {
        Some(namespace) => namespace.run(|| send_here(namespace.into(), order)),
        None => send_here(None, order),
    }
}

fn send_here(namespace: Option<&Namespace>, order: &Order) -> anyhow::Result<Vec<Sent>> {
    available()?;
    if !fs::read_to_string("/proc/thread-self/net/dev")?
        .lines()
        .any(|line| line.trim_start().starts_with(&format!("{}:", order.interface)))
    {
        bail!("there is no interface {} here", order.interface);
    }
    let cores = cores(order.threads)?;
    for core in &cores {
        tell(&thread_file(*core), "rem_device_all")?;
    }
    let result = prepare(order, &cores).and_then(|()| start(namespace, order)).and_then(|()| {
        cores.iter().map(|core| read(*core, &device_file(order, *core))).collect::<anyhow::Result<_>>()
    });
    for core in &cores {
        tell(&thread_file(*core), "rem_device_all")?;
    }
    result
}

/// The cores that have a sending thread.
fn cores(threads: u32) -> anyhow::Result<Vec<u32>> {
    let entries = fs::read_dir(DIRECTORY).with_context(|| format!("cannot read {DIRECTORY}"))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut cores: Vec<u32> = names.filter_map(|name| name.strip_prefix("kpktgend_")?.parse().ok()).collect();
    cores.sort_unstable();
    if cores.len() < threads as usize {
        bail!("pktgen has {} threads, and {threads} are to send", cores.len());
    }
    cores.truncate(threads as usize);
    Ok(cores)
}

fn prepare(order: &Order, cores: &[u32]) -> anyhow::Result<()> {
    let threads = u64::from(order.threads);
    for (number, core) in (0..).zip(cores) {
        tell(&thread_file(*core), &format!("add_device {}@{core}", order.interface))?;
        let file = device_file(order, *core);
        let count = order.count / threads + u64::from(number < order.count % threads);
        let mac = order.mac.map(|byte| format!("{byte:02x}")).join(":");
        let settings = [
            format!("count {count}"),
            format!("clone_skb {}", order.clones),
            format!("pkt_size {}", order.size),
            "flag QUEUE_MAP_CPU".to_owned(),
            format!("dst_mac {mac}"),
            format!("dst {}", order.destination),
            format!("src_min {}", order.sources.0),
            format!("src_max {}", order.sources.1),
            format!("udp_dst_min {}", order.port),
            format!("udp_dst_max {}", order.port),
            "delay 0".to_owned(),
        ];
        for setting in &settings {
            tell(&file, setting).with_context(|| {
                let hint = "virtual interfaces cannot send a frame again: leave --clones out";
                format!("pktgen refuses `{setting}`{}", if setting.starts_with("clone") { hint } else { "" })
            })?;
        }
        if let Some(rate) = order.rate {
            tell(&file, &format!("ratep {}", (rate / threads).max(1)))?;
        }
    }
    Ok(())
}

/// Runs all threads; the write returns when they are done.
fn start(namespace: Option<&Namespace>, order: &Order) -> anyhow::Result<()> {
    let control = format!("{DIRECTORY}/pgctrl");
    let (done, finished) = mpsc::channel();
    let run = move || {
        // The receiver is there until the thread was joined.
        let _ = done.send(tell(&format!("{DIRECTORY}/pgctrl"), "start"));
    };
    let running = match namespace {
        Some(namespace) => namespace.spawn(run),
        None => thread::spawn(run),
    };
    let deadline = Instant::now() + order.limit;
    let result = match finished.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(result) => result,
        Err(_) => {
            tell(&control, "stop")?;
            finished.recv().unwrap_or_else(|_| bail!("the thread that ran pktgen ended"))
        }
    };
    let _ = running.join();
    result
}

fn read(core: u32, file: &str) -> anyhow::Result<Sent> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    parse(core, &text).with_context(|| format!("pktgen's {file} is not as expected:\n{text}"))
}

/// `pkts-sofar: N  errors: N` and `Result: OK: N(c… usec`.
fn parse(core: u32, text: &str) -> Option<Sent> {
    let after = |name: &str| {
        let rest = text.split_once(name)?.1.trim_start();
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let (packets, errors) = (after("pkts-sofar:")?, after("errors:")?);
    Some(Sent { core, packets, errors, took: Duration::from_micros(after("Result: OK:")?) })
}

fn thread_file(core: u32) -> String {
    format!("{DIRECTORY}/kpktgend_{core}")
}

fn device_file(order: &Order, core: u32) -> String {
    format!("{DIRECTORY}/{}@{core}", order.interface)
}

fn tell(file: &str, setting: &str) -> anyhow::Result<()> {
    fs::write(file, format!("{setting}\n")).with_context(|| format!("cannot write `{setting}` to {file}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Sent, parse};

    #[test]
    fn reads_what_a_core_sent() {
        let text = "Params: count 1000  min_pkt_size: 60  max_pkt_size: 60\n\
                    Current:\n     pkts-sofar: 1000  errors: 3\n     started: 1us  stopped: 2us idle: 4us\n\
                    Result: OK: 123456(c123+d4) usec, 1000 (60byte,0frags)\n  8100pps 3Mb/sec (1bps) errors: 3\n";
        let sent = parse(2, text).unwrap();
        assert_eq!(sent, Sent { core: 2, packets: 1000, errors: 3, took: Duration::from_micros(123_456) });
        assert!((sent.rate() - 8100.05).abs() < 0.1, "{}", sent.rate());
        assert_eq!(parse(2, "Result: Idle\n"), None);
    }
}
