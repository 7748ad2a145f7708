//! The kernel's packet generator against a filtered interface, and what both ends counted.

mod far_end;

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Parser;
use filter_user::model::{Engine, InterfaceMode};
use kit::{
    device,
    filtered_edge::{Arrived, Guarded},
    machine,
    netns::Namespace,
    pktgen::{self, Order, Sent},
};

use far_end::FarEnd;

/// How much without --rate a pair of virtual interfaces of our own gets, if --count does not say otherwise.
const COUNT: u64 = 1_000_000;

#[derive(Parser)]
#[command(
    name = "bench-pktgen",
    about = "Sends with the kernel's pktgen and compares what was sent with what nicgate dropped and passed",
    after_help = "Without --iface it makes a pair of virtual interfaces in network namespaces, filters one end, \
                  and sends out of the other."
)]
struct Arguments {
    /// Send out of this interface; nothing is sent anywhere else
    #[arg(long, requires = "mac", requires = "to")]
    iface: Option<String>,
    /// To this hardware address: the filtered interface's, or the router's before it
    #[arg(long, requires = "iface", value_parser = hardware_address)]
    mac: Option<HardwareAddress>,
    /// To this address and UDP port, a protected one
    #[arg(long, requires = "iface", value_name = "ADDR:PORT")]
    to: Option<SocketAddrV4>,
    /// From these addresses in turn
    #[arg(long, requires = "iface", value_name = "FIRST-LAST", value_parser = range)]
    source_range: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Bytes of a frame, without its checksum
    #[arg(long, default_value_t = pktgen::SMALLEST)]
    size: u32,
    /// How often each frame is sent again as it is; real NICs only
    #[arg(long, default_value_t = 0)]
    clones: u32,
    /// How many cores send
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// How many frames in all
    #[arg(long, default_value_t = COUNT)]
    count: u64,
    /// At most this many frames a second
    #[arg(long, value_name = "PPS")]
    rate: Option<u64>,
    /// Stop after this long in any case
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// What prints the far end's counters: `nicgate stats --json`, or that over ssh
    #[arg(long, requires = "iface", value_name = "COMMAND")]
    stats: Option<String>,
}

/// A type of its own, because clap would take an array for several values.
#[derive(Clone, Copy)]
struct HardwareAddress([u8; 6]);

