//! The order of the rules, step by step and pair by pair, from the text of a configuration to the verdict.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::HashMap, net::IpAddr, path::Path};

use filter_user::{
    config::load,
    judge::{Answer, Decision, Subject, Verdict},
    model::{Config, Country, Policy, Stage},
};
use kit::random::{MAIN, MemoryFiles};

/// The configuration with this one policy.
fn config(lines: &str) -> Config {
    let text = format!("geoip /country.mmdb;\nauth_backend one {{\n{lines}\n}}\n");
    let (config, report) = load(Path::new(MAIN), &MemoryFiles(HashMap::from([(MAIN.into(), text)])));
    config.unwrap_or_else(|| panic!("{}", report.render(false)))
}

/// A request that every rule in [`STEPS`] matches.
const EVERY_RULE_MATCHES: Seen =
    Seen { address: "192.0.2.7", country: Some("US"), token: Some("secret"), ua: Some("a MAG box") };

#[derive(Clone, Copy)]
struct Seen {
    address: &'static str,
    country: Option<&'static str>,
    token: Option<&'static str>,
    ua: Option<&'static str>,
}

/// Judges, and has the one backend answer.
fn decide(policy: &Policy, seen: Seen, answer: Answer) -> Decision {
    let address: IpAddr = seen.address.parse().unwrap();
    let country = seen.country.map(|code| Country::new(code).unwrap());
    let judged = policy.judge(&Subject {
        address,
        country,
        token: seen.token,
        ua: seen.ua,
        page: Some("https://shown.example/"),
        query: None,
    });
    if judged.verdict == Verdict::Ask {
        assert_eq!((judged.stage, judged.rule), (Stage::Backend, None));
        return policy.conclude(&[answer]);
    }
    judged
}

fn verdict(lines: &str, seen: Seen) -> Verdict {
    decide(&config(lines).policies[0], seen, Answer::Down).verdict
}

/// A line, what it decides about the request above, at which stage, and what the backend answers if it is
/// a backend.
struct Step {
    line: &'static str,
    verdict: Verdict,
    stage: Stage,
    answer: Answer,
}

const fn step(line: &'static str, verdict: Verdict, stage: Stage) -> Step {
    Step { line, verdict, stage, answer: Answer::Down }
}

/// What matches the request, in the order of the judgement; two lines on one step are in one row.
const STEPS: [&[Step]; 12] = [
    &[
        step("drop ip 192.0.2.0/24;", Verdict::Deny, Stage::Drop),
        step("drop country us;", Verdict::Deny, Stage::Drop),
        step("allowed_countries RU;", Verdict::Deny, Stage::Drop),
        step("disallowed_countries US;", Verdict::Deny, Stage::Drop),
    ],
    &[step("domains other.example;", Verdict::Deny, Stage::Page)],
    &[step("allow token secret;", Verdict::Allow, Stage::Token)],
    &[step("deny token secret;", Verdict::Deny, Stage::Token)],
    &[step("allow ip 192.0.2/25;", Verdict::Allow, Stage::Ip)],
    &[step("deny ip 192.0.2.7;", Verdict::Deny, Stage::Ip)],
    &[step("allow country US;", Verdict::Allow, Stage::Country)],
    &[step("deny country Us;", Verdict::Deny, Stage::Country)],
    &[
        step("allow ua MAG;", Verdict::Allow, Stage::Ua),
        step("allow useragent \"MAG b\";", Verdict::Allow, Stage::Ua),
    ],
    &[step("deny ua AG;", Verdict::Deny, Stage::Ua)],
    &[
        Step {
            line: "backend http://127.0.0.1/a;",
            verdict: Verdict::Allow,
            stage: Stage::Backend,
            answer: Answer::Allow,
        },
        Step {
            line: "backend http://127.0.0.1/b;",
            verdict: Verdict::Deny,
            stage: Stage::Backend,
            answer: Answer::Ban,
        },
    ],
    &[step("allow default;", Verdict::Allow, Stage::Default)],
];

#[test]
fn each_step_alone_decides() {
    for step in STEPS.into_iter().flatten() {
        let config = config(step.line);
        let decision = decide(&config.policies[0], EVERY_RULE_MATCHES, step.answer);
        assert_eq!((decision.verdict, decision.stage), (step.verdict, step.stage), "{}", step.line);
    }
}

