//! Limits of our servers: the largest accepted and the smallest refused.

use crate::case::{Case, hello, not_allowed, not_implemented, refused, sections};
use crate::requests::{chunked, get, line, post, target};

/// The longest request line in bytes, without its line end.
const REQUEST_LINE_MAX: usize = 8 * 1024;
/// The longest head in bytes; also the most bytes of a chunked body that are not content.
const HEAD_MAX: usize = 16 * 1024;
const FIELDS_MAX: usize = 100;
/// The largest content in bytes.
const BODY_MAX: usize = 1024 * 1024;

pub(crate) fn cases() -> Vec<Case> {
    sections([
        ("9112 §3", request_lines()),
        ("9110 §5.4", heads_within()),
        ("6585 §5", heads_too_large()),
        ("9110 §15.5.14", bodies()),
        ("9112 §7.1.1", chunk_framing()),
    ])
}

fn request_lines() -> Vec<Case> {
    let path = |bytes: usize| format!("/{}", "a".repeat(bytes - "GET / HTTP/1.1".len()));
    vec![
        hello("request line of 8,000 bytes", target(path(8000))),
        hello(
            "request line as long as it may be",
            target(path(REQUEST_LINE_MAX)),
        ),
        refused(
            "target too long by a byte",
            414,
            target(path(REQUEST_LINE_MAX + 1)),
        ),
        refused(
            "query too long",
            414,
            target(format!("/?{}", "a".repeat(9000))),
        ),
        refused(
            "target without an end",
            414,
            format!("GET /{}", "a".repeat(9000)),
        ),
        refused(
            "target too long in HTTP/1.0",
            414,
            format!("GET {} HTTP/1.0\r\n\r\n", path(9000)),
        ),
        refused("method without an end", 501, "A".repeat(9000)),
        refused(
            "method too long",
            501,
            line(format!("{} / HTTP/1.1", "A".repeat(9000))),
        ),
        not_implemented(
            "method as long as the request line may be",
            line(format!(
                "{} / HTTP/1.1",
                "A".repeat(REQUEST_LINE_MAX - " / HTTP/1.1".len())
            )),
        ),
    ]
}

/// A header line that fills a head to this many bytes.
fn filling(head_bytes: usize) -> String {
    format!("A: {}\r\n", "b".repeat(head_bytes - get("A: \r\n").len()))
}

fn heads_within() -> Vec<Case> {
    vec![
        hello("head as large as it may be", get(filling(HEAD_MAX))),
        hello(
            "as many headers as there may be",
            get("A: b\r\n".repeat(FIELDS_MAX - 1)),
        ),
        hello(
            "name of 15,000 bytes",
            get(format!("{}: b\r\n", "A".repeat(15_000))),
        ),
    ]
}

fn heads_too_large() -> Vec<Case> {
    vec![
        refused("head too large by a byte", 431, get(filling(HEAD_MAX + 1))),
        refused(
            "header line without an end",
            431,
            [
                "GET / HTTP/1.1\r\nHost: localhost\r\nA: ",
                &"b".repeat(HEAD_MAX),
            ]
            .concat(),
        ),
        refused(
            "name too long",
            431,
            get(format!("{}: b\r\n", "A".repeat(17_000))),
        ),
        refused(
            "headers without an end",
            431,
            format!(
                "GET / HTTP/1.1\r\nHost: localhost\r\n{}",
                format!("A: {}\r\n", "b".repeat(1000)).repeat(17)
            ),
        ),
        refused(
            "one header too many",
            431,
            get("A: b\r\n".repeat(FIELDS_MAX)),
        ),
        refused("five hundred headers", 431, get("A: b\r\n".repeat(500))),
    ]
}

fn bodies() -> Vec<Case> {
    let content = "a".repeat(BODY_MAX);
    let half = "a".repeat(BODY_MAX / 2);
    let (size, half_size) = (format!("{BODY_MAX:x}"), format!("{:x}", BODY_MAX / 2));
    vec![
        not_allowed(
            "body as large as it may be",
            post(format!("Content-Length: {BODY_MAX}"), &content),
        )
        .in_large_writes(),
        not_allowed(
            "chunk as large as it may be",
            chunked(format!("{size}\r\n{content}\r\n0\r\n\r\n")),
        )
        .in_large_writes(),
        not_allowed(
            "chunks as large as they may be together",
            chunked(format!(
                "{half_size}\r\n{half}\r\n{half_size}\r\n{half}\r\n0\r\n\r\n"
            )),
        )
        .in_large_writes(),
        not_allowed(
            "two hundred chunks",
            chunked(format!("{}0\r\n\r\n", "5\r\nabcde\r\n".repeat(200))),
        ),
        refused(
            "body too large by a byte",
            413,
            post(format!("Content-Length: {}", BODY_MAX + 1), "abc"),
        ),
        refused(
            "body of as many bytes as a number can count",
            413,
            post("Content-Length: 18446744073709551615", "abc"),
        ),
        refused(
            "chunk too large by a byte",
            413,
            chunked(format!("{:x}\r\nabc", BODY_MAX + 1)),
        ),
        refused(
            "chunk of as many bytes as a number can count",
            413,
            chunked("ffffffffffffffff\r\nabc"),
        ),
        refused(
            "chunks too large together",
            413,
            chunked(format!(
                "{half_size}\r\n{half}\r\n{half_size}\r\n{half}\r\n1\r\na\r\n0\r\n\r\n"
            )),
        )
        .in_large_writes(),
    ]
}

fn chunk_framing() -> Vec<Case> {
    let long = "a".repeat(HEAD_MAX);
    vec![
        not_allowed(
            "extension of 10,000 bytes",
            chunked(format!("3;{}\r\nabc\r\n0\r\n\r\n", "a".repeat(10_000))),
        ),
        refused("extension too long", 431, chunked(format!("3;{long}a"))),
        refused(
            "size of too many zeros",
            431,
            chunked(format!("{}3", "0".repeat(HEAD_MAX + 1))),
        ),
        refused(
            "extensions too long together",
            431,
            chunked(format!("3;{}\r\nabc\r\n", "a".repeat(1000)).repeat(17)),
        ),
        refused("trailer too long", 431, chunked(format!("0\r\nA: {long}"))),
        refused(
            "trailers too long together",
            431,
            chunked(format!("0\r\n{}", "A: b\r\n".repeat(5000))),
        ),
    ]
}
