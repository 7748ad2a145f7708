//! One HTTP backend: who may ask it now, what it answers, and what that says of it.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::StatusCode;
use tokio::time::timeout;

use super::{
    Question, Redirect, Wanted,
    breaker::{Breaker, Permit},
    concurrency::Outcome,
    counters::{BackendStatus, Counters, Standing, add},
    http_backend::{HttpClient, Sent, answer_of, discard, redirect_of},
    terms::Terms,
    turns::{Load, NoTurn, Room, Turn, Turns},
};
use crate::{
    address::subscriber,
    judge::Answer,
    limits::{LimitHits, Throttle},
    model::{BackendOptions, Limit},
};

/// What one backend said.
pub(super) struct Said {
    pub(super) answer: Answer,
    pub(super) why: String,
    pub(super) terms: Terms,
    pub(super) redirect: Option<Redirect>,
}

impl Said {
    /// An answer without terms.
    pub(super) fn plain(answer: Answer, why: impl Into<String>) -> Self {
        Self { answer, why: why.into(), terms: Terms::default(), redirect: None }
    }
}

/// Why a question was not sent, for no reason that lies with the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// For a limit of nicgate's own.
    Limited(Limit),
    /// Nobody waits for the answer any more.
    Unwanted,
}

impl NotSent {
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Limited(Limit::QueueTimeout) => "not asked: no turn came in time",
            Self::Limited(Limit::OpenFiles) => "not asked: no socket could be opened",
            Self::Limited(_) => "not asked: too many questions wait for the backend",
            Self::Unwanted => "not asked: nobody waits for the answer any more",
        }
    }
}

/// What holds for all backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskLimits {
    /// How long a question may take from when it is sent, where the backend does not say.
    pub timeout: Duration,
    /// How many questions may wait for one backend.
    pub waiting: usize,
    /// How many of them one address may cause.
    pub waiting_per_address: usize,
}

/// One HTTP backend.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Its URL, without secrets.
    label: Arc<str>,
    options: BackendOptions,
    client: HttpClient,
    turns: Arc<Turns>,
    breaker: Mutex<Breaker>,
    counters: Counters,
    hits: Arc<LimitHits>,
    said: [Throttle; 4],
}

/// What is said of a backend once a minute, each for itself.
#[derive(Clone, Copy)]
enum Topic {
    Silent,
    Recovered,
    Failure,
    Terms,
}

