//! The engine judges as the oracle does: same verdict, same step, same rule.

use filter_user::{
    judge::{self, Subject},
    model::{Country, Stage},
};
use kit::{
    oracle::{self, Config, CountryTable, Judgement, Request, Verdict},
    random,
};
use proptest::{collection::vec, prelude::*};

fn judged(decision: judge::Decision) -> Judgement {
    let verdict = match decision.verdict {
        judge::Verdict::Allow => Verdict::Allow,
        judge::Verdict::Deny => Verdict::Deny,
        judge::Verdict::Ask => Verdict::Ask,
    };
    let stage = match decision.stage {
        Stage::Ban => "ban",
        Stage::Drop => "drop",
        Stage::Page => "page",
        Stage::Password => "password",
        Stage::Token => "token",
        Stage::Ip => "ip",
        Stage::Country => "country",
        Stage::Ua => "ua",
        Stage::Backend => "backend",
        Stage::Default => "default",
    };
    Judgement { verdict, stage, rule: decision.rule.map(|rule| rule.0 as usize) }
}

fn answers() -> impl Strategy<Value = Vec<(oracle::Answer, judge::Answer)>> {
    use judge::Answer as P;
    use oracle::Answer as O;
    vec(
        prop_oneof![1 => Just((O::Allow, P::Allow)), 1 => Just((O::Ban, P::Ban)), 3 => Just((O::Down, P::Down))],
        3,
    )
}

/// A policy alone in a configuration, and the requests to try it with.
fn alone(policy: oracle::Policy) -> Config {
    Config {
        policies: vec![policy],
        streams: Vec::new(),
        services: Vec::new(),
        never_drop: Vec::new(),
        shadow: false,
        countries: CountryTable::default(),
    }
}

fn case() -> impl Strategy<Value = (Config, u64, Vec<Request>, Vec<Option<String>>)> {
    random::policy("one".to_owned()).prop_map(alone).prop_flat_map(|config| {
        let requests = vec(random::request(random::edges(&config)), 40);
        let countries = vec(prop::option::weighted(0.7, "US|RU|GB|DE"), 40);
        (Just(config), any::<u64>(), requests, countries)
    })
}

proptest! {
    #![proptest_config(random::cases(2000))]

    #[test]
    fn judge_equals_the_oracle((config, style, requests, countries) in case()) {
        let loaded = random::load(&config, style);
        for (request, country) in requests.iter().zip(&countries) {
            let page = request.page.as_ref().map(|host| format!("https://{host}/watch?v=1"));
            let seen = judged(loaded.policies[0].judge(&Subject {
                address: request.address,
                country: country.as_deref().and_then(Country::new),
                token: request.token.as_deref(),
                ua: request.ua.as_deref(),
                page: page.as_deref(),
                query: None,
            }));
            let expected = oracle::judge(&config.policies[0], request, country.as_deref());
            prop_assert_eq!(seen, expected, "{:?} from {:?}", request, country);
        }
    }

    #[test]
    fn conclude_equals_the_oracle(policy in random::policy("one".to_owned()), style: u64, answers in answers()) {
        let config = alone(policy);
        let loaded = random::load(&config, style);
        let answers = &answers[..config.policies[0].backends.len()];
        let (theirs, ours): (Vec<_>, Vec<_>) = answers.iter().copied().unzip();
        prop_assert_eq!(judged(loaded.policies[0].conclude(&ours)), oracle::conclude(&config.policies[0], &theirs));
    }
}
