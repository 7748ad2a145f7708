//! The program itself, through BPF_PROG_TEST_RUN: what it says of a frame is what the table says.
#![expect(clippy::unwrap_used, reason = "a test's own functions, too, fail by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use filter_ebpf::{
    layout::Proto as MapProto,
    measure::{LOOKUPS, Lookups},
    parse::{Address, Frame, Ip, Parsed, parse},
};
use filter_user::{
    kernel::{Stats, Unattached},
    model::{Engine, Proto, ServiceKey},
    offload::{Cell, ClassId, Compiled},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kit::{
    for_each_engine,
    frames::{self, Extension, IPV4, IPV6, SCTP, SERVICE_VLAN, TCP, UDP, VLAN, ethernet, ipv4, ipv6, ports},
    machine,
    measuring::Measuring,
    rights,
    tables::Table,
};
use proptest::{prelude::*, test_runner::TestRunner};

for_each_engine! {
    lookups_agree_with_the_partition
    without_a_table_everything_passes
    each_protocol_and_family_is_judged
    the_edges_of_a_prefix_are_where_they_should_be
    everything_can_be_denied_and_everything_else_admitted
    vlan_tags_are_looked_through
    ipv4_options_and_fragments
    ipv6_extension_headers
    a_frame_cut_anywhere_is_never_a_way_round_and_never_dropped_for_another_port
    a_hidden_port_is_dropped_only_if_every_service_drops_the_source
    a_service_on_a_local_address_comes_before_the_one_for_all
    shadow_counts_and_drops_nothing
    counters_are_what_was_sent_and_outlive_reloads
    a_frame_in_several_buffers_is_judged_and_counted_whole
    a_table_that_is_too_large_changes_nothing
    random_packets_get_what_random_tables_say
    host_and_kernel_read_random_bytes_alike
    sampled_drops_are_reported_with_their_rule
}

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe);
const DENIED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const DENIED6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 7);
const ADMITTED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const ADMITTED6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);

/// The program in the kernel; Loaded by root only.
fn bench(engine: Engine) -> Unattached {
    rights::need_root();
    Unattached::new(engine).expect("the program loads")
}

/// `DENIED` and `DENIED6` are dropped on every protected port.
fn simple() -> Table {
    Table::denying(
        "deny ip 198.51.100/24",
        &["198.51.100.0/24", "2001:db8:bad::/48"],
        &[(Proto::Tcp, 80), (Proto::Udp, 9998), (Proto::Sctp, 5000)],
    )
}

struct Checked {
    bench: Unattached,
}

impl Checked {
    fn new(engine: Engine, table: Table) -> Self {
        let mut bench = bench(engine);
        bench.publish(&table.compiled()).unwrap();
        Self { bench }
    }

    /// Runs a frame once and returns the one outcome that it counted for; the verdict must agree with it.
    fn outcome(&mut self, frame: &[u8]) -> String {
        let before = self.bench.stats().unwrap();
        let ran = self.bench.run(frame, 1).unwrap();
        let after = self.bench.stats().unwrap();
        assert_eq!(after.packets(), before.packets() + 1, "every packet counts once");
        let (name, _) = after
            .outcomes
            .iter()
            .find(|(name, count)| **count == before.outcome(name) + 1)
            .expect("one counter rose");
        assert_eq!(ran.dropped, ["drop", "hidden_drop", "vlan_depth_drop"].contains(&name.as_str()));
        name.clone()
    }
}

fn without_a_table_everything_passes(engine: Engine) {
    let bench = bench(engine);
    let mut checked = Checked { bench };
    assert_eq!(checked.outcome(&frames::to_port(DENIED.into(), HOST.into(), TCP, 80)), "no_table");
    assert_eq!(checked.outcome(&ethernet(&[], 0x0806, &[0; 28])), "not_ip");
}

fn each_protocol_and_family_is_judged(engine: Engine) {
    let mut checked = Checked::new(engine, simple());
    for (protocol, port) in [(TCP, 80), (UDP, 9998), (SCTP, 5000)] {
        for (source, destination, expected) in [
            (IpAddr::from(DENIED), IpAddr::from(HOST), "drop"),
            (DENIED6.into(), HOST6.into(), "drop"),
            (DENIED.to_ipv6_mapped().into(), HOST6.into(), "drop"),
            (ADMITTED.into(), HOST.into(), "pass_protected"),
            (ADMITTED6.into(), HOST6.into(), "pass_protected"),
            (ADMITTED.to_ipv6_mapped().into(), HOST6.into(), "pass_protected"),
        ] {
            let outcome = checked.outcome(&frames::to_port(source, destination, protocol, port));
            assert_eq!(outcome, expected, "{source} to {port}, protocol {protocol}");
            let other = checked.outcome(&frames::to_port(source, destination, protocol, port + 1));
            assert_eq!(other, "pass_unprotected");
        }
    }
    // The same numbers under another protocol are another port.
    assert_eq!(checked.outcome(&frames::to_port(DENIED.into(), HOST.into(), UDP, 80)), "pass_unprotected");
}

