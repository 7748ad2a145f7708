//! Who comes, in order.

use kit::frame::Transport;

use crate::{
    scene::{FIRST_TOKEN, GUARDED_TCP, GUARDED_UDP, OTHER, SECOND_TOKEN},
    visit::{Expected, Sends, Stopped, Visit},
};

const BLOCKED_V4: &[&str] = &["deny ip 198.51.100.0/24", "drop ip 198.51.100.0/24"];
const BLOCKED_V6: &[&str] = &["deny ip 2001:db8:bad::/48", "drop ip 2001:db8:bad::/48"];
const BRITAIN: &[&str] = &["deny country GB", "drop country GB"];

fn visit(who: &'static str, from: &str, sends: Sends, expected: Expected) -> Visit {
    Visit { who, from: from.parse().expect("an address in this file"), sends, expected }
}

fn get(stream: &'static str) -> Sends {
    Sends::Get { stream, token: None, agent: None }
}

fn get_with(stream: &'static str, token: &'static str) -> Sends {
    Sends::Get { stream, token: Some(token), agent: None }
}

fn frame(tags: &'static [u16], transport: Transport, port: u16) -> Sends {
    Sends::Frame { tags, transport, port }
}

fn nic(rules: &'static [&'static str]) -> Expected {
    let country = rules.iter().any(|rule| rule.contains("country"));
    Expected { stopped: Stopped::Nic, stage: Some(if country { "country" } else { "ip" }), rules }
}

fn gate(status: u16, stage: &'static str, rules: &'static [&'static str]) -> Expected {
    Expected { stopped: Stopped::Gate(status), stage: Some(stage), rules }
}

fn admitted(stage: &'static str, rules: &'static [&'static str]) -> Expected {
    Expected { stopped: Stopped::Admitted, stage: Some(stage), rules }
}

fn untouched(stopped: Stopped) -> Expected {
    Expected { stopped, stage: None, rules: &[] }
}

/// Both backends answer.
#[expect(clippy::too_many_lines, reason = "one table of visits")]
pub(crate) fn opening() -> Vec<Visit> {
    vec![
        visit(
            "viewer",
            "203.0.113.10",
            Sends::Play { stream: "news", token: FIRST_TOKEN },
            admitted("backend", &[]),
        ),
        visit("viewer, IPv6", "2001:db8:cafe::10", get_with("news", FIRST_TOKEN), admitted("backend", &[])),
        visit(
            "2nd portal's viewer",
            "203.0.113.11",
            get_with("news", SECOND_TOKEN),
            admitted("backend", &[]),
        ),
        visit("viewer, stolen token", "203.0.113.12", get_with("news", "stolen"), gate(403, "backend", &[])),
        visit(
            "ripper",
            "203.0.113.13",
            Sends::Get { stream: "news", token: Some(FIRST_TOKEN), agent: Some("Ripper/1.0") },
            gate(403, "ua", &["deny ua \"Ripper\""]),
        ),
        visit("Swede", "203.0.113.130", get("news"), admitted("country", &["allow country SE"])),
        visit(
            "partner, with key",
            "203.0.113.66",
            get_with("sport", "partner-key"),
            admitted("token", &["allow token partner-key"]),
        ),
        visit("partner, without", "203.0.113.66", get("sport"), gate(403, "ip", &["deny ip 203.0.113.66"])),
        visit("viewer, elsewhere", "203.0.113.10", get("nosuch"), untouched(Stopped::Gate(404))),
        visit("blocked", "198.51.100.9", get_with("news", FIRST_TOKEN), nic(BLOCKED_V4)),
        visit("blocked, IPv6", "2001:db8:bad::9", get("news"), nic(BLOCKED_V6)),
        visit("Briton", "203.0.113.200", get_with("news", FIRST_TOKEN), nic(BRITAIN)),
        visit("blocked, VLAN", "198.51.100.9", frame(&[100], Transport::TcpSyn, 80), nic(BLOCKED_V4)),
        visit("blocked, 2 VLANs", "198.51.100.9", frame(&[100, 200], Transport::TcpSyn, 80), nic(BLOCKED_V4)),
        visit("blocked, VLAN", "2001:db8:bad::9", frame(&[100], Transport::TcpSyn, 80), nic(BLOCKED_V6)),
        visit("blocked, at a guard", "198.51.100.9", Sends::Connect { port: GUARDED_TCP }, nic(BLOCKED_V4)),
        visit(
            "blocked, at a guard",
            "198.51.100.9",
            frame(&[], Transport::Udp, GUARDED_UDP),
            nic(BLOCKED_V4),
        ),
        visit(
            "viewer, at a guard",
            "203.0.113.10",
            Sends::Connect { port: GUARDED_TCP },
            untouched(Stopped::Admitted),
        ),
        visit(
            "viewer, at a guard",
            "203.0.113.10",
            frame(&[0], Transport::Udp, GUARDED_UDP),
            untouched(Stopped::Admitted),
        ),
        visit(
            "blocked, another port",
            "198.51.100.9",
            Sends::Connect { port: OTHER },
            untouched(Stopped::Admitted),
        ),
        visit(
            "office, never dropped",
            "198.51.100.250",
            get_with("news", FIRST_TOKEN),
            gate(403, "ip", &["deny ip 198.51.100.0/24"]),
        ),
    ]
}

/// Only the first backend answers.
pub(crate) fn without_second_backend() -> Vec<Visit> {
    vec![
        visit("stranger at sport", "203.0.113.14", get("sport"), admitted("default", &[])),
        visit("stranger at news", "203.0.113.14", get("news"), gate(403, "backend", &[])),
        visit("partner, without", "203.0.113.66", get("sport"), gate(403, "ip", &["deny ip 203.0.113.66"])),
    ]
}

/// The edit that the reload brings: what is written, and what is written instead.
pub(crate) const EDITS: &[(&str, &str)] = &[
    ("  deny ip 198.51.100.0/24;\n", "  deny ip 198.51.100.0/25;\n  deny ip 203.0.113.10;\n"),
    ("  drop ip 198.51.100.0/24;\n", "  drop ip 198.51.100.0/25;\n  drop ip 203.0.113.10;\n"),
];

/// After the reload.
pub(crate) fn after_reload() -> Vec<Visit> {
    const STILL: &[&str] = &["deny ip 198.51.100.0/25", "drop ip 198.51.100.0/25"];
    const NEWLY: &[&str] = &["deny ip 203.0.113.10", "drop ip 203.0.113.10"];
    vec![
        visit("pardoned", "198.51.100.200", get_with("news", FIRST_TOKEN), admitted("backend", &[])),
        visit("viewer, now denied", "203.0.113.10", get_with("news", FIRST_TOKEN), nic(NEWLY)),
        visit("blocked", "198.51.100.9", get("news"), nic(STILL)),
    ]
}

/// A wrong line, as it comes from a typing error.
pub(crate) const MISTAKE: (&str, &str) = ("  deny ip 203.0.113.10;\n", "  deny ip 203.0.113.300;\n");

/// After a reload that was refused: nothing has changed.
pub(crate) fn after_refused_reload() -> Vec<Visit> {
    const STILL: &[&str] = &["deny ip 203.0.113.10", "drop ip 203.0.113.10"];
    vec![
        visit("viewer, still denied", "203.0.113.10", get_with("news", FIRST_TOKEN), nic(STILL)),
        visit("Swede", "203.0.113.130", get("news"), admitted("country", &["allow country SE"])),
    ]
}
