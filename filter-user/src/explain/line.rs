//! What an explanation is made of: rules, bans and steps, as they are shown.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{bans::Ban, model::Origin};

/// A rule, or another line that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleLine {
    /// The rule as written.
    pub text: String,
    /// Its file.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
}

impl RuleLine {
    pub(super) fn new(text: &str, origin: &Origin) -> Self {
        Self { text: text.to_owned(), file: origin.file.to_string(), line: origin.line }
    }
}

/// A runtime ban that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanLine {
    /// The banned prefix.
    pub prefix: String,
    /// The service, such as `80/tcp`; `None` for every one.
    pub service: Option<String>,
    /// Why, in the operator's words.
    pub reason: Option<Arc<str>>,
}

impl From<&Ban> for BanLine {
    fn from(ban: &Ban) -> Self {
        Self { prefix: ban.net.to_string(), service: ban.scope.service(), reason: ban.reason.clone() }
    }
}

/// One step of the judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLine {
    /// `ban`, `no_auto_token`, `drop`, `allow token` … `deny ua`, `backends`, `default`.
    pub step: String,
    /// What came of it.
    pub result: String,
    /// The line that matched.
    pub rule: Option<RuleLine>,
}

impl StepLine {
    pub(super) fn new(step: &str, result: impl Into<String>, rule: Option<RuleLine>) -> Self {
        Self { step: step.to_owned(), result: result.into(), rule }
    }
}
