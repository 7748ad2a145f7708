//! Several measurements of one thing: the middle one, and how far apart they are.

use std::fmt;

use serde_json::{Value, json};

/// Measurements, ascending; at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread(Vec<f64>);

impl Spread {
    /// Of these; `None` when there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Self(values))
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    /// The lowest.
    pub fn lowest(&self) -> f64 {
        self.0[0]
    }

    /// The highest.
    pub fn highest(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({"median": self.median(), "runs": self.0})
    }

    /// All of them, times a factor.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|value| value * factor).collect())
    }
}

impl fmt::Display for Spread {
    /// `MEDIAN (LOWEST–HIGHEST)`, with the formatter's precision, padded to its width.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let text =
            format!("{:.digits$} ({:.digits$}–{:.digits$})", self.median(), self.lowest(), self.highest());
        write!(f, "{text:>width$}", width = f.width().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_middle_one_and_both_ends() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.lowest(), spread.median(), spread.highest()), (1.0, 2.0, 3.0));
        assert_eq!(format!("{spread:.1}"), "2.0 (1.0–3.0)");
        assert_eq!(format!("{spread:>15.0}"), "        2 (1–3)");
        assert_eq!(Spread::of([]), None);
    }
}
