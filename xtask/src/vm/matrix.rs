//! What was seen on each kernel, side by side.

use std::fmt;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    Skipped,
}

/// One check on one kernel.
struct Cell {
    check: String,
    verdict: Verdict,
    detail: String,
}

/// One kernel.
pub(super) struct Column {
    kernel: String,
    cells: Vec<Cell>,
}

impl Column {
    /// Nothing was seen of it yet.
    pub(super) fn new(kernel: &str) -> Self {
        Self { kernel: kernel.to_owned(), cells: Vec::new() }
    }

    /// Reads a line of the checks' output: `check`, the verdict, the check's name and details, between tabs.
    /// Every other line is passed on.
    pub(super) fn read(&mut self, line: &str) {
        let fields: Vec<&str> = line.splitn(4, '\t').collect();
        let ["check", verdict, check, detail] = fields[..] else {
            println!("  {:<8} {line}", self.series());
            return;
        };
        let verdict = match verdict {
            "ok" => Verdict::Passed,
            "skipped" => Verdict::Skipped,
            _ => Verdict::Failed,
        };
        println!("  {:<8} {verdict:<7} {check}: {detail}", self.series());
        self.cells.push(Cell { check: check.to_owned(), verdict, detail: detail.to_owned() });
    }

    /// The machine did not get to its end.
    pub(super) fn died(&mut self, why: &str) {
        println!("  {:<8} the machine died: {why}", self.series());
        let detail = "died".to_owned();
        self.cells.push(Cell { check: "runs to its end".to_owned(), verdict: Verdict::Failed, detail });
    }

    /// How many checks failed.
    pub(super) fn failed(&self) -> u64 {
        self.count(Verdict::Failed)
    }

    /// The kernel's name, up to its second dot or first dash.
    fn series(&self) -> &str {
        let end = self.kernel.match_indices(['.', '-']).nth(1).map_or(self.kernel.len(), |(at, _)| at);
        &self.kernel[..end]
    }

    fn count(&self, verdict: Verdict) -> u64 {
        self.cells.iter().filter(|cell| cell.verdict == verdict).count() as u64
    }
}

/// All kernels.
#[derive(Default)]
pub(super) struct Matrix(Vec<Column>);

impl Matrix {
    /// Adds a kernel on the right.
    pub(super) fn add(&mut self, column: Column) {
        self.0.push(column);
    }

    /// How many checks passed.
    pub(super) fn passed(&self) -> u64 {
        self.0.iter().map(|column| column.count(Verdict::Passed)).sum()
    }

    /// How many checks failed.
    pub(super) fn failed(&self) -> u64 {
        self.0.iter().map(Column::failed).sum()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        })
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut checks: Vec<&str> = Vec::new();
        for cell in self.0.iter().flat_map(|column| &column.cells) {
            if !checks.contains(&&*cell.check) {
                checks.push(&cell.check);
            }
        }
        let cell = |column: &Column, check: &str| {
            let cell = column.cells.iter().find(|cell| cell.check == check);
            cell.map_or_else(|| "–".to_owned(), |cell| format!("{} {}", cell.verdict, cell.detail))
        };
        let first = checks.iter().map(|check| check.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = self
            .0
            .iter()
            .map(|column| {
                let cells = checks.iter().map(|check| cell(column, check).chars().count());
                cells.chain([column.kernel.chars().count()]).max().unwrap_or(0)
            })
            .collect();
        write!(f, "\n{:<first$}", "")?;
        for (column, width) in self.0.iter().zip(&widths) {
            write!(f, "  {:<width$}", column.kernel)?;
        }
        writeln!(f)?;
        for check in &checks {
            write!(f, "{check:<first$}")?;
            for (column, width) in self.0.iter().zip(&widths) {
                write!(f, "  {:<width$}", cell(column, check))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Column, Matrix};

    #[test]
    fn shows_every_check_of_every_kernel() {
        let mut old = Column::new("6.1");
        old.read("check\tok\tloads\t");
        old.read("check\tfailed\tpktgen\t3 lost");
        let mut new = Column::new("6.18");
        new.read("check\tok\tloads\t");
        new.read("check\tskipped\tother\tno such thing");
        let mut matrix = Matrix::default();
        matrix.add(old);
        matrix.add(new);
        assert_eq!((matrix.passed(), matrix.failed()), (2, 1));
        let text = matrix.to_string();
        assert!(text.contains("FAILED 3 lost"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("other") && line.contains('–')), "{text}");
    }
}
