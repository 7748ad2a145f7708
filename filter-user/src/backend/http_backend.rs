//! HTTP backends in Flussonic's protocol.

use std::{error::Error, io, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use percent_encoding::percent_decode_str;
use tokio::{sync::OnceCell, time::timeout};
use url::Url;

use super::{Question, Redirect, connect::Connections, resolve::Names};
use crate::{
    judge::Answer,
    limits::out_of_files,
    model::{BackendOptions, Operation},
};

/// How much of an answer's body is read, in bytes, so that its connection can be used again.
const BODY_LIMIT: usize = 64 * 1024;
/// How long an answer's body may take before its connection is given up.
const BODY_TIME: Duration = Duration::from_secs(1);

/// What became of a question that was sent.
pub(super) enum Sent {
    /// It was answered.
    Answered(Response<Incoming>),
    /// Nobody could be connected to, and why.
    Refused(String),
    /// TLS was not agreed on, or who answered is not who should, and why.
    Untrusted(String),
    /// The connection broke, or what came is not HTTP, and why.
    Broken(String),
    /// There was no socket to ask it with, and why.
    Starved(String),
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

/// One HTTP backend: where it is, and what it is told with each question.
#[derive(Debug)]
pub(super) struct HttpClient {
    /// Without credentials; of a Unix socket, as if it were `localhost`.
    url: Url,
    socket: Option<PathBuf>,
    headers: HeaderMap,
    options: BackendOptions,
    names: Names,
    /// Made with the first question: authorities are read from files.
    connections: OnceCell<Connections>,
}

impl HttpClient {
    pub(super) fn new(url: &Url, options: BackendOptions, names: Names) -> Self {
        let (url, socket) = match socket_of(url) {
            Some((url, socket)) => (url, Some(socket)),
            None => (url.clone(), None),
        };
        let headers = headers(&url, &options);
        let url = without_credentials(url);
        Self { url, socket, headers, options, names, connections: OnceCell::new() }
    }

    /// Asks. The caller sets the time limit, by dropping the future.
    pub(super) async fn ask(&self, question: &Question) -> Sent {
        let connections = match self.connections.get_or_try_init(|| self.connect()).await {
            Ok(connections) => connections,
            Err(why) => return Sent::Untrusted(why),
        };
        let request = match question.request.operation {
            Operation::Play => Request::get(question.play_url(&self.url)).body(Full::default()),
            Operation::Publish => {
                Request::post(self.url.as_str()).body(Full::<Bytes>::from(question.publish_body()))
            }
        };
        let mut request = match request {
            Ok(request) => request,
            Err(error) => return Sent::Broken(format!("not a URL that can be asked: {error}")),
        };
        request.headers_mut().clone_from(&self.headers);
        if question.request.operation == Operation::Publish {
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        // A backend may close a kept connection just as it is used again: nobody has answered then, and
        // nobody has heard the question.
        match connections.request(request.clone()).await {
            Err(error) if broke(&error) => {}
            answer => return sent(answer),
        }
        sent(connections.request(request).await)
    }

    async fn connect(&self) -> Result<Connections, String> {
        match (&self.socket, self.url.scheme()) {
            (Some(path), _) => Ok(Connections::unix(path.clone())),
            (None, "https") => Connections::tls(&self.names, &self.options).await,
            (None, _) => Ok(Connections::plain(&self.names)),
        }
    }
}

/// Of `http+unix://%2Frun%2Fauth.sock/PATH`, the URL as the backend sees it, and the socket.
fn socket_of(url: &Url) -> Option<(Url, PathBuf)> {
    if url.scheme() != "http+unix" {
        return None;
    }
    let path = percent_decode_str(url.host_str()?).decode_utf8().ok()?.into_owned();
    let mut seen = Url::parse("http://localhost").ok()?;
    seen.set_path(url.path());
    seen.set_query(url.query());
    // Neither can fail for this URL.
    let _ = seen.set_username(url.username());
    let _ = seen.set_password(url.password());
    Some((seen, path.into()))
}

/// What every question to this backend has.
fn headers(url: &Url, options: &BackendOptions) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Web firewalls in front of portals refuse requests without these.
    let agent = HeaderValue::from_static(concat!("nicgate/", env!("CARGO_PKG_VERSION")));
    headers.insert(header::USER_AGENT, agent);
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    if !url.username().is_empty() || url.password().is_some() {
        let decode = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let pair = [decode(url.username()), decode(url.password().unwrap_or_default())].join(&b':');
        if let Ok(value) = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))) {
            headers.insert(header::AUTHORIZATION, value);
        }
    }
    for (name, value) in options.headers.iter() {
        // The configuration has looked at both.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(&**name), HeaderValue::try_from(value.expose()))
        {
            headers.insert(name, value);
        }
    }
    headers.values_mut().for_each(|value| value.set_sensitive(true));
    headers
}

