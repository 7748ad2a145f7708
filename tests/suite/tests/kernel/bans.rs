//! Runtime bans in the program itself, through BPF_PROG_TEST_RUN, with both engines.
#![expect(clippy::unwrap_used, reason = "a test's own functions, too, fail by panicking")]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
    time::Duration,
};

use filter_user::{
    bans::{Ban, BanTable, Boottime, Desired, Entries, Exempt, Label, Scope},
    kernel::{Count, Unattached, boottime},
    model::{Engine, Proto},
};
use ipnet::IpNet;
use kit::{
    for_each_engine,
    frames::{self, Extension, IPV4, IPV6, SCTP, TCP, UDP, ethernet, ipv4, ipv6, ports},
    objects, rights,
    tables::Table,
};
use proptest::{prelude::*, test_runner::TestRunner};

for_each_engine! {
    a_ban_holds_where_it_is_meant_to_and_nowhere_else
    rules_go_first_and_unprotected_ports_are_never_touched
    a_hidden_port_falls_under_the_bans_on_everything
    a_ban_ends_by_itself
    the_longer_lived_ban_counts_whichever_is_nested_in_which
    never_drop_is_a_hole_in_a_ban
    a_trusted_proxy_is_a_hole_on_its_own_port
    shadow_counts_and_drops_nothing
    drops_are_counted_for_their_ban_and_its_service
    sampled_drops_name_their_ban
    reloads_leave_bans_alone_and_the_last_one_leaves_nothing
    random_bans_hold_for_whom_they_should
}

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe);
const HTTP: Scope = Scope::Service { proto: Proto::Tcp, port: 80 };
const SRT: Scope = Scope::Service { proto: Proto::Udp, port: 9998 };

const PORTS: [(Proto, u16); 5] =
    [(Proto::Tcp, 80), (Proto::Tcp, 81), (Proto::Udp, 9998), (Proto::Udp, 80), (Proto::Sctp, 5000)];

/// The program with a table that drops 198.51.100.0/24 and 2001:db8:bad::/48, and with bans.
struct Checked {
    bench: Unattached,
    book: BanTable,
    never_drop: Vec<IpNet>,
    /// Trusted proxies of the gate on port 80.
    proxies: Vec<IpNet>,
}

fn table() -> Table {
    Table::denying("deny ip 198.51.100/24", &["198.51.100.0/24", "2001:db8:bad::/48"], &PORTS)
}

impl Checked {
    fn new(engine: Engine) -> Self {
        Self::with(engine, table())
    }

    fn with(engine: Engine, table: Table) -> Self {
        rights::need_root();
        let mut bench = Unattached::new(engine).expect("the program loads");
        bench.publish(&table.compiled()).unwrap();
        Self { bench, book: BanTable::default(), never_drop: Vec::new(), proxies: Vec::new() }
    }

    fn ban(&mut self, scope: Scope, net: &str, time: Option<Duration>) -> u32 {
        let place = (scope, net.parse().unwrap());
        let id = self.book.put(place, time, None, boottime(), 0).unwrap().ban.id;
        self.sync();
        id
    }

    fn unban(&mut self, scope: Scope, net: &str) {
        self.book.remove((scope, net.parse().unwrap())).unwrap();
        self.sync();
    }

    fn sync(&self) {
        let mut exempt = Exempt::never_drop(self.never_drop.iter().copied());
        for (proto, port) in PORTS {
            let port = Scope::Service { proto, port };
            let proxies: &[IpNet] = if port == HTTP { &self.proxies } else { &[] };
            exempt = exempt.port(port, proxies.iter().copied());
        }
        let desired = self.book.desired(&exempt);
        self.bench.bans().sync(&desired).unwrap();
        assert_eq!(self.bench.bans().held().unwrap(), desired.entries);
        let status = self.bench.status().unwrap().bans;
        assert_eq!((status.desired, status.installed), (desired.entries.len(), desired.entries.len()));
        assert_eq!(self.bench.stats().unwrap().bans, self.book.len());
    }

    /// Runs a frame once and returns the one outcome that it counted for; the verdict must agree with it.
    fn outcome(&mut self, frame: &[u8]) -> String {
        let before = self.bench.stats().unwrap();
        let ran = self.bench.run(frame, 1).unwrap();
        let after = self.bench.stats().unwrap();
        assert_eq!(after.packets(), before.packets() + 1, "every packet counts once");
        let counted = after.outcomes.iter().find(|(name, count)| **count == before.outcome(name) + 1);
        let (name, _) = counted.expect("one counter rose");
        assert_eq!(ran.dropped, ["drop", "hidden_drop", "ban_drop"].contains(&name.as_str()), "{name}");
        name.clone()
    }

