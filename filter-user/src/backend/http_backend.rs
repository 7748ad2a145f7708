//! HTTP backends in Flussonic's protocol.

use std::{error::Error, io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;
use url::Url;

use super::{Question, Redirect};
use crate::{judge::Answer, limits::out_of_files, model::Operation};

/// How much of an answer's body is read, in bytes, so that its connection can be used again.
const BODY_LIMIT: usize = 64 * 1024;
/// How long an answer's body may take before its connection is given up.
const BODY_TIME: Duration = Duration::from_secs(1);
/// How long an unused connection to a backend is kept.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// The longest head of an answer, in bytes.
const HEAD_LIMIT: usize = 64 * 1024;

/// What became of a question that was sent.
pub(super) enum Sent {
    /// It was answered.
    Answered(http::Response<Incoming>),
    /// Nobody could be connected to, and why.
    Refused(String),
    /// The connection broke, or what came is not HTTP, and why.
    Broken(String),
    /// There was no socket to ask it with, and why.
    Starved(String),
    /// It cannot be asked at all, and why.
    Unable(String),
}

/// What a status means.
pub(super) fn answer_of(status: StatusCode) -> Answer {
    if status.is_success() {
        Answer::Allow
    } else if status.is_redirection() || status.is_client_error() {
        Answer::Ban
    } else {
        Answer::Down
    }
}

/// Where a refused client is sent.
pub(super) fn redirect_of(status: StatusCode, headers: &HeaderMap) -> Option<Redirect> {
    headers
        .get(header::LOCATION)
        .filter(|_| status.is_redirection() && status != StatusCode::NOT_MODIFIED)
        .map(|location| Redirect { status, location: location.clone() })
}

/// Pooled connections to one HTTP backend.
#[derive(Debug)]
pub(super) struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    url: Url,
}

impl HttpClient {
    pub(super) fn new(url: Url) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .http1_max_buf_size(HEAD_LIMIT)
            .build(connector);
        Self { client, url }
    }

    /// Asks. The caller sets the time limit, by dropping the future.
    pub(super) async fn ask(&self, question: &Question) -> Sent {
        if self.url.scheme() != "http" {
            return Sent::Unable(format!("{} backends cannot be asked: no TLS here", self.url.scheme()));
        }
        let request = match question.request.operation {
            Operation::Play => headed(Request::get(question.play_url(&self.url))).body(Full::default()),
            Operation::Publish => headed(Request::post(self.url.as_str()))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::from(question.publish_body())),
        };
        let request = match request {
            Ok(request) => request,
            Err(error) => return Sent::Unable(format!("not a URL that can be asked: {error}")),
        };
        // A backend may close a kept connection just as it is used again: nobody has answered then, and
        // nobody has heard the question.
        match self.client.request(request.clone()).await {
            Err(error) if broke(&error) => {}
            answer => return sent(answer),
        }
        sent(self.client.request(request).await)
    }
}

/// Web firewalls in front of portals refuse requests without these.
fn headed(request: http::request::Builder) -> http::request::Builder {
    request
        .header(header::USER_AGENT, concat!("nicgate/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
}

fn sent(answer: Result<http::Response<Incoming>, legacy::Error>) -> Sent {
    match answer {
        Ok(response) => Sent::Answered(response),
        Err(error) if starved(&error) => Sent::Starved(reason(&error)),
        Err(error) if error.is_connect() => Sent::Refused(reason(&error)),
        Err(error) => Sent::Broken(reason(&error)),
    }
}

/// Whether the connection broke before an answer was whole; not when there was none.
fn broke(error: &legacy::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    !error.is_connect()
        && causes(error).any(|cause| {
            let hyper = cause.downcast_ref::<hyper::Error>();
            let io = cause.downcast_ref::<io::Error>();
            hyper.is_some_and(hyper::Error::is_incomplete_message)
                || io.is_some_and(|io| matches!(io.kind(), BrokenPipe | ConnectionReset))
        })
}

/// Whether there was no socket to be had, which says nothing about the backend.
fn starved(error: &legacy::Error) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<io::Error>().is_some_and(out_of_files))
}

fn causes(error: &legacy::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| <dyn Error>::source(*cause))
}

/// Reads an answer's body, only so that its connection can be used again: the verdict is in the head.
pub(super) async fn discard(mut body: Incoming) {
    let all = async move {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > BODY_LIMIT {
                return;
            }
        }
    };
    // What takes longer costs its connection.
    let _ = timeout(BODY_TIME, all).await;
}

/// Why a backend did not respond, in few words.
fn reason(error: &legacy::Error) -> String {
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::ConnectionRefused => "refused".to_owned(),
                io::ErrorKind::ConnectionReset => "reset".to_owned(),
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
