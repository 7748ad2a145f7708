//! How a backend is asked.

use std::{fmt, sync::Arc, time::Duration};

/// How a backend is asked: what its block says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackendOptions {
    /// How many questions it is asked at once at most; fewer while it is slow.
    pub max_questions: usize,
    /// How long a question may take from when it is sent, connecting included; `None` for what holds for all.
    pub timeout: Option<Duration>,
    /// How long a question may wait for its turn.
    pub queue_timeout: Duration,
    /// Headers that every question has: names in lower case, in file order.
    pub headers: Arc<[(Arc<str>, Secret)]>,
    /// The authorities that are trusted in place of the system's.
    pub ca: Option<Pem>,
    /// Who nicgate is to the backend: a certificate with its chain, and its key.
    pub identity: Option<(Pem, Pem)>,
}

/// A text that nobody is to see who sees the rest of the configuration.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

/// A PEM text. Its bytes can be a key's, and are not shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pem {
    /// The file as the operator named it.
    pub path: Arc<str>,
    /// What is in it.
    pub bytes: Arc<[u8]>,
}

impl BackendOptions {
    /// How many questions a backend is asked at once unless it says otherwise.
    pub const MAX_QUESTIONS: usize = 256;
    /// How long a question may wait unless the backend says otherwise.
    pub const QUEUE_TIMEOUT: Duration = Duration::from_secs(3);
}

impl Default for BackendOptions {
    fn default() -> Self {
        Self {
            max_questions: Self::MAX_QUESTIONS,
            timeout: None,
            queue_timeout: Self::QUEUE_TIMEOUT,
            headers: Arc::default(),
            ca: None,
            identity: None,
        }
    }
}

impl Secret {
    /// Hides a text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({:?})", self.path)
    }
}
