//! What the compiler lets the NIC drop is exactly what the oracle says that it may.

use std::net::IpAddr;

use filter_user::offload::{Cell, ClassId, Compiled, Decisions, compile};
use ipnet::IpNet;
use kit::{
    oracle::{self, Action, Config, Policy, Request, Rule, Value, Verdict, mapped_to_v4},
    random::{self, Pick},
};
use proptest::prelude::*;

fn compiled(meaning: &Config, config: &filter_user::model::Config) -> Compiled {
    compile(config, &Decisions::new(config, &random::country_map(&meaning.countries)))
}

/// The rule that a cell names must deny the plainest request: no token, no User-Agent, backends down.
fn names_the_deciding_rule(
    meaning: &Config,
    compiled: &Compiled,
    service: usize,
    address: IpAddr,
    cell: Cell,
) -> Result<(), TestCaseError> {
    let Some(id) = cell else { return Ok(()) };
    let rule = compiled.rule(id);
    let (policies, _) = meaning.behind(&meaning.services[service]);
    let first = meaning.policies.iter().find(|policy| policies.contains(policy)).expect("a policy drops");
    prop_assert_eq!(&first.name, &*rule.policy_name);
    prop_assert_eq!(&meaning.policies[rule.policy.0 as usize], first);
    let plainest = Request { address, token: None, ua: None, page: first.page() };
    let country = meaning.countries.country(address);
    let mut judgement = oracle::judge(first, &plainest, country);
    if judgement.verdict == Verdict::Ask {
        judgement = oracle::conclude(first, &[]);
    }
    prop_assert_eq!(judgement.verdict, Verdict::Deny);
    prop_assert_eq!(judgement.rule, rule.rule.map(|rule| rule.0 as usize));
    Ok(())
}

