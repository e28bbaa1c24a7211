//! Requests and the exact bytes of their answers, section by section.

mod peer;

use http1::{Limits, Next};
use peer::{DATE, Peer, head, hello, last_refusal, refusal};

const CLOSE: &str = "Connection: close\r\n";

/// What the server does after its answer, with the peer's side still open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// It waits for another request.
    Persists,
    /// It has shut its side and reads until the peer closes.
    Closes,
}
use After::{Closes, Persists};

#[track_caller]
fn check(input: impl AsRef<[u8]>, expected: &str, after: After) {
    let input = input.as_ref();
    let mut peer = Peer::new(Limits::default());
    peer.send(input);
    let got = String::from_utf8_lossy(&peer.received);
    assert_eq!(got, expected, "to {}", input.escape_ascii());
    let then = match (peer.connection.next(), peer.shut) {
        (Next::Read, false) => Persists,
        (Next::Read, true) => Closes,
        (next, _) => panic!("{next:?} remains to be done"),
    };
    assert_eq!(then, after, "after {}", input.escape_ascii());
}

/// An HTTP/1.1 request with a Host and further header lines.
fn get(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
}

fn post(headers: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}")
}

#[track_caller]
fn refused(input: impl AsRef<[u8]>, status: &str) {
    check(input, &last_refusal(status), Closes);
}

fn bad(inputs: &[&str]) {
    for input in inputs {
        refused(input, "400 Bad Request");
    }
}

#[test]
fn hello_world_to_the_byte() {
    let expected = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\nDate: {DATE}\r\n\r\nhello world"
    );
    check(get(""), &expected, Persists);
}

#[test]
fn rfc9110_9_3_2_head_is_get_without_the_body() {
    check(
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        &head("200 OK", ""),
        Persists,
    );
}

#[test]
fn rfc9110_9_3_7_options_of_a_resource_and_of_the_server() {
    for target in ["/", "*", "http://a/"] {
        let input = format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        check(input, &head("204 No Content", ""), Persists);
    }
}

#[test]
fn rfc9110_15_5_6_known_methods_are_refused_with_what_is_allowed() {
    for method in ["POST", "PUT", "DELETE", "TRACE", "PATCH"] {
        check(
            format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"),
            &format!(
                "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain\r\nContent-Length: 23\r\n\
                 Date: {DATE}\r\nAllow: GET, HEAD, OPTIONS\r\n\r\n405 Method Not Allowed\n"
            ),
            Persists,
        );
    }
}

#[test]
fn rfc9110_15_6_2_unknown_methods_are_not_implemented() {
    for method in ["BREW", "get", "GETS"] {
        check(
            format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"),
            &refusal("501 Not Implemented", ""),
            Persists,
        );
    }
}

#[test]
fn rfc9112_2_2_empty_lines_before_a_request() {
    check(format!("\r\n\r\n{}", get("")), &hello(""), Persists);
    check(format!("\n{}\r\n", get("")), &hello(""), Persists);
    check("\r\n".repeat(10_000) + &get(""), &hello(""), Persists);
    bad(&["\r\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"]);
}

#[test]
fn rfc9112_2_2_a_bare_lf_ends_a_line_a_bare_cr_does_not() {
    check("GET / HTTP/1.1\nHost: a\n\n", &hello(""), Persists);
    bad(&[
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n",
    ]);
}

#[test]
fn rfc9110_2_5_a_later_minor_version_is_answered_as_1_1() {
    for minor in 2..=9 {
        let input = format!("GET / HTTP/1.{minor}\r\nHost: a\r\n\r\n");
        check(input.repeat(2), &hello("").repeat(2), Persists);
        bad(&[&format!("GET / HTTP/1.{minor}\r\n\r\n")]);
    }
}

#[test]
fn rfc9112_6_3_a_refusal_of_head_has_no_body() {
    for (headers, status) in [
        ("", "400 Bad Request"),
        ("Host: a\r\nExpect: tea\r\n", "417 Expectation Failed"),
        (
            "Host: a\r\nContent-Length: 9999999\r\n",
            "413 Content Too Large",
        ),
        (
            "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n",
            "501 Not Implemented",
        ),
    ] {
        let input = format!("HEAD / HTTP/1.1\r\n{headers}\r\n");
        check(input, &head(status, CLOSE), Closes);
    }
}

