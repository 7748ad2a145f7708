//! Comparing three witnesses of one visit: the client, the kernel's counters, and `nicgate explain`.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::nicgate::{RuleDrops, rule_in};
use serde_json::Value;

use crate::{
    scene::{FIRST_TOKEN, SECOND_TOKEN, Scene},
    table::Row,
    visit::{Seen, Sends, Stopped, Visit},
};

/// A visit that has happened.
pub(crate) struct Verdict {
    visit: String,
    sent: String,
    expected: Stopped,
    seen: Seen,
    stopped: Stopped,
    rule: String,
    dropped: u64,
    differences: Vec<String>,
}

/// Lets a visit happen, and compares.
pub(crate) fn judge(scene: &Scene, visit: &Visit) -> anyhow::Result<Verdict> {
    let questions = scene.questions();
    let before = scene.nicgate.drops()?;
    let seen = visit.send(scene)?;
    let grown = drops_since(scene, &before, visit.expected.stopped == Stopped::Nic)?;
    let dropped = grown.iter().map(|rule| rule.packets).sum();
    let stopped = match &seen {
        Seen::Answer(200) | Seen::Connected | Seen::Arrived => Stopped::Admitted,
        Seen::Answer(status) => Stopped::Gate(*status),
        Seen::Silence | Seen::Fault(_) if dropped > 0 => Stopped::Nic,
        Seen::Silence | Seen::Fault(_) => Stopped::Lost,
    };
    let mut differences = Vec::new();
    if stopped != visit.expected.stopped {
        differences.push(format!("expected: {}; seen: {}", visit.expected.stopped.shown(), stopped.shown()));
    }
    if stopped != Stopped::Nic && dropped > 0 {
        differences.push(format!("the NIC counted {dropped} dropped packets"));
    }
    let places =
        visit.expected.rules.iter().map(|rule| scene.place(rule)).collect::<anyhow::Result<Vec<_>>>()?;
    for rule in &grown {
        if !places.is_empty() && !places.contains(&(&*rule.file, rule.line)) {
            differences
                .push(format!("the kernel counted it against {}", shown(&rule.text, &rule.file, rule.line)));
        }
    }
    if let Sends::Play { .. } = visit.sends {
        let asked = scene.questions() - questions;
        if asked != 1 {
            differences.push(format!("the first backend was asked {asked} times, not once"));
        }
    }
    let explained = match visit.expected.stage {
        Some(stage) => {
            let explained = explain(scene, visit)?;
            differences.extend(disagreements(&explained, visit, stage, &places));
            Some(explained)
        }
        None => None,
    };
    let rule = match grown.first() {
        Some(rule) => shown(&rule.text, &rule.file, rule.line),
        None => explained.map_or(String::new(), |explained| rule_of(&explained)),
    };
    let who = format!("{} {}", visit.who, visit.from);
    let (sent, expected) = (visit.sent(), visit.expected.stopped);
    Ok(Verdict { visit: who, sent, expected, seen, stopped, rule, dropped, differences })
}

impl From<Verdict> for Row {
    fn from(verdict: Verdict) -> Self {
        let Verdict { visit, sent, expected, seen, stopped, rule, dropped, differences } = verdict;
        let counter = if dropped > 0 { format!("+{dropped}") } else { "0".to_owned() };
        Self {
            cells: [visit, sent, expected.shown(), seen.shown(), stopped.shown(), rule, counter],
            differences,
        }
    }
}

/// What `nicgate explain` says of the visit.
fn explain(scene: &Scene, visit: &Visit) -> anyhow::Result<Value> {
    let address = visit.from.to_string();
    let mut arguments: Vec<&str> = vec!["--ip", &address];
    let (mut token, mut stream) = (None, None);
    match visit.sends {
        Sends::Get { stream: name, token: given, agent } => {
            (token, stream) = (given, Some(name));
            arguments.extend(agent.into_iter().flat_map(|agent| ["--ua", agent]));
        }
        Sends::Play { stream: name, token: given } => (token, stream) = (Some(given), Some(name)),
        Sends::Connect { .. } | Sends::Frame { .. } => {}
    }
    match stream {
        Some(name) => arguments.extend(["--stream", name]),
        None => arguments.extend(["--auth", "viewers"]),
    }
    arguments.extend(token.into_iter().flat_map(|token| ["--token", token]));
    let backends = backends(scene, stream, token);
    arguments.extend(["--assume-backends", &backends]);
    scene.nicgate.json("explain", &arguments)
}

