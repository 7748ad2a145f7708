//! Judgement, the compiled table and the oracle agree on 100,000 random (policy, address, port) triples.

use std::sync::Arc;

use filter_user::{
    judge::{Subject, Verdict},
    model::{Config, Countries as _},
};
use kit::random::{Triple, random_triples};

const TRIPLES: usize = 100_000;

#[test]
fn the_table_drops_what_the_oracle_says() {
    let mut dropped = 0;
    let mut mapped = 0;
    let mut configs = 0;
    let mut last: Option<Arc<Config>> = None;
    for Triple { config, compiled, countries, address, service, drop } in random_triples(TRIPLES, 1) {
        if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &config)) {
            configs += 1;
        }
        let cell = compiled.verdict(address, service);
        assert_eq!(cell.is_some(), drop, "{address} on {}", config.services[service].key);
        if drop {
            // Whatever is dropped is denied in userspace too, even where nothing is shown to the lists.
            let country = countries.country(address);
            for policy in &config.services[service].policies {
                let policy = config.policy(*policy);
                let subject = Subject { address, country, token: None, ua: None, page: None, query: None };
                let verdict = policy.judge(&subject).verdict;
                assert_eq!(verdict, Verdict::Deny, "{address} by {}", policy.name());
            }
            dropped += 1;
        }
        mapped += usize::from(address.to_canonical() != address);
        last = Some(config);
    }
    // The triples are worth their name: many drop, many pass, of many configurations.
    assert!(dropped > TRIPLES / 10 && dropped < TRIPLES * 9 / 10, "{dropped} dropped");
    assert!(configs > TRIPLES / 200, "{configs} configurations");
    assert!(mapped > TRIPLES / 100, "{mapped} IPv4-mapped");
}

#[test]
fn the_same_seed_gives_the_same_triples() {
    let key = |triple: &Triple| {
        (triple.address, triple.service, triple.drop, format!("{:?}", triple.config.services))
    };
    let one: Vec<_> = random_triples(500, 7).map(|triple| key(&triple)).collect();
    let again: Vec<_> = random_triples(500, 7).map(|triple| key(&triple)).collect();
    let other: Vec<_> = random_triples(500, 8).map(|triple| key(&triple)).collect();
    assert_eq!(one, again);
    assert_ne!(one, other);
}
