//! What the documents say works as it is: the examples, the configurations in the text, the systemd unit, and the files
//! that they name.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helping functions too")]

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use filter_user::config::{self, Files};
use ipnet::IpNet;
use kit::{
    mmdb::{self, Layout},
    nicgate::binary,
    oracle::Prefix,
    tls::{Authority, Certificate},
};
use serde_json::{Value, json};

/// The configurations that operators start, and all that is said about each: the stable names of its messages.
const EXAMPLES: [(&str, &[&str]); 5] = [
    ("allowlist.conf", &[]),
    ("backends.conf", &[]),
    ("blocklists.conf", &[]),
    // The sample database knows next to nothing.
    ("edge.conf", &["database-share"]),
    // What concerns no access in a server's own file (`loglevel`) is noted, once; that is no warning.
    ("flussonic-guards.conf", &["passed-over"]),
];

/// Included by another one, so it is no configuration of nicgate's own.
const INCLUDED: &str = "flussonic.conf";

fn examples() -> PathBuf {
    kit::workspace().join("docs/examples")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A command of the binary on an example, as an operator would type it in the folder of the examples.
fn nicgate(example: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new(binary());
    // `check` would warn whoever comes from an address that an example drops.
    command
        .args(arguments)
        .args(["--json", "-c", example])
        .current_dir(examples())
        .env_remove("SSH_CONNECTION");
    let output = command.output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{example}: {messages}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The files in a folder whose names end like this.
fn ending(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().ends_with(end)).collect()
}

/// All documents for people: those at the top, and those under `docs`.
fn documents() -> Vec<PathBuf> {
    let folders = [kit::workspace().to_owned(), kit::workspace().join("docs"), examples()];
    folders.iter().flat_map(|folder| ending(folder, ".md")).collect()
}

#[test]
fn every_example_is_listed_here() {
    let found: BTreeSet<String> = ending(&examples(), ".conf")
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let listed = EXAMPLES.iter().map(|(name, _)| *name).chain([INCLUDED]).map(str::to_owned).collect();
    assert_eq!(found, listed);
    let introduction = read(&examples().join("README.md"));
    for name in found {
        assert!(introduction.contains(&format!("({name})")), "{name} is not introduced");
    }
}

#[test]
fn every_example_loads_with_the_expected_messages_and_no_others() {
    for (name, expected) in EXAMPLES {
        let loaded = filter_user::load::load(&examples().join(name), &|_| ());
        let (_, report) = loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
        let codes: Vec<&str> = report.diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
        assert_eq!(codes, expected, "{name}:\n{}", report.render(false));
        assert_eq!(report.warnings().count(), 0, "{name}:\n{}", report.render(false));
    }
}

#[test]
fn check_finds_nothing_wrong_with_an_example_and_something_to_drop_on_each_of_its_ports() {
    for (name, _) in EXAMPLES {
        let said = nicgate(name, &["check"]);
        assert_eq!(said["ok"], true, "{name}");
        assert_eq!(said["hints"], json!([]), "{name}");
        assert_eq!(said["shadow"], name == "blocklists.conf", "{name}");
        let services = said["services"].as_array().unwrap();
        assert!(!services.is_empty(), "{name}");
        for service in services {
            assert_eq!(service["open"], Value::Null, "{name}: {service}");
            assert!(service["drops"]["v4_prefixes"].as_u64() > Some(0), "{name}: {service}");
        }
    }
}

/// What becomes of a request: the verdict, the stage that decided, and what becomes of its packets on a port.
fn explained(example: &str, request: &str, port: &str) -> (String, String, String) {
    let words: Vec<&str> = ["explain"].into_iter().chain(request.split_whitespace()).collect();
    let said = nicgate(example, &words);
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{request}: {said}")).to_owned();
    (text(&said["verdict"]), text(&said["stage"]), text(&said["kernel"][port]))
}

#[test]
fn the_examples_do_what_their_comments_say() {
    let token = "--token sample-token-0a51c1f2";
    let web = "80/tcp";
    for (example, request, port, expected) in [
        ("edge.conf", format!("--stream live --ip 203.0.113.7 {token}"), web, "allow token pass"),
        ("edge.conf", "--stream live --ip 203.0.113.7".into(), web, "deny default pass"),
        ("edge.conf", format!("--stream live --ip 198.51.100.7 {token}"), web, "deny drop drop"),
        ("edge.conf", "--stream lobby --ip 203.0.113.7".into(), web, "deny country pass"),
        ("edge.conf", format!("--stream lobby --ip 203.0.113.7 {token}"), web, "allow token pass"),
        ("edge.conf", "--stream lobby --ip 192.0.2.200".into(), web, "allow default pass"),
        ("flussonic-guards.conf", "--stream news --ip 198.51.100.7".into(), "1935/tcp", "deny ip drop"),
        ("flussonic-guards.conf", "--auth studio --ip 203.0.113.7".into(), "9998/udp", "allow ip pass"),
        ("allowlist.conf", "--auth customers --ip 203.0.113.209".into(), "443/tcp", "allow ip pass"),
        ("allowlist.conf", "--auth customers --ip 203.0.113.220".into(), "443/tcp", "deny default drop"),
        ("allowlist.conf", "--auth customers --ip 2001:db8:900::1".into(), "8890/udp", "deny default drop"),
        ("allowlist.conf", "--auth customers --ip 192.0.2.3".into(), "443/tcp", "deny default pass"),
        ("backends.conf", "--stream basic --ip 192.0.2.99".into(), web, "ask backend pass"),
        ("backends.conf", "--stream basic --ip 203.0.113.70".into(), web, "allow ip pass"),
        ("backends.conf", "--stream basic --ip 192.0.2.99 --ua Wget/1.2".into(), web, "deny ua pass"),
        ("backends.conf", format!("--stream paid --ip 198.51.100.7 {token}"), web, "deny drop drop"),
        (
            "backends.conf",
            "--stream basic --ip 192.0.2.99 --assume-backends down,down".into(),
            web,
            "allow default pass",
        ),
        (
            "backends.conf",
            "--stream paid --ip 192.0.2.99 --assume-backends down,down".into(),
            web,
            "deny default pass",
        ),
        (
            "backends.conf",
            "--stream basic --ip 192.0.2.99 --assume-backends deny,down".into(),
            web,
            "deny backend pass",
        ),
        // In shadow: what would be dropped passes.
        ("blocklists.conf", "--auth blocklists --ip 198.51.100.210".into(), "443/udp", "deny drop pass"),
        ("blocklists.conf", "--auth blocklists --ip 198.51.100.150".into(), "443/udp", "allow default pass"),
    ] {
        let (verdict, stage, kernel) = explained(example, &request, port);
        assert_eq!(format!("{verdict} {stage} {kernel}"), expected, "{example}: {request}");
    }
}

#[test]
fn examples_name_no_address_that_could_be_somebodys() {
    let allowed: Vec<IpNet> = [
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "2001:db8::/32",
        "10.0.0.0/8",
        "127.0.0.0/8",
        "239.255.0.0/16",
    ]
    .iter()
    .map(|net| net.parse().unwrap())
    .collect();
    let mut found = 0;
    for path in [examples(), examples().join("lists")].iter().flat_map(|folder| ending(folder, "")) {
        // The database is no text, and the folder is no file.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for word in text.split(|c: char| !c.is_ascii_hexdigit() && !".:".contains(c)) {
            let word =
                word.split_once(':').filter(|(host, _)| host.contains('.')).map_or(word, |(host, _)| host);
            let Ok(address) = word.parse::<IpAddr>() else { continue };
            found += 1;
            assert!(allowed.iter().any(|net| net.contains(&address)), "{address} in {}", path.display());
        }
    }
    assert!(found > 30, "only {found} addresses were recognised");
}

