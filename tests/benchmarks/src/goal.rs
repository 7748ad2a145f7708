//! What a figure is to reach, and whether it does.

use std::fmt;

use serde_json::{Value, json};

/// A goal, and what was seen of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    what: String,
    wanted: String,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Seen { text: String, met: bool },
    NotMeasured(String),
}

impl Goal {
    /// Met at `limit` and above. Figures are shown with these digits after the point, and then the unit.
    pub fn at_least(what: &str, seen: f64, limit: f64, digits: usize, unit: &str) -> Self {
        Self::new(what, format!("at least {limit}{unit}"), format!("{seen:.digits$}{unit}"), seen >= limit)
    }

    /// Met at `limit` and below.
    pub fn at_most(what: &str, seen: f64, limit: f64, digits: usize, unit: &str) -> Self {
        Self::new(what, format!("at most {limit}{unit}"), format!("{seen:.digits$}{unit}"), seen <= limit)
    }

    /// Nothing was seen, and why.
    pub fn not_measured(what: &str, wanted: &str, why: &str) -> Self {
        let (what, wanted) = (what.to_owned(), wanted.to_owned());
        Self { what, wanted, outcome: Outcome::NotMeasured(why.to_owned()) }
    }

    fn new(what: &str, wanted: String, text: String, met: bool) -> Self {
        Self { what: what.to_owned(), wanted, outcome: Outcome::Seen { text, met } }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let (seen, met) = match &self.outcome {
            Outcome::Seen { text, met } => (text, Some(met)),
            Outcome::NotMeasured(why) => (why, None),
        };
        json!({"goal": self.what, "wanted": self.wanted, "seen": seen, "met": met})
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, wanted, outcome } = self;
        match outcome {
            Outcome::Seen { text, met } => {
                write!(f, "{what}: {text} (goal: {wanted}): {}", if *met { "met" } else { "MISSED" })
            }
            Outcome::NotMeasured(why) => write!(f, "{what} (goal: {wanted}): not measured: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Goal;

    #[test]
    fn the_limit_itself_meets_the_goal() {
        let goal = Goal::at_most("cost", 15.0, 15.0, 1, " ns");
        assert_eq!(goal.to_string(), "cost: 15.0 ns (goal: at most 15 ns): met");
        assert_eq!(goal.json()["met"], true);
        let goal = Goal::at_least("ratio", 29.9, 30.0, 1, " ×");
        assert_eq!(goal.to_string(), "ratio: 29.9 × (goal: at least 30 ×): MISSED");
        assert_eq!(goal.json()["met"], false);
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let goal = Goal::not_measured("drop", "at most 1", "there is no xdp-filter");
        assert_eq!(goal.to_string(), "drop (goal: at most 1): not measured: there is no xdp-filter");
        assert!(goal.json()["met"].is_null());
    }
}
