//! Asking all backends of a policy in parallel.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    Question,
    http_backend::{HttpAnswer, HttpClient, NotSent},
    secure_token,
};
use crate::{
    judge::{Answer, Decision},
    kernel::wall_clock,
    model::{Authority, Policy},
};

/// How long a verdict holds when the backend does not say.
pub const DEFAULT_AUTH_DURATION: Duration = Duration::from_secs(180);
/// The longest that a backend can make a verdict hold; the shortest is one second.
pub const MAX_AUTH_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);

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

/// Asks backends. Holds their pooled connections: keep one for the life of the process.
#[derive(Clone, Debug)]
pub struct Backends {
    http: Arc<HttpClient>,
}

impl Default for Backends {
    fn default() -> Self {
        Self::new()
    }
}

impl Backends {
    /// No connection is made before the first question.
    pub fn new() -> Self {
        Self { http: Arc::new(HttpClient::new()) }
    }

    /// Asks every backend of `policy` in parallel and concludes: at the latest after `timeout` and the time that
    /// waiting for a turn may take.
    ///
    /// Dropping the future cancels the questions.
    pub async fn ask(&self, policy: &Policy, question: Question, timeout: Duration) -> Conclusion {
        self.ask_while(policy, question, timeout, Arc::new(|| true)).await
    }

    /// [`Self::ask`], as long as anybody wants to know when a question's turn comes.
    pub async fn ask_while(
        &self,
        policy: &Policy,
        question: Question,
        timeout: Duration,
        wanted: Arc<Wanted>,
    ) -> Conclusion {
        let begun = Instant::now();
        let question = Arc::new(question);
        let mut asked = JoinSet::new();
        let mut answers: Vec<Answered> = policy
            .backend_labels()
            .iter()
            .map(|label| Answered {
                backend: label.clone(),
                answer: None,
                why: "not waited for".to_owned(),
                took: Duration::ZERO,
            })
            .collect();
        let mut redirects = vec![None; answers.len()];
        for (place, backend) in policy.backends().iter().enumerate() {
            let http = self.http.clone();
            let authority = backend.authority.clone();
            let question = question.clone();
            let wanted = wanted.clone();
            asked.spawn(async move {
                let turn = match &authority {
                    Authority::Http(url) => match http.turn(url, &question, &*wanted).await {
                        Ok(turn) => Some(turn),
                        Err(not_sent) => return (place, Err(not_sent), begun.elapsed()),
                    },
                    _ => None,
                };
                let one = one(&http, &authority, &question);
                let answer = timeout_at(Instant::now() + timeout, one)
                    .await
                    .unwrap_or_else(|_| HttpAnswer::down(format!("timed out after {timeout:?}")));
                drop(turn);
                (place, Ok(answer), begun.elapsed())
            });
        }
        let mut not_sent = false;
        let mut terms = HeaderMap::new();
        while let Some(joined) = asked.join_next().await {
            // A task that panicked stays "not waited for" and counts as down below.
            let Ok((place, answer, took)) = joined else { continue };
            let HttpAnswer { answer, why, headers, redirect } = match answer {
                Ok(answer) => answer,
                Err(NotSent(why)) => {
                    not_sent = true;
                    why.clone_into(&mut answers[place].why);
                    continue;
                }
            };
            answers[place].answer = Some(answer);
            answers[place].why = why;
            answers[place].took = took;
            redirects[place] = redirect;
            if answer == Answer::Allow {
                terms = headers;
                break;
            }
        }
        let said: Vec<Answer> =
            answers.iter().map(|answered| answered.answer.unwrap_or(Answer::Down)).collect();
        let decision = policy.conclude(&said);
        let allowed = said.contains(&Answer::Allow);
        Conclusion {
            decision,
            auth_duration: auth_duration(&terms),
            user_id: text(&terms, "x-userid").map(Into::into),
            max_sessions: text(&terms, "x-max-sessions").and_then(|text| text.parse().ok()),
            unique: text(&terms, "x-unique").is_some_and(|text| text.eq_ignore_ascii_case("true")),
            redirect: redirects.into_iter().flatten().next().filter(|_| !allowed),
            answers: answers.into(),
            overloaded: not_sent && !allowed,
        }
    }
}

async fn one(http: &HttpClient, authority: &Authority, question: &Question) -> HttpAnswer {
    let (answer, why) = match authority {
        Authority::Http(url) => return http.ask(url, question).await,
        Authority::Iptv => (Answer::Down, "iptv: the subscriber database of Flussonic cannot be asked"),
        Authority::Script(_) => (Answer::Down, "script: nicgate does not run the media server's scripts"),
        Authority::SecureToken(key) => {
            let now = wall_clock().as_secs();
            match question.request.token.as_deref() {
                None => (Answer::Ban, "no token"),
                Some(token) => {
                    match secure_token::verify(key, &question.name, question.address, token, now) {
                        Ok(()) => (Answer::Allow, "token is right"),
                        Err(why) => (Answer::Ban, why),
                    }
                }
            }
        }
    };
    HttpAnswer { answer, why: why.to_owned(), headers: HeaderMap::new(), redirect: None }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
}

fn auth_duration(headers: &HeaderMap) -> Duration {
    text(headers, "x-authduration")
        .and_then(|text| text.parse().ok())
        .map_or(DEFAULT_AUTH_DURATION, |seconds| {
            Duration::from_secs(seconds).clamp(Duration::from_secs(1), MAX_AUTH_DURATION)
        })
}