#[test]
fn the_sample_database_knows_documentation_networks() {
    let network = |address: &str, len, country| {
        (Prefix { address: address.parse().unwrap(), len }, mmdb::nested(country))
    };
    let networks = [
        network("198.51.100.0", 24, "AQ"),
        network("203.0.113.0", 24, "BV"),
        network("2001:db8:a9::", 48, "AQ"),
    ];
    let written = mmdb::write(Layout { record_bits: 24, ip_version: 6 }, &networks);
    let path = examples().join("lists/countries.mmdb");
    if std::env::var_os("UPDATE_SAMPLES").is_some() {
        fs::write(&path, &written).unwrap();
    }
    let kept = fs::read(&path).unwrap();
    assert!(kept == written, "UPDATE_SAMPLES=1 writes {} anew", path.display());
}

/// A configuration in a document, and what it includes.
struct Block<'a>(&'a str);

impl Files for Block<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == Path::new("nicgate.conf") {
            return Ok(self.0.as_bytes().to_vec());
        }
        // The text speaks of a server that the reader has.
        if path == Path::new("/etc/flussonic/flussonic.conf") {
            let server = "auth_backend blacklist { deny ip 203.0.113.1; allow default; }\n\
                          stream example_stream { input fake://; on_play auth://blacklist; }\n";
            return Ok(server.as_bytes().to_vec());
        }
        if path == Path::new("blocked.txt") {
            return Ok(b"198.51.100.0/24\n".to_vec());
        }
        // And of certificates; an authority's is as good as any.
        static SHOWN: LazyLock<Certificate> = LazyLock::new(|| Authority::new().certificate("example.com"));
        match path.extension().and_then(OsStr::to_str) {
            Some("pem") => Ok(SHOWN.pem.clone().into_bytes()),
            Some("key") => Ok(SHOWN.key.clone().into_bytes()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn matching(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

/// The blocks of a document between fences of this language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(named) = line.trim_start().strip_prefix("```") else { continue };
        let inside: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
        if named == language {
            found.push(inside.join("\n"));
        }
    }
    found
}

#[test]
fn configurations_in_documents_are_valid() {
    let mut found = 0;
    for document in documents() {
        for block in blocks(&read(&document), "nicgate") {
            let (config, report) = config::load(Path::new("nicgate.conf"), &Block(&block));
            assert!(config.is_some(), "{}:\n{}", document.display(), report.render(false));
            assert_eq!(report.warnings().count(), 0, "{}:\n{}", document.display(), report.render(false));
            found += 1;
        }
        // A fence of another name would keep a configuration from being looked at.
        for block in ["", "text", "conf", "nginx"].iter().flat_map(|name| blocks(&read(&document), name)) {
            let looks_like_one = block.lines().any(|line| {
                let line = line.trim_start();
                ["gate ", "guard ", "interface ", "auth_backend "].iter().any(|word| line.starts_with(word))
            });
            assert!(!looks_like_one, "{}: write ```nicgate above this:\n{block}", document.display());
        }
    }
    assert!(found > 0, "README.md shows a configuration");
}

#[test]
fn documents_name_files_that_exist() {
    for document in documents() {
        let text = read(&document);
        for (_, rest) in text.match_indices("](").map(|(at, _)| text[at..].split_at(2)) {
            let link = rest.split(')').next().unwrap();
            if !link.contains("://") && !link.starts_with('#') {
                let target = document.parent().unwrap().join(link.split('#').next().unwrap());
                assert!(target.exists(), "{} links to {link}", document.display());
            }
        }
    }
    let text = read(&kit::workspace().join("CONTRIBUTING.md"));
    let roots = ["filter-ebpf/", "filter-user/", "tests/", "xtask/", "docs/"];
    let named: BTreeSet<&str> =
        text.split('`').filter(|word| roots.iter().any(|root| word.starts_with(root))).collect();
    assert!(named.len() > 20, "{named:?}");
    for path in named {
        assert!(kit::workspace().join(path).exists(), "CONTRIBUTING.md names {path}");
    }
}

/// The numbers of a text, without the commas between their thousands.
fn numbers(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_digit() && !".,".contains(c));
    words
        .map(|word| word.replace(',', "").trim_matches('.').to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

#[test]
fn the_summary_of_the_benchmarks_has_ten_lines_and_every_figure_from_the_tables() {
    let text = read(&kit::workspace().join("BENCHMARKS.md"));
    let numbered =
        |line: &&str| line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok());
    let lines: Vec<&str> = text.lines().skip_while(|line| !numbered(line)).take_while(numbered).collect();
    assert_eq!(lines.len(), 10);
    let (_, tables) = text.split_once(lines[9]).unwrap();
    let tables = numbers(tables);
    for line in lines {
        let (_, line) = line.split_once(". ").unwrap();
        for number in numbers(line) {
            assert!(tables.contains(&number), "{number} is in no table: {line}");
        }
    }
}

#[test]
fn the_unit_starts_commands_that_exist_and_keeps_what_the_filter_needs() {
    let unit = read(&kit::workspace().join("docs/nicgate.service"));
    let value = |key: &str| {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.collect::<Vec<_>>().join("\n")
    };
    for (key, subcommand) in [("ExecStart", "run"), ("ExecReload", "reload")] {
        let command = value(key);
        let arguments: Vec<&str> =
            command.strip_prefix("/usr/local/bin/nicgate ").unwrap().split(' ').collect();
        assert_eq!(arguments[0], subcommand);
        let help = Command::new(binary()).args(arguments).arg("--help").output().unwrap();
        assert!(help.status.success(), "{command}");
    }
    // The binary tells systemd when it is ready, and gives it a socket for each gate.
    assert_eq!(value("Type"), "notify");
    assert!(value("FileDescriptorStoreMax").parse::<u32>().unwrap() > 0);
    // Only the main process may speak, which is what the binary reckons with.
    assert_eq!(value("NotifyAccess"), "");
    // Whoever connects after a crash waits for the next process.
    assert_eq!((&*value("Restart"), &*value("RestartSec")), ("on-failure", "100ms"));
    // The defaults of `--control` and `--state` lie in these.
    assert_eq!((&*value("RuntimeDirectory"), &*value("StateDirectory")), ("nicgate", "nicgate"));
    // Pins that are written into a file system of the service's own would end with it.
    assert_eq!(value("AssertPathIsMountPoint"), value("ReadWritePaths"));
    assert_eq!(value("ReadWritePaths"), "/sys/fs/bpf");
    for capability in ["CAP_BPF", "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"] {
        assert!(value("CapabilityBoundingSet").split(' ').any(|word| word == capability), "{capability}");
    }
}

/// Every test that docs/players.md names in a cell is there.
#[test]
fn what_players_are_said_to_do_is_tried() {
    let folder = kit::workspace().join("tests/suite/tests/players");
    let tests: String = ending(&folder, ".rs").iter().map(|path| read(path)).collect();
    let page = read(&kit::workspace().join("docs/players.md"));
    let (_, tables) = page.split_once("## What has been tried").expect("the tables stand last");
    let rows = tables.lines().filter(|line| line.starts_with('|'));
    let named: Vec<&str> =
        rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter(|name| name.contains('_')).collect();
    assert!(named.len() >= 15, "{named:?}");
    for name in named {
        let there = tests.contains(&format!("fn {name}()")) || tests.contains(&format!("    {name}: "));
        assert!(there, "docs/players.md names {name}, which is no test of a player");
    }
}
