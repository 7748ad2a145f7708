//! Whom a request is from.

use ::http::HeaderMap;

use super::connection::Connection;
use crate::{
    http::{self, Client, Reject},
    model::Gate,
};

/// Whom a request is from, as far as the proxies in front are believed. `None` for a gate that a reload removed.
///
/// # Errors
///
/// A trusted proxy says it in a way that can be read as something else, or is trusted no more.
pub(super) fn client(
    connection: &Connection,
    gate: Option<&Gate>,
    headers: &HeaderMap,
) -> Result<Client, Reject> {
    let told = Client { address: connection.client.ip(), https: connection.tls };
    let Some(Gate { trust, .. }) = gate else { return Ok(told) };
    if connection.announced && !trust.announces(connection.peer) {
        // What it announced was believed when the connection was made.
        return Err(Reject::bad("the proxy of this connection is trusted no more"));
    }
    let client = http::client(trust, told.address, headers)?;
    Ok(Client { https: client.https || told.https, ..client })
}