impl Endpoint {
    pub(super) fn new(
        label: Arc<str>,
        client: HttpClient,
        options: BackendOptions,
        hits: Arc<LimitHits>,
    ) -> Arc<Self> {
        Arc::new(Self {
            label,
            turns: Turns::new(options.max_questions),
            options,
            client,
            breaker: Mutex::default(),
            counters: Counters::default(),
            hits,
            said: Default::default(),
        })
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands, and what was counted.
    pub(super) fn status(&self) -> BackendStatus {
        let Load { in_flight, waiting, limit } = self.turns.load();
        let not_responding = self.breaker().open_since().map(|since| since.elapsed());
        self.counters.read(Standing {
            backend: self.label.clone(),
            in_flight,
            waiting,
            limit,
            max_questions: self.options.max_questions,
            not_responding,
        })
    }

    /// Asks, when it is the question's turn and somebody still wants to know.
    pub(super) async fn ask(
        self: &Arc<Self>,
        question: &Question,
        limits: &AskLimits,
        wanted: &Wanted,
    ) -> Result<Said, NotSent> {
        let address = subscriber(question.address);
        let permit = self.breaker().permit(address, Instant::now());
        let mut sending = Sending { endpoint: self, address, probe: permit == Permit::Probe, sent: false };
        let turn = match permit {
            Permit::NotResponding => return Ok(self.short_circuited()),
            // It goes before all others, and never beyond what the backend is asked at once.
            Permit::Probe => match self.turns.try_take(address) {
                Some(turn) => turn,
                None => return Ok(self.short_circuited()),
            },
            Permit::Ask => match self.turn(address, limits).await {
                Ok(turn) => turn,
                Err(Some(not_sent)) => return Err(not_sent),
                Err(None) => return Ok(self.short_circuited()),
            },
        };
        if !wanted() {
            add(&self.counters.unwanted);
            return Err(NotSent::Unwanted);
        }
        add(&self.counters.asked);
        sending.sent = true;
        let time = self.options.timeout.unwrap_or(limits.timeout);
        let at = Instant::now();
        let answer = timeout(time, self.client.ask(question)).await;
        sending.sent = false;
        if let Ok(Sent::Starved(why)) = &answer {
            let remedy =
                "answered 503, a backend could not be connected to: raise the hard limit of open files";
            self.hits.hit(Limit::OpenFiles, why, &self.label, remedy);
            return Err(NotSent::Limited(Limit::OpenFiles));
        }
        Ok(self.ended(answer.ok(), at, time, turn, sending))
    }

    /// Waits for a turn; `Err(None)` when the backend was found not to respond meanwhile.
    async fn turn(&self, address: IpAddr, limits: &AskLimits) -> Result<Turn, Option<NotSent>> {
        let room = Room { all: limits.waiting, per_address: limits.waiting_per_address };
        let waited = self.options.queue_timeout;
        let limited = |limit: Limit, value: &dyn fmt::Display, remedy: &str| {
            self.hits.hit(limit, value, format_args!("{address} at {}", self.label), remedy);
            Err(Some(NotSent::Limited(limit)))
        };
        let full = "answered 503: the backend is too slow for so many viewers, or somebody invents tokens";
        match timeout(waited, self.turns.take(address, room)).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(NoTurn::NotResponding)) => Err(None),
            Ok(Err(NoTurn::Full)) => {
                add(&self.counters.queue_full);
                limited(Limit::Questions, &room.all, full)
            }
            Ok(Err(NoTurn::AddressFull)) => {
                add(&self.counters.queue_full);
                limited(Limit::QuestionsPerAddress, &room.per_address, full)
            }
            Err(_) => {
                add(&self.counters.queue_timed_out);
                limited(Limit::QueueTimeout, &format_args!("{waited:?}"), full)
            }
        }
    }

    fn short_circuited(&self) -> Said {
        add(&self.counters.short_circuited);
        Said::plain(Answer::Down, "not asked: it has not responded for a while")
    }

    /// Takes note of how a question ended; `None` when it was not answered in time.
    fn ended(
        &self,
        sent: Option<Sent>,
        at: Instant,
        time: Duration,
        turn: Turn,
        sending: Sending<'_>,
    ) -> Said {
        let took = at.elapsed();
        let (counter, why) = match sent {
            Some(Sent::Answered(response)) => {
                let (head, body) = response.into_parts();
                turn.note(Outcome::Answered(took), at, time);
                // The backend is at work until its answer is whole.
                tokio::spawn(async move {
                    discard(body).await;
                    drop(turn);
                });
                self.counters.took(took);
                self.responds();
                return self.answered(head.status, &head.headers);
            }
            Some(Sent::Refused(why)) => (&self.counters.refused, why),
            Some(Sent::Broken(why)) => (&self.counters.broken, why),
            Some(Sent::Untrusted(why)) => (&self.counters.untrusted, why),
            // It was not sent, which was seen to above.
            Some(Sent::Starved(why)) => return Said::plain(Answer::Down, why),
            None => {
                turn.note(Outcome::TimedOut, at, time);
                (&self.counters.timed_out, format!("timed out after {time:?}"))
            }
        };
        add(counter);
        self.failure(&why);
        sending.failed(turn);
        Said::plain(Answer::Down, why)
    }

    fn answered(&self, status: StatusCode, headers: &http::HeaderMap) -> Said {
        let answer = answer_of(status);
        let why = format!("HTTP {}", status.as_u16());
        add(match answer {
            Answer::Allow => &self.counters.allowed,
            Answer::Ban => &self.counters.banned,
            Answer::Down => {
                self.failure(&why);
                &self.counters.failed
            }
        });
        let terms = if answer == Answer::Allow { Terms::of(headers) } else { Terms::default() };
        if !terms.unread.is_empty() {
            add(&self.counters.bad_terms);
            if let Some(held_back) = self.say(Topic::Terms) {
                tracing::warn!(
                    backend = %self.label, headers = ?terms.unread, since_last_said = held_back,
                    "a backend's answer has headers that are not numbers; they are as if they were not there"
                );
            }
        }
        Said { answer, why, terms, redirect: redirect_of(status, headers) }
    }

    fn say(&self, topic: Topic) -> Option<u64> {
        self.said[topic as usize].say()
    }

    fn failure(&self, why: &str) {
        if let Some(held_back) = self.say(Topic::Failure) {
            tracing::warn!(
                backend = %self.label, why, since_last_said = held_back,
                "a backend did not answer a question; all are counted, one a minute is logged"
            );
        }
    }

    fn responds(&self) {
        let Some(silence) = self.breaker().answered(Instant::now()) else { return };
        self.turns.restart();
        if let Some(held_back) = self.say(Topic::Recovered) {
            let seconds = silence.as_secs_f64();
            tracing::info!(backend = %self.label, seconds, since_last_said = held_back, "a backend responds again");
        }
    }
}

/// A question on its way; dropped before it has ended, it is given up.
struct Sending<'a> {
    endpoint: &'a Endpoint,
    address: IpAddr,
    probe: bool,
    sent: bool,
}

impl Sending<'_> {
    /// It was not answered. Its turn is handed on when that is known.
    fn failed(mut self, _turn: Turn) {
        let probe = std::mem::take(&mut self.probe);
        let endpoint = self.endpoint;
        if !endpoint.breaker().failed(self.address, probe, Instant::now()) {
            return;
        }
        add(&endpoint.counters.outages);
        endpoint.turns.not_responding();
        if let Some(held_back) = endpoint.say(Topic::Silent) {
            tracing::warn!(
                backend = %endpoint.label, since_last_said = held_back,
                "a backend does not respond: it is not asked for now, but for one question a second, and counts as \
                 not responding at once"
            );
        }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.endpoint.breaker().gave_up();
        }
        if self.sent {
            add(&self.endpoint.counters.abandoned);
        }
    }
}
