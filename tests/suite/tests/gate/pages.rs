//! Answers of nicgate's own: for people, for programs, and for pages in browsers.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::time::Duration;

use filter_user::model::{Action, Cors, ServiceKind};
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running, quick},
    origins::{Refusing, Server, Temper},
    raw_client::{Client, Reply},
};

async fn ask(gate: &Running, head: &str) -> Reply {
    let mut client = Client::connect(gate.address).await;
    client.send(format!("{head}\r\n\r\n")).await;
    client.reply().await
}

fn made(upstream: &str, cors: Cors) -> Made {
    let rules = Rules::new("p").token(Action::Allow, "good").token(Action::Deny, "bad");
    let mut made = Made::new().judged("cam", rules).gate(LOOPBACK, upstream);
    if let ServiceKind::Gate(gate) = &mut made.config.services[0].kind {
        gate.cors = cors;
    }
    made
}

#[tokio::test]
async fn a_refusal_is_a_line_or_an_object_with_a_code() {
    let refusing = Refusing::new();
    let gate = Running::new(made(&refusing.url(), Cors::Any));
    for (head, status, code, message) in [
        ("GET /cam/x?token=bad HTTP/1.1\r\nHost: a", 403, "denied_token", "denied: token"),
        ("GET /cam/x HTTP/1.1\r\nHost: a", 403, "denied_default", "denied: default"),
        (
            "POST /cam/x?token=good HTTP/1.1\r\nHost: a\r\nContent-Length: 0",
            403,
            "denied_operation",
            "denied: operation",
        ),
        ("GET /other HTTP/1.1\r\nHost: a", 404, "not_found", "not found"),
        ("GET /cam/%00 HTTP/1.1\r\nHost: a", 400, "bad_request", "path has a control character"),
        ("GET /cam/x?token=good HTTP/1.1\r\nHost: a", 502, "upstream_bad_gateway", "upstream: bad gateway"),
    ] {
        for accept in ["", "\r\nAccept: */*", "\r\nAccept: text/html, application/json;q=0"] {
            let reply = ask(&gate, &format!("{head}{accept}")).await;
            assert_eq!((reply.status, reply.text()), (status, format!("{message}\n")), "{head}{accept}");
            assert_eq!(reply.header("content-type"), Some("text/plain"));
        }
        for accept in ["application/json", "text/html, Application/JSON; q=0.5"] {
            let reply = ask(&gate, &format!("{head}\r\nAccept: {accept}")).await;
            assert_eq!((reply.status, reply.header("content-type")), (status, Some("application/json")));
            let expected = format!("{{\"code\":\"{code}\",\"message\":\"{message}\",\"status\":{status}}}\n");
            assert_eq!(reply.text(), expected, "{head}");
            assert_eq!(reply.header("cache-control"), Some("no-store"));
        }
    }
    // What cannot be read at all wants nothing.
    let reply = ask(&gate, "GET /cam/x HTTP/1.1\r\nHost : a\r\nAccept: application/json").await;
    assert_eq!((reply.status, reply.text().as_str()), (400, "space before a header's colon\n"));
}

#[tokio::test]
async fn a_page_reads_every_answer_of_nicgates_own() {
    let hanging = Server::bad(Temper::Hang).await;
    let limits = filter_user::gate::Limits { answer_time: Duration::from_millis(200), ..quick() };
    let gate = Running::with(made(&hanging.url(), Cors::Any), limits, Default::default());
    for (target, status) in
        [("/cam/x?token=bad", 403), ("/other", 404), ("/cam/%00", 400), ("/cam/x?token=good", 504)]
    {
        let reply =
            ask(&gate, &format!("GET {target} HTTP/1.1\r\nHost: a\r\nOrigin: https://page.example")).await;
        assert_eq!(reply.status, status);
        let headers = ["access-control-allow-origin", "access-control-allow-credentials", "vary"];
        assert_eq!(
            headers.map(|name| reply.header(name)),
            [Some("https://page.example"), Some("true"), Some("Origin")],
            "{target}"
        );
        let reply = ask(&gate, &format!("GET {target} HTTP/1.1\r\nHost: a")).await;
        assert_eq!(headers.map(|name| reply.header(name)), [None; 3], "nobody asked: {target}");
    }
    let reply = ask(&gate, "GET /cam/x HTTP/1.1\r\nOrigin : https://page.example").await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (400, Some("*")));
    assert_eq!(reply.header("access-control-allow-credentials"), None);
}

#[tokio::test]
async fn pages_can_be_narrowed_down() {
    let upstream = Server::media().await;
    let only = Cors::Only(vec!["https://page.example".into()]);
    for (cors, page, reads) in [
        (Cors::Off, "https://page.example", false),
        (only.clone(), "https://page.example", true),
        (only.clone(), "https://page.example.evil.example", false),
        (only.clone(), "http://page.example", false),
        (only, "null", false),
    ] {
        let gate = Running::new(made(&upstream.url(), cors.clone()));
        let head = format!("GET /cam/x HTTP/1.1\r\nHost: a\r\nOrigin: {page}");
        let reply = ask(&gate, &head).await;
        let allowed = reply.header("access-control-allow-origin");
        assert_eq!((reply.status, allowed), (403, reads.then_some(page)), "{cors:?} {page}");
        let head = format!(
            "OPTIONS /cam/x HTTP/1.1\r\nHost: a\r\nOrigin: {page}\r\nAccess-Control-Request-Method: GET\r\n\
             Access-Control-Request-Headers: authorization"
        );
        let reply = ask(&gate, &head).await;
        let headers = [
            "access-control-allow-origin",
            "access-control-allow-headers",
            "access-control-allow-credentials",
        ];
        let expected = [Some(page), Some("authorization"), Some("true")].map(|value| value.filter(|_| reads));
        assert_eq!(headers.map(|name| reply.header(name)), expected, "{cors:?} {page}");
        assert_eq!(reply.status, if reads { 204 } else { 403 });
        assert_eq!(gate.sessions.counters().opened, 0);
        let unread = ask(&gate, &format!("GET /cam/x HTTP/1.1\r\nOrigin : {page}")).await;
        assert_eq!(unread.header("access-control-allow-origin"), None, "whose it is cannot be known");
    }
    assert_eq!(upstream.count(), 0);
}