#[test]
fn rfc9112_2_3_versions() {
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/3.1"] {
        refused(
            format!("GET / {version}\r\nHost: a\r\n\r\n"),
            "505 HTTP Version Not Supported",
        );
    }
    refused(
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "505 HTTP Version Not Supported",
    );
    for version in [
        "HTTP/1",
        "HTTP/11",
        "http/1.1",
        "HTTP/1.1x",
        "HTTP/a.b",
        "1.1",
        "HTTP/1.1 ",
    ] {
        bad(&[&format!("GET / {version}\r\nHost: a\r\n\r\n")]);
    }
}

#[test]
fn rfc9112_3_request_lines() {
    bad(&[
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "\x16\x03\x01\x02\n", // TLS by mistake
    ]);
}

#[test]
fn rfc9112_3_a_request_line_has_its_limit() {
    let line = |bytes: usize| {
        format!(
            "GET /{} HTTP/1.1",
            "a".repeat(bytes - "GET / HTTP/1.1".len())
        )
    };
    let max = Limits::default().request_line_bytes_max;
    let rest = "\r\nHost: a\r\n\r\n";
    check(line(max) + rest, &hello(""), Persists);
    refused(line(max + 1) + rest, "414 URI Too Long");
    refused(line(max + 1), "414 URI Too Long");
    // Here the method is too long, not the target.
    refused("a".repeat(max + 1), "501 Not Implemented");
}

