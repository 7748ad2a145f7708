//! Cost against number of prefixes.

use std::path::Path;

use tests::plot::{self, Line, Lines, Scale};

use super::Row;
use crate::{
    sets::{Set, V4_ADDRESSES, V4_MIXED, V6_ADDRESSES, V6_MIXED},
    stand::{Peer, What},
};

/// Writes every plot that there are figures for.
pub(super) fn write(rows: &[Row], directory: &Path) -> anyhow::Result<()> {
    for set in [V4_MIXED, V4_ADDRESSES, V6_MIXED, V6_ADDRESSES] {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.set.name == set.name).collect();
        if rows.len() < 2 {
            continue;
        }
        let file = |what: &str| format!("verdict-{what}-{}.svg", set.name.replace(' ', "-"));
        lookups(&set, &rows, directory, &file("lookup"))?;
        same(&set, &rows, directory, &file("packet-same"))?;
        random(&set, &rows, directory, &file("packet-random"))?;
    }
    Ok(())
}

const X: &str = "prefixes in the table";
const RUNS: &str = "line: median; band: lowest and highest run";

fn lookups(set: &Set, rows: &[&Row], directory: &Path, file: &str) -> anyhow::Result<()> {
    let lines = [
        ("LPM_TRIE, listed", Peer::Trie, What::LookupListed),
        ("LPM_TRIE, anywhere", Peer::Trie, What::LookupAnywhere),
        ("lpm (filled in order), listed", Peer::Lpm, What::LookupListed),
        ("lpm (filled in order), anywhere", Peer::Lpm, What::LookupAnywhere),
        ("flat, listed", Peer::Flat, What::LookupListed),
        ("flat, anywhere", Peer::Flat, What::LookupAnywhere),
    ];
    let title = format!("One lookup, random sources: {}", set.name);
    draw(rows, directory, file, &title, "a lookup, ns", Scale::Logarithmic, &lines)
}

fn same(set: &Set, rows: &[&Row], directory: &Path, file: &str) -> anyhow::Result<()> {
    let lines = [
        ("lpm", Peer::Lpm, What::Drop),
        ("flat", Peer::Flat, What::Drop),
        ("xdp-filter", Peer::XdpFilter, What::Drop),
        ("xdp-filter, all features", Peer::XdpFilterAll, What::Drop),
        ("bare XDP_DROP: the floor", Peer::Bare, What::Drop),
    ];
    let title = format!("A packet dropped, the same source again: {}", set.name);
    draw(rows, directory, file, &title, "a packet, harness included, ns", Scale::Even, &lines)
}

fn random(set: &Set, rows: &[&Row], directory: &Path, file: &str) -> anyhow::Result<()> {
    let lines = [
        ("lpm, listed", Peer::Lpm, What::ProgramListed),
        ("lpm, anywhere", Peer::Lpm, What::ProgramAnywhere),
        ("flat, listed", Peer::Flat, What::ProgramListed),
        ("flat, anywhere", Peer::Flat, What::ProgramAnywhere),
        ("xdp-filter, listed", Peer::XdpFilter, What::ProgramListed),
        ("xdp-filter, anywhere", Peer::XdpFilter, What::ProgramAnywhere),
        ("bare XDP_DROP: the floor", Peer::Bare, What::ProgramAnywhere),
    ];
    let title = format!("A packet judged, random sources: {}", set.name);
    draw(rows, directory, file, &title, "a packet, harness included, ns", Scale::Logarithmic, &lines)
}

fn draw(
    rows: &[&Row],
    directory: &Path,
    file: &str,
    title: &str,
    y: &str,
    scale: Scale,
    lines: &[(&str, Peer, What)],
) -> anyhow::Result<()> {
    let lines: Vec<Line> = lines
        .iter()
        .filter_map(|(name, peer, what)| {
            let points: Vec<_> = rows
                .iter()
                .filter_map(|row| Some((f64::from(row.prefixes), row.figure(*peer, *what)?.clone())))
                .collect();
            (!points.is_empty()).then(|| Line { name: (*name).to_owned(), points })
        })
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let svg = Lines { title, subtitle: RUNS, x: X, y, scale, lines }.svg();
    plot::write(directory, file, &svg)
}
