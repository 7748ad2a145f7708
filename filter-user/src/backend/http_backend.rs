//! HTTP backends in Flussonic's protocol.

use std::{
    collections::HashMap,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;
use url::Url;

use super::{
    Question, Redirect, Wanted,
    turns::{LineFull, Turn, Turns},
};
use crate::{judge::Answer, model::Operation};

/// How many questions one backend is asked at the same time.
pub const QUESTIONS_PER_BACKEND: usize = 256;
/// How long a question may wait for its turn.
pub const TURN_WAIT: Duration = Duration::from_secs(3);
/// How much of an answer's body is read, in bytes, so that its connection can be used again.
const BODY_LIMIT: usize = 64 * 1024;
/// How long an answer's body may take before its connection is given up.
const BODY_TIME: Duration = Duration::from_secs(1);
/// How long an unused connection to a backend is kept.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// What one backend said.
pub(super) struct HttpAnswer {
    pub(super) answer: Answer,
    pub(super) why: String,
    pub(super) headers: HeaderMap,
    pub(super) redirect: Option<Redirect>,
}

/// Why a question was not sent.
pub(super) struct NotSent(pub(super) &'static str);

impl HttpAnswer {
    pub(super) fn down(why: impl Into<String>) -> Self {
        Self { answer: Answer::Down, why: why.into(), headers: HeaderMap::new(), redirect: None }
    }
}

/// Connections to the HTTP backends, pooled, and the turns to use them.
#[derive(Debug)]
pub(super) struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    turns: Mutex<HashMap<String, Arc<Turns>>>,
}

impl HttpClient {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .build(connector);
        Self { client, turns: Mutex::default() }
    }

    fn turns(&self, backend: &Url) -> Arc<Turns> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(backend.as_str().to_owned()).or_insert_with(|| Turns::new(QUESTIONS_PER_BACKEND)).clone()
    }

    /// Waits until the backend may be asked.
    pub(super) async fn turn(
        &self,
        backend: &Url,
        question: &Question,
        wanted: &Wanted,
    ) -> Result<Turn, NotSent> {
        let turn = match timeout(TURN_WAIT, self.turns(backend).take(question.address)).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(LineFull)) => return Err(NotSent("not asked: too many questions wait for the backend")),
            Err(_) => return Err(NotSent("not asked: no turn came in time")),
        };
        if wanted() { Ok(turn) } else { Err(NotSent("not asked: nobody waits for the answer any more")) }
    }

    /// Asks one backend, when it is its turn. The caller sets the time limit, by dropping the future.
    pub(super) async fn ask(&self, backend: &Url, question: &Question) -> HttpAnswer {
        if backend.scheme() != "http" {
            return HttpAnswer::down(format!("{} backends cannot be asked: no TLS here", backend.scheme()));
        }
        let request = match question.request.operation {
            Operation::Play => headed(Request::get(question.play_url(backend))).body(Full::default()),
            Operation::Publish => headed(Request::post(backend.as_str()))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::from(question.publish_body())),
        };
        let request = match request {
            Ok(request) => request,
            Err(error) => return HttpAnswer::down(format!("not a URL that can be asked: {error}")),
        };
        // A backend may close a kept connection just as it is used again: nobody has answered then, and
        // nobody has heard the question.
        match self.client.request(request.clone()).await {
            Err(error) if broke(&error) => {}
            answer => return self::answer(answer),
        }
        answer(self.client.request(request).await)
    }
}

/// Web firewalls in front of portals refuse requests without these.
fn headed(request: http::request::Builder) -> http::request::Builder {
    request
        .header(header::USER_AGENT, concat!("nicgate/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
}

fn answer(answer: Result<http::Response<Incoming>, hyper_util::client::legacy::Error>) -> HttpAnswer {
    match answer {
        Ok(response) => read(response),
        Err(error) => HttpAnswer::down(reason(&error)),
    }
}

/// Whether the connection broke before an answer was whole; not when there was none.
fn broke(error: &hyper_util::client::legacy::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    let causes = std::iter::successors(error.source(), |cause| <dyn Error>::source(*cause));
    !error.is_connect()
        && causes.into_iter().any(|cause| {
            let hyper = cause.downcast_ref::<hyper::Error>();
            let io = cause.downcast_ref::<std::io::Error>();
            hyper.is_some_and(hyper::Error::is_incomplete_message)
                || io.is_some_and(|io| matches!(io.kind(), BrokenPipe | ConnectionReset))
        })
}

fn read(response: http::Response<Incoming>) -> HttpAnswer {
    let (head, body) = response.into_parts();
    let status = head.status;
    let answer = if status.is_success() {
        Answer::Allow
    } else if status.is_redirection() || status.is_client_error() {
        Answer::Ban
    } else {
        Answer::Down
    };
    let redirect = head
        .headers
        .get(header::LOCATION)
        .filter(|_| status.is_redirection() && status != StatusCode::NOT_MODIFIED)
        .map(|location| Redirect { status, location: location.clone() });
    // The verdict is in the head; the body is read aside, only so that the connection can be used again.
    tokio::spawn(timeout(BODY_TIME, discard(body)));
    HttpAnswer { answer, why: format!("HTTP {}", status.as_u16()), headers: head.headers, redirect }
}

async fn discard(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > BODY_LIMIT {
            return;
        }
    }
}

/// Why a backend did not respond, in few words.
fn reason(error: &hyper_util::client::legacy::Error) -> String {
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::ConnectionRefused => "refused".to_owned(),
                std::io::ErrorKind::ConnectionReset => "reset".to_owned(),
                _ => format!("failed: {io}"),
            };
        }
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
            if hyper.is_parse() {
                return format!("malformed answer: {hyper}");
            }
            if hyper.is_incomplete_message() {
                return "closed before answering".to_owned();
            }
        }
        match cause.source() {
            Some(deeper) => cause = deeper,
            None => return format!("failed: {cause}"),
        }
    }
}
