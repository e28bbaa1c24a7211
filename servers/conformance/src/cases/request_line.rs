//! The request line: what may precede it, its parts, and its version.

use crate::Expected::{Hello, Refusal};
use crate::Then::Persists;
use crate::case::{Case, hello, refused, sections, several};
use crate::requests::{followed, get, line, post};

pub(crate) fn cases() -> Vec<Case> {
    sections([
        (
            "9112 §2.2",
            vec![
                hello("empty line before a request", followed(b"\r\n", get(""))),
                hello(
                    "empty lines before a request",
                    followed(b"\r\n\r\n\r\n", get("")),
                ),
                hello(
                    "empty line that ends in LF before a request",
                    followed(b"\n", get("")),
                ),
                several(
                    "empty line between two requests",
                    &[&get("")[..], b"\r\n", &get("")],
                    &[Hello; 2],
                    Persists,
                ),
                several(
                    "empty line behind a body, uncounted",
                    &[&post("Content-Length: 3", "abc")[..], b"\r\n", &get("")],
                    &[Refusal(405), Hello],
                    Persists,
                ),
                hello(
                    "lines that end in LF",
                    "GET / HTTP/1.1\nHost: localhost\n\n",
                ),
                hello(
                    "lines that end in LF and lines that end in CR LF",
                    "GET / HTTP/1.1\r\nHost: localhost\nA: b\r\n\n",
                ),
                refused("CR alone before a request", 400, followed(b"\r", get(""))),
                refused(
                    "CR CR LF before a request",
                    400,
                    followed(b"\r\r\n", get("")),
                ),
                refused("CR in the request line", 400, line("GET /\r HTTP/1.1")),
                refused("CR CR LF behind the version", 400, line("GET / HTTP/1.1\r")),
                refused(
                    "request line that ends in CR alone",
                    400,
                    "GET / HTTP/1.1\rHost: localhost\r\n\r\n",
                ),
                refused(
                    "space before the request line",
                    400,
                    line(" GET / HTTP/1.1"),
                ),
                refused("tab before the request line", 400, line("\tGET / HTTP/1.1")),
                refused("NUL before the request line", 400, line("\0GET / HTTP/1.1")),
                refused(
                    "byte order mark before the request line",
                    400,
                    line("\u{feff}GET / HTTP/1.1"),
                ),
                refused("nothing but white space", 400, " \r\n\r\n"),
                refused(
                    "TLS by mistake",
                    400,
                    "\x16\x03\x01\x02\0\x01\0\x01\x03\x03\n\r\n",
                ),
                refused("another protocol", 400, "EHLO localhost\r\n\r\n"),
                refused("a response", 400, line("HTTP/1.1 200 OK")),
            ],
        ),
        (
            "9112 §3",
            vec![
                refused("two spaces behind the method", 400, line("GET  / HTTP/1.1")),
                refused("two spaces behind the target", 400, line("GET /  HTTP/1.1")),
                refused("space behind the version", 400, line("GET / HTTP/1.1 ")),
                refused("tab behind the version", 400, line("GET / HTTP/1.1\t")),
                refused("tab behind the method", 400, line("GET\t/ HTTP/1.1")),
                refused("tab behind the target", 400, line("GET /\tHTTP/1.1")),
                refused(
                    "vertical tab behind the method",
                    400,
                    line("GET\x0b/ HTTP/1.1"),
                ),
                refused(
                    "form feed behind the target",
                    400,
                    line("GET /\x0cHTTP/1.1"),
                ),
                refused("method alone", 400, line("GET")),
                refused("no target", 400, line("GET HTTP/1.1")),
                refused("no version, as in HTTP/0.9", 400, "GET /\r\n\r\n"),
                refused("no version, and a Host", 400, line("GET /")),
                refused("no version but a space for it", 400, line("GET / ")),
                refused("a fourth word", 400, line("GET / HTTP/1.1 HTTP/1.1")),
            ],
        ),
        ("9112 §2.3", malformed_versions()),
        (
            "9110 §2.5",
            vec![
                hello("HTTP/1.2 is answered like HTTP/1.1", line("GET / HTTP/1.2")),
                hello("HTTP/1.9 is answered like HTTP/1.1", line("GET / HTTP/1.9")),
            ],
        ),
        (
            "9110 §15.6.6",
            vec![
                refused("HTTP/0.9 in so many words", 505, line("GET / HTTP/0.9")),
                refused("HTTP/2.0", 505, line("GET / HTTP/2.0")),
                refused("HTTP/3.0", 505, line("GET / HTTP/3.0")),
                refused("HTTP/9.9", 505, line("GET / HTTP/9.9")),
                refused("preface of HTTP/2", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            ],
        ),
    ])
}

fn malformed_versions() -> Vec<Case> {
    let versions = [
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/11",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/1.1.1",
        "HTTP/1,1",
        "HTTP/1.x",
        "HTTP/x.1",
        "HTTP/-1.1",
        "HTTP/+1.1",
        "HTTP/1.1x",
        "http/1.1",
        "Http/1.1",
        "HTTP-1.1",
        "HTTP\\1.1",
        "HTTPS/1.1",
        "ICY/1.1",
        "/1.1",
        "1.1",
        "HTTP/",
        "HTTP",
    ];
    let refused = |version| refused(version, 400, line(format!("GET / {version}")));
    let with_nul = refused("HTTP/1.1\0");
    let mut cases: Vec<Case> = versions.into_iter().map(refused).collect();
    cases.push(Case {
        name: "NUL behind the version".to_owned(),
        ..with_nul
    });
    cases
}
