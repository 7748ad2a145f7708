//! Connections to media servers.

use std::{error::Error, io};

use http::{HeaderValue, Request, Response, StatusCode, Uri, header, request::Parts};
use hyper::body::{Body, Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::{Limits, body::RequestBody};
use crate::limits::out_of_files;

/// Why the upstream gave no answer.
#[derive(Debug)]
pub(super) struct Fault {
    /// 502 or 504; 503 when it could not be reached for a limit of nicgate's own.
    pub(super) status: StatusCode,
    /// For the log.
    pub(super) why: String,
}

/// Pooled connections to media servers.
#[derive(Clone, Debug)]
pub(super) struct Upstreams {
    client: Client<HttpConnector, RequestBody>,
    /// Keeps no connection: what an upstream leaves unread of a body must not become the next request on it, and a
    /// request that cannot be sent twice must not meet a connection that is being closed.
    once: Client<HttpConnector, RequestBody>,
    limits: Limits,
}

/// How long an unused connection to a media server is kept.
const POOL_IDLE: std::time::Duration = std::time::Duration::from_secs(15);

/// The most header fields of an answer; their bytes are bounded by the buffer.
const MOST_HEADERS: usize = 1000;

impl Upstreams {
    pub(super) fn new(limits: Limits) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limits.connect_time));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .http1_max_headers(MOST_HEADERS)
            .build(connector.clone());
        let once = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .http1_max_headers(MOST_HEADERS)
            .build(connector);
        Self { client, once, limits }
    }

    /// Sends a request whose headers are ready for the upstream.
    ///
    /// A reading request without a body is sent once more when a connection broke before answering: the
    /// upstream may have closed a kept connection at the same moment.
    pub(super) async fn send(
        &self,
        upstream: &Url,
        target: &str,
        mut parts: Parts,
        body: RequestBody,
    ) -> Result<Response<Incoming>, Fault> {
        let uri = uri(upstream, target)?;
        let only_reads = body.is_end_stream() && parts.method.is_safe();
        if !only_reads {
            // An upgrade has its own word there; only reading requests can be upgrades.
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            return self.send_once(&self.once, uri, parts, body).await.map_err(|(fault, _)| fault);
        }
        let again = (parts.clone(), body.gate.clone(), body.meter.clone(), body.activity.clone());
        match self.send_once(&self.client, uri.clone(), parts, body).await {
            Err((_, true)) => {
                let (parts, gate, meter, activity) = again;
                let body = RequestBody { source: None, gate, meter, activity };
                self.send_once(&self.client, uri, parts, body).await
            }
            other => other,
        }
        .map_err(|(fault, _)| fault)
    }

    async fn send_once(
        &self,
        client: &Client<HttpConnector, RequestBody>,
        uri: Uri,
        mut parts: Parts,
        body: RequestBody,
    ) -> Result<Response<Incoming>, (Fault, bool)> {
        parts.uri = uri;
        parts.version = http::Version::HTTP_11;
        let activity = body.activity.clone();
        let mut answer = client.request(Request::from_parts(parts, body));
        loop {
            let deadline = activity.last() + self.limits.answer_time;
            tokio::select! {
                answer = &mut answer => return answer.map_err(|error| fault(&error)),
                () = sleep_until(deadline) => {
                    if activity.last() + self.limits.answer_time <= Instant::now() {
                        let why = format!("no answer within {:?}", self.limits.answer_time);
                        return Err((Fault { status: StatusCode::GATEWAY_TIMEOUT, why }, false));
                    }
                }
            }
        }
    }
}

fn uri(upstream: &Url, target: &str) -> Result<Uri, Fault> {
    let fault = |why: String| Fault { status: StatusCode::BAD_GATEWAY, why };
    let authority = match (upstream.host_str(), upstream.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => return Err(fault(format!("upstream {upstream} has no host"))),
    };
    let path = format!("{}{target}", upstream.path().trim_end_matches('/'));
    Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|error| fault(format!("not a URL for the upstream: {error}")))
}

/// The fault, and whether the connection broke before any answer.
fn fault(error: &hyper_util::client::legacy::Error) -> (Fault, bool) {
    let mut why = error.to_string();
    let mut timed_out = false;
    let mut broke = false;
    let mut starved = false;
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(deeper) = cause {
        why = format!("{why}: {deeper}");
        timed_out |=
            deeper.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::TimedOut);
        starved |= deeper.downcast_ref::<io::Error>().is_some_and(out_of_files);
        broke |= deeper
            .downcast_ref::<hyper::Error>()
            .is_some_and(|hyper| hyper.is_incomplete_message() || hyper.is_canceled() || hyper.is_closed());
        broke |= deeper.downcast_ref::<io::Error>().is_some_and(|io| {
            matches!(io.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
        });
        cause = deeper.source();
    }
    let status = match (starved, timed_out) {
        (true, _) => StatusCode::SERVICE_UNAVAILABLE,
        (_, true) => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    (Fault { status, why }, broke && !error.is_connect())
}