    fn from(&mut self, source: &str, protocol: u8, port: u16) -> String {
        let source: IpAddr = source.parse().unwrap();
        let host = if source.is_ipv4() { HOST.into() } else { HOST6.into() };
        self.outcome(&frames::to_port(source, host, protocol, port))
    }

    fn packets(&self, id: u32) -> u64 {
        self.bench.bans().hits().unwrap()[&id].packets
    }
}

fn a_ban_holds_where_it_is_meant_to_and_nowhere_else(engine: Engine) {
    let mut checked = Checked::new(engine);
    assert_eq!(checked.from("10.1.2.3", TCP, 80), "pass_protected");
    for (net, inside, outside) in [
        ("10.1.0.0/16", ["10.1.0.0", "10.1.255.255"], ["10.0.255.255", "10.2.0.0"]),
        ("203.0.113.7/32", ["203.0.113.7"; 2], ["203.0.113.6", "203.0.113.8"]),
        ("0.0.0.0/32", ["0.0.0.0"; 2], ["0.0.0.1", "255.255.255.255"]),
        (
            "2001:db8:5::/48",
            ["2001:db8:5::", "2001:db8:5:ffff:ffff:ffff:ffff:ffff"],
            ["2001:db8:4::", "2001:db8:6::"],
        ),
        ("2001:db8::7/128", ["2001:db8::7"; 2], ["2001:db8::6", "2001:db8::8"]),
        // As IPv6, which is how a socket for both families would show the client.
        ("203.0.113.9/32", ["::ffff:203.0.113.9"; 2], ["::ffff:203.0.113.10", "::203.0.113.9"]),
    ] {
        for (scope, held) in [
            (Scope::Everywhere, &[(TCP, 80), (TCP, 81), (UDP, 9998), (UDP, 80), (SCTP, 5000)][..]),
            (HTTP, &[(TCP, 80)]),
            (SRT, &[(UDP, 9998)]),
            (Scope::Service { proto: Proto::Udp, port: 80 }, &[(UDP, 80)]),
            (Scope::Service { proto: Proto::Sctp, port: 5000 }, &[(SCTP, 5000)]),
        ] {
            checked.ban(scope, net, None);
            for (protocol, port) in [(TCP, 80), (TCP, 81), (UDP, 9998), (UDP, 80), (SCTP, 5000)] {
                let held = held.contains(&(protocol, port));
                for source in inside {
                    let outcome = checked.from(source, protocol, port);
                    let expected = if held { "ban_drop" } else { "pass_protected" };
                    assert_eq!(
                        outcome, expected,
                        "{source} to {port}, protocol {protocol}, banned on {scope}"
                    );
                }
                for source in outside {
                    assert_eq!(
                        checked.from(source, protocol, port),
                        "pass_protected",
                        "{source} beside {net}"
                    );
                }
            }
            checked.unban(scope, net);
            assert_eq!(checked.from(inside[0], TCP, 80), "pass_protected");
        }
    }
    // All of a family, and nothing of the other.
    checked.ban(Scope::Everywhere, "0.0.0.0/0", None);
    assert_eq!(checked.from("203.0.113.7", TCP, 80), "ban_drop");
    assert_eq!(checked.from("2001:db8::7", TCP, 80), "pass_protected");
    checked.unban(Scope::Everywhere, "0.0.0.0/0");
    checked.ban(HTTP, "::/0", None);
    assert_eq!(checked.from("203.0.113.7", TCP, 80), "pass_protected");
    assert_eq!(checked.from("2001:db8::7", TCP, 80), "ban_drop");
    assert_eq!(checked.from("2001:db8::7", TCP, 81), "pass_protected");
}

fn rules_go_first_and_unprotected_ports_are_never_touched(engine: Engine) {
    let mut checked = Checked::new(engine);
    let id = checked.ban(Scope::Everywhere, "198.51.100.0/24", None);
    checked.ban(Scope::Service { proto: Proto::Tcp, port: 22 }, "198.51.100.0/24", None);
    assert_eq!(checked.from("198.51.100.7", TCP, 80), "drop", "the rule would drop it anyway");
    assert_eq!(checked.packets(id), 0);
    assert_eq!(checked.from("198.51.100.7", TCP, 22), "pass_unprotected");
    assert_eq!(checked.from("198.51.100.7", UDP, 53), "pass_unprotected");
    assert_eq!(checked.outcome(&ethernet(&[], 0x0806, &[0; 28])), "not_ip");
}

