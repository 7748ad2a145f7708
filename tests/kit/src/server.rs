//! A real HTTP server inside a namespace, answering from a closure.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, thread};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet};

use crate::netns::Namespace;

/// A running server. Dropping it closes its listener and every connection.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Serves `answer` at an address of the namespace; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub fn start(
        namespace: &Namespace,
        address: impl Into<SocketAddr>,
        answer: impl Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let address = address.into();
        let (stop, stopped) = oneshot::channel();
        let (bound, binding) = std::sync::mpsc::channel();
        let answer = Arc::new(answer);
        let thread = namespace.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("the operating system gives a runtime its descriptors");
            runtime.block_on(async move {
                let listener = TcpListener::bind(address).await;
                let local = listener.as_ref().map(TcpListener::local_addr);
                let _ =
                    bound.send(local.map_or_else(
                        |error| Err(error.to_string()),
                        |local| local.map_err(|e| e.to_string()),
                    ));
                if let Ok(listener) = listener {
                    tokio::select! {
                        () = serve(listener, answer) => {}
                        _ = stopped => {}
                    }
                }
            });
        });
        let local = binding.recv().context("the server's thread ended")?;
        let local = local.map_err(|error| anyhow::anyhow!("cannot listen on {address}: {error}"))?;
        Ok(Self { address: local, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve<F>(listener: TcpListener, answer: Arc<F>)
where
    F: Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Send + Sync + 'static,
{
    // Dropped with this future, which ends the connections.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let answer = Arc::clone(&answer);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            // An error is a client that went away: nothing that a server in a test should tell.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}