#[test]
fn of_two_steps_the_earlier_decides_whichever_line_is_first() {
    let mut pairs = 0;
    for (i, earlier) in STEPS.iter().enumerate() {
        for later in &STEPS[i + 1..] {
            for (first, second) in earlier.iter().flat_map(|e| later.iter().map(move |l| (e, l))) {
                for lines in [[first.line, second.line], [second.line, first.line]] {
                    let text = lines.join("\n");
                    let config = config(&text);
                    let policy = &config.policies[0];
                    // If there is a backend, then the later step may be it.
                    let answer = if first.stage == Stage::Backend { first.answer } else { second.answer };
                    let decision = decide(policy, EVERY_RULE_MATCHES, answer);
                    assert_eq!((decision.verdict, decision.stage), (first.verdict, first.stage), "{text}");
                    let place = lines.iter().position(|line| *line == first.line).unwrap() as u32;
                    let line = decision.rule.map(|rule| policy.rule(rule).origin.line);
                    let by_rule = !matches!(first.stage, Stage::Backend | Stage::Default);
                    assert_eq!(line, by_rule.then_some(place + 3), "{text}");
                    pairs += 1;
                }
            }
        }
    }
    // 66 pairs of steps, each in both orders; some steps have several lines.
    assert!(pairs >= 2 * 66, "{pairs}");
}

#[test]
fn all_steps_together_in_any_order_decide_by_the_first_that_matches() {
    let rows: Vec<&str> = STEPS.iter().map(|row| row[0].line).collect();
    for turn in 0..rows.len() {
        let mut lines = rows.clone();
        lines.rotate_left(turn);
        for skipped in 0..STEPS.len() {
            // Without the first steps, the next one decides.
            let left: Vec<&str> =
                lines.iter().copied().filter(|line| !rows[..skipped].contains(line)).collect();
            let config = config(&left.join("\n"));
            let expected = &STEPS[skipped][0];
            let decision = decide(&config.policies[0], EVERY_RULE_MATCHES, Answer::Allow);
            assert_eq!((decision.verdict, decision.stage), (expected.verdict, expected.stage), "{left:?}");
        }
    }
}

#[test]
fn nothing_matching_is_denied_by_default() {
    let config = config("allow token other;");
    let decision = decide(&config.policies[0], EVERY_RULE_MATCHES, Answer::Down);
    assert_eq!((decision.verdict, decision.stage, decision.rule), (Verdict::Deny, Stage::Default, None));
}

#[test]
fn the_longer_prefix_does_not_win() {
    let seen = Seen { address: "10.10.10.10", ..EVERY_RULE_MATCHES };
    assert_eq!(verdict("allow ip 10/8; deny ip 10.10.10.10;", seen), Verdict::Allow);
    assert_eq!(verdict("deny ip 10.10.10.10; allow ip 0/0;", seen), Verdict::Allow);
    assert_eq!(verdict("deny ip 10/8; allow ip 10.10.10.10;", seen), Verdict::Allow);
    let v6 = Seen { address: "2001:db8::1", ..EVERY_RULE_MATCHES };
    assert_eq!(verdict("allow ip ::/0; deny ip 2001:db8::1;", v6), Verdict::Allow);
}

#[test]
fn an_address_on_both_lists_is_allowed() {
    assert_eq!(verdict("allow ip 192.0.2.7; deny ip 192.0.2.7;", EVERY_RULE_MATCHES), Verdict::Allow);
    assert_eq!(verdict("deny ip 192.0.2.7; allow ip 192.0.2.7;", EVERY_RULE_MATCHES), Verdict::Allow);
}

#[test]
fn an_allow_list_that_does_not_match_denies_nothing_by_itself() {
    for list in ["allow token other;", "allow ip 10/8;", "allow country RU;", "allow ua TVIP;"] {
        assert_eq!(verdict(&format!("{list} allow default;"), EVERY_RULE_MATCHES), Verdict::Allow, "{list}");
        let later = format!("{list} allow ua MAG;");
        assert_eq!(verdict(&later, EVERY_RULE_MATCHES), Verdict::Allow, "{list}");
    }
}

#[test]
fn a_deny_list_that_does_not_match_allows_nothing_by_itself() {
    for list in ["deny token other;", "deny ip 10/8;", "deny country RU;", "deny ua TVIP;", "drop ip 10/8;"] {
        assert_eq!(verdict(list, EVERY_RULE_MATCHES), Verdict::Deny, "{list}");
    }
}

