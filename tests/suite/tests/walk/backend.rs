//! A backend whose temper changes while it runs.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kit::netns::Namespace;
use tokio::net::TcpListener;

use super::step::Temper;

/// How long [`Temper::Slow`] takes, and how long a question may take.
pub(crate) const SLOW: Duration = Duration::from_millis(300);
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);

/// A running backend.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    temper: Arc<Mutex<Temper>>,
}

impl Backend {
    /// Listens on a free port of the namespace until the process ends.
    pub(crate) fn start(namespace: &Namespace) -> Self {
        let temper = Arc::new(Mutex::new(Temper::Answers));
        let (bound, binding) = std::sync::mpsc::channel();
        let shared = temper.clone();
        namespace.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, shared).await;
            });
        });
        Self { address: binding.recv().unwrap(), temper }
    }

    pub(crate) fn set(&self, temper: Temper) {
        *self.temper.lock().unwrap() = temper;
    }
}

async fn serve(listener: TcpListener, temper: Arc<Mutex<Temper>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let temper = temper.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let temper = *temper.lock().unwrap();
                async move { answer(temper, &request).await.ok_or("closed") }
            });
            // An error is a client that went away, or a connection that was to be closed.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(temper: Temper, request: &Request<Incoming>) -> Option<Response<Empty<Bytes>>> {
    let good = request.uri().query().is_some_and(|query| query.contains("token=good"));
    let status = match temper {
        Temper::Answers => {
            if good {
                StatusCode::OK
            } else {
                StatusCode::FORBIDDEN
            }
        }
        Temper::Slow => {
            tokio::time::sleep(SLOW).await;
            if good { StatusCode::OK } else { StatusCode::FORBIDDEN }
        }
        Temper::Fails => StatusCode::INTERNAL_SERVER_ERROR,
        Temper::Closes => return None,
        Temper::Hangs => std::future::pending::<StatusCode>().await,
    };
    let mut response: Response<Empty<Bytes>> = Response::new(Empty::new());
    *response.status_mut() = status;
    Some(response)
}
