//! Methods: served, known, unknown and malformed ones.

use crate::Expected::{Head, Options};
use crate::Then::Persists;
use crate::case::{
    Case, head_refused, hello, not_allowed, not_implemented, one, refused, sections,
};
use crate::requests::{followed, get, head, line};

pub(crate) fn cases() -> Vec<Case> {
    let options = |name, sent: Vec<u8>| one(name, sent, Options, Persists);
    sections([
        (
            "9110 §9.3.1",
            vec![
                hello("GET", get("")),
                hello(
                    "GET with a body",
                    followed(get("Content-Length: 3\r\n"), b"abc"),
                ),
                hello(
                    "GET with a chunked body",
                    followed(
                        get("Transfer-Encoding: chunked\r\n"),
                        b"3\r\nabc\r\n0\r\n\r\n",
                    ),
                ),
                hello("GET with a body of no length", get("Content-Length: 0\r\n")),
            ],
        ),
        (
            "9110 §9.3.2",
            vec![
                one("HEAD", head(""), Head, Persists),
                one(
                    "HEAD with a body",
                    followed(head("Content-Length: 3\r\n"), b"abc"),
                    Head,
                    Persists,
                ),
                head_refused("HEAD without Host", 400, "HEAD / HTTP/1.1\r\n\r\n"),
                head_refused("HEAD with Host twice", 400, head("Host: localhost\r\n")),
                head_refused("HEAD with a malformed header line", 400, head("A : b\r\n")),
                head_refused(
                    "HEAD with a space in the target",
                    400,
                    line("HEAD /a b HTTP/1.1"),
                ),
                head_refused("HEAD of *", 400, line("HEAD * HTTP/1.1")),
                head_refused(
                    "HEAD with a malformed version",
                    400,
                    line("HEAD / HTTP/1.1.1"),
                ),
                head_refused("HEAD in HTTP/2.0", 505, line("HEAD / HTTP/2.0")),
                head_refused(
                    "HEAD with an unknown expectation",
                    417,
                    head("Expect: tea\r\n"),
                ),
                head_refused(
                    "HEAD with a body too large",
                    413,
                    head("Content-Length: 1048577\r\n"),
                ),
                head_refused(
                    "HEAD with a length and chunked",
                    400,
                    head("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
                ),
                head_refused(
                    "HEAD with a transfer coding not understood",
                    501,
                    head("Transfer-Encoding: gzip, chunked\r\n"),
                ),
                head_refused(
                    "HEAD with a malformed chunk",
                    400,
                    followed(head("Transfer-Encoding: chunked\r\n"), b"x\r\n"),
                ),
                head_refused(
                    "HEAD with a target too long",
                    414,
                    line(format!("HEAD /{} HTTP/1.1", "a".repeat(9000))),
                ),
                head_refused(
                    "HEAD with a header line too long",
                    431,
                    head(format!("A: {}\r\n", "b".repeat(17_000))),
                ),
            ],
        ),
        (
            "9110 §9.3.7",
            vec![
                options("OPTIONS of a resource", line("OPTIONS / HTTP/1.1")),
                options("OPTIONS of the server", line("OPTIONS * HTTP/1.1")),
                options(
                    "OPTIONS in absolute-form",
                    line("OPTIONS http://localhost HTTP/1.1"),
                ),
                options(
                    "OPTIONS with a body",
                    followed(
                        b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n",
                        b"abc",
                    ),
                ),
                options(
                    "OPTIONS with Max-Forwards",
                    line("OPTIONS * HTTP/1.1\r\nMax-Forwards: 0"),
                ),
            ],
        ),
        (
            "9110 §15.5.6",
            vec![
                not_allowed("POST", line("POST / HTTP/1.1")),
                not_allowed("PUT", line("PUT / HTTP/1.1")),
                not_allowed("DELETE", line("DELETE / HTTP/1.1")),
                not_allowed("TRACE", line("TRACE / HTTP/1.1")),
            ],
        ),
        (
            "5789 §2",
            vec![not_allowed("PATCH", line("PATCH / HTTP/1.1"))],
        ),
        (
            "9110 §9.3.6",
            vec![
                not_allowed("CONNECT", line("CONNECT localhost:80 HTTP/1.1")),
                not_allowed(
                    "CONNECT to an IPv6 address",
                    line("CONNECT [::1]:80 HTTP/1.1"),
                ),
                refused("CONNECT with a path", 400, line("CONNECT / HTTP/1.1")),
                refused("CONNECT with *", 400, line("CONNECT * HTTP/1.1")),
                refused(
                    "CONNECT in absolute-form",
                    400,
                    line("CONNECT http://localhost:80/ HTTP/1.1"),
                ),
                refused(
                    "CONNECT without a port",
                    400,
                    line("CONNECT localhost HTTP/1.1"),
                ),
                refused(
                    "CONNECT to an IPv6 address without a port",
                    400,
                    line("CONNECT [::1] HTTP/1.1"),
                ),
                refused(
                    "CONNECT with an empty port",
                    400,
                    line("CONNECT localhost: HTTP/1.1"),
                ),
                refused(
                    "CONNECT with a port above 65535",
                    400,
                    line("CONNECT localhost:65536 HTTP/1.1"),
                ),
                refused(
                    "CONNECT with a user",
                    400,
                    line("CONNECT user@localhost:80 HTTP/1.1"),
                ),
            ],
        ),
        (
            "9110 §9.1",
            vec![
                not_implemented("get is not GET", line("get / HTTP/1.1")),
                not_implemented("Get is not GET", line("Get / HTTP/1.1")),
                not_implemented("head is not HEAD", line("head / HTTP/1.1")),
                not_implemented("post is not POST", line("post / HTTP/1.1")),
            ],
        ),
        (
            "9110 §15.6.2",
            vec![
                not_implemented("unknown method", line("BREW / HTTP/1.1")),
                not_implemented("method of one letter", line("G / HTTP/1.1")),
                not_implemented("method that begins like GET", line("GETS / HTTP/1.1")),
                not_implemented("method that ends like GET", line("XGET / HTTP/1.1")),
                not_implemented("method of digits", line("200 / HTTP/1.1")),
                not_implemented(
                    "method of all that a token may have",
                    line("!#$%&'*+-.^_`|~09AZaz / HTTP/1.1"),
                ),
                not_implemented("method of WebDAV", line("PROPFIND / HTTP/1.1")),
                not_implemented(
                    "unknown method with a body",
                    followed(
                        b"BREW / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n",
                        b"abc",
                    ),
                ),
            ],
        ),
        ("9112 §3.1", no_methods()),
    ])
}

/// Bytes that a method cannot contain (9110 §5.6.2).
fn no_methods() -> Vec<Case> {
    let delimiters = b"\"(),/:;<=>?@[\\]{}".map(|byte| {
        let method = [b'G', byte, b'T'];
        let name = format!("`{}` in the method", char::from(byte));
        refused(&name, 400, line([&method[..], b" / HTTP/1.1"].concat()))
    });
    let mut cases = delimiters.to_vec();
    cases.extend([
        refused("NUL in the method", 400, line("G\0T / HTTP/1.1")),
        refused("control byte in the method", 400, line("G\x01T / HTTP/1.1")),
        refused("DEL in the method", 400, line("G\x7fT / HTTP/1.1")),
        refused(
            "byte above ASCII in the method",
            400,
            line(b"G\xc9T / HTTP/1.1"),
        ),
        refused("CR in the method", 400, line("G\rT / HTTP/1.1")),
    ]);
    cases
}