#[test]
fn prefixes_hold_their_first_and_last_address_and_no_other() {
    for (rule, inside, outside) in [
        ("10.10/16", &["10.10.0.0", "10.10.255.255"][..], &["10.9.255.255", "10.11.0.0", "::10.10.0.0"][..]),
        ("172.16/24", &["172.16.0.0", "172.16.0.255"], &["172.16.1.0", "172.15.255.255"]),
        ("0/0", &["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], &["::", "2001:db8::1"]),
        ("::/0", &["::", "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], &["1.2.3.4", "::ffff:1.2.3.4"]),
        ("255.255.255.255", &["255.255.255.255"], &["255.255.255.254", "0.0.0.0"]),
        ("2001:db8::/33", &["2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"], &["2001:db8:8000::"]),
        ("2001:db8::1", &["2001:db8::1"], &["2001:db8::", "2001:db8::2"]),
    ] {
        let lines = format!("deny ip {rule}; allow default;");
        for (addresses, expected) in [(inside, Verdict::Deny), (outside, Verdict::Allow)] {
            for address in addresses {
                assert_eq!(
                    verdict(&lines, Seen { address, ..EVERY_RULE_MATCHES }),
                    expected,
                    "{rule} {address}"
                );
            }
        }
    }
}

#[test]
fn an_ipv4_mapped_address_is_the_ipv4_address() {
    for (rule, address) in [
        ("10/8", "::ffff:10.1.2.3"),
        ("::ffff:10.0.0.0/104", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3"),
        ("::ffff:0:0/96", "10.1.2.3"),
    ] {
        let lines = format!("deny ip {rule}; allow default;");
        assert_eq!(
            verdict(&lines, Seen { address, ..EVERY_RULE_MATCHES }),
            Verdict::Deny,
            "{rule} {address}"
        );
    }
    // The deprecated IPv4-compatible form is an IPv6 address like any other.
    let compatible = Seen { address: "::10.1.2.3", ..EVERY_RULE_MATCHES };
    assert_eq!(verdict("deny ip 10/8; allow default;", compatible), Verdict::Allow);
}

#[test]
fn country_codes_have_no_case() {
    for code in ["US", "us", "uS"] {
        for rule in ["US", "us", "Us"] {
            let seen = Seen { country: Some(code), ..EVERY_RULE_MATCHES };
            assert_eq!(verdict(&format!("allow country {rule};"), seen), Verdict::Allow, "{rule} {code}");
        }
    }
}

#[test]
fn an_address_of_no_known_country_matches_no_country_rule() {
    let unknown = Seen { country: None, ..EVERY_RULE_MATCHES };
    assert_eq!(verdict("deny country US RU; drop country GB; allow default;", unknown), Verdict::Allow);
    assert_eq!(verdict("allow country US RU;", unknown), Verdict::Deny);
}

#[test]
fn user_agents_are_matched_by_part_and_case() {
    for (ua, expected) in [
        (Some("MAG"), Verdict::Allow),
        (Some("Mozilla MAG200 stbapp"), Verdict::Allow),
        (Some("xMAGx"), Verdict::Allow),
        (Some("mag"), Verdict::Deny),
        (Some("M AG"), Verdict::Deny),
        (Some(""), Verdict::Deny),
        (None, Verdict::Deny),
    ] {
        assert_eq!(verdict("allow ua MAG;", Seen { ua, ..EVERY_RULE_MATCHES }), expected, "{ua:?}");
    }
}

#[test]
fn tokens_are_matched_exactly() {
    for (token, expected) in [
        (Some("secret"), Verdict::Allow),
        (Some("Secret"), Verdict::Deny),
        (Some("secret "), Verdict::Deny),
        (Some("secre"), Verdict::Deny),
        (Some(""), Verdict::Deny),
        (None, Verdict::Deny),
    ] {
        assert_eq!(
            verdict("allow token secret;", Seen { token, ..EVERY_RULE_MATCHES }),
            expected,
            "{token:?}"
        );
    }
}

#[test]
fn of_several_rules_on_one_step_the_first_in_the_file_is_named() {
    for (lines, named) in [
        ("deny ip 192.0.2.7; deny ip 192.0.2/24;", "deny ip 192.0.2.7"),
        ("deny ip 192.0.2/24; deny ip 192.0.2.7;", "deny ip 192.0.2/24"),
        ("drop country US; drop ip 192.0.2.7;", "drop country US"),
        ("drop ip 192.0.2.7; drop country US;", "drop ip 192.0.2.7"),
        ("deny ua box MAG;", "deny ua box"),
        ("deny ua MAG box;", "deny ua MAG"),
        ("deny country us US;", "deny country us"),
    ] {
        let config = config(lines);
        let policy = &config.policies[0];
        let rule = decide(policy, EVERY_RULE_MATCHES, Answer::Down).rule.unwrap();
        assert_eq!(&*policy.rule(rule).text, named);
    }
}

#[test]
fn the_truth_table_of_three_backends() {
    let backends = "backend http://127.0.0.1/1; backend http://127.0.0.1/2; backend http://127.0.0.1/3;";
    let answers = [Answer::Allow, Answer::Ban, Answer::Down];
    for default in ["", "allow default;"] {
        let config = config(&format!("{backends} {default}"));
        for n in 0..27 {
            let all = [answers[n % 3], answers[n / 3 % 3], answers[n / 9]];
            let (verdict, stage) = match (all.contains(&Answer::Allow), all.contains(&Answer::Ban)) {
                (true, _) => (Verdict::Allow, Stage::Backend),
                (false, true) => (Verdict::Deny, Stage::Backend),
                (false, false) if default.is_empty() => (Verdict::Deny, Stage::Default),
                (false, false) => (Verdict::Allow, Stage::Default),
            };
            let decision = config.policies[0].conclude(&all);
            assert_eq!((decision.verdict, decision.stage, decision.rule), (verdict, stage, None), "{all:?}");
        }
    }
}