/// Looks up addresses by the hundred thousand, in and around the densest tables that there are; the kernel's sum
/// of classes must be the partition's.
fn lookups_agree_with_the_partition(engine: Engine) {
    let mut bench = bench(engine);
    let mut table = Table::new(1).service(Proto::Tcp, 80, None, 0);
    let rule = table.rule("deny ip", 1);
    let classes: Vec<_> = (0..3).map(|n| table.class(vec![(n < 2).then_some(rule)])).collect();
    let v4 = |address: u32, len| IpNet::from(Ipv4Net::new(address.into(), len).unwrap().trunc());
    let v6 = |address: u128, len| IpNet::from(Ipv6Net::new(address.into(), len).unwrap().trunc());
    let mut nets = vec![(v4(0, 3), classes[2]), (v6(0x2 << 124, 5), classes[2])];
    for n in 0..20_000u32 {
        let class = classes[n as usize % 2];
        // Every second address in a row; scattered networks; and in IPv6 single addresses deep in a /64, a row of
        // /64s, and /48s.
        nets.push((v4(0x0a00_0000 + 2 * n, 32), class));
        nets.push((v4(n.wrapping_mul(2_654_435_761), 20 + (n % 13) as u8), class));
        let n = u128::from(n);
        nets.push((v6((0x2001_0db8 << 96) + 3 * n, 128), class));
        nets.push((v6((0x2001_0db9 << 96) + ((2 * n) << 64), 64), class));
        nets.push((v6((0x2001_0dba << 96) + (n << 66) + n, 128), class));
        nets.push((v6((0x2400 << 112) + ((n.wrapping_mul(0x9e37_79b9) & 0xffff_ffff) << 80), 48), class));
    }
    let compiled = table.nets(nets).compiled();
    bench.publish(&compiled).unwrap();
    bench.publish(&compiled).unwrap();
    let mut measuring = Measuring::new(&mut bench).unwrap();
    for (v6, random, set) in [
        (0, u64::MAX, 0),
        (0, 0xffff << 32, 0x0a00_0000 << 32),
        (1, u64::MAX, 0),
        (1, 0, 0x2001_0db8 << 32),
        (1, 0xffff, 0x2001_0db9 << 32),
        (1, 0x1_ffff, 0x2001_0dba << 32),
        (1, 0x0001_ffff_ffff_ffff, 0x2400 << 48),
    ] {
        for chained in [0, 1] {
            let mut kernel = Lookups { seed: 3, sum: 0, random, set, chained, v6 };
            let mut host = kernel;
            measuring.look_up(&mut kernel, 2_000).unwrap();
            for _ in 0..2_000 * LOOKUPS {
                let (upper, lower) = host.draw();
                let class = if v6 == 0 {
                    compiled.v4.get((upper >> 32) as u32)
                } else {
                    compiled.v6.get(u128::from(upper) << 64 | u128::from(lower))
                };
                host.found(class.0);
            }
            assert_eq!(kernel, host, "{random:x} {set:x}");
        }
    }
}

fn the_edges_of_a_prefix_are_where_they_should_be(engine: Engine) {
    let table = Table::denying(
        "deny ip several",
        &["10.10.0.0/16", "0.0.0.0/32", "255.255.255.255/32", "2001:db8::/127", "ffff::/128"],
        &[(Proto::Tcp, 80)],
    );
    let mut checked = Checked::new(engine, table);
    for (source, dropped) in [
        ("10.10.0.0", true),
        ("10.10.255.255", true),
        ("10.9.255.255", false),
        ("10.11.0.0", false),
        ("0.0.0.0", true),
        ("0.0.0.1", false),
        ("255.255.255.255", true),
        ("255.255.255.254", false),
        ("2001:db8::", true),
        ("2001:db8::1", true),
        ("2001:db8::2", false),
        ("ffff::", true),
        ("ffff::1", false),
        ("::", false),
    ] {
        let source: IpAddr = source.parse().unwrap();
        let host: IpAddr = if source.is_ipv4() { HOST.into() } else { HOST6.into() };
        let outcome = checked.outcome(&frames::to_port(source, host, TCP, 80));
        assert_eq!(outcome, if dropped { "drop" } else { "pass_protected" }, "{source}");
    }
}

