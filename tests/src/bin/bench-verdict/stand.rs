//! One table in every peer, and what each is asked in turn.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result, ensure};
use filter_ebpf::layout::{LOOKUPS, Lookups};
use filter_user::{config::Engine, kernel::Bench};
use tests::{
    spread::Spread,
    timed::{Timed, XDP_DROP, XDP_PASS},
    varied::{self, Addresses, Trie, TrieLookups, Varied},
};

use crate::{
    input::Input,
    sets::addresses,
    xdp_filter::{Edge, FilterPrograms},
};

/// Runs of a whole program on one frame, for one figure.
const SAME: u32 = 200_000;
/// Packets from changing sources, for one figure.
const VARIED: u32 = 1 << 16;
/// A shorter list of sources would be over before the clock's own cost does not count.
const SHORTEST_REPLAY: u32 = 10_000;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// A `return XDP_DROP`: what the harness costs.
    Bare,
    /// nicgate, engine `flat`.
    Flat,
    /// nicgate, engine `lpm`: LPM_TRIE maps, filled in ascending order.
    Lpm,
    /// The kernel's LPM_TRIE by itself, filled with the list as it comes.
    Trie,
    /// xdp-filter with IPv4 and IPv6 addresses.
    XdpFilter,
    /// xdp-filter with all that it can compare.
    XdpFilterAll,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bare => "bare XDP_DROP",
            Self::Flat => "flat",
            Self::Lpm => "lpm",
            Self::Trie => "LPM_TRIE",
            Self::XdpFilter => "xdp-filter",
            Self::XdpFilterAll => "xdp-filter, all",
        })
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A lookup alone, sources from anywhere, as many at a time as the processor likes.
    LookupAnywhere,
    /// The same, each waiting for the one before.
    LookupChained,
    /// A lookup alone, sources from the list.
    LookupListed,
    /// The whole program, one denied source.
    Drop,
    /// The whole program, one allowed source.
    Pass,
    /// The whole program, sources from anywhere.
    ProgramAnywhere,
    /// The whole program, sources from the list.
    ProgramListed,
}

impl What {
    /// For programs.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::LookupAnywhere => "lookup_anywhere",
            Self::LookupChained => "lookup_chained",
            Self::LookupListed => "lookup_listed",
            Self::Drop => "drop",
            Self::Pass => "pass",
            Self::ProgramAnywhere => "program_anywhere",
            Self::ProgramListed => "program_listed",
        }
    }
}

/// Figures of one table, ns each.
pub(crate) type Figures = BTreeMap<(Peer, What), Spread>;

/// Which peers besides nicgate and a bare drop; the others are what is measured when only an engine is wanted.
pub(crate) struct Choice {
    pub(crate) engines: Vec<Engine>,
    pub(crate) trie: bool,
}

/// Everything that is up for one table.
pub(crate) struct Stand<'a> {
    input: &'a Input,
    engines: Vec<OfEngine>,
    trie: Option<OfTrie>,
    xdp_filter: Vec<(Peer, Timed, Option<[Varied; 2]>)>,
    bare: Timed,
    bare_varied: [Varied; 2],
    /// A packet from the denied source, and one from the allowed.
    frames: [Vec<u8>; 2],
}

struct OfEngine {
    peer: Peer,
    bench: Bench,
    program: Timed,
    /// From anywhere, and from the list.
    varied: [Varied; 2],
    /// Repetitions of LOOKUPS lookups for one figure.
    repeat: u32,
    /// Where the sequence of listed sources goes on, and how many of it were drawn.
    listed: (Lookups, u32),
}

struct OfTrie {
    _trie: Trie,
    anywhere: TrieLookups,
    listed: TrieLookups,
}

/// What a table takes, apart from time for packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) peer: Peer,
    /// Bytes of all maps, as the kernel accounts for them.
    pub(crate) memory: u64,
    /// From the compiled table to enforcement, over an equal table.
    pub(crate) publish_seconds: f64,
}