fn a_hidden_port_falls_under_the_bans_on_everything(engine: Engine) {
    let mut checked = Checked::new(engine);
    let hidden = |source: &str| match source.parse().unwrap() {
        IpAddr::V4(source) => ethernet(&[], IPV4, &ipv4(source, HOST, TCP, 0, 0x2000, &[0, 0])),
        IpAddr::V6(source) => {
            let long = vec![Extension::options(60, 0); 9];
            ethernet(&[], IPV6, &ipv6(source, HOST6, &long, TCP, &ports(80)))
        }
    };
    checked.ban(Scope::Everywhere, "10.0.0.0/8", None);
    checked.ban(Scope::Everywhere, "2001:db8:5::/48", None);
    for scope in [HTTP, SRT, Scope::Service { proto: Proto::Tcp, port: 81 }] {
        checked.ban(scope, "11.0.0.0/8", None);
    }
    assert_eq!(checked.outcome(&hidden("10.1.1.1")), "ban_drop");
    assert_eq!(checked.outcome(&hidden("2001:db8:5::1")), "ban_drop");
    assert_eq!(checked.outcome(&hidden("11.1.1.1")), "hidden_pass", "it may be for a port that lets it in");
    assert_eq!(checked.outcome(&hidden("198.51.100.1")), "hidden_drop");
    // Where nothing is protected, hiding a port is no offence.
    checked.bench.publish(&Table::new(0).compiled()).unwrap();
    assert_eq!(checked.outcome(&hidden("10.1.1.1")), "hidden_pass");
    assert_eq!(checked.from("10.1.1.1", TCP, 80), "pass_unprotected");
}

