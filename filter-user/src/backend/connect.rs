//! Connections to backends: over TCP or a Unix socket, with TLS or without, kept for the next question.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Builder, Client, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::{net::UnixStream, task::spawn_blocking};
use tower_service::Service;

use super::resolve::Names;
use crate::{
    model::{BackendOptions, Pem},
    tls::{Identity, certificates, client_config},
};

/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// The longest head of an answer, in bytes.
const HEAD_LIMIT: usize = 64 * 1024;

/// Pooled connections to one backend.
#[derive(Debug)]
pub(super) enum Connections {
    Plain(Client<HttpConnector<Names>, Full<Bytes>>),
    /// HTTP/2 where the backend wants it.
    Tls(Client<HttpsConnector<HttpConnector<Names>>, Full<Bytes>>),
    Unix(Client<Socket, Full<Bytes>>),
}

impl Connections {
    pub(super) fn plain(names: &Names) -> Self {
        Self::Plain(builder().build(tcp(names)))
    }

    pub(super) fn unix(path: PathBuf) -> Self {
        Self::Unix(builder().build(Socket(path.into())))
    }

    /// Reads what is needed from the files of the system, away from the threads that serve requests.
    pub(super) async fn tls(names: &Names, options: &BackendOptions) -> Result<Self, String> {
        let (ca, identity) = (options.ca.clone(), options.identity.clone());
        let made = spawn_blocking(move || tls_config(ca.as_ref(), identity.as_ref())).await;
        let config = made.map_err(|error| error.to_string())??;
        let mut tcp = tcp(names);
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_all_versions()
            .wrap_connector(tcp);
        Ok(Self::Tls(builder().build(connector)))
    }

    /// Sends a request and waits for the head of its answer. Redirects are answers.
    pub(super) async fn request(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        match self {
            Self::Plain(client) => client.request(request).await,
            Self::Tls(client) => client.request(request).await,
            Self::Unix(client) => client.request(request).await,
        }
    }
}

fn builder() -> Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .http1_max_buf_size(HEAD_LIMIT)
        .http2_max_header_list_size(HEAD_LIMIT as u32);
    builder
}

/// Both families are tried, the second a moment after the first.
fn tcp(names: &Names) -> HttpConnector<Names> {
    let mut tcp = HttpConnector::new_with_resolver(names.clone());
    tcp.set_nodelay(true);
    tcp
}

fn tls_config(ca: Option<&Pem>, identity: Option<&(Pem, Pem)>) -> Result<rustls::ClientConfig, String> {
    let roots = match ca {
        Some(ca) => certificates(&ca.bytes).map_err(|error| format!("{}: {error}", ca.path))?,
        None => {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
                return Err(format!("the system has no certificate authorities{why}; name them with `ca`"));
            }
            found.certs
        }
    };
    let identity = identity
        .map(|(chain, key)| {
            let read = Identity::new(&chain.bytes, &key.bytes);
            read.map_err(|error| format!("{}, {}: {error}", chain.path, key.path))
        })
        .transpose()?;
    client_config(roots, identity).map_err(|error| error.to_string())
}

/// Connects to a Unix socket, whatever the URL.
#[derive(Clone, Debug)]
pub(super) struct Socket(Arc<std::path::Path>);

impl Service<Uri> for Socket {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    }
}
