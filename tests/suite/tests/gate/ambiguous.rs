//! Smuggling and normalisation: requests that a gate and a media server could read in two ways. Each is sent
//! as raw bytes; what counts is the answer, that the connection ends, and what the upstream saw.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use filter_user::model::Action;
use kit::{
    configurations::{LOOPBACK, Made, Rules, Running},
    origins::Server,
    raw_client::Client,
};

/// The stream `open` admits everyone, `cam` those with the token `good`.
async fn gate() -> (Running, Server) {
    let upstream = Server::media().await;
    let made = Made::new()
        .judged("open", Rules::new("open").allow_default())
        .judged("cam", Rules::new("cam").token(Action::Allow, "good"))
        .gate(LOOPBACK, &upstream.url());
    (Running::new(made), upstream)
}

struct Case {
    what: &'static str,
    bytes: &'static [u8],
    status: u16,
}

const fn case(what: &'static str, bytes: &'static [u8], status: u16) -> Case {
    Case { what, bytes, status }
}

/// What ends the connection, whatever follows.
const REFUSED: &[Case] = &[
    // Two framings: a front that takes one and a back that takes the other disagree on where the body ends.
    case(
        "CL.TE: both Content-Length and Transfer-Encoding",
        b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        400,
    ),
    case(
        "TE.CL: the same, the other way round",
        b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nA\r\n0\r\n\r\n",
        400,
    ),
    // CL.CL: which of two lengths counts?
    case("two Content-Length that differ", b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nGET /", 400),
    case("two Content-Length that agree", b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
    case("a list in Content-Length", b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", 400),
    case("a sign in Content-Length", b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400),
    case("a negative Content-Length", b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    case("a hexadecimal Content-Length", b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", 400),
    case("an empty Content-Length", b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
    case("a Content-Length beyond 64 bits", b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", 413),
    case("a space in Content-Length", b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 1 0\r\n\r\n", 400),
    // A vertical tab is white space to some and a character to others.
    case("a vertical tab before the length", b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: \x0b5\r\n\r\nhello", 400),
    case("a form feed before the length", b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: \x0c5\r\n\r\nhello", 400),
    // TE.TE: an obfuscated coding that one side does not recognise.
    case("two Transfer-Encoding", b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    case("an unknown second coding", b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", 400),
    case("chunked that is not last", b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    case("chunked after another coding", b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    case("a misspelt coding", b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    case("chunked in quotes", b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400),
    case("an empty coding", b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", 400),
    case("identity", b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 400),
    case("Transfer-Encoding in HTTP/1.0", b"POST /open HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    // Names that CGI and some servers turn into the real ones.
    case("Content_Length", b"POST /open HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\nhello", 400),
    case("Transfer.Encoding", b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer.Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    // Lines that some end where others do not.
    case("bare LF after the request line", b"GET /open HTTP/1.1\nHost: a\r\n\r\n", 400),
    case("bare LF after a header", b"GET /open HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
    case("bare LF as the empty line", b"GET /open HTTP/1.1\r\nHost: a\r\n\nGET /cam HTTP/1.1\r\n\r\n", 400),
    case("bare CR in a value", b"GET /open HTTP/1.1\r\nHost: a\r\nX: a\rContent-Length: 5\r\n\r\n", 400),
    case("bare CR as a line end", b"GET /open HTTP/1.1\rHost: a\r\r", 400),
    case("CR CR LF", b"GET /open HTTP/1.1\r\nHost: a\r\r\n\r\n", 400),
    case("a folded header line", b"GET /open HTTP/1.1\r\nHost: a\r\nX: 1\r\n Content-Length: 5\r\n\r\n", 400),
    case("a header line folded with a tab", b"GET /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\tchunked\r\n\r\n", 400),
    case("white space before the first header", b"GET /open HTTP/1.1\r\n Host: b\r\nHost: a\r\n\r\n", 400),
    case("a space before the colon", b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello", 400),
    case("a tab before the colon", b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400),
    case("a NUL in a value", b"GET /open HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    case("a NUL in a name", b"GET /open HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", 400),
    case("a header line without a colon", b"GET /open HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
    case("a header without a name", b"GET /open HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
    case("a name with a non-ASCII byte", b"GET /open HTTP/1.1\r\nHost: a\r\nX\xff: x\r\n\r\n", 400),
    // Which host is it?
    case("no Host in HTTP/1.1", b"GET /open HTTP/1.1\r\n\r\n", 400),
    case("two Hosts", b"GET /open HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    case("an empty Host", b"GET /open HTTP/1.1\r\nHost:\r\n\r\n", 400),
    case("a Host with a path", b"GET /open HTTP/1.1\r\nHost: a/cam\r\n\r\n", 400),
    case("a Host with a user", b"GET /open HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    case("a list in Host", b"GET /open HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    case("absolute form for another host", b"GET http://b/open HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("absolute form with a user", b"GET http://a@b/open HTTP/1.1\r\nHost: b\r\n\r\n", 400),
    case("absolute form of another scheme", b"GET https://a/open HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    // The request line.
    case("two spaces in the request line", b"GET  /open HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("a space in the target", b"GET /open /cam HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("a tab in the request line", b"GET\t/open HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("HTTP/0.9", b"GET /open\r\n\r\n", 400),
    case("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    case("an unknown version", b"GET /open HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    case("a version in lower case", b"GET /open http/1.1\r\nHost: a\r\n\r\n", 400),
    case("CONNECT", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
    case("TRACE", b"TRACE /open HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    case("two empty lines first", b"\r\n\r\nGET /open HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("the asterisk", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    case("an unknown expectation", b"POST /open HTTP/1.1\r\nHost: a\r\nExpect: more\r\nContent-Length: 1\r\n\r\n", 417),
    // The target: what is judged has to be what the media server reads.
    case("a slash that is encoded", b"GET /open/x%2fy HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("a backslash", b"GET /open\\..\\cam HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("an encoded backslash", b"GET /open/..%5c..%5ccam HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("an encoded NUL", b"GET /open%00.ts HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("an encoded line end", b"GET /open%0d%0aX:%20y HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("a raw control character", b"GET /open\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("a raw non-ASCII byte", b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("broken percent-encoding", b"GET /open/%4 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("percent-encoding of no number", b"GET /open/%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("broken percent-encoding in a name of the query", b"GET /open?%u0041=x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("double encoding", b"GET /open/%252e%252e/cam HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("overlong UTF-8 for a dot", b"GET /open/%c0%ae%c0%ae/cam HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("above the root", b"GET /../open HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("above the root and back", b"GET /open/../../open HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("above the root, encoded", b"GET /%2e%2E/open HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("a dot segment with parameters", b"GET /open/..;x/cam HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("a fragment", b"GET /open#/cam HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("no path", b"GET open HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    // Which token is it?
    case("two tokens", b"GET /cam?token=good&token=bad HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("two tokens, the good one last", b"GET /cam?token=bad&token=good HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("a second token under an encoded name", b"GET /cam?token=good&%74oken=bad HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("a second token without a value", b"GET /cam?token=good&token HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("a token with a control character", b"GET /cam?token=good%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    case("a token that is not UTF-8", b"GET /cam?token=%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
];

#[tokio::test]
async fn what_is_ambiguous_is_refused_and_ends_the_connection() {
    let (gate, upstream) = gate().await;
    for Case { what, bytes, status } in REFUSED {
        let mut client = Client::connect(gate.address).await;
        client.send(bytes).await;
        // A request that would be admitted, were the connection still alive.
        client.send("GET /open/smuggled HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let reply = client.reply().await;
        assert_eq!(reply.status, *status, "{what}: {}", reply.text());
        assert_eq!(reply.header("connection"), Some("close"), "{what}");
        assert!(client.closed().await);
        assert!(client.buffer.is_empty(), "{what}: more was answered: {:?}", client.buffer);
        assert_eq!(upstream.count(), 0, "{what}: the upstream saw {:?}", upstream.requests());
    }
    let counters = &gate.gates.counters()[0];
    assert_eq!(counters.bad_requests, REFUSED.len() as u64);
    assert_eq!(counters.requests, REFUSED.len() as u64);
}

/// Byte by byte, a head is judged the same.
#[tokio::test]
async fn what_is_ambiguous_stays_so_in_small_pieces() {
    let (gate, upstream) = gate().await;
    for Case { what, bytes, status } in REFUSED.iter().filter(|case| case.bytes.len() < 90).step_by(3) {
        let mut client = Client::connect(gate.address).await;
        client.stream.set_nodelay(true).unwrap();
        for byte in *bytes {
            client.send([*byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.reply().await.status, *status, "{what}");
    }
    assert_eq!(upstream.count(), 0);
}

/// A chunked body that breaks the rules is refused in the middle: 400, and the upstream never sees its end.
#[tokio::test]
async fn chunks_that_can_be_read_in_two_ways_are_refused() {
    let upstream = Server::media().await;
    let made = Made::new()
        .stream("pub", filter_user::model::Access::Open, filter_user::model::Access::Open)
        .gate(LOOPBACK, &upstream.url());
    let gate = Running::new(made);
    for (what, body) in [
        ("an extension, which some cut at other places", "5;a=b\r\nhello\r\n0\r\n\r\n"),
        ("bare LF after the size", "5\nhello\r\n0\r\n\r\n"),
        ("bare LF after the data", "5\r\nhello\n0\r\n\r\n"),
        ("a size with a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a size beyond 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a size with white space", "5 \r\nhello\r\n0\r\n\r\n"),
        ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("data longer than its size", "4\r\nhello\r\n0\r\n\r\n"),
        ("an empty size", "\r\nhello\r\n0\r\n\r\n"),
    ] {
        let mut client = Client::connect(gate.address).await;
        let head = "POST /pub HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(format!("{head}{body}GET /pub/smuggled HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, 400, "{what}: {}", reply.text());
        assert!(client.closed().await);
        assert!(client.buffer.is_empty(), "{what}");
        assert_eq!(upstream.count(), 0, "{what}: the upstream saw {:?}", upstream.requests());
    }
}

/// What is sound in an unusual form is judged and forwarded in its one form.
#[tokio::test]
async fn what_is_judged_is_what_is_forwarded() {
    let (gate, upstream) = gate().await;
    for (what, target, status, forwarded) in [
        ("plain", "/open/a.ts", 200, Some("/open/a.ts")),
        ("duplicate slashes", "//open///a.ts", 200, Some("/open/a.ts")),
        ("dot segments", "/open/./b/../a.ts", 200, Some("/open/a.ts")),
        ("from an open stream into a closed one", "/open/../cam/a.ts", 403, None),
        ("the same, encoded", "/open/%2e%2e/cam/a.ts", 403, None),
        ("an encoded letter", "/%6fpen/a.ts", 200, Some("/open/a.ts")),
        ("an encoded letter of a closed stream", "/%63am/a.ts", 403, None),
        ("a stream's name is not a prefix of letters", "/opened/a.ts", 404, None),
        ("letter case counts", "/OPEN/a.ts", 404, None),
        ("no stream", "/", 404, None),
        ("a semicolon is part of the name", "/open;x/a.ts", 404, None),
        ("a semicolon further on is encoded", "/open/a;x.ts", 200, Some("/open/a%3Bx.ts")),
        ("a question mark that is encoded stays one", "/open/a%3Ftoken=1", 200, Some("/open/a%3Ftoken=1")),
        ("the token", "/cam?token=good", 200, Some("/cam?token=good")),
        ("the token, encoded", "/cam?%74oken=g%6fod", 200, Some("/cam?token=good")),
        ("a wrong token", "/cam?token=Good", 403, None),
        ("a token behind a semicolon is none", "/cam?a=b;token=good", 403, None),
        ("a token in the path is none", "/cam/token=good", 403, None),
        ("a token in another parameter is none", "/cam?x=%26token=good", 403, None),
        ("other parameters stay", "/open?a=1&b=%20+x&&c", 200, Some("/open?a=1&b=%20+x&&c")),
    ] {
        let before = upstream.count();
        let reply = Client::connect(gate.address).await.get(target).await;
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
        let seen = upstream.requests().get(before).map(|seen| seen.target.clone());
        assert_eq!(seen.as_deref(), forwarded, "{what}");
    }
}

/// Absolute form for the same host, HTTP/1.0 without Host, and one empty line before a request are sound.
#[tokio::test]
async fn old_habits_are_understood() {
    let (gate, upstream) = gate().await;
    for bytes in [
        "GET http://a/open HTTP/1.1\r\nHost: A\r\nConnection: close\r\n\r\n",
        "GET /open HTTP/1.0\r\n\r\n",
        "\r\nGET /open HTTP/1.1\r\nHost: [2001:db8::1]:80\r\nConnection: close\r\n\r\n",
    ] {
        let mut client = Client::connect(gate.address).await;
        client.send(bytes).await;
        assert_eq!(client.head().await.status, 200, "{bytes:?}");
        client.closed().await;
    }
    assert!(upstream.requests().iter().all(|seen| seen.target == "/open"));
    assert_eq!(upstream.count(), 3);
}

/// The answer to a bad request comes after the answers to the good ones before it.
#[tokio::test]
async fn refusals_keep_their_place_in_the_pipeline() {
    let (gate, upstream) = gate().await;
    let mut client = Client::connect(gate.address).await;
    client
        .send(
            "GET /open/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /cam HTTP/1.1\r\nHost: a\r\n\r\n\
             GET /open/2 HTTP/1.1\r\nHost: a\nX: y\r\n\r\nGET /open/3 HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
    let statuses = [client.reply().await.status, client.reply().await.status, client.reply().await.status];
    assert_eq!(statuses, [200, 403, 400]);
    assert!(client.closed().await);
    assert_eq!(upstream.count(), 1);
}

/// A body that looks like a request is a body.
#[tokio::test]
async fn a_body_is_never_a_request() {
    let upstream = Server::media().await;
    let made = Made::new()
        .stream("pub", filter_user::model::Access::Open, filter_user::model::Access::Open)
        .gate(LOOPBACK, &upstream.url());
    let gate = Running::new(made);
    let inner = "GET /secret HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = Client::connect(gate.address).await;
    client
        .send(format!("POST /pub HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}", inner.len()))
        .await;
    client
        .send(format!(
            "POST /pub HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\nX-Trailer: \
             GET /secret HTTP/1.1\r\n\r\n",
            inner.len()
        ))
        .await;
    assert_eq!(client.reply().await.status, 200);
    assert_eq!(client.reply().await.status, 200);
    let seen = upstream.requests();
    assert_eq!(seen.len(), 2);
    for one in seen {
        assert_eq!((one.target.as_str(), &one.body[..]), ("/pub", inner.as_bytes()));
        assert!(one.header("x-trailer").is_none());
    }
}