fn everything_can_be_denied_and_everything_else_admitted(engine: Engine) {
    let table = Table::denying("deny ip 0/0", &["0.0.0.0/0", "::/0"], &[(Proto::Tcp, 80)]);
    let mut checked = Checked::new(engine, table);
    assert_eq!(checked.outcome(&frames::to_port(ADMITTED.into(), HOST.into(), TCP, 80)), "drop");
    assert_eq!(checked.outcome(&frames::to_port(ADMITTED6.into(), HOST6.into(), TCP, 80)), "drop");
    assert_eq!(checked.outcome(&frames::to_port(ADMITTED.into(), HOST.into(), TCP, 22)), "pass_unprotected");
    let status = checked.bench.status().unwrap();
    assert_eq!((status.v4.desired, status.v6.desired), (0, 0), "one class needs no prefix");
}

fn vlan_tags_are_looked_through(engine: Engine) {
    let mut checked = Checked::new(engine, simple());
    let v4 = ipv4(DENIED, HOST, TCP, 0, 0, &ports(80));
    let v6 = ipv6(DENIED6, HOST6, &[], TCP, &ports(80));
    for tags in [
        vec![(VLAN, 100)],
        vec![(SERVICE_VLAN, 7)],
        vec![(SERVICE_VLAN, 7), (VLAN, 100)],
        vec![(VLAN, 7), (VLAN, 100)],
        // Linux strips any number of priority tags in front of a packet.
        vec![(VLAN, 0); 3],
        vec![(VLAN, 0); 8],
    ] {
        assert_eq!(checked.outcome(&ethernet(&tags, IPV4, &v4)), "drop", "{tags:?}");
        assert_eq!(checked.outcome(&ethernet(&tags, IPV6, &v6)), "drop", "{tags:?}");
        assert_eq!(checked.outcome(&ethernet(&tags, 0x0806, &[0; 28])), "not_ip", "{tags:?}");
    }
    assert_eq!(checked.outcome(&ethernet(&[(VLAN, 0); 9], IPV4, &v4)), "vlan_depth_drop");
    assert_eq!(checked.outcome(&ethernet(&[(VLAN, 0)], VLAN, &[])), "truncated");
    checked.bench.publish(&Table::new(0).compiled()).unwrap();
    assert_eq!(checked.outcome(&ethernet(&[(VLAN, 0); 9], IPV4, &v4)), "vlan_depth", "nothing is protected");
}

fn ipv4_options_and_fragments(engine: Engine) {
    let mut checked = Checked::new(engine, simple());
    for options in 0..=10 {
        let frame = |source| ethernet(&[], IPV4, &ipv4(source, HOST, TCP, options, 0, &ports(80)));
        assert_eq!(checked.outcome(&frame(DENIED)), "drop", "{options} words of options");
        assert_eq!(checked.outcome(&frame(ADMITTED)), "pass_protected");
    }
    let fragment = |field, payload: &[u8]| ethernet(&[], IPV4, &ipv4(DENIED, HOST, UDP, 0, field, payload));
    assert_eq!(checked.outcome(&fragment(0x4000, &ports(9998))), "drop", "don't fragment");
    assert_eq!(checked.outcome(&fragment(0x2000, &ports(9998))), "drop", "a first fragment has the port");
    assert_eq!(checked.outcome(&fragment(0x2001, &ports(9998))), "fragment");
    assert_eq!(checked.outcome(&fragment(0x1fff, &ports(9998))), "fragment");
    assert_eq!(checked.outcome(&fragment(0x2000, &[])), "hidden_drop", "a first fragment without a port");
    let short = |length: u8| {
        let mut packet = ipv4(DENIED, HOST, TCP, 0, 0, &ports(80));
        packet[0] = 0x40 | length;
        ethernet(&[], IPV4, &packet)
    };
    assert_eq!(checked.outcome(&short(4)), "truncated", "a header of 16 bytes is none");
    let mut packet = ipv4(DENIED, HOST, TCP, 0, 0, &ports(80));
    packet[0] = 0x65;
    assert_eq!(checked.outcome(&ethernet(&[], IPV4, &packet)), "truncated", "the version contradicts");
}