proptest! {
    #![proptest_config(random::cases(2000))]

    /// Sound: nothing that could be admitted is dropped. Complete: all else is.
    #[test]
    fn drops_exactly_what_every_request_is_denied_to(
        meaning in random::config(),
        style: u64,
        picks in random::picks(24),
    ) {
        let config = random::load(&meaning, style);
        let compiled = compiled(&meaning, &config);
        prop_assert_eq!(compiled.services.len(), meaning.services.len());
        let edges = random::edges(&meaning);
        for address in picks.iter().map(|pick| pick.of(&edges)) {
            for (i, service) in meaning.services.iter().enumerate() {
                let cell = compiled.verdict(address, i);
                prop_assert_eq!(
                    cell.is_some(),
                    meaning.drops(service, address),
                    "{} on {:?}, named {:?}",
                    address,
                    service,
                    cell.map(|id| &compiled.rule(id).text)
                );
                names_the_deciding_rule(&meaning, &compiled, i, address, cell)?;
            }
            let hidden = compiled.cell(compiled.class(address), compiled.hidden_column());
            prop_assert_eq!(hidden.is_some(), meaning.drops_hidden(address), "{} on a hidden port", address);
            if !meaning.services.is_empty() {
                prop_assert!(hidden.is_none() || hidden == compiled.verdict(address, 0));
            }
        }
    }

    /// A stream's own restriction is that of its policy, for this stream alone.
    #[test]
    fn what_a_stream_restricts_is_dropped_where_every_stream_does(
        meaning in random::config(),
        style: u64,
        restricted in proptest::collection::vec(proptest::option::of(random::pool::country()), 4),
        picks in random::picks(24),
    ) {
        let mut files = random::write(&meaning, style);
        let mut expected = meaning.clone();
        for (stream, country) in expected.streams.iter_mut().zip(restricted) {
            let Some(country) = country else { continue };
            let begins = format!("stream {} {{ ", stream.name);
            for text in files.0.values_mut() {
                *text = text.replace(&begins, &format!("{begins}allowed_countries {country}; "));
            }
            let open = Policy { name: String::new(), rules: Vec::new(), backends: Vec::new(), default_allow: true };
            let mut policy = stream.on_play.map_or(open, |judge| meaning.policies[judge].clone());
            let value = Value::CountryOutside(vec![country]);
            policy.rules.push(Rule { action: Action::Drop, value });
            stream.on_play = Some(expected.policies.len());
            expected.policies.push(policy);
        }
        let compiled = compiled(&meaning, &random::load_files(&files));
        let edges = random::edges(&meaning);
        for address in picks.iter().map(|pick| pick.of(&edges)) {
            for (i, service) in expected.services.iter().enumerate() {
                let dropped = compiled.verdict(address, i).is_some();
                prop_assert_eq!(dropped, expected.drops(service, address), "{} on {:?}", address, service);
            }
        }
    }

    /// The prefixes are the dropped set, and no fewer would do.
    #[test]
    fn prefixes_are_minimal_sorted_and_exact(
        meaning in random::config(),
        style: u64,
        extra in proptest::collection::vec(any::<IpAddr>(), 8),
    ) {
        let compiled = compiled(&meaning, &random::load(&meaning, style));
        let addresses: Vec<IpAddr> =
            random::edges(&meaning).into_iter().chain(extra.into_iter().map(mapped_to_v4)).collect();
        for service in 0..meaning.services.len() {
            let drop = compiled.drop_prefixes(service);
            let (v4, v6): (Vec<IpNet>, Vec<IpNet>) = (drop.v4().collect(), drop.v6().collect());
            prop_assert!(v4.iter().all(|net| net.addr().is_ipv4()) && v6.iter().all(|net| net.addr().is_ipv6()));
            for nets in [&v4, &v6] {
                prop_assert!(nets.is_sorted());
                prop_assert!(nets.iter().all(|net| *net == net.trunc()));
                prop_assert_eq!(&IpNet::aggregate(nets), nets);
            }
            for address in &addresses {
                let listed = v4.iter().chain(&v6).any(|net| net.contains(address));
                prop_assert_eq!(listed, compiled.verdict(*address, service).is_some(), "{}", address);
            }
        }
    }

    /// Every class is used, every rule drops somewhere, and no two rules or rows are one.
    #[test]
    fn the_table_holds_nothing_superfluous(meaning in random::config(), style: u64) {
        let compiled = compiled(&meaning, &random::load(&meaning, style));
        let rows: Vec<&[Cell]> = compiled.cells.chunks(compiled.row()).collect();
        prop_assert_eq!(rows.len(), compiled.classes());
        let used: std::collections::HashSet<ClassId> =
            compiled.v4.iter().map(|piece| piece.label).chain(compiled.v6.iter().map(|piece| piece.label)).collect();
        prop_assert_eq!(used.len(), rows.len());
        for (i, row) in rows.iter().enumerate() {
            prop_assert!(!rows[..i].contains(row), "two classes are treated alike");
        }
        for id in 0..compiled.rules.len() {
            let named = compiled.cells.iter().flatten().any(|cell| cell.0 as usize == id);
            prop_assert!(named, "{:?} drops nothing", compiled.rules[id]);
        }
    }

    #[test]
    fn any_packet_to_a_shared_port_needs_every_policy(meaning in random::config(), style: u64, pick in random::picks(4)) {
        // The same policies in another order of services give the same verdicts.
        let mut turned = meaning.clone();
        turned.services.reverse();
        let one = compiled(&meaning, &random::load(&meaning, style));
        let other = compiled(&turned, &random::load(&turned, style.wrapping_add(1)));
        let edges = random::edges(&meaning);
        for address in pick.iter().map(|pick: &Pick| pick.of(&edges)) {
            for service in 0..meaning.services.len() {
                let rule = |compiled: &Compiled, service| {
                    compiled.verdict(address, service).map(|id| compiled.rule(id).clone().rule)
                };
                prop_assert_eq!(rule(&one, service), rule(&other, meaning.services.len() - 1 - service));
            }
        }
    }
}