#[test]
fn rfc9112_3_2_targets() {
    for target in [
        "/?a=b",
        "/%20/..",
        "http://a/b",
        "HTTP://a",
        "http://a:1/?c",
    ] {
        check(
            format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
            &hello(""),
            Persists,
        );
    }
    for target in [
        "*",
        "a",
        "a:80",
        "ftp://a/",
        "://a",
        "http://",
        "http:///b",
        "http://:80/",
        "http://user@a/",
        "http://a:b/",
        "http://[::1/",
        "/a#b",
        "/a\"b",
        "/%4",
        "/%zz",
        "/\u{e4}",
    ] {
        bad(&[&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")]);
    }
    check(
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        &refusal("405 Method Not Allowed", "Allow: GET, HEAD, OPTIONS\r\n"),
        Persists,
    );
    for target in ["/", "a", "a:", ":80", "http://a:80"] {
        bad(&[&format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n")]);
    }
}

#[test]
fn rfc9112_3_2_exactly_one_valid_host() {
    for host in [
        "",
        "a",
        "a.b:80",
        "127.0.0.1:8000",
        "[::1]",
        "[::1]:80",
        "a:",
        "a:000080",
        "[v1.a:b]",
    ] {
        check(
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            &hello(""),
            Persists,
        );
    }
    for host in [
        "a b", "a/b", "a@b", "a:b", "a%2", "[::1", "[]", "[::1]a", "::1", "a\u{e9}", "[v1.]",
    ] {
        bad(&[&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")]);
    }
    bad(&[
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a b\r\n\r\n",
    ]);
}

#[test]
fn rfc9112_5_header_lines() {
    check(
        get("X:\r\nY:  z \t\r\n!#$%&'*+-.^_`|~09: \x7a\r\n"),
        &hello(""),
        Persists,
    );
    bad(&[
        &get("X : y\r\n"), // §5.1: white space before the colon
        &get("X\t: y\r\n"),
        &get("X: y\r\n z\r\n"), // §5.2: line folding
        &get("X: y\r\n\tz\r\n"),
        &get("X: y\0z\r\n"),
        &get(": y\r\n"),
        &get("X\r\n"),
        &get("X(: y\r\n"),
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n", // §2.2
    ]);
}

#[test]
fn rfc6585_5_header_sections_have_their_limits() {
    const STATUS: &str = "431 Request Header Fields Too Large";
    let max = Limits::default().head_bytes_max;
    let long = |bytes: usize| {
        get(&format!(
            "X: {}\r\n",
            "y".repeat(bytes - get("X: \r\n").len())
        ))
    };
    check(long(max), &hello(""), Persists);
    refused(long(max + 1), STATUS);
    refused(&long(max * 2)[..max], STATUS);
    check(get(&"X: y\r\n".repeat(99)), &hello(""), Persists);
    refused(get(&"X: y\r\n".repeat(100)), STATUS);
}

#[test]
fn rfc9112_6_bodies_are_read_and_the_next_request_is_answered() {
    let expected = refusal("405 Method Not Allowed", "Allow: GET, HEAD, OPTIONS\r\n") + &hello("");
    for first in [
        post("Content-Length: 0\r\n", ""),
        post("Content-Length: 3\r\n", "abc"),
        post("Content-Length: 3\r\ncontent-length: 3\r\n", "abc"),
        post("Content-Length: 16\r\n", "GET / HTTP/1.1\r\n"),
        post("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("transfer-encoding: CHUNKED\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        post(
            "Transfer-Encoding: chunked\r\n",
            "3;a=\"b\";c\r\nabc\r\n1\r\nd\r\n000;e\r\n\r\n",
        ),
        post(
            "Transfer-Encoding: chunked\r\n",
            "0\r\nA: b\r\nHost: c\r\n\r\n",
        ),
    ] {
        check(first + &get(""), &expected, Persists);
    }
}

#[test]
fn rfc9112_6_1_transfer_codings() {
    bad(&[
        &post("Transfer-Encoding: gzip\r\n", ""),
        &post("Transfer-Encoding: chunked, gzip\r\n", ""),
        &post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        &post("Transfer-Encoding: identity\r\n", ""),
        &post("Transfer-Encoding: \r\n", ""),
        &post("Transfer-Encoding: chunked;a=b\r\n", "0\r\n\r\n"),
        &post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
        &post(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        &post(
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "0\r\n\r\n",
        ),
        &post(
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ]);
    refused(
        post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        "501 Not Implemented",
    );
}

#[test]
fn rfc9112_6_2_content_lengths() {
    for length in [
        "-1",
        "+1",
        "1 1",
        "0x1",
        "1,1",
        "a",
        "",
        "1.0",
        "99999999999999999999",
    ] {
        bad(&[&post(&format!("Content-Length: {length}\r\n"), "")]);
    }
    bad(&[&post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd")]);
    bad(&[&post("Content-Length: 3\r\nContent-Length: 03\r\n", "abc")]);
}

#[test]
fn rfc9110_15_5_14_content_has_its_limit() {
    let max = Limits::default().body_bytes_max as usize;
    let refusal_405 = refusal("405 Method Not Allowed", "Allow: GET, HEAD, OPTIONS\r\n");
    let body = "a".repeat(max);
    check(
        post(&format!("Content-Length: {max}\r\n"), &body),
        &refusal_405,
        Persists,
    );
    let chunked = |last: &str| {
        let body = format!("{max:x}\r\n{body}\r\n{last}");
        post("Transfer-Encoding: chunked\r\n", &body)
    };
    check(chunked("0\r\n\r\n"), &refusal_405, Persists);
    const STATUS: &str = "413 Content Too Large";
    refused(
        post(&format!("Content-Length: {}\r\n", max + 1), ""),
        STATUS,
    );
    refused(chunked("1\r\n"), STATUS);
    refused(
        post("Transfer-Encoding: chunked\r\n", "FFFFFFFFFFFFFFFF\r\n"),
        STATUS,
    );
}

#[test]
fn rfc9112_7_1_chunks() {
    for body in [
        "\r\n",
        "x\r\n",
        "3\nabc\r\n",
        "3\r\nabcd",
        "3;a\0\r\n",
        "0\r\n a: b\r\n\r\n",
        "0\r\n\n",
    ] {
        bad(&[&post("Transfer-Encoding: chunked\r\n", body)]);
    }
    bad(&[&post(
        "Transfer-Encoding: chunked\r\n",
        "10000000000000000\r\n",
    )]);
    let padded = "0".repeat(Limits::default().head_bytes_max + 1);
    refused(
        post("Transfer-Encoding: chunked\r\n", &padded),
        "431 Request Header Fields Too Large",
    );
}

#[test]
fn rfc9110_10_1_1_expectations() {
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let refusal_405 = refusal("405 Method Not Allowed", "Allow: GET, HEAD, OPTIONS\r\n");
    let headers = "Expect: 100-Continue\r\nContent-Length: 3\r\n";
    check(post(headers, ""), CONTINUE, Persists);
    // No interim answer if the body has arrived already, or if there is none.
    check(post(headers, "abc"), &refusal_405, Persists);
    check(get("Expect: 100-continue\r\n"), &hello(""), Persists);
    refused(get("Expect: 200-ok\r\n"), "417 Expectation Failed");
    // HTTP/1.0 has no expectations, so this one is ignored.
    let one_dot_zero = "GET / HTTP/1.0\r\nExpect: 200-ok\r\nConnection: keep-alive\r\n\r\n";
    check(one_dot_zero, &hello("Connection: keep-alive\r\n"), Persists);
    // The request is refused without asking for its body, which would not be read.
    let large = post("Expect: 100-continue\r\nContent-Length: 9999999\r\n", "");
    refused(large, "413 Content Too Large");

    let mut peer = Peer::new(Limits::default());
    for part in [&post(headers, ""), "ab", "c"] {
        peer.send(part.as_bytes());
    }
    assert_eq!(
        String::from_utf8_lossy(&peer.received),
        CONTINUE.to_owned() + &refusal_405
    );
}

#[test]
fn rfc9112_9_3_persistence() {
    let keep_alive = "Connection: keep-alive\r\n";
    for (request, headers, after) in [
        (get(""), "", Persists),
        (get(keep_alive), "", Persists),
        (get(CLOSE), CLOSE, Closes),
        (get("cONNECTION:\tCLOSE\r\n"), CLOSE, Closes),
        (get("Connection: te , Close,x\r\n"), CLOSE, Closes),
        (
            get("Connection: te\r\nConnection: close\r\n"),
            CLOSE,
            Closes,
        ),
        (get("Connection: keep-alive, close\r\n"), CLOSE, Closes),
        (get("Connection: closed\r\n"), "", Persists),
        ("GET / HTTP/1.0\r\n\r\n".into(), CLOSE, Closes),
        (
            format!("GET / HTTP/1.0\r\n{keep_alive}\r\n"),
            keep_alive,
            Persists,
        ),
        (
            "GET / HTTP/1.0\r\nConnection: te, Keep-Alive\r\n\r\n".into(),
            keep_alive,
            Persists,
        ),
        (
            format!("GET / HTTP/1.0\r\n{keep_alive}{CLOSE}\r\n"),
            CLOSE,
            Closes,
        ),
    ] {
        check(request, &hello(headers), after);
    }
    let refusal_405 = format!("Allow: GET, HEAD, OPTIONS\r\n{CLOSE}");
    check(
        post("Content-Length: 3\r\nConnection: close\r\n", "abc"),
        &refusal("405 Method Not Allowed", &refusal_405),
        Closes,
    );
}

#[test]
fn rfc9112_9_3_2_pipelined_requests_are_answered_in_order() {
    let input = [
        get(""),
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "\r\n".to_owned(),
        post("Content-Length: 3\r\n", "abc"),
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        get(CLOSE),
    ]
    .concat();
    let expected = [
        hello(""),
        head("200 OK", ""),
        refusal("405 Method Not Allowed", "Allow: GET, HEAD, OPTIONS\r\n"),
        head("204 No Content", ""),
        hello(CLOSE),
    ]
    .concat();
    check(&input, &expected, Closes);
    // Input after the last request is not answered. Closing at once could destroy the answer.
    check(input + &get(""), &expected, Closes);
}

#[test]
fn after_a_refusal_nothing_is_answered() {
    let input = format!("{}GET / HTTP/1.1\r\n\r\n{}", get(""), get(""));
    check(
        input,
        &(hello("") + &last_refusal("400 Bad Request")),
        Closes,
    );
}