fn ipv6_extension_headers(engine: Engine) {
    let mut checked = Checked::new(engine, simple());
    let chains = [
        vec![Extension::options(0, 0)],
        vec![Extension::options(43, 2)],
        vec![Extension::options(60, 255)],
        vec![Extension::authentication(4)],
        vec![Extension::fragment(0, false)],
        vec![Extension::fragment(0, true)],
        vec![
            Extension::options(0, 1),
            Extension::options(60, 0),
            Extension::options(43, 2),
            Extension::fragment(0, true),
            Extension::authentication(1),
            Extension::options(60, 3),
        ],
        vec![Extension::options(60, 0); 8],
    ];
    for chain in chains {
        let frame = |source| ethernet(&[], IPV6, &ipv6(source, HOST6, &chain, TCP, &ports(80)));
        assert_eq!(checked.outcome(&frame(DENIED6)), "drop", "{chain:?}");
        assert_eq!(checked.outcome(&frame(ADMITTED6)), "pass_protected");
        let other = ethernet(&[], IPV6, &ipv6(DENIED6, HOST6, &chain, TCP, &ports(81)));
        assert_eq!(checked.outcome(&other), "pass_unprotected");
        let icmp = ethernet(&[], IPV6, &ipv6(DENIED6, HOST6, &chain, 58, &[128, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(checked.outcome(&icmp), "other_protocol");
    }
    let long = vec![Extension::options(60, 0); 9];
    let frame = |source| ethernet(&[], IPV6, &ipv6(source, HOST6, &long, TCP, &ports(80)));
    assert_eq!(checked.outcome(&frame(DENIED6)), "hidden_drop", "a chain that is too long");
    assert_eq!(checked.outcome(&frame(ADMITTED6)), "hidden_pass");
    let later = [Extension::options(60, 0), Extension::fragment(8, true)];
    let frame = ethernet(&[], IPV6, &ipv6(DENIED6, HOST6, &later, TCP, &ports(80)));
    assert_eq!(checked.outcome(&frame), "fragment");
    let none = ethernet(&[], IPV6, &ipv6(DENIED6, HOST6, &[], 59, &[]));
    assert_eq!(checked.outcome(&none), "other_protocol", "no next header");
}

fn a_frame_cut_anywhere_is_never_a_way_round_and_never_dropped_for_another_port(engine: Engine) {
    let mut checked = Checked::new(engine, simple());
    let chain = [Extension::options(0, 0), Extension::fragment(0, true), Extension::authentication(2)];
    for (protected, other, ip_end, port_end) in [
        (
            ethernet(&[(VLAN, 5)], IPV4, &ipv4(DENIED, HOST, TCP, 3, 0, &ports(80))),
            ethernet(&[(VLAN, 5)], IPV4, &ipv4(ADMITTED, HOST, TCP, 3, 0, &ports(22))),
            18 + 20,
            18 + 32 + 4,
        ),
        (
            ethernet(&[], IPV6, &ipv6(DENIED6, HOST6, &chain, UDP, &ports(9998))),
            ethernet(&[], IPV6, &ipv6(ADMITTED6, HOST6, &chain, UDP, &ports(22))),
            14 + 40,
            14 + 40 + 8 + 8 + 16 + 4,
        ),
    ] {
        for cut in 14..=protected.len() {
            let expected = if cut < ip_end {
                "truncated"
            } else if cut < port_end {
                "hidden_drop"
            } else {
                "drop"
            };
            assert_eq!(checked.outcome(&protected[..cut]), expected, "cut to {cut} bytes");
            assert!(!checked.bench.run(&other[..cut], 1).unwrap().dropped, "cut to {cut} bytes");
        }
    }
}

fn a_hidden_port_is_dropped_only_if_every_service_drops_the_source(engine: Engine) {
    let mut table = Table::new(2).service(Proto::Tcp, 80, None, 0).service(Proto::Tcp, 81, None, 1);
    let rule = table.rule("deny ip", 3);
    let both = table.class(vec![Some(rule), Some(rule)]);
    let one = table.class(vec![Some(rule), None]);
    let table = table.net("198.51.100.0/24", both).net("203.0.113.0/24", one);
    let mut checked = Checked::new(engine, table);
    let hidden = |source| ethernet(&[], IPV4, &ipv4(source, HOST, TCP, 0, 0x2000, &[0, 0]));
    assert_eq!(checked.outcome(&hidden(DENIED)), "hidden_drop");
    assert_eq!(checked.outcome(&hidden(ADMITTED)), "hidden_pass");
    assert_eq!(checked.outcome(&hidden(HOST)), "hidden_pass");
    assert_eq!(checked.outcome(&frames::to_port(ADMITTED.into(), HOST.into(), TCP, 80)), "drop");
    assert_eq!(checked.outcome(&frames::to_port(ADMITTED.into(), HOST.into(), TCP, 81)), "pass_protected");
    // Nothing is protected any more: a column of rules that no service stands for drops nothing.
    let mut none = Table::new(0);
    let class = none.class(vec![]);
    let mut compiled = none.net("198.51.100.0/24", class).compiled();
    let mut ruled = Table::new(1);
    ruled.rule("deny ip", 3);
    compiled.rules = ruled.compiled().rules;
    compiled.cells = vec![None, Some(filter_user::offload::DropRuleId(0))];
    checked.bench.publish(&compiled).unwrap();
    assert_eq!(checked.outcome(&hidden(DENIED)), "hidden_pass");
}

fn a_service_on_a_local_address_comes_before_the_one_for_all(engine: Engine) {
    let [one, two]: [IpAddr; 2] = [HOST.into(), Ipv4Addr::new(192, 0, 2, 253).into()];
    let mut table = Table::new(2)
        .service(Proto::Tcp, 80, None, 0)
        .service(Proto::Tcp, 80, Some(one), 1)
        .service(Proto::Tcp, 443, Some(one), 0)
        .service(Proto::Tcp, 443, Some(HOST6.into()), 0);
    let rule = table.rule("deny ip", 3);
    let class = table.class(vec![Some(rule), None]);
    let table = table.net("198.51.100.0/24", class).net("2001:db8:bad::/48", class);
    let mut checked = Checked::new(engine, table);
    let source = IpAddr::from(DENIED);
    assert_eq!(checked.outcome(&frames::to_port(source, two, TCP, 80)), "drop");
    assert_eq!(checked.outcome(&frames::to_port(source, one, TCP, 80)), "pass_protected");
    assert_eq!(checked.outcome(&frames::to_port(source, one, TCP, 443)), "drop");
    assert_eq!(checked.outcome(&frames::to_port(source, two, TCP, 443)), "pass_unprotected");
    assert_eq!(checked.outcome(&frames::to_port(DENIED6.into(), HOST6.into(), TCP, 443)), "drop");
    assert_eq!(
        checked.outcome(&frames::to_port(DENIED6.into(), ADMITTED6.into(), TCP, 443)),
        "pass_unprotected"
    );
    let services: Vec<String> =
        checked.bench.stats().unwrap().services.into_iter().map(|s| s.service).collect();
    assert_eq!(services, ["80/tcp", "192.0.2.254:80/tcp", "192.0.2.254:443/tcp", "[2001:db8::fe]:443/tcp"]);
}

fn shadow_counts_and_drops_nothing(engine: Engine) {
    let mut checked = Checked::new(engine, simple().shadow());
    assert_eq!(checked.outcome(&frames::to_port(DENIED.into(), HOST.into(), TCP, 80)), "shadow_drop");
    let hidden = ethernet(&[], IPV4, &ipv4(DENIED, HOST, TCP, 0, 0x2000, &[]));
    assert_eq!(checked.outcome(&hidden), "shadow_drop");
    let v4 = ipv4(DENIED, HOST, TCP, 0, 0, &ports(80));
    assert_eq!(checked.outcome(&ethernet(&[(VLAN, 0); 9], IPV4, &v4)), "vlan_depth");
    let stats = checked.bench.stats().unwrap();
    assert_eq!(stats.rules[0].count.packets, 2);
    assert_eq!((stats.services[0].dropped.packets, stats.services[0].passed.packets), (0, 1));
}

fn counters_are_what_was_sent_and_outlive_reloads(engine: Engine) {
    let mut checked = Checked::new(engine, simple());
    let bench = &mut checked.bench;
    let denied = frames::to_port(DENIED.into(), HOST.into(), TCP, 80);
    let admitted = frames::to_port(ADMITTED.into(), HOST.into(), TCP, 80);
    bench.run(&denied, 300).unwrap();
    bench.run(&admitted, 200).unwrap();
    bench.run(&frames::to_port(DENIED.into(), HOST.into(), TCP, 22), 100).unwrap();
    let check = |stats: &Stats, packets: u64| {
        let rule = stats.rules.iter().find(|rule| rule.text == "deny ip 198.51.100/24").unwrap();
        assert_eq!((rule.count.packets, rule.count.bytes), (packets, packets * denied.len() as u64));
        let service = stats.services.iter().find(|service| service.service == "80/tcp").unwrap();
        assert_eq!((service.dropped.packets, service.passed.packets), (packets, 200));
        assert_eq!(service.passed.bytes, 200 * admitted.len() as u64);
    };
    let stats = bench.stats().unwrap();
    assert_eq!(stats.outcome("drop"), 300);
    assert_eq!(stats.outcome("pass_protected"), 200);
    assert_eq!(stats.outcome("pass_unprotected"), 100);
    assert_eq!(stats.rules[0].file, "test.conf");
    check(&stats, 300);

    // The rule moved to another line, others came before it, and the ports changed their order.
    let mut table = Table::new(1).service(Proto::Udp, 53, None, 0).service(Proto::Tcp, 443, None, 0).service(
        Proto::Tcp,
        80,
        None,
        0,
    );
    let new = table.rule("deny ip 203.0.113.99", 2);
    let new = table.class(vec![Some(new)]);
    let old = table.rule("deny ip 198.51.100/24", 77);
    let old = table.class(vec![Some(old)]);
    let table = table.net("203.0.113.99/32", new).net("198.51.100.0/24", old);
    bench.publish(&table.clone().compiled()).unwrap();
    bench.run(&denied, 50).unwrap();
    let stats = bench.stats().unwrap();
    check(&stats, 350);
    assert_eq!(stats.rules.iter().map(|rule| rule.line).collect::<Vec<_>>(), [2, 77]);
    assert_eq!(stats.rules[0].count.packets, 0, "a new rule begins at 0");
    assert_eq!(stats.services.len(), 3);

    // Gone and come back, it begins again, whoever had its slot in between.
    bench.publish(&Table::denying("deny ip other", &["0.0.0.0/0"], &[(Proto::Tcp, 80)]).compiled()).unwrap();
    bench.run(&denied, 10).unwrap();
    bench.publish(&table.compiled()).unwrap();
    let stats = bench.stats().unwrap();
    assert!(stats.rules.iter().all(|rule| rule.count.packets == 0), "{:?}", stats.rules);
    assert_eq!(stats.outcome("drop"), 360);
}

fn a_frame_in_several_buffers_is_judged_and_counted_whole(engine: Engine) {
    if !machine::knows_frags() {
        println!("skipped: this kernel has no frames in several buffers");
        return;
    }
    let mut checked = Checked::new(engine, simple());
    let mut payload = ports(80);
    payload.resize(9000 - 20, 0);
    let frame = ethernet(&[], IPV4, &ipv4(DENIED, HOST, TCP, 0, 0, &payload));
    assert_eq!(checked.outcome(&frame), "drop");
    assert_eq!(checked.bench.stats().unwrap().rules[0].count.bytes, 9014);
}

fn a_table_that_is_too_large_changes_nothing(engine: Engine) {
    let mut checked = Checked::new(engine, simple());
    let before = checked.bench.status().unwrap();
    let mut large = Table::new(300_000);
    for _ in 0..4 {
        large.class(vec![None; 300_000]);
    }
    let error = checked.bench.publish(&large.compiled()).unwrap_err().to_string();
    assert!(error.contains("classes of addresses"), "{error}");
    assert_eq!(checked.bench.status().unwrap(), before);
    assert_eq!(checked.outcome(&frames::to_port(DENIED.into(), HOST.into(), TCP, 80)), "drop");
}

fn sampled_drops_are_reported_with_their_rule(engine: Engine) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(sampled_drops(engine));
}

async fn sampled_drops(engine: Engine) {
    let mut checked = Checked::new(engine, simple());
    let bench = &mut checked.bench;
    let mut events = bench.events().unwrap();
    let denied = frames::to_port(DENIED6.into(), HOST6.into(), UDP, 9998);
    bench.run(&denied, 100).unwrap();
    assert_eq!(events.take(std::num::NonZeroUsize::MAX), [], "off until asked for");
    bench.set_sampling(1);
    bench.run(&denied, 1).unwrap();
    let event =
        tokio::time::timeout(std::time::Duration::from_secs(30), events.next()).await.unwrap().unwrap();
    assert_eq!(event.source, IpAddr::from(DENIED6));
    assert_eq!(event.service.as_deref(), Some("9998/udp"));
    assert_eq!(event.length as usize, denied.len());
    assert_eq!((event.text.as_deref(), event.line), (Some("deny ip 198.51.100/24"), Some(9)));
    bench.set_sampling(10);
    bench.run(&denied, 2_000).unwrap();
    let sampled = events.take(std::num::NonZeroUsize::MAX).len();
    assert!((60..400).contains(&sampled), "{sampled} of 2000, one in ten");
    // Nobody reads: what does not fit is counted.
    bench.set_sampling(1);
    bench.run(&denied, 10_000).unwrap();
    let kept = events.take(std::num::NonZeroUsize::MAX).len() as u64;
    assert!(kept > 1000, "{kept}");
    assert_eq!(bench.stats().unwrap().events_lost, 10_000 - kept);
}

/// What the table says of a packet whose port is known or hidden.
fn expected(compiled: &Compiled, frame: &[u8], ip: Ip, addressed: Option<(MapProto, u16)>) -> &'static str {
    let address = |address: Address| match address {
        Address::V4(bytes) => IpAddr::from(bytes),
        Address::V6(bytes) => IpAddr::from(bytes),
    };
    let source = address(ip.source.address());
    let drops = |cell: Cell, drop, pass| if cell.is_some() { drop } else { pass };
    let Some((proto, port)) = addressed else {
        let cell = compiled.cell(compiled.class(source), compiled.hidden_column());
        let cell = cell.filter(|_| !compiled.services.is_empty());
        return drops(cell, "hidden_drop", "hidden_pass");
    };
    let proto = match proto {
        MapProto::Tcp => Proto::Tcp,
        MapProto::Udp => Proto::Udp,
        MapProto::Sctp => Proto::Sctp,
    };
    let named = |address| {
        compiled.services.iter().position(|service| service.key == ServiceKey { proto, port, address })
    };
    match named(Some(address(ip.destination(frame).unwrap()))).or_else(|| named(None)) {
        Some(service) => drops(compiled.verdict(source, service), "drop", "pass_protected"),
        None => "pass_unprotected",
    }
}

/// The outcome of a frame according to the parser on the host.
fn on_the_host(compiled: &Compiled, frame: &[u8]) -> &'static str {
    match parse(frame) {
        Parsed::NotIp => "not_ip",
        Parsed::TooManyTags if compiled.services.is_empty() => "vlan_depth",
        Parsed::TooManyTags => "vlan_depth_drop",
        Parsed::Truncated => "truncated",
        Parsed::LaterFragment => "fragment",
        Parsed::OtherProtocol => "other_protocol",
        Parsed::Hidden(ip) => expected(compiled, frame, ip, None),
        Parsed::Port(ip, proto, port) => expected(compiled, frame, ip, Some((proto, port))),
    }
}

