//! Counting what passed and what failed, from the closing lines of cargo test and cargo nextest.

use std::fmt;

/// Outcomes, summed over everything that `cargo xtask test` runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// One check that passed or failed as a whole.
    pub(crate) fn one(passed: bool) -> Self {
        Self { passed: u64::from(passed), failed: u64::from(!passed) }
    }

    /// Adds another count.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// The count in a test runner's closing line; `None` for every other line.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let line = plain(line);
        // nextest shows, further in, what a failed test printed: the count of that one test.
        let counts =
            line.strip_prefix("test result: ").or_else(|| line.trim_start().strip_prefix("Summary ["))?;
        let counts = counts.trim_end();
        let words: Vec<&str> =
            counts.split_whitespace().map(|word| word.trim_matches([',', ';', '.'])).collect();
        let mut tally = Self::default();
        for pair in words.windows(3) {
            let Ok(number) = pair[0].parse::<u64>() else { continue };
            match (pair[1], pair[2]) {
                ("passed", _) => tally.passed += number,
                ("failed", _) | ("exec", "failed") | ("timed", "out") => tally.failed += number,
                _ => {}
            }
        }
        // The last count of a line has no third word.
        if let [.., number, "passed"] = words[..] {
            tally.passed += number.parse().unwrap_or(0);
        } else if let [.., number, "failed"] = words[..] {
            tally.failed += number.parse().unwrap_or(0);
        }
        Some(tally)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// The line without terminal colours.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        out.push_str(before);
        rest = after.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn what_a_failed_test_printed_is_not_counted() {
        assert_eq!(counts("    test result: FAILED. 0 passed; 1 failed; 0 ignored"), None);
    }

    fn counts(line: &str) -> Option<(u64, u64)> {
        Tally::read(line).map(|tally| (tally.passed, tally.failed))
    }

    #[test]
    fn reads_the_closing_lines_of_nextest() {
        assert_eq!(counts("     Summary [   0.003s] 3 tests run: 3 passed, 0 skipped"), Some((3, 0)));
        assert_eq!(
            counts(
                "     Summary [  61.003s] 9/12 tests run: 4 passed (1 slow, 1 leaky), 2 failed, 1 exec failed, 2 timed out, 7 skipped"
            ),
            Some((4, 5))
        );
        assert_eq!(
            counts(
                "\x1b[31;1m     Summary\x1b[0m [   1.0s] \x1b[1m2\x1b[0m tests run: \x1b[1m1\x1b[0m \x1b[32mpassed\x1b[0m, \x1b[1m1\x1b[0m \x1b[31mfailed\x1b[0m"
            ),
            Some((1, 1))
        );
    }

    #[test]
    fn reads_the_closing_lines_of_cargo_test() {
        assert_eq!(
            counts(
                "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n"
            ),
            Some((5, 2))
        );
    }

    #[test]
    fn takes_no_other_line_for_a_count() {
        assert_eq!(counts("        PASS [   0.010s] tests::netns 5 passed"), None);
        assert_eq!(counts("3 passed, 4 failed"), None);
    }
}
