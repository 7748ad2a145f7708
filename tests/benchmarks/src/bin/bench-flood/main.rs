//! A flood from many denied sources against nicgate and its peers: how fast each drops it, and what an allowed
//! viewer gets meanwhile.

mod flood;
mod peers;
mod report;
mod scene;
mod viewer;

use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use benchmarks::{progress::Progress, results::Written};
use clap::Parser;
use kit::{device, machine, rights};

use flood::Flood;
use peers::{Installed, PEERS, Peer};
use report::{Case, Report, Run};
use scene::Scene;

/// How long each part of the first round takes.
const WARM: Duration = Duration::from_millis(500);

#[derive(Parser)]
#[command(
    name = "bench-flood",
    about = "Floods an edge in a network namespace, filtered by nicgate and by its peers"
)]
struct Arguments {
    #[command(flatten)]
    written: Written,
    /// Runs of each case
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Frames a second while the viewer watches
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: u64,
}

fn main() -> ExitCode {
    machine::finish(run(&Arguments::parse()).map(|()| ExitCode::SUCCESS))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !rights::is_root() {
        bail!("the benchmark needs root, for network namespaces and XDP programs");
    }
    machine::take_precedence()?;
    let mut report = Report::new(arguments.rate, arguments.runs, arguments.seconds);
    println!("{}", report.describes());
    let mut stands = PEERS
        .into_iter()
        .map(|peer| Stand::build(peer).with_context(|| peer.name().to_owned()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    // In turn, so that a change of the machine's mood meets all of them. The first round is not counted: it makes
    // the pages for frames, and the gate's connections to the media server.
    let mut progress = Progress::new((arguments.runs as usize + 1) * stands.len());
    for round in 0..=arguments.runs {
        for stand in &mut stands {
            progress.step(&format!("round {round}: {}", stand.peer.name()));
            let time = if round == 0 { WARM } else { Duration::from_secs(arguments.seconds) };
            let run = stand.measure(arguments.rate, time).with_context(|| stand.peer.name().to_owned())?;
            if round > 0 {
                progress.clear();
                println!("round {round}: {}, {:.2} Mpps", stand.peer.name(), run.received / 1e6);
                stand.runs.push(run);
            }
        }
    }
    drop(progress);
    for stand in stands {
        report.add(Case { peer: stand.peer, runs: stand.runs });
    }
    print!("{report}");
    arguments.written.figures(|| report.json())?;
    if let Some(directory) = &arguments.written.plot {
        report.plot(directory)?;
    }
    Ok(())
}

/// One peer at work on an edge of its own, and what was measured there.
struct Stand {
    peer: Peer,
    runs: Vec<Run>,
    flood: Flood,
    // Dropped before the network that it works on.
    installed: Installed,
    scene: Scene,
}

impl Stand {
    fn build(peer: Peer) -> anyhow::Result<Self> {
        let scene = Scene::build(peer == Peer::Nicgate)?;
        let installed = peer.install(&scene)?;
        let flood = Flood::new(scene.lab.router().run(|| device::index("edge"))?)?;
        Ok(Self { peer, runs: Vec::new(), flood, installed, scene })
    }

    fn measure(&self, rate: u64, time: Duration) -> anyhow::Result<Run> {
        let Self { scene, installed, flood, .. } = self;
        let idle = viewer::watch(&scene.viewer, time);
        // Alone, as fast as one core makes it.
        let (received, dropped) = (scene.received()?, installed.dropped(scene)?);
        let (sent, took) = flood.at_full_speed(&scene.lab, time)?;
        let received = scene.received()? - received;
        let dropped = installed.dropped(scene)?.zip(dropped).map(|(after, before)| after - before);
        // At a steady pace, while the viewer watches.
        let stop = AtomicBool::new(false);
        let (watched, paced) = thread::scope(|scope| {
            let flooding = scope.spawn(|| flood.paced(&scene.lab, rate, time * 2, &stop));
            let watched = viewer::watch(&scene.viewer, time);
            stop.store(true, Ordering::Relaxed);
            let paced = flooding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            paced.map(|paced| (watched, paced))
        })?;
        let seconds = took.as_secs_f64();
        Ok(Run {
            sent: sent as f64 / seconds,
            received: received as f64 / seconds,
            dropped: dropped.map(|dropped| dropped as f64 / seconds),
            paced: paced.0 as f64 / paced.1.as_secs_f64(),
            idle,
            watched,
        })
    }
}
