//! A configuration that was written loads as what was meant.

use filter_user::model::{Config, ServiceKind, Trust};
use kit::random;
use proptest::prelude::*;

/// What a configuration means, without its places, wording and reasons.
fn meaning(config: &Config) -> impl PartialEq + std::fmt::Debug + use<> {
    let policies: Vec<_> = config
        .policies
        .iter()
        .map(|policy| {
            // The lines of a list file depend on where its comments are.
            let rules: Vec<_> = policy.rules().iter().map(|rule| (rule.action, values(rule))).collect();
            let backends: Vec<_> =
                policy.backends().iter().map(|backend| backend.authority.clone()).collect();
            (policy.name().clone(), rules, backends, policy.default_allow().is_some())
        })
        .collect();
    let services: Vec<_> = config
        .services
        .iter()
        .map(|s| {
            let mut proxies: Vec<_> =
                s.trust().into_iter().flat_map(Trust::prefixes).map(|(net, _)| *net).collect();
            proxies.sort();
            let gate = matches!(s.kind, ServiceKind::Gate(_));
            (s.key, s.policies.clone(), s.open.is_some(), gate, proxies)
        })
        .collect();
    let mut streams: Vec<_> = config
        .streams
        .values()
        .map(|s| (s.name.clone(), format!("{:?} {:?}", s.on_play, s.on_publish)))
        .collect();
    streams.sort();
    let mut never_drop: Vec<_> = config.never_drop.iter().map(|(net, _)| *net).collect();
    never_drop.sort();
    (
        policies,
        services,
        streams,
        never_drop,
        config.shadow,
        config.geoip.as_ref().map(|(path, _)| path.clone()),
    )
}

fn values(rule: &filter_user::model::Rule) -> String {
    use filter_user::model::Matcher;
    match &rule.matcher {
        Matcher::TokenFile(list) => {
            format!("{:?} {:?}", list.path, list.entries.iter().map(|(token, _)| token).collect::<Vec<_>>())
        }
        Matcher::IpFile(list) => {
            format!("{:?} {:?}", list.path, list.entries.iter().map(|(net, _)| net).collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(random::cases(1000))]

    #[test]
    fn what_is_written_is_what_is_loaded(config in random::config(), style: u64) {
        let files = random::write(&config, style);
        let loaded = random::load_files(&files);
        prop_assert_eq!(meaning(&loaded), meaning(&random::build(&config)), "{:#?}", files);
    }

    /// Each rule names the place where its value stands, in the words that stand there.
    #[test]
    fn rules_know_their_lines(config in random::config(), style: u64) {
        let files = random::write(&config, style);
        for rule in random::load_files(&files).policies.iter().flat_map(|policy| policy.rules()) {
            let text = &files.0[std::path::Path::new(&*rule.origin.file)];
            let line = text.lines().nth(rule.origin.line as usize - 1).expect("the line exists");
            let rest: String = line.chars().skip(rule.origin.column as usize - 1).collect();
            // A restriction is one rule of all its values, without a word for what they are.
            let mut words = rule.text.split(' ');
            let value = match words.next() {
                Some("allowed_countries" | "domain" | "domains") => words.next().expect("a value"),
                _ => rule.text.splitn(3, ' ').last().expect("three words"),
            };
            let value = value.strip_prefix("file ").unwrap_or(value);
            // Quotes that are not needed are not shown again.
            let (rest, value) = (rest.trim_start_matches('"'), value.trim_start_matches('"'));
            prop_assert!(rest.starts_with(value.trim_end_matches('"')), "{:?} in {:?}", rule.text, line);
        }
    }
}
