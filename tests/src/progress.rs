//! One line on a terminal that says how far a benchmark is.

use std::{
    io::{IsTerminal, Write},
    time::Instant,
};

/// The line; on stderr, and only where that is a terminal. It is gone when this is dropped.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    steps: usize,
    done: usize,
    terminal: bool,
}

impl Progress {
    /// Of this many steps, none is done.
    pub fn new(steps: usize) -> Self {
        Self { started: Instant::now(), steps, done: 0, terminal: std::io::stderr().is_terminal() }
    }

    /// The next step begins.
    pub fn step(&mut self, what: &str) {
        if self.terminal {
            let line = line(self.done, self.steps, self.started.elapsed().as_secs(), what);
            // Nobody is there to read it: no reason to stop measuring.
            let _ = write!(std::io::stderr(), "\r\x1b[2K{line}");
        }
        self.done += 1;
    }

    /// Takes the line away, so that something can be printed.
    pub fn clear(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(done: usize, steps: usize, seconds: u64, what: &str) -> String {
    let line = format!("[{}/{steps}] {seconds} s  {what}", done + 1);
    line.chars().take(78).collect()
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_line_fits_a_terminal() {
        assert_eq!(line(2, 10, 61, "v4"), "[3/10] 61 s  v4");
        assert_eq!(line(0, 10, 0, &"–".repeat(100)).chars().count(), 78);
    }
}
