//! Streams, and who judges what is done with them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Origin, PolicyId};

/// What a client wants to do with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Watch it: judged by `on_play`.
    Play,
    /// Send it: judged by `on_publish`.
    Publish,
}

impl Operation {
    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Play => "play",
            Self::Publish => "publish",
        }
    }
}

/// Who judges an operation on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// A policy judges.
    Policy(PolicyId),
    /// Everyone is admitted: there is no `on_play` or `on_publish`.
    Open,
    /// Nobody is admitted: the operation does not exist on this stream.
    Closed,
}

/// A stream, a VOD location, or a prefix under which streams appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name; requests whose normalised path has the name as a prefix on a `/` boundary are its own.
    pub name: Arc<str>,
    /// Who judges playing.
    pub on_play: Access,
    /// Who judges publishing. `Closed` when the stream takes no published input.
    pub on_publish: Access,
    /// How many may play it at once, over all gates, and where that is said.
    pub max_sessions: Option<(u32, Origin)>,
    /// Where the block begins.
    pub origin: Origin,
}

impl Access {
    /// The policy that judges, if one does.
    pub fn policy(&self) -> Option<PolicyId> {
        match self {
            Self::Policy(id) => Some(*id),
            Self::Open | Self::Closed => None,
        }
    }
}

impl Stream {
    /// Who judges this operation.
    pub fn access(&self, operation: Operation) -> &Access {
        match operation {
            Operation::Play => &self.on_play,
            Operation::Publish => &self.on_publish,
        }
    }

    /// How many may do that at once; `None` when it is not limited.
    pub fn most(&self, operation: Operation) -> Option<u32> {
        self.max_sessions.as_ref().filter(|_| operation == Operation::Play).map(|(most, _)| *most)
    }
}