/// What the policy's backends answer just now, in file order.
fn backends(scene: &Scene, stream: Option<&str>, token: Option<&str>) -> String {
    let word = |allowed: bool| if allowed { "allow" } else { "deny" };
    let first = word(token == Some(FIRST_TOKEN));
    let second = if scene.second_backend_lives() { word(token == Some(SECOND_TOKEN)) } else { "down" };
    if stream == Some("sport") { second.to_owned() } else { format!("{first},{second}") }
}

/// Where the explanation differs from what was to happen.
fn disagreements(explained: &Value, visit: &Visit, stage: &str, places: &[(&str, u64)]) -> Vec<String> {
    let mut differences = Vec::new();
    let mut expect = |name: &str, found: &Value, wanted: &str| {
        if found.as_str() != Some(wanted) {
            differences.push(format!("explain says {name} {found}, not \"{wanted}\""));
        }
    };
    let admitted = visit.expected.stopped == Stopped::Admitted;
    expect("verdict", &explained["verdict"], if admitted { "allow" } else { "deny" });
    expect("stage", &explained["stage"], stage);
    let service = visit.service();
    let dropped = visit.expected.stopped == Stopped::Nic;
    expect(
        &format!("kernel {service}"),
        &explained["kernel"][&service],
        if dropped { "drop" } else { "pass" },
    );
    let place = rule_in(&explained["rule"]).map(|(_, file, line)| (file, line));
    if !places.is_empty() && !place.is_some_and(|place| places.contains(&place)) {
        differences.push(format!("explain names the rule {}", rule_of(explained)));
    }
    differences
}

/// The rule that explain names; the step where there is none.
fn rule_of(explained: &Value) -> String {
    match rule_in(&explained["rule"]) {
        Some((text, file, line)) => shown(text, file, line),
        None => explained["stage"].as_str().unwrap_or("").to_owned(),
    }
}

fn shown(text: &str, file: &str, line: u64) -> String {
    format!("{text}  {file}:{line}")
}

/// The drops since `before`. Where there must be some, they may take a moment to be counted.
fn drops_since(scene: &Scene, before: &[RuleDrops], some: bool) -> anyhow::Result<Vec<RuleDrops>> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let grown = growth(before, &scene.nicgate.drops()?);
        if !some || !grown.is_empty() || Instant::now() > deadline {
            return Ok(grown);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The rules whose counters have grown, by how much.
fn growth(before: &[RuleDrops], after: &[RuleDrops]) -> Vec<RuleDrops> {
    let grown = after.iter().filter_map(|rule| {
        let old = before
            .iter()
            .find(|old| old.text == rule.text && old.file == rule.file && old.line == rule.line)
            .map_or(0, |old| old.packets);
        let packets = rule.packets.saturating_sub(old);
        (packets > 0).then(|| RuleDrops { packets, ..rule.clone() })
    });
    grown.collect()
}

#[cfg(test)]
mod tests {
    use super::{RuleDrops, growth};

    #[test]
    fn only_what_has_grown_is_told() {
        let rule = |text: &str, line, packets| RuleDrops {
            text: text.to_owned(),
            file: "f".to_owned(),
            line,
            packets,
        };
        let before = [rule("deny ip 10.10/16", 9, 3), rule("deny country GB", 4, 1)];
        let after =
            [rule("deny ip 10.10/16", 9, 3), rule("deny country GB", 4, 3), rule("default deny", 2, 1)];
        assert_eq!(growth(&before, &after), [rule("deny country GB", 4, 2), rule("default deny", 2, 1)]);
    }
}
