//! Cost against number of prefixes.

use std::path::Path;

use benchmarks::plot::{self, Line, Lines, Scale};
use kit::machine::Machine;

use super::Row;
use crate::{
    sets::{Set, V4_ADDRESSES, V4_MIXED, V6_ADDRESSES, V6_MIXED},
    stand::{Peer, What},
};

/// Writes every plot that there are figures for.
pub(super) fn write(rows: &[Row], machine: &Machine, directory: &Path) -> anyhow::Result<()> {
    for set in [V4_MIXED, V4_ADDRESSES, V6_MIXED, V6_ADDRESSES] {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.set.name == set.name).collect();
        // One table makes no line.
        if rows.len() > 1 {
            let sheet = Sheet { set, rows, machine, directory };
            lookups(&sheet)?;
            same(&sheet)?;
            random(&sheet)?;
        }
    }
    Ok(())
}

const X: &str = "prefixes in the table";

/// A line's name, and which figures it shows.
type Shown = (&'static str, Peer, What);

fn lookups(sheet: &Sheet<'_>) -> anyhow::Result<()> {
    let lines: [Shown; 6] = [
        ("LPM_TRIE, listed", Peer::Trie, What::LookupListed),
        ("LPM_TRIE, anywhere", Peer::Trie, What::LookupAnywhere),
        ("lpm, listed", Peer::Lpm, What::LookupListed),
        ("lpm, anywhere", Peer::Lpm, What::LookupAnywhere),
        ("flat, listed", Peer::Flat, What::LookupListed),
        ("flat, anywhere", Peer::Flat, What::LookupAnywhere),
    ];
    sheet.draw("lookup", "One lookup, random sources", "a lookup, ns", Scale::Logarithmic, &lines)
}

fn same(sheet: &Sheet<'_>) -> anyhow::Result<()> {
    let lines: [Shown; 5] = [
        ("lpm", Peer::Lpm, What::Drop),
        ("flat", Peer::Flat, What::Drop),
        ("xdp-filter (holds 10,000)", Peer::XdpFilter, What::Drop),
        ("xdp-filter, all features", Peer::XdpFilterAll, What::Drop),
        ("bare XDP_DROP: the floor", Peer::Bare, What::Drop),
    ];
    let title = "A packet dropped, the same source again";
    sheet.draw("packet-same", title, "a packet, harness included, ns", Scale::Even, &lines)
}

fn random(sheet: &Sheet<'_>) -> anyhow::Result<()> {
    let lines: [Shown; 7] = [
        ("lpm, listed", Peer::Lpm, What::ProgramListed),
        ("lpm, anywhere", Peer::Lpm, What::ProgramAnywhere),
        ("flat, listed", Peer::Flat, What::ProgramListed),
        ("flat, anywhere", Peer::Flat, What::ProgramAnywhere),
        ("xdp-filter, listed", Peer::XdpFilter, What::ProgramListed),
        ("xdp-filter, anywhere", Peer::XdpFilter, What::ProgramAnywhere),
        ("bare XDP_DROP: the floor", Peer::Bare, What::ProgramAnywhere),
    ];
    let title = "A packet judged, random sources";
    sheet.draw("packet-random", title, "a packet, harness included, ns", Scale::Logarithmic, &lines)
}

/// The tables of one set.
struct Sheet<'a> {
    set: Set,
    rows: Vec<&'a Row>,
    machine: &'a Machine,
    directory: &'a Path,
}

impl Sheet<'_> {
    fn draw(&self, file: &str, title: &str, y: &str, scale: Scale, lines: &[Shown]) -> anyhow::Result<()> {
        let lines: Vec<Line> = lines.iter().filter_map(|shown| self.line(*shown)).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let title = format!("{title}: {}", self.set.title);
        let subtitle = format!("line: median; band: lowest and highest run; {}", self.machine.short());
        let svg = Lines { title: &title, subtitle: &subtitle, x: X, y, scale, lines }.svg();
        plot::write(self.directory, &format!("verdict-{file}-{}.svg", self.set.name.replace(' ', "-")), &svg)
    }

    fn line(&self, (name, peer, what): Shown) -> Option<Line> {
        let figure = |row: &&Row| Some((f64::from(row.prefixes), row.figure(peer, what)?.clone()));
        let points: Vec<_> = self.rows.iter().filter_map(figure).collect();
        let dashed = matches!(what, What::LookupAnywhere | What::ProgramAnywhere) && peer != Peer::Bare;
        (!points.is_empty()).then(|| Line { name: name.to_owned(), colour: colour(peer), dashed, points })
    }
}

/// The same in every plot.
fn colour(peer: Peer) -> usize {
    match peer {
        Peer::Flat => 0,
        Peer::Trie => 1,
        Peer::XdpFilter => 2,
        Peer::Lpm => 3,
        Peer::Bare => 4,
        Peer::XdpFilterAll => 5,
    }
}
