//! Looks at a media server every few seconds, whether or not anybody asks for anything.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper::client::conn::http1::SendRequest;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{connect::Connector, host_of, server::Server};
use crate::{http::proxy_protocol, model::HealthCheck};

/// Checks a server until it is aborted.
pub(super) async fn watch(server: Arc<Server>, connector: Connector, health: HealthCheck) {
    let mut ticks = interval(health.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let result = match timeout(health.timeout, check(&server, &connector, &health)).await {
            Ok(result) => result,
            Err(_) => Err(format!("the check had no answer within {:?}", health.timeout)),
        };
        server.checked(result);
    }
}

/// Asks once, over a connection of its own.
async fn check(server: &Server, connector: &Connector, health: &HealthCheck) -> Result<(), String> {
    let beginning = server.announced().then(proxy_protocol::write_own);
    let connected = connector.connect(server.address(), beginning).await;
    let mut sender: SendRequest<Empty<Bytes>> =
        connected.map_err(|error| format!("the check could not connect: {}", super::causes(&*error)))?;
    let request = Request::get(&*health.path)
        .header(header::HOST, host_of(server.address()))
        .header(header::USER_AGENT, concat!("nicgate/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| super::causes(&error))?;
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("the check was answered {status}"))
    }
}
