//! The benchmark's table, and the same figures as JSON.

use std::fmt;

use super::measure::Measured;

const MEBIBYTE: u64 = 1 << 20;

/// What a figure is to reach.
pub(crate) struct Goal {
    text: String,
    met: bool,
}

impl Goal {
    /// At most `limit` times as long as another command.
    pub(crate) fn ratio(measured: &Measured, other: &Measured, limit: f64) -> Self {
        let ratio = measured.median().as_secs_f64() / other.median().as_secs_f64();
        Self { text: format!("{ratio:.2} × iprange (goal: at most {limit})"), met: ratio <= limit }
    }

    /// A peak below `limit` megabytes.
    pub(crate) fn memory(measured: &Measured, limit: u64) -> Self {
        Self { text: format!("under {limit} MB"), met: measured.peak < limit * 1_000_000 }
    }

    /// A median below `limit` seconds.
    pub(crate) fn seconds(measured: &Measured, limit: f64) -> Self {
        Self { text: format!("under {limit} s"), met: measured.median().as_secs_f64() < limit }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.text, if self.met { "met" } else { "MISSED" })
    }
}

struct Row {
    input: String,
    command: String,
    outcome: Result<(Measured, Vec<Goal>), String>,
}

/// All figures.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// A measured command.
    pub(crate) fn add(&mut self, input: &str, command: &str, measured: Measured, goals: Vec<Goal>) {
        self.rows.push(Row {
            input: input.to_owned(),
            command: command.to_owned(),
            outcome: Ok((measured, goals)),
        });
    }

    /// Something that could not be measured, and why.
    pub(crate) fn skip(&mut self, input: &str, reason: &str) {
        let (input, command) = (input.to_owned(), String::new());
        self.rows.push(Row { input, command, outcome: Err(reason.to_owned()) });
    }

    /// The figures for programs: seconds and bytes.
    pub(crate) fn json(&self) -> String {
        let rows: Vec<String> = self.rows.iter().map(json_row).collect();
        format!("{{\"results\":[{}]}}\n", rows.join(","))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<22} {:<16} {:>9} {:>18} {:>9}  goals",
            "input", "command", "median", "spread", "peak"
        )?;
        for Row { input, command, outcome } in &self.rows {
            match outcome {
                Ok((measured, goals)) => {
                    let milliseconds =
                        |time: &std::time::Duration| format!("{:.0}", time.as_secs_f64() * 1000.0);
                    let (first, last) = (&measured.times[0], &measured.times[measured.times.len() - 1]);
                    let goals: Vec<String> = goals.iter().map(Goal::to_string).collect();
                    writeln!(
                        f,
                        "{input:<22} {command:<16} {:>6} ms {:>15} ms {:>5} MiB  {}",
                        milliseconds(&measured.median()),
                        format!("{}–{}", milliseconds(first), milliseconds(last)),
                        measured.peak / MEBIBYTE,
                        goals.join("; ")
                    )?;
                }
                Err(reason) => writeln!(f, "{input:<22} skipped: {reason}")?,
            }
        }
        Ok(())
    }
}

fn json_row(row: &Row) -> String {
    let Row { input, command, outcome } = row;
    match outcome {
        Ok((measured, goals)) => {
            let times: Vec<String> =
                measured.times.iter().map(|time| format!("{:.6}", time.as_secs_f64())).collect();
            format!(
                "{{\"input\":{},\"command\":{},\"seconds\":[{}],\"median_seconds\":{:.6},\"peak_bytes\":{},\"goals_met\":{}}}",
                quoted(input),
                quoted(command),
                times.join(","),
                measured.median().as_secs_f64(),
                measured.peak,
                goals.iter().all(|goal| goal.met)
            )
        }
        Err(reason) => format!("{{\"input\":{},\"skipped\":{}}}", quoted(input), quoted(reason)),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Goal, Measured, Report};

    fn measured(milliseconds: u64) -> Measured {
        Measured { times: vec![Duration::from_millis(milliseconds)], peak: 5_000_000 }
    }

    #[test]
    fn shows_the_ratio_and_what_was_missed() {
        let mut report = Report::default();
        let (iprange, check) = (measured(100), measured(250));
        let goals = vec![Goal::ratio(&check, &iprange, 2.0), Goal::memory(&check, 600)];
        report.add("list", "nicgate check", check, goals);
        report.skip("countries", "no \"npm\"");
        let text = report.to_string();
        assert!(text.contains("2.50 × iprange (goal: at most 2): MISSED; under 600 MB: met"), "{text}");
        assert_eq!(
            report.json(),
            "{\"results\":[{\"input\":\"list\",\"command\":\"nicgate check\",\"seconds\":[0.250000],\
             \"median_seconds\":0.250000,\"peak_bytes\":5000000,\"goals_met\":false},\
             {\"input\":\"countries\",\"skipped\":\"no \\\"npm\\\"\"}]}\n"
        );
    }
}
