//! What the backends said of a session, as it is remembered.

use std::{
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{moment::Moment, snapshot::Fingerprint};
use crate::{
    backend::{Answered, Conclusion, Redirect},
    judge::{Answer, Decision, Verdict},
};

/// How many different ones are remembered to be shared.
const MOST_SHARED: usize = 1024;

/// What backends said, without what is a session's own: most sessions of a policy share one.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) fingerprint: Fingerprint,
    pub(super) decision: Decision,
    pub(super) redirect: Option<Redirect>,
    pub(super) answers: Arc<[Answered]>,
    /// X-Max-Sessions.
    pub(super) max_sessions: Option<u32>,
    /// X-Unique.
    pub(super) unique: bool,
}

impl Said {
    /// All but how long it took.
    fn parts(&self) -> impl Hash + PartialEq {
        let answers: Vec<(Arc<str>, Option<Answer>, String)> = self
            .answers
            .iter()
            .map(|answered| (answered.backend.clone(), answered.answer, answered.why.clone()))
            .collect();
        let Decision { verdict, stage, rule } = self.decision;
        let redirect = self.redirect.as_ref().map(|to| (to.status, to.location.clone()));
        ((self.fingerprint, verdict, stage, rule), redirect, answers, self.max_sessions, self.unique)
    }

    pub(super) fn allows(&self) -> bool {
        self.decision.verdict == Verdict::Allow
    }
}

impl PartialEq for Said {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Said {}

impl Hash for Said {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// What was said of many sessions, kept once. A backend's answer comes here, a request does not.
#[derive(Debug, Default)]
pub(super) struct Sayings(Mutex<HashSet<Arc<Said>>>);

impl Sayings {
    pub(super) fn share(&self, fingerprint: Fingerprint, conclusion: &Conclusion) -> Arc<Said> {
        let Conclusion { decision, max_sessions, unique, redirect, answers, .. } = conclusion;
        let timeless = |answered: &Answered| Answered { took: Duration::ZERO, ..answered.clone() };
        let said = Arc::new(Said {
            fingerprint,
            decision: *decision,
            redirect: redirect.clone(),
            answers: answers.iter().map(timeless).collect(),
            max_sessions: *max_sessions,
            unique: *unique,
        });
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = shared.get(&said) {
            return same.clone();
        }
        if shared.len() >= MOST_SHARED {
            // Redirects can differ for everybody. Whoever has one goes on having it.
            shared.clear();
        }
        shared.insert(said.clone());
        said
    }
}

/// A verdict of the backends, and for how long it holds.
#[derive(Clone, Debug)]
pub(super) struct Cached {
    pub(super) said: Arc<Said>,
    pub(super) until: Moment,
    /// X-AuthDuration, in seconds; for a denial, how long it holds.
    pub(super) holds: u32,
}

impl Cached {
    /// Whether a request may rely on it. An admission that ran out still holds: the backends are asked again in the
    /// background, or the session ends.
    pub(super) fn holds(&self, fingerprint: Fingerprint, now: Moment) -> bool {
        self.said.fingerprint == fingerprint && (self.said.allows() || now < self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::DEFAULT_AUTH_DURATION,
        model::{PolicyBuilder, Stage},
    };

    fn conclusion(why: &str, took: u64) -> Conclusion {
        let answered = Answered {
            backend: "backend http://b/".into(),
            answer: Some(Answer::Allow),
            why: why.to_owned(),
            took: Duration::from_millis(took),
        };
        Conclusion {
            decision: Decision { verdict: Verdict::Allow, stage: Stage::Backend, rule: None },
            auth_duration: DEFAULT_AUTH_DURATION,
            user_id: None,
            max_sessions: Some(2),
            unique: false,
            redirect: None,
            answers: [answered].into(),
            overloaded: false,
        }
    }

    #[test]
    fn what_differs_in_time_only_is_kept_once() {
        let origin = crate::model::Origin { file: "a".into(), line: 1, column: 1 };
        let policy = PolicyBuilder {
            name: "p".into(),
            origin,
            rules: Vec::new(),
            backends: Vec::new(),
            default_allow: None,
            max_sessions: Default::default(),
            purpose: Default::default(),
        };
        let fingerprint = Fingerprint::of(&policy.build());
        let sayings = Sayings::default();
        let one = sayings.share(fingerprint, &conclusion("HTTP 200", 5));
        assert!(Arc::ptr_eq(&one, &sayings.share(fingerprint, &conclusion("HTTP 200", 7))));
        assert!(!Arc::ptr_eq(&one, &sayings.share(fingerprint, &conclusion("HTTP 204", 5))));
        for n in 0..2 * MOST_SHARED {
            sayings.share(fingerprint, &conclusion(&n.to_string(), 1));
        }
        assert!(sayings.0.lock().unwrap().len() <= MOST_SHARED);
        assert!(one.allows(), "who has one goes on having it");
    }
}
