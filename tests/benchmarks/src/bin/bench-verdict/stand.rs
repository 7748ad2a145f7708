//! One table in every peer, and what each is asked in turn.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result, ensure};
use benchmarks::{
    samples::Spread,
    test_run::{Timed, XDP_DROP, XDP_PASS},
    varying_frames::{self, Entries, Trie, TrieLookups, Varied},
};
use filter_ebpf::measure::{LOOKUPS, Lookups, PROGRAM_LOOKUPS};
use filter_user::{kernel::Unattached, model::Engine};
use kit::{measuring::Measuring, objects};

use crate::{
    input::Input,
    sets::addresses,
    xdp_filter::{Edge, FilterPrograms},
};

/// Runs of a whole program on one frame, for one figure.
const SAME: u32 = 300_000;
/// Runs of LOOKUPS lookups that are compared with what the host finds.
const VERIFIED: u32 = 1_000;

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

impl Peer {
    /// How many lookups, or packets from changing sources, make one figure. So many that what comes first, with the
    /// caches full of another peer's tables, does not count: of a large table more than of a small one. What
    /// misses the caches anyway needs fewer.
    fn enough(self, prefixes: u32) -> u32 {
        match self {
            Self::Flat => (4 * prefixes).clamp(500_000, 4_000_000),
            Self::Lpm | Self::Trie => (prefixes / 4).clamp(100_000, 250_000),
            Self::Bare | Self::XdpFilter | Self::XdpFilterAll => 200_000,
        }
    }
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
    /// Keeps the tables.
    _bench: Unattached,
    lookups: Measuring,
    program: Timed,
    /// From anywhere, and from the list.
    varied: [Varied; 2],
    /// Lookups of what is listed.
    listed: Option<Varied>,
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
        let anywhere = Entries::sources(addresses(input.set.anywhere()))?;
        let listed = Entries::sources(input.listed())?;
        let varied = |program: &Timed| {
            Ok::<_, anyhow::Error>([Varied::new(&anywhere, program)?, Varied::new(&listed, program)?])
        };
        let mut taken = Vec::new();
        let mut engines = Vec::new();
        let frames = [input.denied, input.allowed].map(|source| input.frame(source));
        for engine in &choice.engines {
            let peer = match engine {
                Engine::Flat => Peer::Flat,
                Engine::Lpm => Peer::Lpm,
            };
            let mut bench = Unattached::new(*engine)?;
            bench.publish(&input.compiled)?;
            let again = bench.publish(&input.compiled)?;
            ensure!(bench.run(&frames[0], 1)?.dropped, "{} is not dropped", input.denied);
            taken.push(Taken {
                peer,
                memory: objects::memory(&bench.maps()?)?,
                publish_seconds: again.took.as_secs_f64(),
            });
            let program =
                Timed::of_this_process("nicgate").or_else(|_| Timed::of_this_process("nicgate_linear"))?;
            let varied = varied(&program)?;
            let mut lookups = input.set.anywhere();
            let mut measuring = Measuring::new(&mut bench)?;
            measuring.look_up(&mut lookups, VERIFIED)?;
            verify(input, lookups)?;
            let listed = if input.has_listed { Some(replay(input)?) } else { None };
            engines.push(OfEngine { peer, _bench: bench, lookups: measuring, program, varied, listed });
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
            let ran = program.run(denied, SAME)?;
            ensure!(ran.action == XDP_DROP, "{peer} does not drop {}", self.input.denied);
            add(peer, What::Drop, ran.nanoseconds);
            if peer != Peer::Bare {
                let ran = program.run(allowed, SAME)?;
                ensure!(ran.action == XDP_PASS, "{peer} does not pass {}", self.input.allowed);
                add(peer, What::Pass, ran.nanoseconds);
            }
            let Some([anywhere, listed]) = varied else { continue };
            // Other sources in each round.
            let packets = peer.enough(self.input.prefixes);
            let first = round.wrapping_mul(packets);
            let ran = anywhere.run(denied, first, packets)?;
            add(peer, What::ProgramAnywhere, ran.nanoseconds);
            let ran = listed.run(denied, first, packets)?;
            // In a table of countries, what is listed is what passes; a bare drop does not know.
            let expected = if self.input.has_listed || peer == Peer::Bare { XDP_DROP } else { XDP_PASS };
            ensure!(ran.action == expected, "{peer} does not drop, or not pass, what is listed");
            add(peer, What::ProgramListed, ran.nanoseconds);
        }
        Ok(())
    }

    fn lookups(&mut self, round: u32, add: &mut impl FnMut(Peer, What, f64)) -> Result<()> {
        let Self { input, engines, trie, .. } = self;
        for OfEngine { peer, lookups, listed, .. } in engines {
            let repeat = peer.enough(input.prefixes) / LOOKUPS;
            let anywhere = input.set.anywhere();
            let seed = anywhere.seed ^ u64::from(round) << 32;
            for (what, chained) in [(What::LookupAnywhere, 0), (What::LookupChained, u64::MAX)] {
                let ns = lookups.look_up(&mut Lookups { chained, seed, ..anywhere }, repeat)?;
                add(*peer, what, ns);
            }
            let Some(listed) = listed else { continue };
            let mut after = [0; 16];
            let first = round.wrapping_mul(repeat);
            let ran = listed.run_and_see(&input.set.listed().to_bytes(), &mut after, first, repeat)?;
            let [.., sum] = [&after[..8], &after[8..]]
                .map(|half| u64::from_ne_bytes(half.try_into().expect("eight bytes")));
            ensure!(
                sum == u64::from(repeat * LOOKUPS),
                "{peer} found {sum} listed sources of {}",
                repeat * LOOKUPS
            );
            add(*peer, What::LookupListed, ran.nanoseconds / f64::from(LOOKUPS));
        }
        if let Some(OfTrie { anywhere, listed, .. }) = trie {
            let repeat = Peer::Trie.enough(input.prefixes) / varying_frames::LOOKUPS;
            let first = round.wrapping_mul(repeat * varying_frames::LOOKUPS);
            let (ns, _) = anywhere.run(first, repeat)?;
            add(Peer::Trie, What::LookupAnywhere, ns);
            let (ns, found) = listed.run(first, repeat)?;
            let asked = repeat * varying_frames::LOOKUPS;
            ensure!(found == asked, "an LPM_TRIE found {found} listed sources of {asked}");
            add(Peer::Trie, What::LookupListed, ns);
        }
        Ok(())
    }
}

/// Puts the beginnings of all stretches of LOOKUPS listed sources in front of nicgate's program of lookups, which
/// draws the sources itself. It was run before, and so is there.
fn replay(input: &Input) -> Result<Varied> {
    let mut lookups = input.set.listed();
    let stretches = (0..input.prefixes / LOOKUPS).map(|_| {
        let seed = lookups.seed;
        for _ in 0..LOOKUPS {
            lookups.draw();
        }
        seed
    });
    let program = Timed::of_this_process(PROGRAM_LOOKUPS)?;
    Varied::new(&Entries::seeds(stretches)?, &program)
}

/// What the kernel found, from the sequence's beginning on, must be what the partition says.
fn verify(input: &Input, after: Lookups) -> Result<()> {
    let mut from = input.set.anywhere();
    let compiled = &input.compiled;
    for _ in 0..VERIFIED * LOOKUPS {
        let (upper, lower) = from.draw();
        let class = if from.v6 == 0 {
            compiled.v4.get((upper >> 32) as u32)
        } else {
            compiled.v6.get(u128::from(upper) << 64 | u128::from(lower))
        };
        from.found(class.0);
    }
    ensure!((from.seed, from.sum) == (after.seed, after.sum), "the kernel found other classes than the host");
    Ok(())
}
