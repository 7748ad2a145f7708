//! The counters of a filter that may be on another machine.

use std::process::{Command, Stdio};

use ::kit::filtered_edge::Arrived;
use anyhow::{Context, bail};
use serde_json::Value;

/// A command that prints `nicgate stats --json`, and the port whose counters matter.
pub(crate) struct FarEnd {
    command: String,
    port: u16,
}

impl FarEnd {
    /// The command is the operator's own line, for a shell.
    pub(crate) fn new(command: &str, port: u16) -> Self {
        Self { command: command.to_owned(), port }
    }

    /// What arrived so far.
    ///
    /// # Errors
    ///
    /// When the command fails, or no filter there protects the port.
    pub(crate) fn read(&self) -> anyhow::Result<Arrived> {
        let mut shell = Command::new("sh");
        let output = shell.arg("-c").arg(&self.command).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("`{}` failed ({})", self.command, output.status);
        }
        let stats: Value = serde_json::from_slice(&output.stdout).with_context(|| {
            format!("`{}` printed no JSON: it should be `nicgate stats --json`", self.command)
        })?;
        arrived(&stats, self.port)
            .with_context(|| format!("no filter that `{}` tells of protects {}/udp", self.command, self.port))
    }
}

/// The sum over all interfaces; `None` when none protects the port.
fn arrived(stats: &Value, port: u16) -> Option<Arrived> {
    let wanted = format!("{port}/udp");
    let interfaces = stats["interfaces"].as_array()?;
    let services = interfaces.iter().filter_map(|interface| interface["services"].as_array()).flatten();
    let counts = services
        .filter(|service| {
            service["service"].as_str().is_some_and(|name| name.rsplit(':').next() == Some(&wanted))
        })
        .map(|service| Arrived {
            dropped: service["dropped"]["packets"].as_u64().unwrap_or(0),
            passed: service["passed"]["packets"].as_u64().unwrap_or(0),
        });
    counts.reduce(|a, b| Arrived { dropped: a.dropped + b.dropped, passed: a.passed + b.passed })
}

#[cfg(test)]
mod tests {
    use ::kit::filtered_edge::Arrived;
    use serde_json::json;

    use super::arrived;

    #[test]
    fn adds_up_the_port_on_every_interface() {
        let service = |name: &str, dropped: u64| json!({"service": name, "dropped": {"packets": dropped}, "passed": {"packets": 1}});
        let stats = json!({"interfaces": [
            {"services": [service("5000/udp", 3), service("15000/udp", 100), service("5000/tcp", 100)]},
            {"services": [service("192.0.2.1:5000/udp", 4)]},
        ]});
        assert_eq!(arrived(&stats, 5000), Some(Arrived { dropped: 7, passed: 2 }));
        assert_eq!(arrived(&stats, 53), None);
    }
}
