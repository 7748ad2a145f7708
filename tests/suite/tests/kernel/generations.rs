//! Tables that follow each other as fast as they can, while packets are judged: every verdict is one table's.
#![expect(clippy::unwrap_used, reason = "a test's own functions, too, fail by panicking")]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use filter_user::{
    kernel::{Filter, Reader, Stats},
    model::{Engine, InterfaceMode, Proto},
    offload::ClassId,
    table::Layout,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kit::{
    frames::{self, UDP},
    netns::{EDGE_V4, EDGE_V6, Lab},
    rights,
    tables::Table,
    xdp::Program,
};

const PORT: u16 = 5000;
const SERVICE: &str = "5000/udp";
/// Sources of each family, of the four groups in turn, side by side.
const SOURCES: u32 = 4096;
/// How long something that will come is waited for on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sources that all fare alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// Both tables drop them.
    Always,
    /// Neither does.
    Never,
    /// Only even tables drop them.
    Even,
    /// Only odd ones do.
    Odd,
}

impl Group {
    const ALL: [Self; 4] = [Self::Always, Self::Never, Self::Even, Self::Odd];

    fn of(source: u32) -> Self {
        Self::ALL[source as usize % 4]
    }

    fn dropped_by(self, table: u64) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Even => table.is_multiple_of(2),
            Self::Odd => !table.is_multiple_of(2),
        }
    }

    /// The text of the rule that drops them.
    fn rule(self) -> String {
        format!("deny ip {self:?}")
    }
}

fn v4(source: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + source)
}

fn v6(source: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits((0x2001_0db8 << 96) + (u128::from(source) << 64))
}

fn frame(source: u32, family: u32) -> Vec<u8> {
    if family == 0 {
        frames::to_port(v4(source).into(), EDGE_V4.into(), UDP, PORT)
    } else {
        frames::to_port(v6(source).into(), EDGE_V6.into(), UDP, PORT)
    }
}

/// The table with this number, and `more` prefixes of nobody. Even and odd ones differ in where everything is: the
/// numbers of classes, columns and services, the order of rules. Whoever takes one part of a verdict from one table
/// and another from the next is wrong about sources that both agree on, or counts for the trap.
fn table(number: u64, more: u32, engine: Engine) -> Layout {
    let odd = !number.is_multiple_of(2);
    let columns = |own, other| if odd { vec![other, own] } else { vec![own, other] };
    let column = u32::from(odd);
    let services = [(PORT, column), (PORT + 1, 1 - column)];
    let ordered = |mut items: Vec<_>| {
        if odd {
            items.reverse();
        }
        items
    };
    let mut table = Table::new(2);
    for (port, column) in ordered(services.to_vec()) {
        table = table.service(Proto::Udp, port, None, column);
    }
    let trap = table.rule("deny ip trap", 1);
    let mut own = [None; 4];
    let mut unused = Vec::new();
    let groups = if odd { [3, 2, 1, 0] } else { [0, 1, 2, 3] };
    for index in groups {
        let group = Group::ALL[index];
        let rule = (group != Group::Never).then(|| table.rule(&group.rule(), 2 + index as u32));
        let judged = rule.filter(|_| group.dropped_by(number));
        // On the other service, which nobody asks for, all is the other way round.
        own[index] = Some(table.class(columns(judged, if judged.is_some() { None } else { Some(trap) })));
        // So that a rule goes on counting, it drops somebody in every table.
        unused.extend(rule.map(|rule| table.class(columns(Some(rule), None))));
    }
    let own = own.map(|class| class.expect("each was made"));
    let prefix = |address: IpAddr| IpNet::from(address);
    let mut nets: Vec<(IpNet, ClassId)> = (0..SOURCES)
        .flat_map(|source| {
            let class = own[source as usize % 4];
            let net = Ipv6Net::new(v6(source), 64).unwrap();
            [(prefix(v4(source).into()), class), (net.into(), class)]
        })
        .collect();
    // Of nobody, at lower addresses than the sources, so that these are not in the same place in both tables.
    let step = if odd { 6 } else { 5 };
    nets.extend((0..more + 64 * column).map(|n| {
        let class = unused[n as usize % unused.len()];
        (Ipv4Net::new(Ipv4Addr::from_bits(0x0100_0000 + step * n), 32).unwrap().into(), class)
    }));
    table.nets(nets).layout(engine)
}

