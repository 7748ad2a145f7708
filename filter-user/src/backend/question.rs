//! What a backend is told.

use std::{net::IpAddr, sync::Arc, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::judge::Request;

/// Which question of a session this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestType {
    /// The session wants to begin.
    New,
    /// The session is open, and its verdict has run out.
    Update,
}

/// What a backend is told, in Flussonic's terms.
#[derive(Clone, Debug)]
pub struct Question {
    /// The request that opened the session. Play is asked with GET, publish with POST.
    pub request: Arc<Request>,
    /// The stream.
    pub name: Arc<str>,
    /// The client; IPv4-mapped addresses as IPv4.
    pub address: IpAddr,
    /// New session or update.
    pub request_type: RequestType,
    /// 0 for the first question of a session, then counting.
    pub request_number: u64,
    /// Stable for the session, in UUID form.
    pub session_id: Arc<str>,
    /// How long the session has been open; sent on updates.
    pub duration: Duration,
    /// Bytes sent to the client; sent on updates.
    pub bytes: u64,
    /// Open sessions of this stream.
    pub stream_clients: usize,
    /// Open sessions of all streams.
    pub total_clients: usize,
}

/// Everything but unreserved characters is encoded: `+` and `%20` then mean the same to every reader.
const PARAMETER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

enum Value<'a> {
    Text(&'a str),
    Address(IpAddr),
    Number(u64),
}

impl Question {
    fn fields(&self) -> Vec<(&'static str, Value<'_>)> {
        let request = &*self.request;
        let mut fields = vec![
            ("name", Value::Text(&self.name)),
            ("proto", Value::Text(self.request.proto)),
            ("ip", Value::Address(self.address)),
        ];
        let texts = [
            ("token", &request.token),
            ("user_agent", &request.ua),
            ("ua", &request.ua),
            ("referer", &request.referer),
            ("host", &request.host),
            ("qs", &request.query),
        ];
        fields.extend(
            texts
                .into_iter()
                .filter_map(|(name, text)| text.as_deref().map(|text| (name, Value::Text(text)))),
        );
        let request_type = match self.request_type {
            RequestType::New => "new_session",
            RequestType::Update => "update_session",
        };
        fields.push(("request_type", Value::Text(request_type)));
        fields.push(("request_number", Value::Number(self.request_number)));
        fields.push(("session_id", Value::Text(&self.session_id)));
        if self.request_type == RequestType::Update {
            fields.push(("duration", Value::Number(self.duration.as_secs())));
            fields.push(("bytes", Value::Number(self.bytes)));
        }
        fields.push(("stream_clients", Value::Number(self.stream_clients as u64)));
        fields.push(("total_clients", Value::Number(self.total_clients as u64)));
        fields
    }

    /// The URL to GET: the operator's own parameters first, then ours. A parameter of the URL that has the
    /// name of one of ours is left out, so that no backend can read one question in two ways.
    pub(super) fn play_url(&self, backend: &Url) -> String {
        let fields = self.fields();
        let own = backend.query().unwrap_or_default().split('&').filter(|piece| {
            let name = piece.split('=').next().unwrap_or_default();
            let name = percent_decode_str(name).decode_utf8_lossy();
            !piece.is_empty() && fields.iter().all(|(field, _)| *field != name)
        });
        let mut query: Vec<String> = own.map(str::to_owned).collect();
        query.extend(fields.iter().map(|(name, value)| match value {
            Value::Text(text) => format!("{name}={}", utf8_percent_encode(text, PARAMETER)),
            Value::Address(address) => {
                format!("{name}={}", utf8_percent_encode(&address.to_string(), PARAMETER))
            }
            Value::Number(number) => format!("{name}={number}"),
        }));
        let mut url = backend.clone();
        url.set_fragment(None);
        url.set_query(Some(&query.join("&")));
        url.into()
    }

    /// The body to POST.
    pub(super) fn publish_body(&self) -> String {
        let object: serde_json::Map<String, serde_json::Value> = self
            .fields()
            .into_iter()
            .map(|(name, value)| {
                let value = match value {
                    Value::Text(text) => text.into(),
                    Value::Address(address) => address.to_string().into(),
                    Value::Number(number) => number.into(),
                };
                (name.to_owned(), value)
            })
            .collect();
        serde_json::Value::Object(object).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Operation;

    fn question() -> Question {
        let address = "2001:db8::1".parse().unwrap();
        let request = Request {
            operation: Operation::Play,
            path: "live/café & bar/index.m3u8".into(),
            proto: "hls",
            address,
            port: 80,
            token: Some("a+b=c&d".into()),
            auto_token: None,
            ua: Some("VLC/3 (Linux)".into()),
            referer: None,
            origin: None,
            host: Some("tv.example:80".into()),
            query: Some("token=a%2Bb".into()),
        };
        Question {
            request: Arc::new(request),
            name: "live/café & bar".into(),
            address,
            request_type: RequestType::Update,
            request_number: 3,
            session_id: "s".into(),
            duration: Duration::from_secs(61),
            bytes: 12345,
            stream_clients: 2,
            total_clients: 9,
        }
    }

    #[test]
    fn parameters_survive_a_form_decoder() {
        let url = question().play_url(&Url::parse("http://b/auth?key=1%262&token=stale&x").unwrap());
        let url = Url::parse(&url).unwrap();
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let get = |name: &str| {
            let all: Vec<_> = pairs.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
            assert_eq!(all.len(), 1, "{name} is said once");
            all[0].to_owned()
        };
        assert_eq!(get("key"), "1&2");
        assert_eq!(get("x"), "");
        assert_eq!(get("name"), "live/café & bar");
        assert_eq!(get("token"), "a+b=c&d");
        assert_eq!(get("user_agent"), "VLC/3 (Linux)");
        assert_eq!(get("ua"), "VLC/3 (Linux)");
        assert_eq!(get("ip"), "2001:db8::1");
        assert_eq!(get("qs"), "token=a%2Bb");
        assert_eq!(get("request_type"), "update_session");
        assert_eq!(get("request_number"), "3");
        assert_eq!(get("duration"), "61");
        assert_eq!(get("bytes"), "12345");
    }

    #[test]
    fn a_new_session_has_no_duration() {
        let question = Question { request_type: RequestType::New, ..question() };
        let body: serde_json::Value = serde_json::from_str(&question.publish_body()).unwrap();
        assert_eq!(body["request_type"], "new_session");
        assert_eq!(body["token"], "a+b=c&d");
        assert_eq!(body["request_number"], 3);
        assert!(body.get("duration").is_none());
        assert!(body.get("referer").is_none());
    }
}