fn a_ban_ends_by_itself(engine: Engine) {
    let mut checked = Checked::new(engine);
    let time = Duration::from_millis(400);
    checked.ban(Scope::Everywhere, "10.0.0.0/8", Some(time));
    checked.ban(HTTP, "2001:db8::/32", Some(time));
    checked.ban(Scope::Everywhere, "11.0.0.0/8", None);
    let end = checked.book.iter().filter_map(|ban| ban.until).max().unwrap();
    let seen = [checked.from("10.1.1.1", TCP, 80), checked.from("2001:db8::1", TCP, 80)];
    // On a machine that stood still for so long, nothing can be said.
    if boottime() < checked.book.next_end().unwrap() {
        assert_eq!(seen, ["ban_drop", "ban_drop"]);
    }
    while boottime() <= end {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(checked.bench.status().unwrap().bans.installed, 3, "nobody has tidied up");
    assert_eq!(checked.from("10.1.1.1", TCP, 80), "pass_protected");
    assert_eq!(checked.from("2001:db8::1", TCP, 80), "pass_protected");
    assert_eq!(checked.from("11.1.1.1", TCP, 80), "ban_drop");
    assert_eq!(checked.book.expire(boottime()).len(), 2);
    checked.sync();
    assert_eq!(checked.bench.status().unwrap().bans.installed, 1);
}

fn the_longer_lived_ban_counts_whichever_is_nested_in_which(engine: Engine) {
    let mut checked = Checked::new(engine);
    let time = Duration::from_millis(300);
    // Short inside long, and long inside short; on one service inside all of them.
    checked.ban(Scope::Everywhere, "10.0.0.0/8", None);
    checked.ban(Scope::Everywhere, "10.1.1.1/32", Some(time));
    checked.ban(Scope::Everywhere, "11.0.0.0/8", Some(time));
    checked.ban(Scope::Everywhere, "11.1.1.1/32", None);
    checked.ban(Scope::Everywhere, "12.1.1.1/32", Some(time));
    checked.ban(HTTP, "12.0.0.0/8", None);
    for source in ["10.1.1.1", "11.1.1.1", "12.1.1.1"] {
        assert_eq!(checked.from(source, TCP, 80), "ban_drop", "{source}");
    }
    let end = checked.book.iter().filter_map(|ban| ban.until).max().unwrap();
    while boottime() <= end {
        thread::sleep(Duration::from_millis(20));
    }
    for tidied in [false, true] {
        for (source, port, expected) in [
            ("10.1.1.1", 81, "ban_drop"),
            ("10.9.9.9", 81, "ban_drop"),
            ("11.1.1.1", 81, "ban_drop"),
            ("11.9.9.9", 81, "pass_protected"),
            ("12.1.1.1", 80, "ban_drop"),
            ("12.1.1.1", 81, "pass_protected"),
        ] {
            assert_eq!(checked.from(source, TCP, port), expected, "{source} to {port}, tidied up: {tidied}");
        }
        checked.book.expire(boottime());
        checked.sync();
    }
}

fn never_drop_is_a_hole_in_a_ban(engine: Engine) {
    let mut checked = Checked::new(engine);
    checked.never_drop = ["10.1.0.0/16", "2001:db8:5::/48"].map(|net| net.parse().unwrap()).to_vec();
    checked.ban(Scope::Everywhere, "10.0.0.0/8", None);
    checked.ban(HTTP, "10.0.0.0/8", None);
    checked.ban(Scope::Everywhere, "10.1.1.1/32", None);
    checked.ban(Scope::Everywhere, "2001:db8:5::7/128", None);
    for (source, expected) in [
        ("10.0.0.1", "ban_drop"),
        ("10.1.0.1", "pass_protected"),
        ("10.1.1.1", "pass_protected"),
        ("10.2.0.0", "ban_drop"),
        ("2001:db8:5::7", "pass_protected"),
    ] {
        assert_eq!(checked.from(source, TCP, 80), expected, "{source}");
    }
    // A reload takes the exemption away.
    checked.never_drop.clear();
    checked.sync();
    for source in ["10.1.0.1", "10.1.1.1", "2001:db8:5::7"] {
        assert_eq!(checked.from(source, TCP, 80), "ban_drop", "{source}");
    }
}

fn a_trusted_proxy_is_a_hole_on_its_own_port(engine: Engine) {
    let mut checked = Checked::new(engine);
    checked.proxies = ["10.1.0.0/16", "2001:db8:5::7/128"].map(|net| net.parse().unwrap()).to_vec();
    let wide = checked.ban(Scope::Everywhere, "10.0.0.0/8", None);
    checked.ban(Scope::Everywhere, "10.1.1.1/32", Some(Duration::from_secs(3600)));
    checked.ban(HTTP, "10.1.2.3/32", None);
    let v6 = checked.ban(Scope::Everywhere, "2001:db8:5::/48", None);
    let proxies = ["10.1.0.1", "10.1.1.1", "10.1.2.3", "::ffff:10.1.0.1", "2001:db8:5::7"];
    for source in proxies {
        assert_eq!(checked.from(source, TCP, 80), "pass_protected", "{source}");
        for (protocol, port) in [(TCP, 81), (UDP, 9998), (UDP, 80), (SCTP, 5000)] {
            assert_eq!(checked.from(source, protocol, port), "ban_drop", "{source} to {port}");
        }
    }
    for source in ["10.0.0.1", "10.2.0.0", "2001:db8:5::8"] {
        assert_eq!(checked.from(source, TCP, 80), "ban_drop", "{source}");
    }
    // Four proxies on four other ports, and two others on the port itself, are counted against the one ban.
    assert_eq!((checked.packets(wide), checked.packets(v6)), (4 * 4 + 2, 4 + 1));
    // A packet that hides its port could be one to the gate.
    let hidden = ethernet(&[], IPV4, &ipv4(Ipv4Addr::new(10, 1, 0, 1), HOST, TCP, 0, 0x2000, &[0, 0]));
    assert_eq!(checked.outcome(&hidden), "hidden_pass");
    // A reload trusts them no more.
    checked.proxies.clear();
    checked.sync();
    for source in proxies {
        assert_eq!(checked.from(source, TCP, 80), "ban_drop", "{source}");
        assert_eq!(checked.from(source, TCP, 81), "ban_drop", "{source}");
    }
}

fn shadow_counts_and_drops_nothing(engine: Engine) {
    let mut checked = Checked::with(engine, table().shadow());
    let id = checked.ban(Scope::Everywhere, "10.0.0.0/8", None);
    assert_eq!(checked.from("10.1.1.1", TCP, 80), "shadow_drop");
    let hidden = ethernet(&[], IPV4, &ipv4(Ipv4Addr::new(10, 1, 1, 1), HOST, TCP, 0, 0x2000, &[0, 0]));
    assert_eq!(checked.outcome(&hidden), "shadow_drop");
    assert_eq!(checked.packets(id), 2, "what would have been dropped is counted");
    let services = checked.bench.stats().unwrap().services;
    assert_eq!((services[0].passed.packets, services[0].dropped.packets), (1, 0));
}

fn drops_are_counted_for_their_ban_and_its_service(engine: Engine) {
    let mut checked = Checked::new(engine);
    let first = checked.ban(Scope::Everywhere, "10.0.0.0/8", None);
    let second = checked.ban(HTTP, "2001:db8::/32", None);
    let unused = checked.ban(Scope::Everywhere, "10.1.0.0/16", Some(Duration::from_secs(60)));
    let frame = |source: IpAddr| {
        let host = if source.is_ipv4() { HOST.into() } else { HOST6.into() };
        frames::to_port(source, host, TCP, 80)
    };
    let (one, two) = (frame("10.1.1.1".parse().unwrap()), frame("2001:db8::9".parse().unwrap()));
    checked.bench.run(&one, 7).unwrap();
    checked.bench.run(&two, 5).unwrap();
    let hits = checked.bench.bans().hits().unwrap();
    let count = |packets: u64, frame: &[u8]| Count { packets, bytes: packets * frame.len() as u64 };
    assert_eq!(hits[&first], count(7, &one));
    assert_eq!(hits[&second], count(5, &two));
    assert_eq!(hits[&unused], Count::default(), "the longer-lived ban around it counts");
    let services = checked.bench.stats().unwrap().services;
    let http = services.iter().find(|service| service.service == "80/tcp").unwrap();
    assert_eq!((http.passed.packets, http.dropped.packets), (0, 12));
    assert_eq!(http.dropped.bytes, count(7, &one).bytes + count(5, &two).bytes);
    assert_eq!(checked.bench.stats().unwrap().outcome("ban_drop"), 12);
    // Another end for the same ban, and it goes on counting.
    assert_eq!(checked.ban(Scope::Everywhere, "10.0.0.0/8", Some(Duration::from_secs(600))), first);
    checked.bench.run(&one, 1).unwrap();
    assert_eq!(checked.packets(first), 8);
    checked.unban(Scope::Everywhere, "10.0.0.0/8");
    assert!(!checked.bench.bans().hits().unwrap().contains_key(&first));
    assert_eq!(checked.from("10.1.1.1", TCP, 80), "ban_drop", "the inner one is still in force");
    assert_eq!(checked.packets(unused), 1);
}

fn sampled_drops_name_their_ban(engine: Engine) {
    let mut checked = Checked::new(engine);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let mut events = checked.bench.events().unwrap();
    let id = checked.ban(SRT, "10.0.0.0/8", None);
    checked.bench.set_sampling(1);
    assert_eq!(checked.from("10.1.1.1", UDP, 9998), "ban_drop");
    assert_eq!(checked.from("198.51.100.7", UDP, 9998), "drop");
    let mut seen = events.take(10.try_into().unwrap());
    // Each processor reports its own.
    seen.sort_by_key(|event| event.ban.is_none());
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].ban, seen[0].policy.as_deref(), seen[0].line), (Some(id), None, None));
    assert_eq!(seen[0].source, "10.1.1.1".parse::<IpAddr>().unwrap());
    assert_eq!(seen[0].service.as_deref(), Some("9998/udp"));
    assert_eq!((seen[1].ban, seen[1].line), (None, Some(9)));
}

