//! What a packet costs: printed, because a figure from a busy machine proves nothing.

use std::net::IpAddr;

use filter_user::{
    kernel::Unattached,
    model::{Engine, Proto},
};
use kit::{
    frames::{self, IPV4, TCP, UDP, VLAN, ethernet, ipv4, ports},
    rights,
    tables::Table,
};

#[test]
fn what_a_packet_costs() {
    rights::need_root();
    let repeat = 1_000_000;
    let v4 = |source: &str, host: &str, proto, port| {
        let [source, host]: [IpAddr; 2] = [source.parse().unwrap(), host.parse().unwrap()];
        frames::to_port(source, host, proto, port)
    };
    let frames = [
        ("not IP (ARP)", false, ethernet(&[], 0x0806, &[0; 46])),
        ("IPv4, unprotected port", false, v4("198.51.100.7", "192.0.2.1", UDP, 53)),
        ("IPv6, unprotected port", false, v4("2001:db8:bad::7", "2001:db8::1", UDP, 53)),
        ("IPv4, protected, passed", false, v4("203.0.113.7", "192.0.2.1", TCP, 80)),
        ("IPv4, dropped", true, v4("198.51.100.7", "192.0.2.1", TCP, 80)),
        ("IPv4 in a VLAN, dropped", true, {
            let source = "198.51.100.7".parse().unwrap();
            ethernet(&[(VLAN, 5)], IPV4, &ipv4(source, source, TCP, 0, 0, &ports(80)))
        }),
        ("IPv6, dropped", true, v4("2001:db8:bad::7", "2001:db8::1", TCP, 80)),
    ];
    for (engine, prefixes) in
        [Engine::Flat, Engine::Lpm].into_iter().flat_map(|e| [(e, 1u32), (e, 1_000), (e, 100_000)])
    {
        let mut bench = Unattached::new(engine).unwrap();
        // Every second address of a block far away, and the two networks that the frames come from.
        let mut table = Table::new(1).service(Proto::Tcp, 80, None, 0);
        let rule = table.rule("deny ip", 1);
        let class = table.class(vec![Some(rule)]);
        let far = (0..prefixes).map(|i| {
            let net = ipnet::Ipv4Net::new((0x0a00_0000 + 2 * i).into(), 32).unwrap();
            (net.into(), class)
        });
        let table = table.nets(far).net("198.51.100.0/24", class).net("2001:db8:bad::/48", class);
        let report = bench.publish(&table.compiled()).unwrap();
        println!("{engine}: {prefixes} prefixes, published in {:?}", report.took);
        for (name, dropped, frame) in &frames {
            let ran = bench.run(frame, repeat).unwrap();
            assert_eq!(ran.dropped, *dropped, "{name}");
            println!("  {:>4} ns  {name}", ran.duration.as_nanos());
        }
    }
}
