//! Small HTTP servers: media servers and backends of every temper.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body, Frame, Incoming},
    rt::{Read, Write},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, UnixListener},
    task::{JoinHandle, JoinSet},
};
use url::Url;

use crate::tls::Secure;

/// What a server saw of one request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The target, as it was on the wire.
    pub target: String,
    /// The version of HTTP.
    pub version: http::Version,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Seen {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// A query parameter.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let url = Url::parse("http://b").unwrap().join(&self.target).unwrap();
        url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
    }
}

/// A server that ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// The requests so far.
    pub seen: Arc<Mutex<Vec<Seen>>>,
    /// Connections so far.
    pub connections: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A body of any kind.
pub type AnyBody = UnsyncBoxBody<Bytes, Infallible>;

/// A body from bytes.
pub fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into()).boxed_unsync()
}

impl Server {
    async fn start<F, Fut>(on_connection: F) -> Self
    where
        F: Fn(TcpStream, Arc<Mutex<Vec<Seen>>>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        // Room for all connections of a burst: where there is none, the kernel tries again after a second.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(4096).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicU64::new(0));
        let (log, count) = (seen.clone(), connections.clone());
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tasks.spawn(on_connection(stream, log.clone()));
            }
        });
        Self { address, seen, connections, task }
    }

    /// Answers what `answer` says; it is asked before the body is read.
    pub async fn answering<F, Fut>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response<AnyBody>> + Send + 'static,
    {
        Self::start(move |stream, _| {
            let answer = answer.clone();
            async move {
                let service = service_fn(move |request| {
                    let answer = answer.clone();
                    async move { Ok::<_, Infallible>(answer(request).await) }
                });
                // A connection that breaks off is what some tests want.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            }
        })
        .await
    }

    /// Reads each request whole, notes it, and answers with what `answer` says.
    pub async fn noting<F>(answer: F) -> Self
    where
        F: Fn(&Seen) -> Response<AnyBody> + Clone + Send + Sync + 'static,
    {
        Self::start(move |stream, seen| note(TokioIo::new(stream), seen, answer.clone())).await
    }

    /// The same behind TLS, with HTTP/1.1 and HTTP/2.
    pub async fn secure<F>(secure: Secure, answer: F) -> Self
    where
        F: Fn(&Seen) -> Response<AnyBody> + Clone + Send + Sync + 'static,
    {
        let acceptor = secure.acceptor();
        Self::start(move |stream, seen| {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            async move {
                // A client that does not trust us is what some tests want.
                if let Ok(stream) = acceptor.accept(stream).await {
                    note(TokioIo::new(stream), seen, answer).await;
                }
            }
        })
        .await
    }

    /// The same on a Unix socket; its address is nobody's.
    pub async fn unix<F>(path: &std::path::Path, answer: F) -> Self
    where
        F: Fn(&Seen) -> Response<AnyBody> + Clone + Send + Sync + 'static,
    {
        let listener = UnixListener::bind(path).unwrap();
        let (seen, connections): (Arc<Mutex<Vec<Seen>>>, Arc<AtomicU64>) = Default::default();
        let (log, count) = (seen.clone(), connections.clone());
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tasks.spawn(note(TokioIo::new(stream), log.clone(), answer.clone()));
            }
        });
        Self { address: ([0, 0, 0, 0], 0).into(), seen, connections, task }
    }

    /// A media server that answers everything with its target.
    pub async fn media() -> Self {
        Self::noting(|seen| Response::new(full(format!("media {}", seen.target)))).await
    }

    /// A backend that answers with a status that can be changed, and headers.
    pub async fn backend(status: &Arc<AtomicU16>, headers: &'static [(&'static str, &'static str)]) -> Self {
        let status = status.clone();
        Self::noting(move |_| {
            let status = StatusCode::from_u16(status.load(Ordering::Relaxed)).unwrap();
            let response = Response::builder().status(status);
            headers
                .iter()
                .fold(response, |response, (name, value)| response.header(*name, *value))
                .body(full("{}"))
                .unwrap()
        })
        .await
    }

    /// A server that misbehaves.
    pub async fn bad(temper: Temper) -> Self {
        Self::start(move |stream, _| temper.handle(stream)).await
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests it has seen.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// Serves one connection: reads each request whole, notes it, and answers with what `answer` says.
async fn note<I, F>(io: I, seen: Arc<Mutex<Vec<Seen>>>, answer: F)
where
    I: Read + Write + Unpin + Send + 'static,
    F: Fn(&Seen) -> Response<AnyBody> + Clone + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (answer, seen) = (answer.clone(), seen.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let one = Seen {
                method: parts.method.to_string(),
                target: parts.uri.to_string(),
                version: parts.version,
                headers: parts.headers,
                body,
            };
            let response = answer(&one);
            seen.lock().unwrap().push(one);
            Ok::<_, hyper::Error>(response)
        }
    });
    // A connection that breaks off is what some tests want.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
}

/// How a server misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// Takes the request and never answers.
    Hang,
    /// Resets the connection.
    Reset,
    /// Closes without an answer.
    CloseEarly,
    /// Closes in the middle of the head.
    CloseInHead,
    /// Says something that is not HTTP.
    Garbage,
}

impl Temper {
    async fn handle(self, mut stream: TcpStream) {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        match self {
            Self::Hang => tokio::time::sleep(Duration::from_secs(3600)).await,
            Self::Reset => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
            Self::CloseEarly => {}
            Self::CloseInHead => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-Auth").await;
            }
            Self::Garbage => {
                let _ = stream.write_all(b"come in, it's open\r\n\r\n").await;
            }
        }
    }
}

/// A port that is taken and that nobody listens on.
#[derive(Debug)]
pub struct Refusing(TcpSocket);

impl Default for Refusing {
    fn default() -> Self {
        Self::new()
    }
}

impl Refusing {
    /// Takes a port.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }
}

/// A body that goes on for as long as it is read; counts what was taken.
#[derive(Debug)]
pub struct Endless {
    /// Bytes taken so far.
    pub taken: Arc<AtomicU64>,
    /// The pause between pieces.
    pub pause: Option<tokio::time::Interval>,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];
        let this = self.get_mut();
        if let Some(pause) = &mut this.pause {
            std::task::ready!(pause.poll_tick(cx));
        }
        this.taken.fetch_add(PIECE.len() as u64, Ordering::Relaxed);
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }
}
