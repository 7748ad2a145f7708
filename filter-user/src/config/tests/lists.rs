//! What becomes of lists that cannot be used.

use super::*;
use crate::model::Action;

/// Files in memory, and what was in force of them before.
struct Kept {
    now: Memory,
    former: Memory,
}

impl Files for Kept {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.now.read(path)
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        self.now.matching(pattern)
    }

    fn former(&self, path: &Path) -> Option<Former> {
        Some(Former { bytes: self.former.read(path).ok()?, read_at: 1000 })
    }
}

/// A policy with the list `l`, of which `former` was in force before and `now` is in the file.
fn reloaded(line: &str, former: Option<&str>, now: Option<&str>) -> (Option<Config>, Report) {
    let text = format!("auth_backend a {{\n  {line}\n  deny ip 203.0.113.1;\n}}\n");
    let with = |files: Memory, list: Option<&str>| match list {
        Some(list) => files.with("l", list),
        None => files,
    };
    let files = Kept { now: with(memory(text), now), former: with(Memory::default(), former) };
    load(Path::new("nicgate.conf"), &files)
}

fn entries(config: &Config) -> Vec<String> {
    match &config.policies[0].rules()[0].matcher {
        Matcher::IpFile(list) => list.entries.iter().map(|(net, line)| format!("{net} {line}")).collect(),
        Matcher::TokenFile(list) => {
            list.entries.iter().map(|(token, line)| format!("{token} {line}")).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn codes(report: &Report) -> Vec<&str> {
    report.diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

const DENY: &str = "deny ip file l;";
const GOOD: Option<&str> = Some("# good\n192.0.2.0/24\n");

#[test]
fn a_list_that_cannot_be_used_keeps_its_former_contents_and_the_rest_is_taken() {
    let huge = "10.0.0.0/8\n".repeat(3) + "0.0.0.0/0\n";
    for (line, now, why) in [
        (DENY, None, "no such file"),
        (DENY, Some("192.0.2.0/24\n10.0.0.0/33\nexample.com\n"), "2 lines of it cannot be read"),
        (DENY, Some(&*huge), "it denies everybody: line 4 is 0.0.0.0/0, every IPv4 address"),
        ("drop ip file l;", Some(&*huge), "it denies everybody: line 4 is 0.0.0.0/0, every IPv4 address"),
        (DENY, Some("# moved\n"), "it has no entry any more, and had 1"),
        ("allow ip file l;", None, "no such file"),
        ("deny ip file l { on_error skip; }", Some("<html>\n"), "no line of it can be read"),
    ] {
        let (config, report) = reloaded(line, GOOD, now);
        let config = config.unwrap_or_else(|| panic!("{line} {now:?}\n{}", report.render(false)));
        assert_eq!(entries(&config), ["192.0.2.0/24 2"], "{line} {now:?}");
        assert_eq!(config.policies[0].rules()[1].text, "deny ip 203.0.113.1".into());
        assert!(codes(&report).contains(&"list-refused"), "{line} {now:?}\n{}", report.render(false));
        let [refused] = &report.refused[..] else { panic!("{:?}", report.refused) };
        assert_eq!((&*refused.why, refused.read_at), (why, 1000), "{line} {now:?}");
        assert_eq!((refused.part, &*refused.path), (Part::List, Path::new("l")));
        assert_eq!(
            (refused.origin.line, refused.origin.column),
            (2, 1 + 2 + line.find(" l").unwrap() as u32 + 1)
        );
        assert!(config.files.contains(&PathBuf::from("l")));
    }
    let (config, report) = reloaded("deny token file l;", Some("t1\n"), Some("two words\n"));
    assert_eq!(entries(&config.unwrap()), ["t1 1"]);
    assert_eq!(codes(&report), ["list-refused", "list-line"]);
}

#[test]
fn what_is_no_error_is_taken_and_what_has_no_former_contents_is_an_error() {
    for (line, former, now) in [
        ("deny ip file l { on_error abort; }", GOOD, None),
        ("deny ip file l { on_error abort; }", GOOD, Some("x\n")),
        ("deny ip file l { on_error abort; }", GOOD, Some("::/0\n")),
        ("deny ip file l { on_error abort; }", GOOD, Some("\n")),
        (DENY, None, None),
        (DENY, None, Some("x\n")),
        (DENY, None, Some("::/0\n")),
        // The former contents are no better.
        (DENY, Some("::/0\n"), Some("::/0\n")),
        (DENY, Some("y\n"), Some("x\n")),
        (DENY, Some("y\n"), None),
    ] {
        let (config, report) = reloaded(line, former, now);
        assert!(config.is_none() && report.has_errors(), "{line} {former:?} {now:?}");
        assert!(report.refused.is_empty(), "{line} {former:?} {now:?}");
    }
    for (line, former, now, taken) in [
        (DENY, GOOD, Some("198.51.100.0/24\n"), &["198.51.100.0/24 1"][..]),
        // To admit everybody, or nobody by this list, opens nothing that the list guard is for.
        ("allow ip file l;", GOOD, Some("0.0.0.0/0\n"), &["0.0.0.0/0 1"]),
        ("allow ip file l;", GOOD, Some("\n"), &[]),
        (DENY, Some("# none\n"), Some("\n"), &[]),
        ("deny ip file l { on_error skip; }", GOOD, Some("x\n10.0.0.0/8\ny\n"), &["10.0.0.0/8 2"]),
    ] {
        let (config, report) = reloaded(line, former, now);
        let config = config.unwrap_or_else(|| panic!("{line} {now:?}\n{}", report.render(false)));
        assert_eq!(entries(&config), taken, "{line} {now:?}");
        assert!(report.refused.is_empty(), "{line} {now:?}");
    }
}

#[test]
fn settings_of_lists_hold_wherever_they_stand_and_the_lists_own_go_first() {
    let rule = |block: &str| format!("auth_backend a {{ deny ip file l {block} allow default; }}\n");
    let list = "bad\n10.0.0.0/8\n";
    for (text, taken) in [
        (rule(";") + "on_error skip;\n", true),
        ("on_error skip;\n".to_owned() + &rule(";"), true),
        ("on_error skip;\n".to_owned() + &rule("{ on_error refuse; }"), false),
        ("on_error abort;\n".to_owned() + &rule("{ on_error skip; }"), true),
        (rule(";"), false),
    ] {
        let (config, report) = memory(&text).with("l", list).load();
        assert_eq!(config.is_some(), taken, "{text}\n{}", report.render(false));
        assert_eq!(codes(&report).contains(&"list-skipped"), taken, "{text}");
    }
    // A list with the guard off, further down.
    let text = rule(";") + "list_guard off;\n";
    let files =
        Kept { now: memory(text).with("l", "0.0.0.0/0\n"), former: memory("").with("l", "10.0.0.1\n") };
    let (config, report) = load(Path::new("nicgate.conf"), &files);
    assert_eq!(entries(&config.unwrap()), ["0.0.0.0/0 1"]);
    assert_eq!(codes(&report), ["list-everybody"]);
}

#[test]
fn rules_that_name_one_list_share_it_and_the_strictest_of_them_counts() {
    let text = "auth_backend a { allow ip file l; }\nauth_backend b { deny ip file l; }\n";
    let files = Kept { now: memory(text).with("l", "::/0\n"), former: memory("").with("l", "10.0.0.1\n") };
    let (config, report) = load(Path::new("nicgate.conf"), &files);
    assert_eq!(report.refused.len(), 1);
    let config = config.unwrap();
    let entries = |policy: usize| match &config.policies[policy].rules()[0].matcher {
        Matcher::IpFile(list) => list.entries.clone(),
        other => panic!("{other:?}"),
    };
    assert!(std::sync::Arc::ptr_eq(&entries(0), &entries(1)));
    assert_eq!(config.policies[1].rules()[0].action, Action::Deny);
    assert_eq!(entries(1).len(), 1);
}

#[test]
fn bad_lines_are_counted_and_the_first_ten_are_named() {
    let list: String = (0..25).map(|n| format!("bad{n}\n")).collect::<String>() + "10.0.0.0/8\n";
    let (config, report) = reloaded("deny ip file l { on_error skip; }", None, Some(&list));
    assert!(config.is_some());
    assert!(report.diagnostics[0].message.starts_with("25 lines of this list"), "{}", report.render(false));
    let named: Vec<u32> =
        report.warnings().filter(|warning| &*warning.origin.file == "l").map(|w| w.origin.line).collect();
    assert_eq!(named, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1]);
    assert_eq!(report.warnings().last().unwrap().message, "15 more lines of this file cannot be read either");
}

#[test]
fn rules_that_cover_addresses_of_this_host_are_told_with_the_line() {
    let text = "auth_backend a {\n  deny ip file l;\n  drop ip 2001:db8::/32;\n  allow ip 192.0.2.1;\n}\n\
                auth_backend b { deny ip 198.51.100.0/24; }\n";
    let files = memory(text).with("l", "203.0.113.0/24\n192.0.2.0/24\n192.0.2.9\n");
    let own = ["192.0.2.8", "192.0.2.9", "2001:db8::1", "10.0.0.1"].map(|text| text.parse().unwrap());
    let (config, mut texts) = read(Path::new("nicgate.conf"), &files);
    covers_own(&config.unwrap(), &own, &mut texts);
    let report = texts.into_report();
    let said: Vec<_> = report
        .diagnostics
        .iter()
        .filter(|said| said.code == "covers-own-address")
        .map(|said| (said.origin.line, said.message.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (
                2,
                "`deny ip file \"l\"` with 192.0.2.0/24 (line 2 of the list) covers 192.0.2.8 and 1 more, an address of \
                 this host"
            ),
            (3, "`drop ip 2001:db8::/32` covers 2001:db8::1, an address of this host"),
        ]
    );
}
