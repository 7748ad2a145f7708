//! What `check` says of a rule is true: where it runs, and that there is a reason when it is not the NIC.

use std::net::IpAddr;

use filter_user::offload::{Decisions, Runs, compile, report};
use kit::{
    oracle::{self, Config, Policy, Request, Verdict, every_request_is_denied},
    random,
};
use proptest::prelude::*;

/// The edges whose every request a policy denies, each with the rule that does (`None` is the default).
///
/// Whatever is decided or dropped is bounded by edges, so that what holds for them holds everywhere.
fn decided(meaning: &Config, policy: &Policy) -> Vec<(IpAddr, Option<usize>)> {
    let denied = |address: &IpAddr| {
        let country = meaning.countries.country(*address);
        let plainest = Request { address: *address, token: None, ua: None, page: policy.page() };
        every_request_is_denied(policy, *address, country).then(|| {
            let judgement = oracle::judge(policy, &plainest, country);
            assert_eq!(judgement.verdict, Verdict::Deny);
            (*address, judgement.rule)
        })
    };
    random::edges(meaning).iter().filter_map(denied).collect()
}

proptest! {
    #![proptest_config(random::cases(1000))]

    #[test]
    fn rules_run_where_the_report_says(meaning in random::config(), style: u64) {
        let config = random::load(&meaning, style);
        let countries = random::country_map(&meaning.countries);
        let decisions = Decisions::new(&config, &countries);
        let compiled = compile(&config, &decisions);
        let mut reports = report(&config, &countries, &decisions, &compiled).into_iter();
        for policy in &meaning.policies {
            let decided = decided(&meaning, policy);
            let behind: Vec<&oracle::Service> =
                meaning.services.iter().filter(|s| meaning.behind(s).0.contains(&policy)).collect();
            // One for each rule, and one for the default.
            for rule in (0..policy.rules.len()).map(Some).chain([None]) {
                let report = reports.next().expect("a report for every rule");
                prop_assert_eq!(&*report.policy, &policy.name);
                let own: Vec<IpAddr> = decided.iter().filter(|(_, by)| *by == rule).map(|(x, _)| *x).collect();
                prop_assert_eq!(report.decides.is_empty(), own.is_empty() || behind.is_empty(), "{:?}", report);
                prop_assert_eq!(report.services.len(), behind.len());

                let mut anywhere = false;
                let mut everywhere = true;
                for (place, service) in report.services.iter().zip(&behind) {
                    let dropped = own.iter().filter(|x| meaning.drops(service, **x)).count();
                    prop_assert_eq!(place.dropped.is_empty(), dropped == 0, "{:?}", place);
                    prop_assert_eq!(place.reason.is_some(), dropped < own.len(), "{:?}", place);
                    prop_assert!(place.reason.as_ref().is_none_or(|reason| !reason.is_empty()));
                    prop_assert!(place.dropped.v4 <= report.decides.v4);
                    prop_assert!(place.dropped.v6_64s <= report.decides.v6_64s);
                    anywhere |= dropped > 0;
                    everywhere &= dropped == own.len();
                }
                let expected = match (anywhere, everywhere) {
                    (true, true) => Runs::Nic,
                    (true, false) => Runs::Both,
                    (false, _) => Runs::Userspace,
                };
                prop_assert_eq!(report.runs, expected, "{:?}", report);
                prop_assert_eq!(report.reason.is_none(), expected == Runs::Nic, "{:?}", report);
                prop_assert!(report.reason.is_none_or(|reason| !reason.is_empty()));
            }
        }
        prop_assert!(reports.next().is_none());
    }
}

/// IPv6 is counted in /64 networks; one address that is kept in must show all the same.
#[test]
fn a_single_address_kept_in_is_not_lost_in_rounding() {
    for (rule, kept) in [("2001:db8::/64", "2001:db8::"), ("::/0", "2001:db8::1"), ("0/0", "0.0.0.0")] {
        let text = format!(
            "auth_backend one {{ deny ip {rule}; allow default; }}\n\
             guard tcp 80 auth://one;\nnever_drop 203.0.113.0/24 {kept};\n"
        );
        let files = random::MemoryFiles(std::collections::HashMap::from([(random::MAIN.into(), text)]));
        let config = random::load_files(&files);
        let countries = filter_user::country::CountryMap::empty();
        let decisions = Decisions::new(&config, &countries);
        let reports = report(&config, &countries, &decisions, &compile(&config, &decisions));
        assert_eq!(reports[0].runs, Runs::Both, "{rule}");
        let reason = reports[0].reason.as_deref().expect("a reason");
        assert!(reason.contains("`never_drop "), "{reason}");
        assert!(rule == "0/0" || reason.contains(kept), "the `never_drop` that matters is named: {reason}");
    }
}
