//! Which heads pass, and as what.

use super::*;

fn answer(head: &str) -> Result<Framing, u16> {
    read(head.as_bytes(), &Limits::default())
        .map(|head| head.framing)
        .map_err(|reject| reject.status.as_u16())
}

#[test]
fn hosts_are_names_or_addresses_with_a_port_perhaps() {
    for host in ["a", "tv.example", "tv.example:80", "192.0.2.1:1", "[2001:db8::1]", "[::1]:8080", "a_b~c-d"]
    {
        assert!(is_host(host.as_bytes()), "{host}");
    }
    for host in [
        "",
        ":80",
        "tv.example:abc",
        "a[b]c",
        "tv.example:",
        "a:65536",
        "[::1",
        "[::1]x",
        "[a]",
        "a:1:2",
        "a/b",
        "u@h",
    ] {
        assert!(!is_host(host.as_bytes()), "{host}");
    }
}

#[test]
fn what_an_upstream_may_leave_unread_has_no_body() {
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        let with = |field: &str| answer(&format!("{method} / HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
        assert_eq!(with("Content-Length: 48\r\n"), Err(400), "{method}");
        // A body of no chunks is none: the framer takes it away.
        let chunked = if method == "DELETE" { Ok(Framing::Length(0)) } else { Err(400) };
        assert_eq!(with("Transfer-Encoding: chunked\r\n"), chunked, "{method}");
        assert_eq!(with("Content-Length: 0\r\n"), Ok(Framing::Length(0)), "{method}");
    }
    for method in ["POST", "PUT", "PATCH", "PROPFIND"] {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 48\r\n\r\n");
        assert_eq!(answer(&head), Ok(Framing::Length(48)), "{method}");
    }
}

#[test]
fn lengths_beyond_counting_are_413() {
    let post =
        |length: &str| answer(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
    assert_eq!(post("9223372036854775807"), Ok(Framing::Length(i64::MAX as u64)));
    for length in ["9223372036854775808", "18446744073709551615", "99999999999999999999999"] {
        assert_eq!(post(length), Err(413), "{length}");
    }
    assert_eq!(post("-1"), Err(400));
}
