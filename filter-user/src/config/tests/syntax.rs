//! How text is read.

use proptest::prelude::*;

use super::*;

/// The User-Agent parts of a policy.
fn agents(values: &str) -> Vec<String> {
    let config = good(&format!("auth_backend a {{ allow ua {values}; }}"));
    let rules = config.policies[0].rules().iter();
    rules
        .map(|rule| match &rule.matcher {
            Matcher::Ua(part) => part.to_string(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn words_are_bare_or_quoted() {
    assert_eq!(agents("MAG TVIP"), ["MAG", "TVIP"]);
    assert_eq!(agents(r#""Mozilla/5.0 (Windows; U; {x}" b"#), ["Mozilla/5.0 (Windows; U; {x}", "b"]);
    assert_eq!(agents(r#""a \"b\" \\ \n\t\r\/""#), ["a \"b\" \\ \n\t\r/"]);
    assert_eq!(agents(r#""'a'" it's"#), ["'a'", "it's"]);
    assert_eq!(agents("ж\u{a0}ü"), ["ж", "ü"]);
}

#[test]
fn a_hash_begins_a_comment_only_at_the_start_of_a_word() {
    assert_eq!(agents("size=1280x720:fit:#000000 # 720p; \n b#"), ["size=1280x720:fit:#000000", "b#"]);
    assert_eq!(agents("\"#a\" #; }\n b"), ["#a", "b"]);
}

#[test]
fn statements_run_over_lines() {
    assert_eq!(agents("a\n  b\n  # comment\n  c\n"), ["a", "b", "c"]);
}

#[test]
fn line_ends_and_the_byte_order_mark_do_not_matter() {
    let text = "\u{feff}auth_backend a {\r\n  deny ip 10.10/16;\r\n}\r\nshadow;\r\n";
    let config = good(text);
    assert!(config.shadow);
    let rule = &config.policies[0].rules()[0];
    assert_eq!((rule.origin.line, rule.origin.column), (2, 11));
}

#[test]
fn empty_statements_and_empty_files_are_fine() {
    assert!(good(";; stream a { };\n;").streams.contains_key("a"));
    assert_eq!(good("").files, [PathBuf::from("nicgate.conf")]);
    assert_eq!(good("# nothing").services, []);
}

#[test]
fn deep_nesting_is_an_error_and_no_panic() {
    for text in ["{".repeat(1_000_000), "a{".repeat(1_000_000), "a {".repeat(500_000) + &"}".repeat(500_000)]
    {
        let (config, report) = memory(text).load();
        assert!(config.is_none());
        assert!(report.errors().any(|error| error.code == "too-deep"));
    }
}

#[test]
fn columns_count_characters() {
    let config = good("auth_backend \"ж\" { allow ua ё; deny ip 10/8 192.168/16; }");
    let columns: Vec<_> = config.policies[0].rules().iter().map(|rule| rule.origin.column).collect();
    assert_eq!(columns, [29, 40, 45]);
}

#[test]
fn json_has_stable_fields() {
    let (_, report) = memory("guard tcp 0 streams;\n").load();
    let json = serde_json::to_value(&report).unwrap();
    let diagnostic = &json["diagnostics"][0];
    assert_eq!(diagnostic["severity"], "error");
    assert_eq!(diagnostic["code"], "bad-port");
    assert_eq!(diagnostic["file"], "nicgate.conf");
    assert_eq!((&diagnostic["line"], &diagnostic["column"]), (&1.into(), &11.into()));
    assert_eq!(diagnostic["line_text"], "guard tcp 0 streams;");
    assert_eq!((&diagnostic["caret_start"], &diagnostic["caret_len"]), (&10.into(), &1.into()));
}

#[test]
fn colour_is_only_there_when_asked_for() {
    let (_, report) = memory("guard tcp 0 streams;\n").load();
    assert!(report.render(true).contains("\u{1b}["));
    assert!(!report.render(false).contains("\u{1b}["));
}

proptest! {
    /// A rule's text can be put into a configuration again and means the same.
    #[test]
    fn the_text_of_a_rule_reads_back(parts in prop::collection::vec("[ -~жё\t]{1,12}", 1..4)) {
        let quoted: Vec<_> = parts.iter().map(|part| format!("\"{}\"", part.replace('\\', "\\\\").replace('"', "\\\""))).collect();
        let config = good(&format!("auth_backend a {{ deny ua {}; }}", quoted.join(" ")));
        let texts: Vec<_> = config.policies[0].rules().iter().map(|rule| format!("{};", rule.text)).collect();
        let again = good(&format!("auth_backend a {{ {} }}", texts.join(" ")));
        let read: Vec<_> = again.policies[0].rules().iter().map(|rule| rule.matcher.clone()).collect();
        let meant: Vec<_> = parts.iter().map(|part| Matcher::Ua(part.as_str().into())).collect();
        prop_assert_eq!(read, meant);
    }

    /// The caret stands where the bad value does, whatever stands before it.
    #[test]
    fn the_caret_finds_the_value(before in "[a-zж\" \t]{0,30}", lines in 0..5_usize) {
        let before = before.replace('"', "\\\"");
        let text = format!("{}auth_backend a {{ allow ua \"x{before}\"; deny ip 300.0.0.1; }}", "\n".repeat(lines));
        let (_, report) = memory(&text).load();
        let bad = report.errors().next().unwrap();
        prop_assert_eq!(bad.code, "octet-range");
        prop_assert_eq!(bad.origin.line as usize, lines + 1);
        let line = text.lines().last().unwrap();
        let at = line.chars().count() - "300.0.0.1; }".len();
        prop_assert_eq!((bad.origin.column as usize, bad.caret_start, bad.caret_len), (at + 1, at, 3));
    }
}