fn reloads_leave_bans_alone_and_the_last_one_leaves_nothing(engine: Engine) {
    let mut checked = Checked::new(engine);
    let memory = objects::memory(&checked.bench.maps().unwrap()).unwrap();
    let id = checked.ban(Scope::Everywhere, "10.0.0.0/8", None);
    for _ in 0..3 {
        checked.bench.publish(&table().compiled()).unwrap();
        assert_eq!(checked.from("10.1.1.1", TCP, 80), "ban_drop");
    }
    assert_eq!(checked.packets(id), 3);
    // Somebody else's view of the same maps, and an old one that does not know of it.
    checked.bench.bans().sync(&Desired::default()).unwrap();
    assert_eq!(checked.from("10.1.1.1", TCP, 80), "pass_protected");
    checked.book.clear();
    checked.sync();
    assert_eq!(
        objects::memory(&checked.bench.maps().unwrap()).unwrap(),
        memory,
        "without bans they take no memory"
    );
}

/// A ban's place and end: never, in an hour, or a moment ago.
fn bans() -> impl Strategy<Value = Vec<(Scope, IpNet, Option<bool>)>> {
    let v4 =
        (0x0a00_0000u32..0x0a00_0010, 20u8..=32).prop_map(|(a, len)| IpNet::new(IpAddr::V4(a.into()), len));
    let low = (0x2001_0db8u128 << 96)..(0x2001_0db8u128 << 96) + 16;
    let v6 = (low, 100u8..=128).prop_map(|(a, len)| IpNet::new(IpAddr::V6(a.into()), len));
    let net = prop_oneof![v4, v6].prop_map(|net| net.unwrap().trunc());
    let scope = proptest::sample::select(vec![Scope::Everywhere, HTTP, SRT]);
    proptest::collection::vec((scope, net, proptest::option::of(any::<bool>())), 0..24)
}

