//! How a backend is asked.

use std::time::Duration;

/// How a backend is asked: what its block says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackendOptions {
    /// How many questions it is asked at once at most; fewer while it is slow.
    pub max_questions: usize,
    /// How long a question may take from when it is sent, connecting included; `None` for what holds for all.
    pub timeout: Option<Duration>,
    /// How long a question may wait for its turn.
    pub queue_timeout: Duration,
}

impl BackendOptions {
    /// How many questions a backend is asked at once unless it says otherwise.
    pub const MAX_QUESTIONS: usize = 256;
    /// How long a question may wait unless the backend says otherwise.
    pub const QUEUE_TIMEOUT: Duration = Duration::from_secs(3);
}

impl Default for BackendOptions {
    fn default() -> Self {
        Self { max_questions: Self::MAX_QUESTIONS, timeout: None, queue_timeout: Self::QUEUE_TIMEOUT }
    }
}
