//! Answers of nicgate's own: short, never with the rule, and readable for a page.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{body::ResponseBody, connection::Connection, log};
use crate::{http::Reject, judge::Ground, model::Cors, session::Admission};

/// What an answer says: kept beside it until it is known in which form the client wants it.
#[derive(Clone, Debug)]
struct Said {
    /// Stays the same from version to version.
    code: Cow<'static, str>,
    text: String,
}

/// How a client wants answers of nicgate's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    json: bool,
    /// The page that asks.
    origin: Option<HeaderValue>,
    /// The request could not be read, and neither could what it wants.
    unknown: bool,
}

impl Wishes {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let json = |value: &HeaderValue| {
            value.to_str().is_ok_and(|value| {
                value.split(',').any(|one| {
                    let mut parts = one.split(';').map(str::trim);
                    let is_json =
                        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/json"));
                    is_json && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0"))
                })
            })
        };
        Self {
            json: headers.get_all(header::ACCEPT).iter().any(json),
            origin: headers.get(header::ORIGIN).cloned(),
            unknown: false,
        }
    }

    /// Of a request that could not be read.
    pub(super) fn unknown() -> Self {
        Self { unknown: true, ..Self::default() }
    }

    /// Gives an answer of nicgate's own the form that the client wants.
    pub(super) fn meet(&self, connection: &Connection, cors: &Cors, response: &mut Response<ResponseBody>) {
        if response.status().is_informational() {
            return;
        }
        if let Some(said) = response.extensions_mut().remove::<Said>()
            && self.json
        {
            let status = response.status().as_u16();
            let object = serde_json::json!({ "status": status, "code": said.code, "message": said.text });
            *response.body_mut() = ResponseBody::own(&connection.gate, format!("{object}\n"));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let headers = response.headers_mut();
        if self.unknown && *cors == Cors::Any {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        if let Some(origin) = self.origin.as_ref().filter(|origin| reads(cors, origin))
            && !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
        {
            readable_by(headers, origin);
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
        }
    }
}

/// Whether a page of this origin may read answers of nicgate's own.
fn reads(cors: &Cors, origin: &HeaderValue) -> bool {
    match cors {
        Cors::Any => true,
        Cors::Only(origins) => origins.iter().any(|one| one.as_bytes() == origin.as_bytes()),
        Cors::Off => false,
    }
}

/// Lets a page of this origin read an answer of ours: players tell a refusal from an outage by its status.
fn readable_by(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// An answer of ours, as short plain text.
pub(super) fn answer(
    connection: &Connection,
    status: StatusCode,
    code: impl Into<Cow<'static, str>>,
    text: impl Into<String>,
) -> Response<ResponseBody> {
    let text = text.into();
    let line = if text.is_empty() { String::new() } else { format!("{text}\n") };
    let mut response = Response::new(ResponseBody::own(&connection.gate, line));
    *response.status_mut() = status;
    if !text.is_empty() {
        response.extensions_mut().insert(Said { code: code.into(), text });
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    }
    response
}

/// The same, and the connection ends with it.
pub(super) fn last(
    connection: &Connection,
    status: StatusCode,
    code: &'static str,
    text: impl Into<String>,
) -> Response<ResponseBody> {
    let mut response = answer(connection, status, code, text);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Refuses a request that cannot be judged; the connection ends.
pub(super) fn reject(connection: &Connection, reject: Reject) -> Response<ResponseBody> {
    let code = match reject.status {
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        StatusCode::REQUEST_TIMEOUT => "request_timeout",
        StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
        StatusCode::URI_TOO_LONG => "target_too_long",
        StatusCode::EXPECTATION_FAILED => "expectation_failed",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "head_too_large",
        StatusCode::HTTP_VERSION_NOT_SUPPORTED => "version_not_supported",
        _ => "bad_request",
    };
    last(connection, reject.status, code, reject.reason)
}

/// Says which step refused, not by which rule: that is for the log.
pub(super) fn deny(connection: &Connection, admission: &Admission) -> Response<ResponseBody> {
    if let Some(redirect) = &admission.redirect {
        let mut response = answer(connection, redirect.status, "redirect", "");
        response.headers_mut().insert(header::LOCATION, redirect.location.clone());
        return response;
    }
    let ground = admission.judgement.ground;
    match (ground, ground.stage()) {
        (Ground::NoStream, _) => answer(connection, StatusCode::NOT_FOUND, "not_found", "not found"),
        (Ground::Closed, _) => {
            answer(connection, StatusCode::FORBIDDEN, "denied_operation", "denied: operation")
        }
        (Ground::Refused(why), _) => {
            let why = why.as_str();
            answer(connection, StatusCode::FORBIDDEN, format!("denied_{why}"), format!("denied: {why}"))
        }
        (_, Some(stage)) => {
            answer(connection, StatusCode::FORBIDDEN, format!("denied_{stage}"), format!("denied: {stage}"))
        }
        // Without a transfer there is no admission; `Open` cannot come here.
        (_, None) => answer(connection, StatusCode::SERVICE_UNAVAILABLE, "busy", "busy"),
    }
}

/// Answers a browser that asks what it may send. It sends no token yet, so that there is nobody to judge, and opens no
/// session; the request itself is judged like any other. `None` when it is no such question.
pub(super) fn preflight(
    connection: &Connection,
    cors: &Cors,
    method: &http::Method,
    asked: &HeaderMap,
) -> Option<Response<ResponseBody>> {
    let origin = asked.get(header::ORIGIN).filter(|_| *method == http::Method::OPTIONS)?;
    let method = asked.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    log::preflight(connection);
    if !reads(cors, origin) {
        return Some(answer(connection, StatusCode::FORBIDDEN, "denied_origin", "denied: origin"));
    }
    let mut response = answer(connection, StatusCode::NO_CONTENT, "", "");
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    readable_by(headers, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    // What any page may do in its visitor's name is the upstream's to say; that of a named one is the operator's.
    if matches!(cors, Cors::Only(_)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    Some(response)
}
