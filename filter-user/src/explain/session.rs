//! What holds of the session that a request belongs to, once it is admitted.

use serde::{Deserialize, Serialize};

use super::line::RuleLine;
use crate::model::{Config, Operation, PolicyId, Stream};

/// What holds of a session: only a gate knows of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLine {
    /// The lines that limit how many there are; a backend can say more (X-Max-Sessions).
    pub limits: Vec<RuleLine>,
    /// Whether it goes on from another address: `off`, `token`, or `ip_prefix` with two lengths.
    pub follows: String,
}

impl SessionLine {
    pub(super) fn of(
        config: &Config,
        policy: Option<PolicyId>,
        stream: Option<(&Stream, Operation)>,
    ) -> Self {
        let policy = policy.map(|id| config.policy(id).max_sessions());
        let lines = policy.into_iter().flat_map(|most| most.lines());
        let mut limits: Vec<_> = lines.map(|(text, origin)| RuleLine::new(&text, origin)).collect();
        if let Some((stream, Operation::Play)) = stream
            && let Some((most, origin)) = &stream.max_sessions
        {
            limits.push(RuleLine::new(&format!("max_sessions {most}"), origin));
        }
        Self { limits, follows: config.sessions.follows.to_string() }
    }
}
