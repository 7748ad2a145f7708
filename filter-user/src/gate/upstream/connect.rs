//! A connection to a media server: over TCP or a Unix socket, announced or not.

use std::{error::Error, io, time::Duration};

use http::Uri;
use hyper::{
    body::Body,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};
use tower_service::Service as _;

use crate::{backend::Names, model::ServerAddress};

/// The most header fields of an answer; their bytes are bounded by the buffer.
const MOST_HEADERS: usize = 1000;

/// Connects to media servers.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tcp: HttpConnector<Names>,
    /// How long connecting may take.
    patience: Duration,
}

/// Why there is no connection.
pub(super) type ConnectError = Box<dyn Error + Send + Sync>;

impl Connector {
    pub(super) fn new(patience: Duration) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Names::default());
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(patience));
        Self { tcp, patience }
    }

    /// Connects, and begins with these bytes.
    pub(super) async fn connect<B>(
        &self,
        address: &ServerAddress,
        beginning: Option<Vec<u8>>,
    ) -> Result<SendRequest<B>, ConnectError>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<ConnectError>,
    {
        let connecting = async {
            match address {
                ServerAddress::Tcp(url) => {
                    let uri: Uri = url.as_str().parse()?;
                    let stream = self.tcp.clone().call(uri).await?;
                    begin(stream.into_inner(), beginning).await
                }
                ServerAddress::Unix(path) => begin(UnixStream::connect(path).await?, beginning).await,
            }
        };
        // A name can take long to look up, and a socket's queue can be full.
        let late = || io::Error::new(io::ErrorKind::TimedOut, "connecting took too long");
        timeout(self.patience, connecting).await.unwrap_or_else(|_| Err(late().into()))
    }
}

async fn begin<S, B>(mut stream: S, beginning: Option<Vec<u8>>) -> Result<SendRequest<B>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<ConnectError>,
{
    if let Some(beginning) = beginning {
        stream.write_all(&beginning).await?;
    }
    let handshake = http1::Builder::new().max_headers(MOST_HEADERS).handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a media server broke off");
        }
    });
    Ok(sender)
}
