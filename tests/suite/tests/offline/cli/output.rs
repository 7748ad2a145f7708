//! What commands print, to whom, and with which exit status.

use std::process::{Command, Stdio};

use kit::nicgate::{Site, binary};
use serde_json::Value;

use super::{MYAUTH, site};

#[test]
fn wrong_usage_exits_2_and_a_wrong_request_exits_1() {
    let site = site(MYAUTH);
    for arguments in [
        &["explain", "--auth", "myauth1"][..],
        &["explain", "--ip", "10.0.0.1"],
        &["explain", "--auth", "myauth1", "--stream", "s", "--ip", "10.0.0.1"],
        &["explain", "--auth", "myauth1", "--ip", "10.0.0"],
        &["explain", "--auth", "myauth1", "--ip", "10.0.0.1", "--assume-backends", "maybe"],
        &["explain", "--auth", "myauth1", "--ip", "10.0.0.1", "--assume-backends", ""],
        &["compile", "--services"],
        &["monitor", "--sample", "0"],
        &["detach", "--all", "eth0"],
        &["chek"],
    ] {
        let said = site.run(arguments).with(2);
        assert!(said.stdout.is_empty() && said.stderr.contains("try '--help'"), "{arguments:?}: {said:?}");
    }
    for (arguments, message) in [
        (
            &["explain", "--auth", "myauth", "--ip", "10.0.0.1"][..],
            "no `auth_backend myauth`; there are myauth1",
        ),
        (&["compile", "--service", "80/tcp"], "no `gate` or `guard` protects 80/tcp; protected: nothing"),
        (&["detach"], "name the interfaces"),
        (&["detach", "eth9"], "nicgate is not attached to eth9"),
        (&["stats", "eth9"], "nicgate is not attached to eth9"),
        (&["attach"], "there is no `interface` to attach to"),
        (&["attach", "eth9"], "there is no `interface eth9`"),
        (&["directives", "gaurd"], "nicgate knows no directive `gaurd`"),
    ] {
        let said = site.run(arguments).with(1);
        assert!(said.stdout.is_empty() && said.stderr.contains(message), "{arguments:?}: {said:?}");
    }
    for command in ["reload", "sessions", "monitor", "bans"] {
        let said = site.run(&[command]).with(3);
        assert!(said.stderr.contains("no controller answers at"), "{said:?}");
    }
}

#[test]
fn directives_prints_the_page_and_each_place_of_a_word() {
    // No configuration is needed.
    let site = Site::new();
    let page = site.run(&["directives"]).with(0).stdout;
    assert_eq!(page, include_str!("../../../../../docs/directives.md"));
    let guard = site.run(&["directives", "guard"]).with(0).stdout;
    assert!(guard.starts_with("## At the top of a file\n\n### `guard`\n\n`guard tcp|udp|sctp "), "{guard}");
    let places: Value = site.run(&["directives", "on_play", "--json"]).with(0).json();
    let places: Vec<&str> = places.as_array().unwrap().iter().map(|p| p["place"].as_str().unwrap()).collect();
    assert_eq!(
        places,
        ["At the top of a file", "In a `stream`, a `template` or a location", "In a `source`"]
    );
    let effect = |name: &str| {
        let places = site.run(&["directives", name, "--json"]).with(0).json();
        places[0]["directives"][0]["effect"].as_str().unwrap().to_owned()
    };
    let words = ["guard", "view_auth", "total_clients", "dvr"];
    assert_eq!(words.map(effect), ["enforced", "read", "not_enforced", "passed_over"]);
}

#[test]
fn json_is_json_whatever_happens() {
    let site = Site::new();
    site.write("wrong.conf", "auth_backend a { deny ip 10.256/16; }\nauth_backend b { alow default; }\n");
    site.write("right.conf", "auth_backend a { allow default; }\n");
    site.write("country.conf", "auth_backend a { deny country GB; }\ngeoip missing.mmdb;\n");
    for (arguments, status) in [
        (&["check", "-c", "wrong.conf"][..], 1),
        (&["check", "-c", "missing.conf"], 1),
        (&["check", "-c", "country.conf"], 1),
        (&["compile", "-c", "wrong.conf"], 1),
        (&["compile", "-c", "right.conf", "--service", "80/tcp"], 1),
        (&["explain", "-c", "wrong.conf", "--auth", "a", "--ip", "::1"], 1),
        (&["explain", "-c", "right.conf", "--auth", "b", "--ip", "::1"], 1),
        (&["attach", "-c", "right.conf"], 1),
        (&["detach", "eth9"], 1),
        (&["reload"], 3),
        (&["sessions"], 3),
    ] {
        let output = Command::new(binary())
            .args(arguments)
            .args(["--json", "--control"])
            .arg(site.socket())
            .current_dir(site.path(""))
            .env("NICGATE_BPFFS", site.bpffs())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"));
        assert_eq!(json["ok"], false, "{arguments:?}");
        assert!(json["error"].is_string(), "{arguments:?}: {json}");
        assert!(!output.stderr.is_empty(), "people are told too");
    }
}