impl<'a> Stand<'a> {
    /// Fills every peer's tables.
    pub(crate) fn build(
        input: &'a Input,
        choice: &Choice,
        edge: Option<&Edge>,
    ) -> Result<(Self, Vec<Taken>)> {
        let anywhere = Addresses::new(addresses(input.set.anywhere()))?;
        let listed = if input.has_listed {
            Addresses::new(addresses(input.set.listed()).take(input.list.len()))?
        } else {
            // Of a table of countries, sources within a random prefix of it.
            Addresses::new(input.list.iter().map(|prefix| prefix.addr()))?
        };
        let varied = |program: &Timed| {
            Ok::<_, anyhow::Error>([Varied::new(&anywhere, program)?, Varied::new(&listed, program)?])
        };
        let mut taken = Vec::new();
        let mut engines = Vec::new();
        let frames = [input.denied, input.allowed].map(|source| input.frame(source));
        for engine in &choice.engines {
            let (peer, repeat) = match engine {
                Engine::Flat => (Peer::Flat, 20_000),
                Engine::Lpm => (Peer::Lpm, 2_000),
            };
            let mut bench = Bench::new(*engine)?;
            bench.publish(&input.compiled)?;
            let again = bench.publish(&input.compiled)?;
            ensure!(bench.run(&frames[0], 1)?.dropped, "{} is not dropped", input.denied);
            taken.push(Taken { peer, memory: bench.memory()?, publish_seconds: again.took.as_secs_f64() });
            let program =
                Timed::of_this_process("nicgate").or_else(|_| Timed::of_this_process("nicgate_linear"))?;
            let varied = varied(&program)?;
            let listed = (input.set.listed(), 0);
            engines.push(OfEngine { peer, bench, program, varied, repeat, listed });
        }
        let trie = if choice.trie {
            let trie = Trie::new(input.set.v6, &input.list).context("cannot fill an LPM_TRIE")?;
            Some(OfTrie { anywhere: trie.lookups(&anywhere)?, listed: trie.lookups(&listed)?, _trie: trie })
        } else {
            None
        };
        let mut xdp_filter = Vec::new();
        if let Some(FilterPrograms { addresses, all }) =
            edge.map(|edge| edge.programs(input)).transpose()?.flatten()
        {
            // Attached through libxdp's dispatcher it cannot have a program in front of it.
            let in_front = varied(&addresses).ok();
            xdp_filter.push((Peer::XdpFilter, addresses, in_front));
            xdp_filter.push((Peer::XdpFilterAll, all, None));
        }
        let bare_varied = [Varied::bare(&anywhere)?, Varied::bare(&listed)?];
        let bare = Timed::bare()?;
        Ok((Self { input, engines, trie, xdp_filter, bare, bare_varied, frames }, taken))
    }

    /// Everything once, in turn, so that a change of the machine's mood meets all of them. The first round is not
    /// counted.
    pub(crate) fn measure(&mut self, runs: u32) -> Result<Figures> {
        let mut seen: BTreeMap<(Peer, What), Vec<f64>> = BTreeMap::new();
        for round in 0..=runs {
            let mut add = |peer, what, ns: f64| {
                if round > 0 {
                    seen.entry((peer, what)).or_default().push(ns);
                }
            };
            self.programs(round, &mut add)?;
            self.lookups(round, &mut add)?;
        }
        let spreads = seen.into_iter().filter_map(|(key, values)| Some((key, Spread::of(values)?)));
        Ok(spreads.collect())
    }

