//! What a verdict costs, by engine and number of prefixes, through BPF_PROG_TEST_RUN: the lookup alone on random
//! sources, and the whole program on one source over a bare `return XDP_DROP`. Ratios are of medians of one run.
//!
//! `cargo xtask bench verdict [--json FILE] [--quick] [--only flat|lpm]`

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use anyhow::{Context, Result, bail, ensure};
use filter_ebpf::layout::{LOOKUPS, Lookups};
use filter_user::{
    config::{Engine, Proto},
    kernel::Bench,
    offload::Compiled,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};
use tests::{
    frames::{self, TCP},
    tables::Table,
};

/// Bits of an IPv6 address that vary: everything lies in 2000::/3, as all that is routed does.
const V6_BITS: u64 = 0x1fff_ffff_ffff_ffff;
/// The same for prefixes that crowd, as real ones do: 128 blocks of /16 to /20.
const V6_CROWDED: u64 = 0x0e0f_ffff_ffff_ffff;
const V6_SET: u64 = 0x2000_0000_0000_0000;

struct Plan {
    runs: usize,
    sizes: Vec<u32>,
    v6_sizes: Vec<u32>,
}

fn main() -> Result<()> {
    let (mut json_file, mut quick, mut only): (Option<PathBuf>, bool, Option<String>) = (None, false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json_file = Some(arguments.next().context("--json needs a file")?.into()),
            "--quick" => quick = true,
            "--only" => only = Some(arguments.next().context("--only needs an engine")?),
            other => bail!("unknown argument {other}: [--json FILE] [--quick] [--only flat|lpm]"),
        }
    }
    let plan = if quick {
        Plan { runs: 5, sizes: vec![1_000, 100_000, 1_000_000], v6_sizes: vec![100_000, 500_000] }
    } else {
        Plan {
            runs: 11,
            sizes: vec![100, 1_000, 10_000, 100_000, 1_000_000],
            v6_sizes: vec![100, 1_000, 10_000, 100_000, 500_000],
        }
    };
    let engines: Vec<Engine> = [Engine::Lpm, Engine::Flat]
        .into_iter()
        .filter(|engine| only.as_ref().is_none_or(|only| *only == engine.to_string()))
        .collect();
    let mut rows = Vec::new();
    println!(
        "lookup alone, random sources, ns (overlapping / each waiting for the one before), and whole program"
    );
    println!(
        "{:<12}{:>10}  {:<5}{:>9}{:>9}{:>9}{:>9}{:>9}{:>8}{:>9}",
        "prefixes", "", "", "lookup", "spread", "chained", "program", "bare", "KiB", "publish"
    );
    for (kind, sizes) in [
        ("v4", &plan.sizes),
        ("v6", &plan.v6_sizes),
        ("v6 crowded", &plan.v6_sizes),
        ("v6 /128", &plan.v6_sizes),
    ] {
        for size in sizes {
            let compiled = table(kind, *size).compiled();
            for engine in &engines {
                let row = measure(kind, *size, *engine, &compiled, plan.runs)?;
                println!(
                    "{:<12}{:>10}  {:<5}{:>9.1}{:>9.1}{:>9.1}{:>9.1}{:>9.1}{:>8}{:>7.0}ms",
                    kind,
                    size,
                    engine.to_string(),
                    row["lookup_ns"].as_f64().unwrap_or(f64::NAN),
                    row["spread_ns"].as_f64().unwrap_or(f64::NAN),
                    row["chained_ns"].as_f64().unwrap_or(f64::NAN),
                    row["program_ns"].as_f64().unwrap_or(f64::NAN),
                    row["bare_ns"].as_f64().unwrap_or(f64::NAN),
                    row["memory"].as_u64().unwrap_or(0) / 1024,
                    row["publish_seconds"].as_f64().unwrap_or(f64::NAN) * 1000.0,
                );
                rows.push(row);
            }
        }
    }
    ratios(&rows);
    if let Some(path) = json_file {
        std::fs::write(&path, serde_json::to_string_pretty(&json!({ "verdict": rows }))?)
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}

/// The ratio of the engines' lookups, where both were measured.
fn ratios(rows: &[Value]) {
    println!("\nLPM_TRIE / flat");
    for pair in rows.chunks_exact(2).filter(|pair| pair[0]["engine"] != pair[1]["engine"]) {
        let ratio = |key: &str| Some(pair[0][key].as_f64()? / pair[1][key].as_f64()?);
        println!(
            "{:<12}{:>10}  lookup {:>6.1}  chained {:>6.1}  program {:>6.1}",
            pair[0]["kind"].as_str().unwrap_or(""),
            pair[0]["prefixes"].as_u64().unwrap_or(0),
            ratio("lookup_ns").unwrap_or(f64::NAN),
            ratio("chained_ns").unwrap_or(f64::NAN),
            ratio("program_ns").unwrap_or(f64::NAN),
        );
    }
}