const PORTS: [u16; 5] = [80, 81, 443, 0, 65_535];
const LOCALS: [Ipv4Addr; 2] = [HOST, Ipv4Addr::new(192, 0, 2, 253)];
const LOCALS6: [Ipv6Addr; 2] = [HOST6, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfd)];

/// Addresses that meet the random networks' edges often.
fn v4() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        (0x0a00_0000u32..0x0a00_0020).prop_map(Ipv4Addr::from),
        (0u32..4).prop_map(Ipv4Addr::from),
        (u32::MAX - 3..=u32::MAX).prop_map(Ipv4Addr::from),
        any::<u32>().prop_map(Ipv4Addr::from),
    ]
}

fn v6() -> impl Strategy<Value = Ipv6Addr> {
    const BASE: u128 = 0x2001_0db8 << 96;
    prop_oneof![
        (BASE..BASE + 32).prop_map(Ipv6Addr::from),
        (BASE + (1 << 64)..BASE + (1 << 64) + 8).prop_map(Ipv6Addr::from),
        (u128::MAX - 3..=u128::MAX).prop_map(Ipv6Addr::from),
        v4().prop_map(|address| address.to_ipv6_mapped()),
        any::<u128>().prop_map(Ipv6Addr::from),
    ]
}

fn net() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (v4(), 0u8..=32).prop_map(|(address, len)| Ipv4Net::new(address, len).unwrap().trunc().into()),
        (v6(), 0u8..=128).prop_map(|(address, len)| Ipv6Net::new(address, len).unwrap().trunc().into()),
    ]
}

