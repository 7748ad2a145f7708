//! Asking all backends of a policy in parallel.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderValue, StatusCode};
use serde::Serialize;
use tokio::{task::JoinSet, time::Instant};
use url::Url;

use super::{
    AskLimits, BackendStatus, Question,
    endpoint::{Endpoint, NotSent, Said},
    http_backend::HttpClient,
    resolve::Names,
    secure_token,
    terms::Terms,
};
use crate::{
    judge::{Answer, Decision},
    kernel::wall_clock,
    limits::LimitHits,
    model::{Authority, BackendOptions, Config, Limit, Policy},
};

/// Where a backend sends the client instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The status: 3xx.
    pub status: StatusCode,
    /// The Location header as the backend gave it.
    pub location: HeaderValue,
}

/// What one backend said.
#[derive(Clone, Debug, Serialize)]
pub struct Answered {
    /// The line of the policy, without secrets: `backend http://examplehost/auth`.
    pub backend: Arc<str>,
    /// The answer; `None` when another backend allowed first.
    pub answer: Option<Answer>,
    /// Why: `HTTP 403`, `refused`, `timed out after 3s`.
    pub why: String,
    /// How long it took.
    pub took: Duration,
}

/// What the backends of a policy said together.
#[derive(Clone, Debug)]
pub struct Conclusion {
    /// The decision; its stage is the backends, or the default when none responded.
    pub decision: Decision,
    /// How long the decision holds: X-AuthDuration of the backend that allowed.
    pub auth_duration: Duration,
    /// X-UserId of the backend that allowed.
    pub user_id: Option<Arc<str>>,
    /// X-Max-Sessions of the backend that allowed.
    pub max_sessions: Option<u32>,
    /// X-Unique of the backend that allowed.
    pub unique: bool,
    /// Where a refused client is sent: the first redirect, in file order.
    pub redirect: Option<Redirect>,
    /// Each backend's answer, in file order.
    pub answers: Arc<[Answered]>,
    /// A backend was not asked, for a limit of nicgate's own, and none allowed: the decision means nothing then.
    pub overloaded: bool,
}

/// Whether anybody still waits for an answer; looked at just before a question is sent.
pub type Wanted = dyn Fn() -> bool + Send + Sync;

impl Conclusion {
    /// Whether any backend responded at all.
    pub fn responded(&self) -> bool {
        self.answers.iter().any(|answered| matches!(answered.answer, Some(Answer::Allow | Answer::Ban)))
    }
}

impl AskLimits {
    /// What a configuration says.
    pub fn of(config: &Config) -> Self {
        let defaults = Self::within(config.backend_timeout);
        Self {
            timeout: config.backend_timeout,
            waiting: config.limits.count(Limit::Questions, defaults.waiting),
            waiting_per_address: config
                .limits
                .count(Limit::QuestionsPerAddress, defaults.waiting_per_address),
        }
    }

    /// The defaults, with a time for each question.
    pub fn within(timeout: Duration) -> Self {
        Self {
            timeout,
            waiting: Limit::Questions.default_count(),
            waiting_per_address: Limit::QuestionsPerAddress.default_count(),
        }
    }

    /// How long asking the backends of `policy` can take, with the waiting for a turn.
    pub fn longest(&self, policy: &Policy) -> Duration {
        let of = |options: &BackendOptions| options.queue_timeout + options.timeout.unwrap_or(self.timeout);
        policy.backends().iter().map(|backend| of(&backend.options)).max().unwrap_or_default()
    }
}

/// By what makes a backend another one: where it is, and how it is asked, of which there is rarely more than one way.
type Endpoints = HashMap<Url, Vec<(BackendOptions, Arc<Endpoint>)>>;

/// Asks backends. Holds their pooled connections: keep one for the life of the process.
#[derive(Clone, Debug)]
pub struct Backends {
    endpoints: Arc<Mutex<Endpoints>>,
    names: Names,
    hits: Arc<LimitHits>,
}

impl Default for Backends {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Backends {
    /// No connection is made before the first question. What its limits keep from being asked is counted in `hits`.
    pub fn new(hits: Arc<LimitHits>) -> Self {
        Self { endpoints: Arc::default(), names: Names::default(), hits }
    }

    fn endpoints(&self) -> MutexGuard<'_, Endpoints> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a backend of the policy is asked; `None` for those that are not asked over HTTP.
    fn endpoint(&self, policy: &Policy, place: usize) -> Option<Arc<Endpoint>> {
        let backend = &policy.backends()[place];
        let Authority::Http(url) = &backend.authority else { return None };
        let new = || {
            // The first word of the line is the directive.
            let label = &policy.backend_labels()[place];
            let label = label.split_once(' ').map_or(&**label, |(_, url)| url);
            let client = HttpClient::new(url, backend.options.clone(), self.names.clone());
            Endpoint::new(label.into(), client, backend.options.clone(), self.hits.clone())
        };
        let mut endpoints = self.endpoints();
        let known = endpoints.get(url).into_iter().flatten().find(|(options, _)| *options == backend.options);
        if let Some((_, endpoint)) = known {
            return Some(endpoint.clone());
        }
        let endpoint = new();
        endpoints.entry(url.clone()).or_default().push((backend.options.clone(), endpoint.clone()));
        Some(endpoint)
    }

