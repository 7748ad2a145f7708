//! `explain` and the program in the kernel agree on 100,000 random (policy, address, port) triples.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use filter_user::{
    explain::{KernelVerdict, Query, Target, explain},
    judge::Verdict,
    kernel::Unattached,
    model::{Config, Engine, Proto},
};
use kit::{
    frames::{SCTP, TCP, UDP, to_port},
    random::{Triple, random_triples},
    rights,
};

/// Each thread has a program, and configurations, of its own: most of the time goes into waiting until the
/// kernel has let go of the last table.
const THREADS: u64 = 4;
const TRIPLES: usize = 25_000;

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe);

#[test]
fn explain_says_what_the_kernel_does_with_lpm() {
    explain_says_what_the_kernel_does(Engine::Lpm);
}

#[test]
fn explain_says_what_the_kernel_does_with_flat() {
    explain_says_what_the_kernel_does(Engine::Flat);
}

fn explain_says_what_the_kernel_does(engine: Engine) {
    rights::need_root();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|seed| scope.spawn(move || compare(engine, 100 + seed))).collect();
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

fn compare(engine: Engine, seed: u64) {
    let mut bench = Unattached::new(engine).unwrap();
    let mut last: Option<Arc<Config>> = None;
    let (mut triples, mut dropped, mut v6, mut configs, mut proxies) = (0, 0, 0, 0, 0);
    let mut protocols = [0; 3];
    for Triple { config, compiled, countries, address, service, .. } in random_triples(usize::MAX, seed) {
        let service = &config.services[service];
        let key = service.key;
        // A port that no policy can judge is in no triple.
        let Some(policy) = service.policies.get(triples % service.policies.len().max(1)) else { continue };
        let policy = &**config.policy(*policy).name();
        if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &config)) {
            bench.publish(&compiled).unwrap();
            configs += 1;
        }
        let query = Query {
            target: Target::Policy(policy),
            address,
            via: None,
            token: None,
            ua: None,
            page: None,
            password: None,
            backends: None,
            bans: None,
            now: filter_user::bans::Boottime { nanoseconds: 0 },
        };
        let explained = explain(&config, &*countries, &compiled, &query).unwrap();
        let (protocol, number) = match key.proto {
            Proto::Tcp => (TCP, 0),
            Proto::Udp => (UDP, 1),
            Proto::Sctp => (SCTP, 2),
        };
        let host = if address.is_ipv4() { IpAddr::from(HOST) } else { HOST6.into() };
        let ran = bench.run(&to_port(address, host, protocol, key.port), 1).unwrap();
        let kernel = explained.kernel[&key.to_string()];
        assert_eq!(
            ran.dropped,
            kernel == KernelVerdict::Drop,
            "{address} to {key} by {policy}: {explained:#?}"
        );
        if ran.dropped {
            assert_eq!(explained.verdict, Verdict::Deny, "{address} to {key} by {policy}");
        }
        let proxy = service.proxy(address).is_some();
        assert_eq!(explained.kernel_proxies.contains_key(&key.to_string()), proxy, "{address} to {key}");
        assert!(!(proxy && ran.dropped), "a trusted proxy is dropped: {address} to {key}");
        proxies += usize::from(proxy);
        triples += 1;
        dropped += usize::from(ran.dropped);
        v6 += usize::from(address.is_ipv6());
        protocols[number] += 1;
        last = Some(config.clone());
        if triples == TRIPLES {
            break;
        }
    }
    // The triples are worth their name.
    assert!(dropped > TRIPLES / 20 && dropped < TRIPLES * 19 / 20, "{dropped} dropped");
    assert!(v6 > TRIPLES / 10 && v6 < TRIPLES * 9 / 10, "{v6} of IPv6");
    assert!(protocols[..2].iter().all(|count| *count > TRIPLES / 20), "{protocols:?}");
    assert!(configs > TRIPLES / 500, "{configs} configurations");
    assert!(proxies > TRIPLES / 200, "{proxies} from trusted proxies");
}