fn proto() -> impl Strategy<Value = Proto> {
    prop_oneof![Just(Proto::Tcp), Just(Proto::Udp), Just(Proto::Sctp)]
}

fn local() -> impl Strategy<Value = Option<IpAddr>> {
    prop_oneof![
        3 => Just(None),
        1 => proptest::sample::select(LOCALS.to_vec()).prop_map(|address| Some(address.into())),
        1 => proptest::sample::select(LOCALS6.to_vec()).prop_map(|address| Some(address.into())),
    ]
}

fn compiled() -> impl Strategy<Value = Compiled> {
    let cells = proptest::collection::vec(proptest::option::of(0u32..6), 3);
    (
        proptest::collection::vec(
            (proto(), proptest::sample::select(PORTS.to_vec()), local(), 0u32..3),
            0..8,
        ),
        proptest::collection::vec(cells, 1..6),
        proptest::collection::vec((net(), 0u32..8), 0..24),
    )
        .prop_map(|(services, rows, nets)| {
            let mut table = Table::new(3);
            for number in 0..6 {
                table.rule(&format!("rule {number}"), number + 1);
            }
            for row in &rows {
                table.class(row.clone());
            }
            let mut seen = Vec::new();
            for (proto, port, address, column) in services {
                if !seen.contains(&(proto, port, address)) {
                    seen.push((proto, port, address));
                    table = table.service(proto, port, address, column);
                }
            }
            table
                .nets(nets.into_iter().map(|(net, class)| (net, ClassId(class % (rows.len() as u32 + 1)))))
                .compiled()
        })
}