/// A sequence that is the same in every run.
struct Sequence(u64);

impl Sequence {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ self.0 >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 32
    }
}

/// One rule drops `size` prefixes: IPv4 /24 to /32 anywhere, IPv6 mostly /48.
fn table(kind: &str, size: u32) -> Table {
    let mut table = Table::new(1).service(Proto::Tcp, 80, None, 0);
    let rule = table.rule("deny ip file", 1);
    let class = table.class(vec![Some(rule)]);
    let mut sequence = Sequence(7);
    let nets = (0..size).map(move |n| {
        let (bits, more) = (sequence.next(), sequence.next());
        let net: IpNet = match kind {
            "v4" => {
                let len = [24, 28, 32, 32][n as usize % 4];
                Ipv4Net::new_assert(Ipv4Addr::from_bits(bits as u32), len).trunc().into()
            }
            _ => {
                let random = if kind == "v6" { V6_BITS } else { V6_CROWDED };
                let len =
                    if kind == "v6 /128" { 128 } else { [32, 40, 48, 48, 48, 48, 56, 64][n as usize % 8] };
                let bits = u128::from(bits & random | V6_SET) << 64 | u128::from(more);
                Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), len).trunc().into()
            }
        };
        (net, class)
    });
    table.nets(nets)
}

fn median(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[values.len() * 3 / 4] - values[values.len() / 4])
}

fn measure(kind: &str, size: u32, engine: Engine, compiled: &Compiled, runs: usize) -> Result<Value> {
    let mut bench = Bench::new(engine)?;
    bench.publish(compiled)?;
    let again = bench.publish(compiled)?;
    let v6 = kind != "v4";
    let (random, set) = match kind {
        "v4" => (u64::MAX, 0),
        "v6" => (V6_BITS, V6_SET),
        _ => (V6_CROWDED, V6_SET),
    };
    // About as long for both engines.
    let repeat = if engine == Engine::Lpm { 2_000 } else { 20_000 };
    let mut random_ns = [Vec::new(), Vec::new()];
    for run in 0..=runs {
        for (times, chained) in random_ns.iter_mut().zip([0, u64::MAX]) {
            let mut lookups = Lookups { seed: 11, sum: 0, random, set, chained, v6: u64::from(v6) };
            let ns = bench.look_up(&mut lookups, repeat)?;
            // The first run warms up.
            if run > 0 {
                times.push(ns);
            } else {
                verify(
                    compiled,
                    Lookups { seed: 11, random, set, chained, v6: u64::from(v6), sum: 0 },
                    repeat,
                    lookups,
                )?;
            }
        }
    }
    let [overlapping, chained] = random_ns.map(median);

    // A source that is dropped, the same again and again.
    let (source, host): (IpAddr, IpAddr) = if v6 {
        let piece =
            compiled.v6.iter().filter(|piece| piece.label == 1).nth(size as usize / 3).context("a piece")?;
        (Ipv6Addr::from_bits(piece.first).into(), Ipv6Addr::LOCALHOST.into())
    } else {
        let piece =
            compiled.v4.iter().filter(|piece| piece.label == 1).nth(size as usize / 3).context("a piece")?;
        (Ipv4Addr::from_bits(piece.first).into(), Ipv4Addr::LOCALHOST.into())
    };
    let frame = frames::to_port(source, host, TCP, 80);
    let (mut program_ns, mut bare_ns) = (Vec::new(), Vec::new());
    for run in 0..=runs {
        let ran = bench.run(&frame, 1_000_000)?;
        ensure!(ran.dropped, "{source} is not dropped");
        let empty = bench.bare(&frame, 1_000_000)?;
        if run > 0 {
            program_ns.push(ran.duration.as_nanos() as f64);
            bare_ns.push(empty.as_nanos() as f64);
        }
    }
    let ((program, _), (bare, _)) = (median(program_ns), median(bare_ns));
    Ok(json!({
        "kind": kind,
        "prefixes": size,
        "engine": engine,
        "lookup_ns": overlapping.0,
        "spread_ns": overlapping.1,
        "chained_ns": chained.0,
        "program_ns": program,
        "bare_ns": bare,
        "memory": bench.memory()?,
        "publish_seconds": again.took.as_secs_f64(),
    }))
}

/// What the kernel found must be what the partition says.
fn verify(compiled: &Compiled, mut from: Lookups, repeat: u32, after: Lookups) -> Result<()> {
    for _ in 0..u64::from(repeat) * u64::from(LOOKUPS) {
        let (upper, lower) = from.draw();
        from.found(if from.v6 == 0 {
            compiled.v4.get((upper >> 32) as u32)
        } else {
            compiled.v6.get(u128::from(upper) << 64 | u128::from(lower))
        });
    }
    ensure!((from.seed, from.sum) == (after.seed, after.sum), "the kernel found other classes than the host");
    Ok(())
}
