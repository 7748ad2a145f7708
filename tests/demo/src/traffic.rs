//! What is checked besides single visits: the mode of the program, and reloads.

use std::{
    io::{self, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use kit::{
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

/// What the evening's act adds to the configuration: a list, an interface that comes and goes, a slow backend.
const EVENING: (&str, &str) = (
    "never_drop 198.51.100.250;",
    "never_drop 198.51.100.250;\ninterface spare0;\n\
     auth_backend quiz { drop ip file blocklist; backend http://127.0.0.1:9003/auth; allow default; }\n\
     stream quiz { input udp://239.255.0.3:1234; on_play auth://quiz; }",
);
/// The list: the denied half of the network.
const LISTED: &str = "198.51.100.0-198.51.100.127\n";
/// How long the slow backend takes for each answer.
const SLOW: Duration = Duration::from_millis(5);
/// Connections of the client that invents tokens.
const FLOOD: usize = 400;

/// An evening on which everything around the filter goes wrong.
pub(crate) fn evening(scene: &mut Scene) -> anyhow::Result<Vec<Row>> {
    const SPARE: &str = "link add spare0 type veth peer name spare1\n";
    scene.lab.edge().batch(SPARE)?;
    scene.start_slow_backend(SLOW)?;
    scene.write("blocklist", LISTED)?;
    scene.edit(EVENING.0, EVENING.1)?;
    let reload = |scene: &Scene, expected: &str| -> anyhow::Result<Row> {
        let (status, said) = scene.nicgate.reload()?;
        let mut row = row("operator", "nicgate reload", expected, &exit(status));
        if !row.differences.is_empty() {
            row.differences.push(said);
        }
        Ok(row)
    };
    let mut rows = vec![reload(scene, "exit 0")?];

    // Deleted and made again, as by a container or a hot plug: a filter of that name that filters nothing.
    scene.lab.edge().batch(&format!("link del spare0\n{SPARE}"))?;
    let seen = if filtered_again(scene)? { "filtered again" } else { "not filtered" };
    rows.push(row("edge host", "spare0 deleted and made again", "filtered again", seen));

    // A download that broke off.
    scene.write("blocklist", "")?;
    rows.push(reload(scene, "exit 1")?);
    let blocked: IpAddr = "198.51.100.9".parse()?;
    let host = scene.host(blocked)?;
    let get = Get::new((EDGE_V4, 80), "/quiz/index.m3u8").from(blocked).timeout(Duration::from_millis(700));
    let seen = get.send(host).map_or_else(|_| "silence".to_owned(), |response| response.status.to_string());
    rows.push(row(&format!("blocked {blocked}"), "GET quiz, the list empty", "silence", &seen));
    scene.write("blocklist", LISTED)?;
    rows.push(reload(scene, "exit 0")?);

    rows.extend(flood(scene)?);
    Ok(rows)
}

/// Whether everything is in force, within the time that the watcher has.
fn filtered_again(scene: &Scene) -> anyhow::Result<bool> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let status = scene.nicgate.json("status", &[]);
        if status.is_ok_and(|status| status["mended"].as_u64().is_some_and(|mended| mended > 0)) {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(false)
}

/// A client invents tokens for a slow backend, while others ask for the same stream.
fn flood(scene: &Scene) -> anyhow::Result<Vec<Row>> {
    let flooder: IpAddr = "203.0.113.12".parse()?;
    let connections = scene.host(flooder)?.run(|| {
        let connect = |number: usize| {
            let mut stream = TcpStream::connect((EDGE_V4, 80))?;
            let request =
                format!("GET /quiz/index.m3u8?token=invented-{number} HTTP/1.1\r\nHost: edge\r\n\r\n");
            stream.write_all(request.as_bytes())?;
            Ok(stream)
        };
        (0..FLOOD).map(connect).collect::<io::Result<Vec<TcpStream>>>()
    })?;
    let mut rows = vec![row(
        &format!("flooder {flooder}"),
        &format!("{FLOOD} GET quiz, invented tokens"),
        &format!("{FLOOD} sent"),
        &format!("{} sent", connections.len()),
    )];
    for (who, address, token, expected) in [
        ("viewer", "203.0.113.11", "good", "200"),
        // The default would admit it: a question that waits is not the backend's silence.
        ("stranger", "203.0.113.13", "bad", "403"),
    ] {
        let address: IpAddr = address.parse()?;
        let target = format!("/quiz/index.m3u8?token={token}");
        let get = Get::new((EDGE_V4, 80), &target).from(address).timeout(Duration::from_secs(10));
        let seen = get.send(scene.host(address)?);
        let seen = seen.map_or_else(|error| error.to_string(), |response| response.status.to_string());
        rows.push(row(&format!("{who} {address}"), &format!("GET quiz, token={token}"), expected, &seen));
    }
    Ok(rows)
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
