//! What is checked besides single visits: the mode of the program, and reloads.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use tests::{
    frame::{Transport, frame},
    http::Get,
    netns::EDGE_V4,
};

use crate::{
    acts::{EDITS, MISTAKE},
    scene::{GUARDED_UDP, Scene},
    table::Row,
};

/// Allowed before and after the reload.
const ALWAYS_ALLOWED: &str = "203.0.113.130";
/// How long each of the two waits between what it sends.
const PACE: Duration = Duration::from_millis(1);
/// Denied before and after the reload.
const ALWAYS_DENIED: &str = "198.51.100.77";

/// Whether the program runs in the driver.
pub(crate) fn attached(scene: &Scene) -> anyhow::Result<Row> {
    let output =
        scene.lab.edge().command("ip").args(["link", "show", "dev", scene.lab.interface()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // `ip` says xdp for the driver's mode, xdpgeneric and xdpoffload for the others.
    let mode = text.split_whitespace().find(|word| word.starts_with("xdp")).unwrap_or("no program");
    let seen = if mode == "xdp" { "native" } else { mode };
    Ok(row("edge host", "attach", "native", seen))
}

/// Reloads while an allowed client plays and a denied source sends.
pub(crate) fn reload_under_traffic(scene: &mut Scene) -> anyhow::Result<Vec<Row>> {
    for (from, to) in EDITS {
        scene.edit(from, to)?;
    }
    let (allowed, denied): (IpAddr, IpAddr) = (ALWAYS_ALLOWED.parse()?, ALWAYS_DENIED.parse()?);
    let (stop, answers, failures, frames) =
        (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let passed_before = scene.datagrams_from(denied);
    let host = scene.host(allowed)?;
    let wire = scene.lab.wire()?;
    let datagram = frame(&[], SocketAddr::new(denied, 50_000), (EDGE_V4, GUARDED_UDP).into(), Transport::Udp);
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            let get = Get::new((EDGE_V4, 80), "/news/index.m3u8").from(allowed);
            while !stop.load(Ordering::Relaxed) {
                let right = get.send(host).is_ok_and(|response| response.status == 200);
                thread::sleep(PACE);
                if right { &answers } else { &failures }.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if wire.send(&datagram).is_ok() {
                    frames.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(PACE);
            }
        });
        let outcome = (|| {
            more(&answers, &failures, 5)?;
            let reload = scene.nicgate.reload()?;
            more(&answers, &failures, 5)?;
            Ok::<_, anyhow::Error>(reload)
        })();
        stop.store(true, Ordering::Relaxed);
        outcome
    });
    let (status, said) = outcome?;
    let mut reload = row("operator", "nicgate reload", "exit 0", &exit(status));
    if status != Some(0) {
        reload.differences.push(said);
    }
    let (answers, failures, frames) = (answers.into_inner(), failures.into_inner(), frames.into_inner());
    let total = answers + failures;
    let allowed_row = row(
        &format!("Swede {ALWAYS_ALLOWED}"),
        &format!("{total} GET news"),
        &format!("{total} × 200"),
        &format!("{answers} × 200"),
    );
    let passed = scene.datagrams_from(denied) - passed_before;
    let denied_row = row(
        &format!("blocked {ALWAYS_DENIED}"),
        &format!("{frames} datagrams to {GUARDED_UDP}/udp"),
        "0 passed",
        &format!("{passed} passed"),
    );
    Ok(vec![reload, allowed_row, denied_row])
}

/// Reloads a configuration with a mistake, and puts the right one back without another reload.
pub(crate) fn refused_reload(scene: &mut Scene) -> anyhow::Result<Row> {
    scene.edit(MISTAKE.0, MISTAKE.1)?;
    let (status, said) = scene.nicgate.reload()?;
    scene.edit(MISTAKE.1, MISTAKE.0)?;
    let mut row = row("operator", "nicgate reload", "exit 1", &exit(status));
    let first = said.lines().find(|line| line.contains("203.0.113.300") || line.contains("error"));
    first.unwrap_or("").trim().clone_into(&mut row.cells[5]);
    if !said.contains("203.0.113.300") {
        row.differences.push(format!("the message does not show the wrong line: {said}"));
    }
    Ok(row)
}

/// Waits until there are `count` more answers.
fn more(answers: &AtomicU64, failures: &AtomicU64, count: u64) -> anyhow::Result<()> {
    let sum = || answers.load(Ordering::Relaxed) + failures.load(Ordering::Relaxed);
    let (goal, deadline) = (sum() + count, Instant::now() + Duration::from_secs(60));
    while sum() < goal {
        (Instant::now() < deadline).then_some(()).context("the allowed client gets no answers")?;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn row(who: &str, sent: &str, expected: &str, seen: &str) -> Row {
    let differences =
        if expected == seen { Vec::new() } else { vec![format!("expected: {expected}; seen: {seen}")] };
    Row { cells: [who, sent, expected, seen, "", "", ""].map(str::to_owned), differences }
}

fn exit(status: Option<i32>) -> String {
    status.map_or_else(|| "ended by a signal".to_owned(), |status| format!("exit {status}"))
}
