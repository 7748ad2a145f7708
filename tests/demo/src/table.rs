//! The table.

use std::fmt;

const HEAD: [&str; 7] = ["who", "sent", "expected", "seen", "stopped where", "by rule", "kernel"];

/// One line: its cells in the order of the head, and what differs from the expectation.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// who, sent, expected, seen, stopped where, by rule, the kernel's counter.
    pub(crate) cells: [String; 7],
    /// What was not as expected; empty when all was.
    pub(crate) differences: Vec<String>,
}

/// All lines, in groups.
#[derive(Default)]
pub(crate) struct Table {
    groups: Vec<(String, Vec<Row>)>,
}

impl Table {
    /// Begins a group.
    pub(crate) fn title(&mut self, title: &str) {
        self.groups.push((title.to_owned(), Vec::new()));
    }

    /// Adds a line to the last group.
    pub(crate) fn add(&mut self, row: Row) {
        if self.groups.is_empty() {
            self.title("");
        }
        if let Some((_, rows)) = self.groups.last_mut() {
            rows.push(row);
        }
    }

    /// Adds lines to the last group.
    pub(crate) fn add_all(&mut self, rows: Vec<Row>) {
        rows.into_iter().for_each(|row| self.add(row));
    }

    /// How many lines are as expected, and how many there are.
    pub(crate) fn score(&self) -> (usize, usize) {
        let rows = || self.groups.iter().flat_map(|(_, rows)| rows);
        (rows().filter(|row| row.differences.is_empty()).count(), rows().count())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = HEAD.map(|head| head.chars().count());
        for row in self.groups.iter().flat_map(|(_, rows)| rows) {
            for (width, cell) in widths.iter_mut().zip(&row.cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |f: &mut fmt::Formatter<'_>, mark: &str, cells: &[String; 7]| {
            let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(f, "{}", format!("{mark}  {}", cells.collect::<Vec<_>>().join("  ")).trim_end())
        };
        line(f, " ", &HEAD.map(str::to_owned))?;
        for (title, rows) in &self.groups {
            writeln!(f, "── {title}")?;
            for row in rows {
                line(f, if row.differences.is_empty() { "✓" } else { "✗" }, &row.cells)?;
                for difference in &row.differences {
                    writeln!(f, "     ✗ {difference}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, Table};

    #[test]
    fn columns_line_up_and_differences_count() {
        let row = |who: &str, differences: &[&str]| Row {
            cells: [who, "x", "x", "x", "x", "x", "x"].map(str::to_owned),
            differences: differences.iter().map(|text| (*text).to_owned()).collect(),
        };
        let mut table = Table::default();
        table.title("first");
        table.add(row("é", &[]));
        table.add(row("somebody", &["no answer"]));
        assert_eq!(table.score(), (1, 2));
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].starts_with("✓  é         x "), "{text}");
        assert!(lines[3].starts_with("✗  somebody  x "), "{text}");
        assert_eq!(lines[4], "     ✗ no answer");
    }
}