    /// Every backend that was asked, in alphabetical order: how it stands, and what was counted.
    pub fn status(&self) -> Vec<BackendStatus> {
        let endpoints: Vec<_> =
            self.endpoints().values().flatten().map(|(_, endpoint)| endpoint.clone()).collect();
        let mut all: Vec<_> = endpoints.iter().map(|endpoint| endpoint.status()).collect();
        all.sort_by(|a, b| a.backend.cmp(&b.backend));
        all
    }

    /// Forgets the backends that `config` does not have, and their counters.
    pub fn retain(&self, config: &Config) {
        let backends = config.policies.iter().flat_map(Policy::backends);
        let named: HashSet<_> = backends
            .filter_map(|backend| match &backend.authority {
                Authority::Http(url) => Some((url, &backend.options)),
                _ => None,
            })
            .collect();
        self.endpoints().retain(|url, ways| {
            ways.retain(|(options, _)| named.contains(&(url, options)));
            !ways.is_empty()
        });
    }

    /// Asks every backend of `policy` in parallel and concludes: at the latest after `timeout` and the time that
    /// waiting for a turn may take.
    ///
    /// Dropping the future cancels the questions.
    pub async fn ask(&self, policy: &Policy, question: Question, timeout: Duration) -> Conclusion {
        self.ask_while(policy, question, AskLimits::within(timeout), Arc::new(|| true)).await
    }

    /// [`Self::ask`], as long as anybody wants to know when a question's turn comes.
    pub async fn ask_while(
        &self,
        policy: &Policy,
        question: Question,
        limits: AskLimits,
        wanted: Arc<Wanted>,
    ) -> Conclusion {
        let begun = Instant::now();
        let question = Arc::new(question);
        let mut asked = JoinSet::new();
        for (place, backend) in policy.backends().iter().enumerate() {
            let endpoint = self.endpoint(policy, place);
            let (authority, question) = (backend.authority.clone(), question.clone());
            let wanted = wanted.clone();
            asked.spawn(async move {
                let said = match endpoint {
                    Some(endpoint) => endpoint.ask(&question, &limits, &*wanted).await,
                    None => Ok(answer_here(&authority, &question)),
                };
                (place, said, begun.elapsed())
            });
        }
        conclude(policy, asked).await
    }
}

/// Waits for the answers of a policy's backends until one allows, or all have ended.
async fn conclude(
    policy: &Policy,
    mut asked: JoinSet<(usize, Result<Said, NotSent>, Duration)>,
) -> Conclusion {
    let unanswered = |label: &Arc<str>| Answered {
        backend: label.clone(),
        answer: None,
        why: "not waited for".to_owned(),
        took: Duration::ZERO,
    };
    let mut answers: Vec<Answered> = policy.backend_labels().iter().map(unanswered).collect();
    let mut redirects = vec![None; answers.len()];
    let mut not_sent = false;
    let mut allowed_on = None;
    while let Some(joined) = asked.join_next().await {
        // A task that panicked stays "not waited for" and counts as down below.
        let Ok((place, said, took)) = joined else { continue };
        let Said { answer, why, terms, redirect } = match said {
            Ok(said) => said,
            Err(why) => {
                not_sent = true;
                why.why().clone_into(&mut answers[place].why);
                continue;
            }
        };
        answers[place].answer = Some(answer);
        answers[place].why = why;
        answers[place].took = took;
        redirects[place] = redirect;
        if answer == Answer::Allow {
            allowed_on = Some(terms);
            break;
        }
    }
    let said: Vec<Answer> = answers.iter().map(|answered| answered.answer.unwrap_or(Answer::Down)).collect();
    let allowed = allowed_on.is_some();
    let Terms { auth_duration, user_id, max_sessions, unique, unread: _ } = allowed_on.unwrap_or_default();
    Conclusion {
        decision: policy.conclude(&said),
        auth_duration,
        user_id,
        max_sessions,
        unique,
        redirect: redirects.into_iter().flatten().next().filter(|_| !allowed),
        answers: answers.into(),
        overloaded: not_sent && !allowed,
    }
}

/// The answer of an authority that is not asked over HTTP.
fn answer_here(authority: &Authority, question: &Question) -> Said {
    match authority {
        // Where it is asked is another question.
        Authority::Http(_) => Said::plain(Answer::Down, "not asked"),
        Authority::Iptv => {
            Said::plain(Answer::Down, "iptv: the subscriber database of Flussonic cannot be asked")
        }
        Authority::Script(_) => {
            Said::plain(Answer::Down, "script: nicgate does not run the media server's scripts")
        }
        Authority::SecureToken(key) => match question.request.token.as_deref() {
            None => Said::plain(Answer::Ban, "no token"),
            Some(token) => {
                let now = wall_clock().as_secs();
                match secure_token::verify(key, &question.name, question.address, token, now) {
                    Ok(()) => Said::plain(Answer::Allow, "token is right"),
                    Err(why) => Said::plain(Answer::Ban, why),
                }
            }
        },
    }
}