/// Runs a command whose stdout or stderr is a pipe that nobody reads.
fn into_nobody(site: &Site, arguments: &[&str], stderr: bool) -> (Option<i32>, Vec<u8>) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = site.command(arguments);
    if stderr {
        command.stdout(Stdio::null()).stderr(writer);
    } else {
        command.stdout(writer).stderr(Stdio::piped());
    }
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    (output.status.code(), output.stderr)
}

#[test]
fn nobody_reading_is_no_error() {
    let many: String =
        (0..60_000).map(|i| format!("{}.{}.{}.0/32\n", i % 200 + 1, i / 256, i % 256)).collect();
    let site =
        site("auth_backend a { drop ip file \"many\"; alow; allow default; }\nguard tcp 1935 auth://a;\n");
    site.write("many", many);
    let right = std::fs::read_to_string(site.path("nicgate.conf")).unwrap().replace(" alow;", "");
    // With an error, so that there is something on stderr.
    assert_eq!(into_nobody(&site, &["check"], true).0, Some(1));
    site.configure(&right);
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["compile"],
        &["compile", "--json"],
        &["explain", "--auth", "a", "--ip", "1.0.0.0"],
        &["explain", "--auth", "a", "--ip", "1.0.0.0", "--json"],
        &["--help"],
    ] {
        let (status, stderr) = into_nobody(&site, arguments, false);
        assert_eq!(status, Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        assert!(!String::from_utf8_lossy(&stderr).contains("panicked"), "{arguments:?}");
        assert_eq!(into_nobody(&site, arguments, true).0, Some(0), "{arguments:?}");
    }
}

/// Names that move a terminal's cursor, in C0, C1 and DEL.
const HOSTILE: &str = "auth_backend \"n\x1b[2J\" { deny ip 192.0.2.1; deny token \"a\u{9b}2J\"; deny ua \"x\x07\"; \
                       allow default; }\nguard tcp 1935 \"auth://n\x1b[2J\";\n\
                       stream \"s\x1b]0;x\x07\" { on_play \"auth://n\x1b[2J\"; }\n\
                       gate 80 { upstream http://127.0.0.1:8080; }\n";

#[test]
fn names_that_a_terminal_would_obey_reach_no_output() {
    let right = site(HOSTILE);
    let wrong = site(&format!(
        "{HOSTILE}stream \"t\x1b[2J\" {{ on_play \"auth://o\x1b[2J\"; }}\ninclude \"\x1b[2J.conf\";\n"
    ));
    let mut seen = 0;
    for (site, arguments) in [
        (&right, &["check"][..]),
        (&right, &["check", "--all"]),
        (&right, &["compile"]),
        (&right, &["explain", "--auth", "n\x1b[2J", "--ip", "192.0.2.1"]),
        (&right, &["explain", "--stream", "nothing", "--ip", "192.0.2.1"]),
        (&right, &["explain", "--auth", "m\x1b[2J", "--ip", "192.0.2.1"]),
        (&wrong, &["check"]),
    ] {
        for json in [&[][..], &["--json"]] {
            let said = site.run(&[arguments, json].concat());
            for text in [&said.stdout, &said.stderr] {
                let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
                assert!(!text.contains(obeyed), "{arguments:?}: {text:?}");
                seen += usize::from(text.contains("[2J"));
            }
        }
    }
    assert!(seen > 10, "the names are shown: {seen}");
    // What programs read is what was written.
    let checked = right.run(&["check", "--json"]).with(0).json();
    assert_eq!(checked["rules"][0]["policy"], "n\x1b[2J");
    assert_eq!(checked["rules"][1]["text"], "deny token \"a\u{9b}2J\"");
}

#[test]
fn the_column_of_a_long_line_is_true() {
    let site = site(&format!(
        "auth_backend a {{ deny ip{} 10.300.0.1; allow default; }}\n",
        " 192.0.2.1".repeat(60)
    ));
    let said = site.run(&["check"]).with(1).stderr;
    assert!(said.contains(" nicgate.conf:1:629\n"), "{said}");
    let said = site.run(&["check", "--json"]).with(1).json();
    let columns: Vec<&Value> = said["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|said| said["severity"] == "error")
        .map(|said| &said["column"])
        .collect();
    assert_eq!(columns, [629]);
}
