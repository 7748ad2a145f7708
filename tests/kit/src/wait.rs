//! Waiting for something to become so, on machines of any speed.

use std::time::Duration;

/// How long anything may take before a test gives up: generous, because machines are slow.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something is so; a test that waits in vain says for what.
///
/// # Panics
///
/// When it is not so for [`PATIENCE`].
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never so: {what}");
}