fn without_credentials(mut url: Url) -> Url {
    // Only a URL without a host has no place for them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    url
}

fn sent(answer: Result<Response<Incoming>, legacy::Error>) -> Sent {
    match answer {
        Ok(response) => Sent::Answered(response),
        Err(error) if causes(&error).any(is_starved) => Sent::Starved(reason(&error)),
        Err(error) if causes(&error).any(|cause| cause.is::<rustls::Error>()) => {
            Sent::Untrusted(reason(&error))
        }
        Err(error) if error.is_connect() => Sent::Refused(reason(&error)),
        Err(error) => Sent::Broken(reason(&error)),
    }
}

/// An error and all that caused it.
fn causes(error: &legacy::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |cause| cause_of(*cause))
}

/// What caused an error; what an error of input or output carries is one of the causes.
fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(carried) => Some(carried as &(dyn Error + 'static)),
        None => error.source(),
    }
}

/// Whether there was no socket to be had, which says nothing about the backend.
fn is_starved(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(out_of_files)
}

/// Whether the connection broke before an answer was whole; not when there was none.
fn broke(error: &legacy::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    !error.is_connect()
        && causes(error).any(|cause| {
            let hyper = cause.downcast_ref::<hyper::Error>();
            let io = cause.downcast_ref::<io::Error>();
            hyper.is_some_and(|hyper| {
                hyper.is_incomplete_message() || hyper.is_canceled() || hyper.is_closed()
            }) || io.is_some_and(|io| matches!(io.kind(), BrokenPipe | ConnectionReset))
        })
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
    let mut last = String::new();
    for cause in causes(error) {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return format!("TLS: {tls}");
        }
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
            if hyper.is_parse() {
                return format!("malformed answer: {hyper}");
            }
            if hyper.is_incomplete_message() {
                return "closed before answering".to_owned();
            }
        }
        match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => return "refused".to_owned(),
            Some(io::ErrorKind::ConnectionReset) => return "reset".to_owned(),
            _ => last = cause.to_string(),
        }
    }
    format!("failed: {last}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;

    fn client(url: &str, headers: &[(&str, &str)]) -> HttpClient {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), Secret::new(value))).collect();
        let options = BackendOptions { headers, ..BackendOptions::default() };
        HttpClient::new(&Url::parse(url).unwrap(), options, Names::default())
    }

    #[test]
    fn credentials_are_a_header_and_leave_the_url() {
        let client = client("http://us%40er:p%3Aw@h:8/auth?k=1#x", &[("X-Key", "secret")]);
        assert_eq!(client.url.as_str(), "http://h:8/auth?k=1");
        // `printf 'us@er:p:w' | base64`
        assert_eq!(client.headers["authorization"], "Basic dXNAZXI6cDp3");
        assert_eq!(client.headers["x-key"], "secret");
        let shown = format!("{client:?}");
        assert!(!shown.contains("secret") && !shown.contains("dXNAZXI6"), "{shown}");
        let own =
            self::client("http://user:pw@h/", &[("Authorization", "Bearer x"), ("User-Agent", "portal")]);
        assert_eq!(
            (&own.headers["authorization"], &own.headers["user-agent"]),
            (&"Bearer x".parse().unwrap(), &"portal".parse().unwrap())
        );
    }

    #[test]
    fn a_unix_socket_is_a_host_without_a_name() {
        let client = client("http+unix://%2Frun%2Fauth.sock/a/b?k=1", &[]);
        assert_eq!(client.socket.as_deref(), Some(std::path::Path::new("/run/auth.sock")));
        assert_eq!(client.url.as_str(), "http://localhost/a/b?k=1");
    }
}
