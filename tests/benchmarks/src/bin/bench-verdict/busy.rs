//! A neighbour that leaves little of the processor's cache to others.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// Bytes that are copied over and over: more than a cache holds.
const BYTES: usize = 256 << 20;
/// Bytes of one copy, after which it is seen whether that was the last.
const STEP: usize = 1 << 20;

/// A thread that copies memory, as a media server does, until this is dropped.
pub(crate) struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    /// Starts it.
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (from, mut to) = (vec![1u8; BYTES], vec![0u8; BYTES]);
            let mut at = 0;
            while !seen.load(Ordering::Relaxed) {
                to[at..at + STEP].copy_from_slice(black_box(&from[at..at + STEP]));
                black_box(&mut to);
                at = (at + STEP) % BYTES;
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, the figures are still what was seen.
            let _ = thread.join();
        }
    }
}