fn extension() -> impl Strategy<Value = Extension> {
    prop_oneof![
        (proptest::sample::select(vec![0u8, 43, 60]), 0u8..3)
            .prop_map(|(n, units)| Extension::options(n, units)),
        (0u8..4).prop_map(Extension::authentication),
        (prop_oneof![4 => Just(0u16), 1 => Just(8)], any::<bool>())
            .prop_map(|(offset, more)| Extension::fragment(offset, more)),
    ]
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let tags = proptest::collection::vec((prop_oneof![Just(VLAN), Just(SERVICE_VLAN)], 0u16..3), 0..3);
    let tags = prop_oneof![6 => tags, 1 => (3usize..11).prop_map(|count| vec![(VLAN, 0); count])];
    let protocol = prop_oneof![
        8 => proptest::sample::select(vec![TCP, UDP, SCTP]),
        1 => any::<u8>(),
    ];
    let port = prop_oneof![4 => proptest::sample::select(PORTS.to_vec()), 1 => any::<u16>()];
    let fragment =
        prop_oneof![4 => Just(0u16), 1 => proptest::sample::select(vec![0x4000, 0x2000, 0x2001, 0x8000])];
    let packet = prop_oneof![
        (v4(), proptest::sample::select(LOCALS.to_vec()), protocol.clone(), 0u8..=10, fragment, port.clone())
            .prop_map(|(source, host, protocol, options, fragment, port)| {
                (IPV4, ipv4(source, host, protocol, options, fragment, &ports(port)))
            }),
        (
            v6(),
            proptest::sample::select(LOCALS6.to_vec()),
            proptest::collection::vec(extension(), 0..10),
            protocol,
            port
        )
            .prop_map(|(source, host, chain, protocol, port)| {
                (IPV6, ipv6(source, host, &chain, protocol, &ports(port)))
            }),
    ];
    // A few bytes wrong, a piece missing: near misses are where parsers differ.
    let wrong = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3);
    let wrong = prop_oneof![2 => Just(Vec::new()), 1 => wrong];
    let cut = proptest::option::weighted(0.2, any::<proptest::sample::Index>());
    (tags, packet, wrong, cut).prop_map(|(tags, (kind, packet), wrong, cut)| {
        let mut frame = ethernet(&tags, kind, &packet);
        for (index, byte) in wrong {
            let index = index.index(frame.len());
            frame[index] = byte;
        }
        if let Some(cut) = cut {
            frame.truncate(14 + cut.index(frame.len() - 13));
        }
        frame
    })
}