fn attach(lab: &Lab, first: &Layout) -> Filter {
    let attach = || Filter::attach(lab.interface(), InterfaceMode::Native, first);
    lab.edge().run(attach).unwrap().0
}

/// What was seen of the judgements.
#[derive(Default)]
struct Seen {
    dropped: [AtomicU64; 4],
    passed: [AtomicU64; 4],
}

impl Seen {
    fn add(&self, group: Group, dropped: bool, packets: u64) {
        let counts = if dropped { &self.dropped } else { &self.passed };
        counts[group as usize].fetch_add(packets, Ordering::Relaxed);
    }

    fn sum(counts: &[AtomicU64; 4]) -> u64 {
        counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Each drop counted for its own rule, and nothing for another.
    fn agrees_with(&self, stats: &Stats) {
        let rule = |text: &str| {
            let rule = stats.rules.iter().find(|rule| rule.text == text);
            rule.unwrap_or_else(|| panic!("no rule {text} in {stats:?}")).count.packets
        };
        for group in [Group::Always, Group::Even, Group::Odd] {
            let dropped = self.dropped[group as usize].load(Ordering::Relaxed);
            assert_eq!(rule(&group.rule()), dropped, "{group:?}");
        }
        assert_eq!(rule("deny ip trap"), 0);
        let service = stats.services.iter().find(|service| service.service == SERVICE).unwrap();
        assert_eq!(service.dropped.packets, Self::sum(&self.dropped));
        assert_eq!(service.passed.packets, Self::sum(&self.passed));
        assert_eq!(stats.outcome("drop"), Self::sum(&self.dropped));
        assert_eq!(stats.outcome("pass_protected"), Self::sum(&self.passed));
    }
}

/// The number of the last table whose publication has begun, and of the last one that is in force for sure.
struct Published {
    begun: AtomicU64,
    done: AtomicU64,
}

/// Runs the program on one source after the other until told to stop.
fn judge(program: &Path, offset: u32, published: &Published, seen: &Seen, stop: &AtomicBool) {
    let program = Program::pinned(program).unwrap();
    let mut source = offset;
    while !stop.load(Ordering::Relaxed) {
        // An odd step: every source has its turn.
        source = (source + 1021) % SOURCES;
        let group = Group::of(source);
        // Where the tables agree, many runs at once: the counters tell if one of them was different.
        let repeat = if matches!(group, Group::Always | Group::Never) { 16 } else { 1 };
        let frame = frame(source, (source / 4 + offset) % 2);
        let before = published.done.load(Ordering::SeqCst);
        let result = program.run(&frame, repeat).unwrap();
        let after = published.begun.load(Ordering::SeqCst);
        let dropped = result == 1;
        assert!(dropped || result == 2, "the program returned {result}");
        assert!(
            (before..=after).any(|table| group.dropped_by(table) == dropped),
            "{group:?} source {} or {}: dropped is {dropped}, by none of the tables {before} to {after}",
            v4(source),
            v6(source),
        );
        seen.add(group, dropped, u64::from(repeat));
    }
}

fn every_verdict_is_of_one_table(engine: Engine, label: &str) {
    const PUBLICATIONS: u64 = 100;
    const RUNS: u64 = 20_000;
    rights::need_root();
    let lab = Lab::new(label).unwrap();
    let tables = [table(0, 3_000, engine), table(1, 3_000, engine)];
    let mut filter = attach(&lab, &tables[1]);
    let program = lab.edge().run(|| filter.status()).unwrap().pins.unwrap().join("program");
    let seen = Seen::default();
    let published = Published { begun: AtomicU64::new(1), done: AtomicU64::new(1) };
    let stop = AtomicBool::new(false);
    let last = thread::scope(|scope| {
        let judges = [0, 1].map(|offset| {
            let (program, published, seen, stop) = (&program, &published, &seen, &stop);
            scope.spawn(move || judge(program, offset, published, seen, stop))
        });
        let patience = Instant::now() + PATIENCE;
        let mut number = 1;
        let runs = || Seen::sum(&seen.dropped) + Seen::sum(&seen.passed);
        while (number <= PUBLICATIONS || runs() < RUNS) && judges.iter().all(|judge| !judge.is_finished()) {
            number += 1;
            published.begun.store(number, Ordering::SeqCst);
            let report = filter.publish(&tables[number as usize % 2]).unwrap();
            assert_eq!((report.generation, report.warnings), (number, Vec::new()));
            published.done.store(number, Ordering::SeqCst);
            assert!(Instant::now() < patience, "{} runs, {number} tables", runs());
        }
        stop.store(true, Ordering::Relaxed);
        number
    });
    println!(
        "{engine}: {last} tables, {} dropped, {} passed",
        Seen::sum(&seen.dropped),
        Seen::sum(&seen.passed)
    );
    seen.agrees_with(&filter.stats().unwrap());
    // Those on whom the tables differ have met both.
    for group in [Group::Even, Group::Odd] {
        for counts in [&seen.dropped, &seen.passed] {
            assert!(counts[group as usize].load(Ordering::Relaxed) > 0, "{group:?}");
        }
    }
    lab.edge().run(|| filter.detach()).unwrap();
}

#[test]
fn every_verdict_is_of_one_flat_table() {
    every_verdict_is_of_one_table(Engine::Flat, "flatgen");
}

#[test]
fn every_verdict_is_of_one_table_of_tries() {
    every_verdict_is_of_one_table(Engine::Lpm, "lpmgen");
}

/// Sends frames of sources on whom all tables agree, and waits for each few to be counted, so that no queue loses any.
fn flood(lab: &Lab, seen: &Seen, stop: &AtomicBool) {
    let wire = lab.wire().unwrap();
    let reader = lab.edge().run(|| Reader::open(lab.interface())).unwrap();
    let counted = || {
        let services = reader.stats().unwrap().services;
        let found = services.iter().find(|service| service.service == SERVICE);
        found.map_or(0, |service| service.dropped.packets + service.passed.packets)
    };
    let mut sent = 0;
    let mut source = 0;
    while !stop.load(Ordering::Relaxed) {
        for turn in 0..32u32 {
            source = (source + 1021) % (SOURCES / 4);
            let group = if turn.is_multiple_of(2) { Group::Always } else { Group::Never };
            wire.send(&frame(source * 4 + group as u32, turn / 2 % 2)).unwrap();
            seen.add(group, group == Group::Always, 1);
            sent += 1;
        }
        let patience = Instant::now() + PATIENCE;
        while counted() < sent {
            assert!(Instant::now() < patience, "{} of {sent} packets were judged", counted());
            thread::sleep(Duration::from_micros(200));
        }
    }
}

#[test]
fn programs_with_more_and_more_room_judge_without_a_gap() {
    rights::need_root();
    let lab = Lab::new("growing").unwrap();
    let mut filter = attach(&lab, &table(0, 0, Engine::Flat));
    let mut tables: Vec<Layout> =
        (0..7).map(|doubled| table(1 + doubled, 4_000 << doubled, Engine::Flat)).collect();
    // A small one again, into the room that there is now.
    tables.push(table(0, 0, Engine::Flat));
    let seen = Seen::default();
    let stop = AtomicBool::new(false);
    let program = |filter: &Filter| lab.edge().run(|| filter.status()).unwrap().program.unwrap();
    let mut programs = vec![program(&filter)];
    thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&lab, &seen, &stop));
        let packets = || Seen::sum(&seen.dropped);
        for table in &tables {
            let enough = packets() + 500;
            let patience = Instant::now() + PATIENCE;
            while packets() < enough && !flood.is_finished() {
                assert!(Instant::now() < patience, "{} packets", packets());
                thread::sleep(Duration::from_millis(1));
            }
            let report = lab.edge().run(|| filter.publish(table)).unwrap();
            assert_eq!(report.warnings, Vec::<String>::new());
            programs.push(program(&filter));
        }
        stop.store(true, Ordering::Relaxed);
    });
    seen.agrees_with(&filter.stats().unwrap());
    let grown = programs.windows(2).filter(|pair| pair[0] != pair[1]).count();
    println!("{grown} programs, {} dropped, {} passed", Seen::sum(&seen.dropped), Seen::sum(&seen.passed));
    assert!(grown >= 5, "{programs:?}");
    assert_eq!(programs[tables.len()], programs[tables.len() - 1], "a small table needs no other program");
    lab.edge().run(|| filter.detach()).unwrap();
}