fn main() -> ExitCode {
    machine::finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    pktgen::available()?;
    let (Some(interface), Some(mac), Some(to)) = (&arguments.iface, arguments.mac, arguments.to) else {
        return in_a_lab(arguments);
    };
    let sources = arguments.source_range.context(
        "--source-range is missing: name a range that the filter knows, part of it denied if you like",
    )?;
    let order = complete(
        arguments,
        Order {
            interface: interface.clone(),
            mac: mac.0,
            sources,
            destination: *to.ip(),
            port: to.port(),
            ..blank()
        },
    );
    let far_end = arguments.stats.as_deref().map(|command| FarEnd::new(command, to.port()));
    let before = far_end.as_ref().map(FarEnd::read).transpose()?;
    let run = send(None, &order)?;
    let arrived = far_end.as_ref().map(FarEnd::read).transpose()?;
    print_sent(&order, &run);
    match (before, arrived) {
        (Some(before), Some(after)) => Ok(print_arrived(&run, before, after)),
        _ => {
            println!("the far end's counters were not asked for: --stats 'ssh HOST nicgate stats --json'");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Between two namespaces of our own.
fn in_a_lab(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let guarded = Guarded::new("pktgen", InterfaceMode::Native, Engine::default())?;
    let order = complete(arguments, guarded.order());
    println!(
        "a pair of virtual interfaces, nicgate in {} mode on one end; sources {}–{}, half of them denied",
        guarded.report.mode, order.sources.0, order.sources.1
    );
    let before = guarded.arrived()?;
    let run = send(Some(guarded.lab().router()), &order)?;
    let after = guarded.arrived()?;
    guarded.detach()?;
    print_sent(&order, &run);
    Ok(print_arrived(&run, before, after))
}

fn blank() -> Order {
    let nowhere = Ipv4Addr::UNSPECIFIED;
    Order {
        interface: String::new(),
        mac: [0; 6],
        sources: (nowhere, nowhere),
        destination: nowhere,
        port: 0,
        size: 0,
        clones: 0,
        threads: 0,
        count: 0,
        rate: None,
        limit: Duration::ZERO,
    }
}

fn complete(arguments: &Arguments, order: Order) -> Order {
    let Arguments { size, clones, threads, count, rate, seconds, .. } = *arguments;
    Order { size, clones, threads, count, rate, limit: Duration::from_secs(seconds), ..order }
}

/// What the sending end counted.
struct Run {
    cores: Vec<Sent>,
    /// Frames that the interface's own queue lost.
    lost: u64,
}

impl Run {
    fn packets(&self) -> u64 {
        self.cores.iter().map(|sent| sent.packets).sum()
    }
}

fn send(namespace: Option<&Namespace>, order: &Order) -> anyhow::Result<Run> {
    let counters = || match namespace {
        Some(namespace) => namespace.run(|| device::counters(&order.interface)),
        None => device::counters(&order.interface),
    };
    let before = counters()?;
    let cores = pktgen::send(namespace, order)?;
    Ok(Run { cores, lost: counters()?.sending_dropped - before.sending_dropped })
}

fn print_sent(order: &Order, run: &Run) {
    println!(
        "{} of {} frames of {} bytes sent out of {}",
        run.packets(),
        order.count,
        order.size,
        order.interface
    );
    for sent in &run.cores {
        println!(
            "  core {:>2}: {:>12} sent in {:.2} s, {:.3} Mpps, {} errors",
            sent.core,
            sent.packets,
            sent.took.as_secs_f64(),
            sent.rate() / 1e6,
            sent.errors
        );
    }
}

/// Prints what became of the frames; a failure when some are not accounted for.
fn print_arrived(run: &Run, before: Arrived, after: Arrived) -> ExitCode {
    let (dropped, passed) = (after.dropped - before.dropped, after.passed - before.passed);
    let took = run.cores.iter().map(|sent| sent.took).max().unwrap_or_default();
    println!("  dropped  {dropped:>12}, {:.3} Mpps", dropped as f64 / took.as_secs_f64().max(1e-9) / 1e6);
    println!("  passed   {passed:>12}");
    println!("  lost     {:>12} in the sending interface's own queue", run.lost);
    let (sent, seen) = (run.packets(), dropped + passed + run.lost);
    if sent == seen {
        println!(
            "every frame is accounted for: {sent} = {dropped} dropped + {passed} passed + {} lost",
            run.lost
        );
        return ExitCode::SUCCESS;
    }
    println!("{} frames are NOT accounted for", sent.abs_diff(seen));
    ExitCode::FAILURE
}

fn hardware_address(text: &str) -> anyhow::Result<HardwareAddress> {
    let parts: Result<Vec<u8>, _> = text.split(':').map(|part| u8::from_str_radix(part, 16)).collect();
    match parts.map(<[u8; 6]>::try_from) {
        Ok(Ok(bytes)) => Ok(HardwareAddress(bytes)),
        _ => bail!("a hardware address looks like 02:00:00:00:00:01"),
    }
}

fn range(text: &str) -> anyhow::Result<(Ipv4Addr, Ipv4Addr)> {
    let (first, last) = text.split_once('-').context("a range looks like 198.18.0.0-198.18.0.255")?;
    Ok((first.trim().parse()?, last.trim().parse()?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Arguments;

    #[test]
    fn it_aims_only_where_it_was_told_to() {
        let parse = |words: &str| Arguments::try_parse_from(words.split_whitespace());
        assert!(parse("b --iface eth0 --mac 02:00:00:00:00:01 --to 192.0.2.1:5000").is_ok());
        assert!(parse("b --iface eth0").is_err());
        assert!(parse("b --iface eth0 --to 192.0.2.1:5000").is_err());
        assert!(parse("b --mac 02:00:00:00:00:01 --to 192.0.2.1:5000").is_err());
        assert!(parse("b --iface eth0 --mac 02:00:00:00:00 --to 192.0.2.1:5000").is_err());
        assert!(parse("b --iface eth0 --mac 02:00:00:00:00:01 --to 192.0.2.1:5000 --seconds 9999").is_err());
        assert!(parse("b").is_ok());
    }
}