fn agree(bench: &mut Unattached, compiled: &Compiled, frames: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let mut counts = bench.stats().unwrap().outcomes;
    for frame in frames {
        let expected = on_the_host(compiled, frame);
        let dropped = bench.run(frame, 1).unwrap().dropped;
        prop_assert_eq!(dropped, expected.ends_with("drop"), "{} for {:02x?}", expected, frame);
        *counts.get_mut(expected).unwrap() += 1;
    }
    prop_assert_eq!(bench.stats().unwrap().outcomes, counts);
    Ok(())
}

/// Runs so many cases, or fewer where proptest's own variable says so: an emulated machine has no time for all.
fn runner(usual: u32) -> TestRunner {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|number| number.parse().ok());
    let cases = asked.map_or(usual, |asked: u32| asked.min(usual));
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..Default::default() })
}

fn random_packets_get_what_random_tables_say(engine: Engine) {
    let bench = bench(engine);
    let bench = std::cell::RefCell::new(bench);
    let mut runner = runner(96);
    runner
        .run(&(compiled(), proptest::collection::vec(frame(), 150)), |(compiled, frames)| {
            let mut bench = bench.borrow_mut();
            let report = bench.publish(&compiled).unwrap();
            let status = bench.status().unwrap();
            prop_assert!(status.v4.complete() && status.v6.complete());
            prop_assert_eq!(
                (status.v4.installed, status.v6.installed),
                (report.v4_entries, report.v6_entries)
            );
            prop_assert_eq!(&report.warnings, &Vec::<String>::new());
            agree(&mut bench, &compiled, &frames)
        })
        .unwrap();
}

/// Mostly one that means something in a header. Not a `prop_oneof`, which takes longer than the kernel.
fn telling_byte() -> impl Strategy<Value = u8> {
    const TELLING: [u8; 5] = [0, 0x45, 0x60, 44, 6];
    (any::<u8>(), 0..6usize).prop_map(|(any, which)| TELLING.get(which).copied().unwrap_or(any))
}

fn host_and_kernel_read_random_bytes_alike(engine: Engine) {
    let mut bench = bench(engine);
    let compiled =
        Table::denying("deny all", &["0.0.0.0/1", "::/1"], &[(Proto::Tcp, 80), (Proto::Udp, 0)]).compiled();
    bench.publish(&compiled).unwrap();
    let bench = std::cell::RefCell::new(bench);
    let random = (
        proptest::sample::select(vec![IPV4, IPV6, VLAN, SERVICE_VLAN, 0x0806]),
        proptest::collection::vec(telling_byte(), 0..120),
    )
        .prop_map(|(kind, bytes)| ethernet(&[], kind, &bytes));
    let mut runner = runner(20);
    runner
        .run(&proptest::collection::vec(random, 500), |frames| {
            agree(&mut bench.borrow_mut(), &compiled, &frames)
        })
        .unwrap();
}

#[test]
fn the_destination_is_read_where_the_source_is() {
    let frame = frames::to_port(DENIED6.into(), DENIED.to_ipv6_mapped().into(), TCP, 80);
    let Parsed::Port(ip, MapProto::Tcp, 80) = parse(&frame[..]) else { panic!("{frame:02x?}") };
    assert_eq!(ip.source.address(), Address::V6(DENIED6.octets()));
    assert_eq!(ip.destination(&frame[..]), Some(Address::V4(DENIED.octets())));
    assert_eq!(Frame::bytes::<2>(&frame[..], 12), Some(&IPV6.to_be_bytes()));
}
