//! One line on a terminal that says how far a benchmark is.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

/// The line; on stderr, and only where that is a terminal. It is gone when this is dropped. Nothing is drawn but when a
/// step begins: a thread that draws meanwhile would be measured, too.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    steps: u64,
    done: u64,
    bar: ProgressBar,
}

impl Progress {
    /// Of this many steps, none is done.
    pub fn new(steps: usize) -> Self {
        let steps = steps as u64;
        Self { started: Instant::now(), steps, done: 0, bar: bar(steps) }
    }

    /// The next step begins.
    pub fn step(&mut self, what: &str) {
        if self.bar.is_finished() {
            self.bar = bar(self.steps).with_elapsed(self.started.elapsed());
        }
        self.done += 1;
        self.bar.set_position(self.done);
        self.bar.set_message(what.to_owned());
    }

    /// Takes the line away, so that something can be printed.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn bar(steps: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("[{pos}/{len}] {elapsed}  {wide_msg}").expect("the template is right");
    ProgressBar::new(steps).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::Progress;

    #[test]
    fn steps_are_counted_on_after_the_line_was_taken_away() {
        let mut progress = Progress::new(3);
        progress.step("one");
        progress.step("two");
        assert_eq!(progress.bar.position(), 2);
        progress.clear();
        progress.step("three");
        assert_eq!((progress.bar.position(), progress.bar.message().as_str()), (3, "three"));
    }
}