fn random_bans_hold_for_whom_they_should(engine: Engine) {
    let checked = Checked::new(engine);
    let checked = std::cell::RefCell::new(checked);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() });
    let exempt = proptest::collection::vec(0x0a00_0000u32..0x0a00_0010, 0..3);
    let strategy = (bans(), exempt, any::<bool>());
    runner
        .run(&strategy, |(list, exempt, fresh)| {
            let mut checked = checked.borrow_mut();
            if fresh {
                checked.book.clear();
            }
            let now = boottime();
            for (scope, net, end) in list {
                let time = end.map(|later| if later { Duration::from_secs(3600) } else { Duration::ZERO });
                prop_assert!(checked.book.put((scope, net), time, None, now, 0).is_some());
            }
            checked.never_drop = exempt.iter().map(|a| IpNet::from(IpAddr::V4((*a).into()))).collect();
            checked.sync();
            let held: Vec<Ban> =
                checked.book.iter().filter(|ban| ban.holds(now)).map(|ban| Ban::clone(ban)).collect();
            let sources = (0x0a00_0000u32..0x0a00_0011).map(|a| IpAddr::V4(a.into()));
            let low = 0x2001_0db8u128 << 96;
            for source in sources.chain((low..low + 17).map(|a| IpAddr::V6(a.into()))) {
                for (scope, protocol, port) in [(HTTP, TCP, 80), (SRT, UDP, 9998)] {
                    let banned = held.iter().any(|ban| {
                        (ban.scope == scope || ban.scope == Scope::Everywhere) && ban.net.contains(&source)
                    });
                    let expected = banned && !checked.never_drop.iter().any(|net| net.contains(&source));
                    let host = if source.is_ipv4() { HOST.into() } else { HOST6.into() };
                    let frame = frames::to_port(source, host, protocol, port);
                    prop_assert_eq!(checked.bench.run(&frame, 1).unwrap().dropped, expected, "{}", source);
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_full_book_fits_into_the_kernel() {
    let mut checked = Checked::new(Engine::Flat);
    let now = boottime();
    for n in 0..BanTable::LIMIT as u32 {
        let net = IpNet::from(IpAddr::V4((0x0a00_0000 + 2 * n).into()));
        checked.book.put((Scope::Everywhere, net), None, None, now, 0).unwrap();
    }
    checked.sync();
    assert_eq!(checked.from("10.0.0.2", TCP, 80), "ban_drop");
    assert_eq!(checked.from("10.0.0.3", TCP, 80), "pass_protected");
    checked.book.clear();
    checked.sync();
    assert_eq!(checked.from("10.0.0.2", TCP, 80), "pass_protected");
}

#[test]
fn what_another_process_left_is_read_back_and_brought_in_line() {
    let checked = Checked::new(Engine::Flat);
    let place = |net: &str| (HTTP, net.parse::<IpNet>().unwrap());
    let mut left = Entries::new();
    for (net, label) in [
        ("10.0.0.0/8", Label::Ban { id: 7, until: Some(Boottime { nanoseconds: u64::MAX }) }),
        ("10.1.0.0/16", Label::Exempt),
        ("2001:db8::/32", Label::Ban { id: 9, until: None }),
        ("::/0", Label::Ban { id: u32::MAX, until: Some(Boottime { nanoseconds: 2 }) }),
    ] {
        left.insert(place(net), label);
    }
    let bans = checked.bench.bans();
    bans.sync(&Desired { entries: left.clone(), ids: [7, 9, u32::MAX].into() }).unwrap();
    assert_eq!(bans.held().unwrap(), left);
    assert_eq!(bans.hits().unwrap().into_keys().collect::<Vec<_>>(), [7, 9, u32::MAX]);
    bans.sync(&Desired::default()).unwrap();
    assert_eq!((bans.held().unwrap().len(), bans.hits().unwrap().len()), (0, 0));
}
