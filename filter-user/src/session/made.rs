//! Sessions made by hand, for the tests of this room.

use std::sync::Arc;

use super::{
    entry::{Place, Session},
    kept::{Kept, Players},
    key::KeyRef,
    moment::Moment,
    stream::Streams,
    table::Table,
};
use crate::{judge::Request, model::Operation};

/// A request for `cam`.
pub(super) fn request(address: &str, token: Option<&str>) -> Request {
    Request {
        operation: Operation::Play,
        path: "cam".into(),
        proto: "hls",
        address: address.parse().unwrap(),
        port: 80,
        token: token.map(Into::into),
        auto_token: None,
        ua: Some("VLC".into()),
        referer: None,
        origin: None,
        host: None,
        query: None,
    }
}

/// The session of a request, with the hash that `table` knows it by.
pub(super) fn session(table: &Table, address: &str, token: &str, now: Moment) -> Arc<Session> {
    let request = request(address, Some(token));
    let stream = Streams::default().get(&"cam".into());
    let kept = Kept::of(&request, Players::new().of(&request));
    let key = KeyRef {
        operation: request.operation,
        stream: "cam",
        address: request.address.to_canonical(),
        token: Some(token),
    };
    Arc::new(Session::new(table.hash(&key), stream, &request, kept, now))
}

/// Makes a session an open one.
pub(super) fn hold(table: &Table, session: &Arc<Session>) {
    session.state().place = Place::Held;
    table.set_held(session, true);
}

/// So many seconds after the beginning.
pub(super) fn at(seconds: f64) -> Moment {
    Moment::default().after(std::time::Duration::from_secs_f64(seconds))
}
