//! The flood: SYN segments from many sources, made by an XDP program of our own on one core.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use kit::{
    frame::{Transport, frame},
    netns::{EDGE_V4, EDGE_V6, Lab},
    xdp::{FRAME, Family, Program, Sources, Template},
};

/// As many as xdp-filter's tables have room for, and a power of two.
pub(crate) const SOURCES: Sources = Sources { count: 8192 };
/// Frames for the call that finds out how fast it goes.
const TRIAL: u32 = 1 << 16;
/// Frames for one call at most.
const MOST: u32 = 200_000_000;
/// Calls a second when there is a pace to keep. Each waits twice for the kernel's grace period.
const PACE: u64 = 20;
/// The core that makes the flood; what receives a frame from it runs there as well.
const CORE: usize = 0;

/// Every source, one a line.
pub(crate) fn sources() -> Vec<IpAddr> {
    let v4 = SOURCES.low().map(|low| IpAddr::from([198, 18, (low >> 8) as u8, low as u8]));
    let v6 = SOURCES.low().map(|low| Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, low).into());
    v4.chain(v6).collect()
}

/// What makes it, for one lab.
pub(crate) struct Flood(Program);

impl Flood {
    /// Loads the program. `interface` is the number of the router's end of the edge's wire.
    pub(crate) fn new(interface: u32) -> anyhow::Result<Self> {
        let template = |family, source: SocketAddr, destination: SocketAddr| {
            Template::new(family, &frame(&[], source, destination, Transport::TcpSyn))
        };
        let templates = [
            template(Family::V4, "198.18.0.0:40000".parse()?, (EDGE_V4, 80).into()),
            template(Family::V6, "[2001:db8:bad::]:40000".parse()?, (EDGE_V6, 80).into()),
        ];
        let program = Program::flood(&templates, interface, SOURCES);
        Ok(Self(program.context("cannot load the program that makes the flood")?))
    }

    /// Sends from the router for about this long, as fast as one core does. Returns how many frames, and how long
    /// it took.
    pub(crate) fn at_full_speed(&self, lab: &Lab, time: Duration) -> io::Result<(u64, Duration)> {
        lab.router().run(|| {
            pin()?;
            let trial = Instant::now();
            self.send(TRIAL)?;
            let count = f64::from(TRIAL) * time.as_secs_f64() / trial.elapsed().as_secs_f64();
            let count = (count as u32).clamp(TRIAL, MOST);
            self.send(count)?;
            Ok((u64::from(TRIAL) + u64::from(count), trial.elapsed()))
        })
    }

    /// Sends `rate` frames a second until `stop`, at most for `limit`; in short bursts, because every call has a
    /// fixed cost.
    pub(crate) fn paced(
        &self,
        lab: &Lab,
        rate: u64,
        limit: Duration,
        stop: &AtomicBool,
    ) -> io::Result<(u64, Duration)> {
        lab.router().run(|| {
            pin()?;
            let burst = u32::try_from(rate / PACE).unwrap_or(MOST).max(1);
            let started = Instant::now();
            let mut sent = 0u64;
            while !stop.load(Ordering::Relaxed) && started.elapsed() < limit {
                self.send(burst)?;
                sent += u64::from(burst);
                let due = Duration::from_secs_f64(sent as f64 / rate as f64);
                thread::sleep(due.saturating_sub(started.elapsed()));
            }
            Ok((sent, started.elapsed()))
        })
    }

    fn send(&self, count: u32) -> io::Result<()> {
        self.0.run_live(&[0; FRAME], count)
    }
}

/// Keeps the calling thread on its core.
fn pin() -> io::Result<()> {
    // SAFETY: a set of bits, for which zeroes are valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the core's number is less than the set's size.
    unsafe { libc::CPU_SET(CORE, &mut set) };
    // SAFETY: the set lives until the call returns.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
