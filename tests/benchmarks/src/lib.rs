//! What the benchmarks share: running a program on one frame and on many, samples and goals, progress, plots and the
//! files of results.

pub mod goal;
pub mod plot;
pub mod progress;
pub mod results;
pub mod samples;
pub mod test_run;
pub mod varying_frames;
pub mod xdp_filter;