    fn programs(&self, round: u32, add: &mut impl FnMut(Peer, What, f64)) -> Result<()> {
        let [denied, allowed] = &self.frames;
        let bare = (Peer::Bare, &self.bare, Some(&self.bare_varied));
        let engines = self.engines.iter().map(|engine| (engine.peer, &engine.program, Some(&engine.varied)));
        let others = self.xdp_filter.iter().map(|(peer, program, varied)| (*peer, program, varied.as_ref()));
        for (peer, program, varied) in std::iter::once(bare).chain(engines).chain(others) {
            program.run(denied, SAME / 4)?;
            let ran = program.run(denied, SAME)?;
            ensure!(ran.action == XDP_DROP, "{peer} does not drop {}", self.input.denied);
            add(peer, What::Drop, ran.nanoseconds);
            if peer != Peer::Bare {
                program.run(allowed, SAME / 4)?;
                let ran = program.run(allowed, SAME)?;
                ensure!(ran.action == XDP_PASS, "{peer} does not pass {}", self.input.allowed);
                add(peer, What::Pass, ran.nanoseconds);
            }
            let Some([anywhere, listed]) = varied else { continue };
            for (varied, what) in [(anywhere, What::ProgramAnywhere), (listed, What::ProgramListed)] {
                let first = round.wrapping_mul(2 * VARIED);
                varied.run(denied, first, VARIED)?;
                let ran = varied.run(denied, first.wrapping_add(VARIED), VARIED)?;
                ensure!(
                    what == What::ProgramAnywhere || ran.action == XDP_DROP,
                    "{peer} does not drop what is listed"
                );
                add(peer, what, ran.nanoseconds);
            }
        }
        Ok(())
    }

    fn lookups(&mut self, round: u32, add: &mut impl FnMut(Peer, What, f64)) -> Result<()> {
        let replay = self.input.has_listed && self.input.prefixes >= SHORTEST_REPLAY;
        for engine in &mut self.engines {
            for (what, chained) in [(What::LookupAnywhere, 0), (What::LookupChained, u64::MAX)] {
                let mut lookups = Lookups {
                    chained,
                    seed: self.input.set.anywhere().seed ^ u64::from(round) << 32,
                    ..self.input.set.anywhere()
                };
                engine.bench.look_up(&mut lookups, engine.repeat / 2)?;
                let before = Lookups { sum: 0, ..lookups };
                lookups = before;
                let ns = engine.bench.look_up(&mut lookups, engine.repeat)?;
                if round == 0 {
                    verify(self.input, before, engine.repeat, lookups)?;
                }
                add(engine.peer, what, ns);
            }
            if replay {
                engine.replay(self.input, engine.repeat / 2)?;
                let ns = engine.replay(self.input, engine.repeat)?;
                add(engine.peer, What::LookupListed, ns);
            }
        }
        if let Some(OfTrie { anywhere, listed, .. }) = &self.trie {
            let repeat = 2_000;
            let first = round.wrapping_mul(2 * repeat * varied::LOOKUPS);
            for (lookups, what) in [(anywhere, What::LookupAnywhere), (listed, What::LookupListed)] {
                lookups.run(first, repeat / 2)?;
                let (ns, found) = lookups.run(first.wrapping_add(repeat * varied::LOOKUPS), repeat)?;
                ensure!(
                    what == What::LookupAnywhere || found == repeat * varied::LOOKUPS,
                    "an LPM_TRIE found {found} of {} listed sources",
                    repeat * varied::LOOKUPS
                );
                add(Peer::Trie, what, ns);
            }
        }
        Ok(())
    }
}

impl OfEngine {
    /// Looks up the next `LOOKUPS * repeat` sources of the list, from its beginning again when it is over. Returns
    /// the mean time of one in ns.
    fn replay(&mut self, input: &Input, repeat: u32) -> Result<f64> {
        let whole = input.prefixes / LOOKUPS;
        let (mut left, mut sum) = (repeat, 0.0);
        while left > 0 {
            let (lookups, drawn) = &mut self.listed;
            if *drawn == whole {
                (*lookups, *drawn) = (input.set.listed(), 0);
            }
            let now = left.min(whole - *drawn);
            lookups.sum = 0;
            sum += self.bench.look_up(lookups, now)? * f64::from(now);
            ensure!(lookups.sum == u64::from(now * LOOKUPS), "the kernel did not find what is listed");
            *drawn += now;
            left -= now;
        }
        Ok(sum / f64::from(repeat))
    }
}

/// What the kernel found must be what the partition says.
fn verify(input: &Input, mut from: Lookups, repeat: u32, after: Lookups) -> Result<()> {
    let compiled = &input.compiled;
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
