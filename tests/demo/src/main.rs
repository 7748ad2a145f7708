//! `cargo xtask demo`: nicgate at work on real interfaces, and a table of what was expected and what was seen.

mod acts;
mod nicgate;
mod scene;
mod table;
mod traffic;
mod verdict;
mod visit;

use std::{process::ExitCode, time::Instant};

use anyhow::bail;
use kit::{netns, rights};
use tokio::signal::unix::{SignalKind, signal};

use scene::Scene;
use table::{Row, Table};
use visit::Visit;

fn main() -> ExitCode {
    match play() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays the demo; `false` when something was not as expected.
fn play() -> anyhow::Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let keep = match &arguments[..] {
        [] => false,
        [only] if only == "--keep" => true,
        _ => bail!("the demo takes --keep and nothing else"),
    };
    if !rights::is_root() {
        bail!("the demo needs root, for network namespaces and the XDP program");
    }
    let started = Instant::now();
    let mut scene = Scene::build()?;
    println!("edge host: {} and {} on {}", netns::EDGE_V4, netns::EDGE_V6, scene.lab.interface());
    println!("configuration: {}", scene.configuration().display());
    scene.start()?;

    let mut table = Table::default();
    act(&mut table, "nicgate runs");
    table.add(traffic::attached(&scene)?);
    show(&scene, &mut table, acts::opening())?;
    scene.kill_second_backend();
    act(&mut table, "the second backend was killed");
    show(&scene, &mut table, acts::without_second_backend())?;
    act(&mut table, "a reload under traffic: 198.51.100.128/25 is pardoned, 203.0.113.10 is denied");
    table.add_all(traffic::reload_under_traffic(&mut scene)?);
    show(&scene, &mut table, acts::after_reload())?;
    act(&mut table, "a reload of a wrong configuration");
    table.add(traffic::refused_reload(&mut scene)?);
    show(&scene, &mut table, acts::after_refused_reload())?;
    act(&mut table, "an evening: an interface comes back, a list is empty, a client floods a slow backend");
    table.add_all(traffic::evening(&mut scene)?);

    print!("\n{table}");
    let (right, all) = table.score();
    println!("\n{right} of {all} as expected, in {:.1} s", started.elapsed().as_secs_f64());
    if right < all {
        println!("nicgate's own messages:\n{}", scene.messages());
    }
    if keep {
        stay(&scene)?;
    }
    Ok(right == all)
}

/// Begins a group of the table, and says so: the table itself is only printed at the end.
fn act(table: &mut Table, title: &str) {
    println!("  {title} …");
    table.title(title);
}

fn show(scene: &Scene, table: &mut Table, visits: Vec<Visit>) -> anyhow::Result<()> {
    for visit in visits {
        table.add(Row::from(verdict::judge(scene, &visit)?));
    }
    Ok(())
}

/// Leaves everything up until the terminal says stop; what then ends this process also removes it all.
fn stay(scene: &Scene) -> anyhow::Result<()> {
    let host = scene.lab.edge().name();
    println!("\nEverything is still up. In another terminal, as root:");
    println!("  export NICGATE_CONTROL={}", scene.directory().join("control.sock").display());
    let binary = kit::nicgate::find()?;
    for arguments in [
        format!("status -c {}", scene.configuration().display()),
        format!("stats -c {}", scene.configuration().display()),
        format!("explain -c {} --stream news --ip 198.51.100.9", scene.configuration().display()),
    ] {
        println!("  nsenter --net=/run/netns/{host} {} {arguments}", binary.display());
    }
    for client in scene.client_names() {
        println!("  ip netns exec {client} curl http://{}/news/index.m3u8?token=good", netns::EDGE_V4);
    }
    println!("Ctrl-C here ends it.");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            ended = tokio::signal::ctrl_c() => ended,
            _ = terminate.recv() => Ok(()),
        }
    })?;
    Ok(())
}
