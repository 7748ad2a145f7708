//! Arbitrary targets and heads: never a panic, and what is forwarded is read as it was judged.
//!
//! Short by default; `cargo bolero test` or BOLERO_RANDOM_TEST_TIME_MS makes it long.

use filter_user::http::{Framing, Limits, head_length, read_head, read_target};

/// Pieces that targets are made of, so that random choices meet the interesting ones.
const PIECES: [&str; 40] = [
    "/",
    "//",
    ".",
    "..",
    "%2e",
    "%2E",
    "%2f",
    "%5c",
    "\\",
    "%",
    "%25",
    "%252e",
    "%00",
    "%0a",
    "a",
    "cam",
    "%63am",
    ";",
    "?",
    "&",
    "=",
    "+",
    "%2b",
    "token",
    "%74oken",
    "token=",
    "token=good",
    "good",
    "%c3%a9",
    "%ff",
    "#",
    ":",
    "@",
    "'",
    "\"",
    "<",
    " ",
    "\u{7f}",
    "*",
    "~",
];

fn check(target: &[u8]) {
    let Ok(judged) = read_target(target, "token") else { return };
    let forward = judged.forward();
    let again = read_target(forward.as_bytes(), "token").expect("what is forwarded is sound");
    assert_eq!(again, judged, "forwarded as {forward:?}, it is read in another way");
    assert_eq!(again.forward(), forward, "a second reading changes it");
    for segment in judged.path.split('/') {
        assert!(segment != "." && segment != "..", "a dot segment is left in {:?}", judged.path);
    }
    assert!(!judged.path.starts_with('/') && !judged.path.contains("//"));
    forward.parse::<http::uri::PathAndQuery>().expect("what is forwarded can be sent");
    // Another decoder, that of the URL standard, sees the same path.
    let url = url::Url::parse("http://h").expect("a URL").join(&forward).expect("a target");
    let decoded = percent_encoding::percent_decode_str(url.path()).decode_utf8().expect("UTF-8");
    assert_eq!(decoded.strip_prefix('/'), Some(&*judged.path));
    let tokens: Vec<_> = url.query_pairs().filter(|(name, _)| name == "token").collect();
    assert!(tokens.len() <= 1);
    let token = tokens.first().map(|(_, value)| &**value).filter(|value| !value.is_empty());
    assert_eq!(token, judged.token.as_deref());
}

#[test]
fn targets_of_any_bytes() {
    bolero::check!().for_each(|bytes: &[u8]| {
        check(bytes);
        check(&[b"/", bytes].concat());
    });
}

#[test]
fn targets_of_interesting_pieces() {
    bolero::check!().with_type::<Vec<u8>>().for_each(|choices| {
        let target: String =
            choices.iter().map(|choice| PIECES[usize::from(*choice) % PIECES.len()]).collect();
        check(target.as_bytes());
        check(format!("/{target}").as_bytes());
    });
}

/// Pieces that heads are made of.
const LINES: [&str; 32] = [
    "GET / HTTP/1.1",
    "POST /a HTTP/1.1",
    "GET http://a/ HTTP/1.0",
    "\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    "Host: a",
    "Host:b",
    "Content-Length: 5",
    "Content-Length:0",
    "Content_Length: 1",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: x",
    "Connection: upgrade",
    "Upgrade: websocket",
    "Expect: 100-continue",
    "X: y",
    ":",
    "\0",
    "\x0b",
    "chunked",
    "0",
    "5",
    ",",
    "GET",
    "HTTP/1.1",
    "/",
    "X-Y: \u{e9}",
];

fn check_head(bytes: &[u8]) {
    let limits = Limits::default();
    let Ok(Some(length)) = head_length(bytes, 0) else { return };
    assert!(bytes[..length].ends_with(b"\r\n\r\n"));
    let Ok(head) = read_head(&bytes[..length], &limits) else { return };
    // What was written is sound, says the same, and does not change again.
    assert_eq!(head_length(&head.written, 0), Ok(Some(head.written.len())), "one head, no more");
    let again = read_head(&head.written, &limits).expect("what is written is sound");
    assert_eq!((again.framing, again.upgrade, &again.written), (head.framing, head.upgrade, &head.written));
    // Another parser agrees on the headers that delimit the body.
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    assert!(request.parse(&head.written).expect("what is written parses").is_complete());
    let named = |name: &str| -> Vec<&[u8]> {
        let named = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value).collect()
    };
    let (lengths, codings) = (named("content-length"), named("transfer-encoding"));
    match head.framing {
        Framing::Chunked => assert!(lengths.is_empty() && codings.len() == 1),
        Framing::Length(length) => {
            assert!(codings.is_empty() && lengths.len() <= 1);
            let said = lengths.first().map_or("0", |said| std::str::from_utf8(said).expect("digits"));
            assert_eq!(said.parse(), Ok(length));
        }
    }
}

#[test]
fn heads_of_any_bytes() {
    bolero::check!().for_each(|bytes: &[u8]| {
        check_head(bytes);
        check_head(&[b"GET /", bytes, b" HTTP/1.1\r\nHost: a\r\n", bytes, b"\r\n\r\n"].concat());
    });
}

#[test]
fn heads_of_interesting_lines() {
    bolero::check!().with_type::<Vec<u8>>().for_each(|choices| {
        let lines: String = choices.iter().map(|choice| LINES[usize::from(*choice) % LINES.len()]).collect();
        check_head(lines.as_bytes());
        let lines: Vec<&str> =
            choices.iter().map(|choice| LINES[usize::from(*choice) % LINES.len()]).collect();
        check_head(format!("POST /a HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n")).as_bytes());
    });
}
