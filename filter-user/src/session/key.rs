//! What makes requests belong together.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{judge::Request, model::Operation};

/// What a session keeps of its first request at most, in bytes; all of them are even.
const LONGEST_PATH: usize = 1024;
const LONGEST_UA: usize = 512;
const LONGEST_REFERER: usize = 512;
const LONGEST_HOST: usize = 256;
const LONGEST_QUERY: usize = 1024;

/// What makes two requests belong to one session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionKey {
    /// Playing or publishing.
    pub operation: Operation,
    /// The stream's name.
    pub stream: Arc<str>,
    /// The client; IPv4-mapped addresses as IPv4.
    pub address: IpAddr,
    /// The media protocol.
    pub proto: Cow<'static, str>,
    /// The token, when the client gave one.
    pub token: Option<Arc<str>>,
}

/// A new session's id. It identifies, it proves nothing.
pub(super) fn new_session_id() -> Arc<str> {
    uuid::Uuid::new_v4().to_string().into()
}

/// What is kept of the request that opened a session, for later questions: the texts that a client makes up at will
/// are cut, so that a session stays small however large its first request was.
pub(super) fn remembered(request: &Arc<Request>, stream: &Arc<str>) -> Arc<Request> {
    let limits = [
        (&request.ua, LONGEST_UA),
        (&request.referer, LONGEST_REFERER),
        (&request.host, LONGEST_HOST),
        (&request.query, LONGEST_QUERY),
    ];
    let short =
        |(text, limit): &(&Option<Arc<str>>, usize)| text.as_ref().is_none_or(|text| text.len() <= *limit);
    if request.path.len() <= LONGEST_PATH && limits.iter().all(short) {
        return request.clone();
    }
    let cut = |text: &Option<Arc<str>>, limit: usize| {
        text.as_ref().map(|text| text[..text.floor_char_boundary(limit)].into())
    };
    let path = if request.path.len() <= LONGEST_PATH { request.path.clone() } else { stream.clone() };
    Arc::new(Request {
        path,
        ua: cut(&request.ua, LONGEST_UA),
        referer: cut(&request.referer, LONGEST_REFERER),
        host: cut(&request.host, LONGEST_HOST),
        query: cut(&request.query, LONGEST_QUERY),
        ..Request::clone(request)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_keeps_little_of_a_large_request() {
        let text = |length: usize| Some(Arc::from("é".repeat(length)));
        let request = |length| {
            Arc::new(Request {
                operation: Operation::Play,
                path: format!("cam/{}", "a".repeat(length)).into(),
                proto: "hls",
                address: [192, 0, 2, 1].into(),
                port: 80,
                token: Some("t".into()),
                auto_token: None,
                ua: text(length),
                referer: text(length),
                host: text(length),
                query: text(length),
            })
        };
        let small = request(100);
        assert!(Arc::ptr_eq(&remembered(&small, &"cam".into()), &small));
        let kept = remembered(&request(9999), &"cam".into());
        assert_eq!((&*kept.path, kept.token.as_deref()), ("cam", Some("t")));
        let lengths =
            [&kept.ua, &kept.referer, &kept.host, &kept.query].map(|text| text.as_ref().unwrap().len());
        assert_eq!(lengths, [LONGEST_UA, LONGEST_REFERER, LONGEST_HOST, LONGEST_QUERY]);
    }
}
