//! The binary under test: where it is, and what it answers.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::Value;

use kit::{
    netns::{Namespace, Process},
    nicgate::find,
};

/// nicgate on one host, with one configuration and a control socket of its own.
#[derive(Clone, Debug)]
pub(crate) struct Nicgate {
    binary: PathBuf,
    host: Namespace,
    configuration: PathBuf,
    socket: PathBuf,
}

impl Nicgate {
    /// The binary on `host`, reading `configuration`. Nothing runs yet.
    ///
    /// # Errors
    ///
    /// When there is no binary.
    pub(crate) fn new(host: &Namespace, configuration: &Path) -> anyhow::Result<Self> {
        let directory = configuration.parent().context("a configuration is in a directory")?;
        Ok(Self {
            binary: find()?,
            host: host.clone(),
            configuration: configuration.to_owned(),
            socket: directory.join("control.sock"),
        })
    }

    /// A subcommand on the host, with the configuration and the control socket.
    pub(crate) fn command(&self, subcommand: &str, arguments: &[&str]) -> Command {
        let mut command = self.host.command(&self.binary);
        command.arg(subcommand).arg("-c").arg(&self.configuration).args(arguments);
        command.env("NICGATE_CONTROL", &self.socket);
        command.env("NICGATE_STATE", self.socket.with_file_name("bans.json"));
        command
    }

    /// Starts the controller with its messages in `log`, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it ends, or does not answer within 30 seconds: the end of its messages.
    pub(crate) fn run(&self, log: &Path) -> anyhow::Result<Process> {
        let messages =
            std::fs::File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut command = self.command("run", &[]);
        command.stdout(messages.try_clone()?).stderr(messages);
        let mut process = self.host.start(&mut command)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = process.wait(Duration::from_millis(20))? {
                bail!("`nicgate run` ended at once ({status}):\n{}", last_lines(log));
            }
            if self.command("status", &["--json"]).output()?.status.success() {
                return Ok(process);
            }
            if Instant::now() > deadline {
                bail!("`nicgate run` does not answer `nicgate status`:\n{}", last_lines(log));
            }
        }
    }

    /// A subcommand's JSON.
    ///
    /// # Errors
    ///
    /// When it fails: what it said; when what it printed is not JSON.
    pub(crate) fn json(&self, subcommand: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        let arguments = [arguments, &["--json"]].concat();
        let output = self.command(subcommand, &arguments).output()?;
        if !output.status.success() {
            bail!(
                "`nicgate {subcommand} {}` failed ({}): {}",
                arguments.join(" "),
                output.status,
                said(&output)
            );
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`nicgate {subcommand} {}` printed no JSON", arguments.join(" ")))
    }

    /// Asks the controller to read its configuration again; the client's exit status and messages.
    ///
    /// # Errors
    ///
    /// When the client cannot be run.
    pub(crate) fn reload(&self) -> anyhow::Result<(Option<i32>, String)> {
        let output = self.command("reload", &[]).output()?;
        Ok((output.status.code(), said(&output)))
    }

    /// What the NIC has dropped, by rule.
    ///
    /// # Errors
    ///
    /// As [`Nicgate::json`].
    pub(crate) fn drops(&self) -> anyhow::Result<Vec<RuleDrops>> {
        let mut found = Vec::new();
        collect(&self.json("stats", &[])?, &mut found);
        Ok(found)
    }
}

/// A rule's counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RuleDrops {
    /// The rule as written.
    pub(crate) text: String,
    /// The name of its file, without directories.
    pub(crate) file: String,
    /// Its line.
    pub(crate) line: u64,
    /// Packets that it dropped.
    pub(crate) packets: u64,
}

/// Every object of a `stats --json` that counts the packets of a rule: `{"text","file","line","packets",…}`, or
/// with the first three in an object `rule`.
fn collect(value: &Value, found: &mut Vec<RuleDrops>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            let rule = fields.get("rule").filter(|rule| rule.is_object()).unwrap_or(value);
            if let (Some((text, file, line)), Some(packets)) =
                (rule_in(rule), fields.get("packets").and_then(Value::as_u64))
            {
                found.push(RuleDrops { text: text.to_owned(), file: file.to_owned(), line, packets });
            } else {
                fields.values().for_each(|field| collect(field, found));
            }
        }
        _ => {}
    }
}

/// A rule's text, its file's name without directories, and its line, from `{"text":…,"file":…,"line":…}`.
pub(crate) fn rule_in(rule: &Value) -> Option<(&str, &str, u64)> {
    let file = rule["file"].as_str()?;
    Some((rule["text"].as_str()?, file.rsplit('/').next().unwrap_or(file), rule["line"].as_u64()?))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).trim().to_owned()
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{RuleDrops, collect};

    #[test]
    fn finds_the_counters_of_rules_wherever_they_are() {
        let stats = json!({"interfaces": [{"name": "eth0", "packets": 9, "rules": [
            {"text": "deny ip 10.10/16", "file": "/etc/f", "line": 9, "packets": 3},
            {"rule": {"text": "default deny", "file": "f", "line": 2}, "packets": 4},
        ]}]});
        let mut found = Vec::new();
        collect(&stats, &mut found);
        let expected = [("deny ip 10.10/16", 9, 3), ("default deny", 2, 4)];
        let expected = expected.map(|(text, line, packets)| RuleDrops {
            text: text.to_owned(),
            file: "f".to_owned(),
            line,
            packets,
        });
        assert_eq!(found, expected);
    }
}
