//! What the country database in use means for the rules about countries.

use std::collections::BTreeSet;

use super::{Severity, Texts, country};
use crate::{
    country::Database,
    model::{Action, Config, Country, Matcher, Policy, Rule},
};

/// A rule about a country, with its policy.
type CountryRule<'a> = (&'a Policy, &'a Rule, Option<Country>);

/// Compares the rules about countries with the database, and says what they cannot mean.
pub fn compare_countries(config: &Config, database: &Database, texts: &mut Texts) {
    let rules: Vec<CountryRule<'_>> = config
        .policies
        .iter()
        .flat_map(|policy| policy.rules().iter().map(move |rule| (policy, rule)))
        .flat_map(|(policy, rule)| {
            let countries: &[Option<Country>] = match &rule.matcher {
                Matcher::Country(country) => std::slice::from_ref(country),
                Matcher::CountryOutside(countries) => countries,
                _ => &[],
            };
            countries.iter().map(move |country| (policy, rule, *country))
        })
        .collect();
    let Some((_, first, _)) = rules.first() else { return };
    unknown_codes(&rules, database, texts);
    missing_family(&rules, database, texts);
    without_country(first, database, texts);
    registered_only(first, database, texts);
}

/// Warns of codes that the database does not use, each once.
fn unknown_codes(rules: &[CountryRule<'_>], database: &Database, texts: &mut Texts) {
    let known = database.map().countries();
    let mut said = BTreeSet::new();
    for (_, rule, country) in rules {
        let Some(country) = country.filter(|country| !known.contains(country) && said.insert(*country))
        else {
            continue;
        };
        let message = format!("the country database has no network of `{country}`: no address matches");
        texts.say(Severity::Warning, &rule.origin, "unknown-country", message).help =
            country::advice(country);
    }
}

/// Warns when the database knows one address family only.
fn missing_family(rules: &[CountryRule<'_>], database: &Database, texts: &mut Texts) {
    let (v4, v6) = (database.coverage().v4.networks, database.coverage().v6.networks);
    let (has, lacks) = match (v4, v6) {
        (_, 0) => (format!("{v4} IPv4 networks"), "IPv6"),
        (0, _) => (format!("{v6} IPv6 networks"), "IPv4"),
        _ => return,
    };
    // A list of those who may come leaves out all who have no country.
    let outside = |(_, rule, _): &&CountryRule<'_>| match &rule.matcher {
        Matcher::CountryOutside(countries) => !countries.contains(&None),
        _ => false,
    };
    if let Some((_, rule, _)) = rules.iter().find(outside) {
        let message = format!(
            "the country database has {has} and no {lacks} network: `{}` denies every {lacks} address",
            rule.text
        );
        texts.say(Severity::Warning, &rule.origin, "database-family", message).help(
            "use a database with networks of both families, or add `unknown`, which is every address without a country",
        );
        return;
    }
    let says = |rule: &Rule| matches!(rule.matcher, Matcher::Country(None) | Matcher::CountryOutside(_));
    let decides = |policy: &Policy| policy.rules().iter().any(says);
    // Where a policy says what holds for such addresses, there is no surprise.
    let Some((policy, rule, _)) = rules.iter().find(|(policy, ..)| !decides(policy)) else { return };
    let admits = |rule: &Rule| rule.action == Action::Allow && !matches!(rule.matcher, Matcher::Country(_));
    let shut = policy.default_allow().is_none()
        && policy.backends().is_empty()
        && !policy.rules().iter().any(admits);
    let shut = if shut { format!(", and `{}` denies all of them", policy.name()) } else { String::new() };
    let message = format!(
        "the country database has {has} and no {lacks} network: `{}` and the other country rules match no {lacks} \
         address{shut}",
        rule.text
    );
    texts.say(Severity::Warning, &rule.origin, "database-family", message).help(
        "use a database with networks of both families, or say what holds for addresses without a country: \
         `allow country unknown;` or `deny country unknown;`",
    );
}

/// Notes how many addresses have no country, as far as that can be said: most of IPv6 belongs to nobody.
fn without_country(rule: &Rule, database: &Database, texts: &mut Texts) {
    let (unknown, public) = database.map().public_v4_without_country();
    // An IPv4 family that is missing altogether has been warned of.
    if unknown == 0 || database.coverage().v4.networks == 0 {
        return;
    }
    let message = format!(
        "{} of the public IPv4 addresses have no country in the database: of the country rules only \
         `country unknown` matches them",
        percent(unknown, public)
    );
    texts.say(Severity::Note, &rule.origin, "database-share", message);
}

/// Notes networks of which the database only says where they are registered.
fn registered_only(rule: &Rule, database: &Database, texts: &mut Texts) {
    let coverage = database.coverage();
    let networks = [(coverage.v4.registered_only, "IPv4"), (coverage.v6.registered_only, "IPv6")];
    let networks = networks.into_iter().filter(|(count, _)| *count > 0);
    let networks: Vec<String> = networks.map(|(count, family)| format!("{count} {family}")).collect();
    if networks.is_empty() {
        return;
    }
    let message = format!(
        "of {} networks the database says only where they are registered (`registered_country`): nicgate takes that \
         for no country",
        networks.join(" and ")
    );
    texts.say(Severity::Note, &rule.origin, "database-registered", message);
}

/// A share of a whole, so that neither little looks like nothing nor almost all like all.
fn percent(part: u64, whole: u64) -> String {
    let share = part as f64 * 100.0 / whole as f64;
    if share < 0.1 {
        "less than 0.1 %".to_owned()
    } else if share > 99.9 && part < whole {
        "more than 99.9 %".to_owned()
    } else {
        format!("{share:.1} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_neither_nothing_nor_all_by_rounding() {
        assert_eq!(percent(1, 1_000_000), "less than 0.1 %");
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(999_999, 1_000_000), "more than 99.9 %");
        assert_eq!(percent(3, 3), "100.0 %");
    }
}
