//! Requests and how they must be answered, by the sections of RFC 9110 and 9112. Each is sent in three
//! ways, which must make no difference.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;

use crate::client::Expected::{Head, Hello, Options, Refusal};
use crate::client::{Client, Expected, GET, abridged};
use crate::subject::Subject;
use crate::trial;

struct Case {
    name: &'static str,
    sent: Vec<u8>,
    answers: Vec<Expected>,
    then: Then,
    ways: &'static [Way],
}

impl Case {
    /// For a client that goes on in a further packet after `Connection: close`, which it must not, and
    /// may find the connection reset (9112 §9.6).
    fn in_one_packet(self) -> Self {
        Case {
            ways: &[Way::Whole, Way::AfterAnother],
            ..self
        }
    }
}

/// What the connection does after the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Persists: a further request is answered.
    Persists,
    /// The same, and the answer says so, as HTTP/1.0 needs it.
    KeepAlive,
    /// The last answer announces it.
    Closes,
}
use Then::{Closes, KeepAlive, Persists};

#[derive(Debug, Clone, Copy)]
enum Way {
    Whole,
    ByteByByte,
    AfterAnother,
}

const ALL_WAYS: &[Way] = &[Way::Whole, Way::ByteByByte, Way::AfterAnother];

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Whole => "sent whole",
            Way::ByteByByte => "sent byte by byte",
            Way::AfterAnother => "pipelined behind another request",
        })
    }
}

pub(crate) fn trials(subject: &Subject) -> impl Iterator<Item = Trial> {
    cases().into_iter().map(|case| {
        let name = format!("{}::{}", subject.name(), case.name);
        let subject = subject.clone();
        trial(name, move || {
            let server = subject.start(&[])?;
            let mut answers = 0;
            let connections = case.ways.len() as u64;
            for &way in case.ways {
                answers += converse(server.address(), &case, way)
                    .with_context(|| format!("{}, {way}", abridged(&case.sent)))?;
            }
            let counters = server.stop()?;
            ensure!(
                counters.requests == answers,
                "{answers} answers, {counters:?}"
            );
            ensure!(
                (counters.accepted, counters.closed) == (connections, connections),
                "{counters:?}"
            );
            Ok(())
        })
    })
}

fn converse(address: SocketAddr, case: &Case, way: Way) -> Result<u64> {
    let mut client = Client::connect(address)?;
    match way {
        Way::Whole => client.send(&case.sent)?,
        Way::ByteByByte => client.send_bytewise(&case.sent)?,
        Way::AfterAnother => {
            client.send(&[GET, &case.sent].concat())?;
            client.expect(Hello, None)?;
        }
    }
    let last = case.answers.len() - 1;
    for (at, &expected) in case.answers.iter().enumerate() {
        let connection = match case.then {
            _ if at < last => None,
            Persists => None,
            KeepAlive => Some("keep-alive"),
            Closes => Some("close"),
        };
        match expects_continue(&case.sent) {
            true => client.expect_after_continue(expected, connection)?,
            false => client.expect(expected, connection)?,
        }
    }
    match case.then {
        Closes => client.expect_end()?,
        Persists | KeepAlive => {
            client.send(GET)?;
            client.expect(Hello, None).context("a further request")?;
        }
    }
    Ok(client.answers)
}

/// An interim answer depends on whether the body was there already (9110 §10.1.1).
fn expects_continue(sent: &[u8]) -> bool {
    sent.windows(12).any(|window| window == b"100-continue")
}

/// A request of HTTP/1.1 with further header lines.
fn get(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

fn line(line: &str) -> String {
    format!("{line}\r\nHost: localhost\r\n\r\n")
}

fn host(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn post(headers: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked", body)
}

fn cases() -> Vec<Case> {
    let one = |name, sent: String, answer, then| Case {
        name,
        sent: sent.into_bytes(),
        answers: vec![answer],
        then,
        ways: ALL_WAYS,
    };
    let hello = |name, sent| one(name, sent, Hello, Persists);
    let refused = |name, status, sent| one(name, sent, Refusal(status), Closes);
    let not_allowed = |name, sent| one(name, sent, Refusal(405), Persists);
    let several = |name, sent: &[String], answers: &[Expected], then| Case {
        name,
        sent: sent.concat().into_bytes(),
        answers: answers.to_vec(),
        then,
        ways: ALL_WAYS,
    };
    let close = "Connection: close\r\n";
    let old = |headers: &str| format!("GET / HTTP/1.0\r\n{headers}\r\n");
    vec![
        // Methods and targets (9110 §9, 9112 §3).
        hello("GET", get("")),
        one("HEAD", line("HEAD / HTTP/1.1"), Head, Persists),
        one(
            "OPTIONS of a resource",
            line("OPTIONS / HTTP/1.1"),
            Options,
            Persists,
        ),
        one(
            "OPTIONS of the server",
            line("OPTIONS * HTTP/1.1"),
            Options,
            Persists,
        ),
        not_allowed("POST without a body", line("POST / HTTP/1.1")),
        not_allowed("PUT", line("PUT / HTTP/1.1")),
        not_allowed("DELETE", line("DELETE / HTTP/1.1")),
        not_allowed("TRACE", line("TRACE / HTTP/1.1")),
        not_allowed("PATCH", line("PATCH / HTTP/1.1")),
        not_allowed("CONNECT", line("CONNECT localhost:80 HTTP/1.1")),
        one(
            "unknown method",
            line("BREW / HTTP/1.1"),
            Refusal(501),
            Persists,
        ),
        one(
            "methods are case-sensitive",
            line("get / HTTP/1.1"),
            Refusal(501),
            Persists,
        ),
        hello("query", line("GET /?a=b&c HTTP/1.1")),
        hello("path", line("GET /a/%20/../b;c HTTP/1.1")),
        hello("absolute-form", line("GET http://localhost/ HTTP/1.1")),
        hello(
            "absolute-form in capitals",
            line("GET HTTP://LOCALHOST:80/a?b HTTP/1.1"),
        ),
        refused("asterisk-form with GET", 400, line("GET * HTTP/1.1")),
        refused(
            "authority-form with GET",
            400,
            line("GET localhost:80 HTTP/1.1"),
        ),
        refused(
            "target without a slash",
            400,
            line("GET index.html HTTP/1.1"),
        ),
        refused("NUL in the target", 400, line("GET /\0 HTTP/1.1")),
        // Request lines and versions (9112 §2.3, §3).
        hello(
            "empty lines before a request",
            "\r\n\r\n".to_owned() + &get(""),
        ),
        hello(
            "lines that end in LF",
            "GET / HTTP/1.1\nHost: localhost\n\n".to_owned(),
        ),
        refused("HTTP/2.0", 505, line("GET / HTTP/2.0")),
        refused("HTTP/0.9", 505, line("GET / HTTP/0.9")),
        refused(
            "preface of HTTP/2",
            505,
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ),
        refused("no version", 400, line("GET /")),
        refused("malformed version", 400, line("GET / HTTP/1.1.1")),
        refused("version in lower case", 400, line("GET / http/1.1")),
        refused("two spaces", 400, line("GET  / HTTP/1.1")),
        refused("space in the target", 400, line("GET /a b HTTP/1.1")),
        refused(
            "white space before the request line",
            400,
            line(" GET / HTTP/1.1"),
        ),
        refused("bare CR in the request line", 400, line("GET /\r HTTP/1.1")),
        refused(
            "TLS by mistake",
            400,
            "\x16\x03\x01\x02\0\x01\0\n".to_owned(),
        ),
        // Header lines (9112 §5) and Host (9112 §3.2).
        hello(
            "header names in any case",
            "GET / HTTP/1.1\r\nhOST: localhost\r\naccept: */*\r\n\r\n".to_owned(),
        ),
        hello(
            "Host as the last header",
            "GET / HTTP/1.1\r\nA: b\r\nC: d\r\nHost: localhost\r\n\r\n".to_owned(),
        ),
        hello(
            "values with and without white space",
            get("A:b\r\nC:\t d \t\r\nE:\r\n"),
        ),
        hello("bytes above ASCII in a value", get("A: \u{e4}\u{20ac}\r\n")),
        hello("99 headers beside Host", get(&"A: b\r\n".repeat(99))),
        hello(
            "a header of 15,000 bytes",
            get(&format!("A: {}\r\n", "b".repeat(15_000))),
        ),
        hello("empty Host", host("")),
        hello("Host with a port", host("localhost:8000")),
        hello("Host with an IPv6 address", host("[::1]:8000")),
        refused("no Host", 400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        refused(
            "absolute-form without Host",
            400,
            "GET http://localhost/ HTTP/1.1\r\n\r\n".to_owned(),
        ),
        refused("Host twice", 400, get("Host: localhost\r\n")),
        refused("Host with a space", 400, host("a b")),
        refused("Host with a path", 400, host("localhost/")),
        refused("Host with a port that is none", 400, host("localhost:http")),
        refused("space before the colon", 400, get("A : b\r\n")),
        refused("folded line", 400, get("A: b\r\n c\r\n")),
        refused(
            "white space before the first header",
            400,
            "GET / HTTP/1.1\r\n Host: localhost\r\n\r\n".to_owned(),
        ),
        refused("NUL in a value", 400, get("A: b\0c\r\n")),
        refused("bare CR in a value", 400, get("A: b\rC: d\r\n")),
        refused("header without a colon", 400, get("A\r\n")),
        refused("header without a name", 400, get(": b\r\n")),
        refused("header name that is no token", 400, get("A(b): c\r\n")),
        // Persistence (9112 §9.3) and pipelining (9112 §9.3.2).
        one("Connection: close", get(close), Hello, Closes),
        one(
            "Connection in any case",
            get("cONNECTION: Close\r\n"),
            Hello,
            Closes,
        ),
        one(
            "close in a list",
            get("Connection: te , close,x\r\n"),
            Hello,
            Closes,
        ),
        one(
            "close wins over keep-alive",
            get("Connection: keep-alive\r\nConnection: close\r\n"),
            Hello,
            Closes,
        ),
        hello(
            "keep-alive says nothing new",
            get("Connection: keep-alive\r\n"),
        ),
        one("HTTP/1.0", old(""), Hello, Closes),
        one(
            "HTTP/1.0 with keep-alive",
            old("Connection: keep-alive\r\n"),
            Hello,
            KeepAlive,
        ),
        one(
            "HTTP/1.0 with Keep-Alive in a list",
            old("Connection: te, Keep-Alive\r\n"),
            Hello,
            KeepAlive,
        ),
        one(
            "HTTP/1.0 with keep-alive and close",
            old("Connection: keep-alive, close\r\n"),
            Hello,
            Closes,
        ),
        several(
            "two pipelined requests",
            &[get(""), get("")],
            &[Hello; 2],
            Persists,
        ),
        several(
            "twenty pipelined requests",
            &vec![get(""); 20],
            &[Hello; 20],
            Persists,
        ),
        several(
            "different pipelined requests",
            &[
                get(""),
                line("HEAD / HTTP/1.1"),
                line("BREW / HTTP/1.1"),
                line("OPTIONS * HTTP/1.1"),
                get(""),
            ],
            &[Hello, Head, Refusal(501), Options, Hello],
            Persists,
        ),
        several(
            "requests behind the last",
            &[get(""), get(close), get("")],
            &[Hello; 2],
            Closes,
        )
        .in_one_packet(),
        several(
            "requests behind a malformed one",
            &[get(""), host("a b"), get("")],
            &[Hello, Refusal(400)],
            Closes,
        ),
        // Bodies (9112 §6).
        not_allowed("body with a length", post("Content-Length: 3", "abc")),
        not_allowed("body of no length", post("Content-Length: 0", "")),
        not_allowed(
            "body that looks like a request",
            post("Content-Length: 18", "GET / HTTP/1.1\r\n\r\n"),
        ),
        not_allowed(
            "body of 10,000 bytes",
            post("Content-Length: 10000", &"a".repeat(10_000)),
        ),
        not_allowed(
            "the same length twice",
            post("Content-Length: 3\r\nContent-Length: 3", "abc"),
        ),
        hello("GET with a body", get("Content-Length: 3\r\n") + "abc"),
        several(
            "requests between bodies",
            &[
                post("Content-Length: 3", "abc"),
                get(""),
                chunked("3\r\nabc\r\n0\r\n\r\n"),
                get(""),
            ],
            &[Refusal(405), Hello, Refusal(405), Hello],
            Persists,
        ),
        one(
            "body and close",
            post("Content-Length: 3\r\nConnection: close", "abc"),
            Refusal(405),
            Closes,
        ),
        refused(
            "lengths that differ",
            400,
            post("Content-Length: 3\r\nContent-Length: 4", "abcd"),
        ),
        refused("list of lengths", 400, post("Content-Length: 3, 4", "abcd")),
        refused("negative length", 400, post("Content-Length: -3", "abc")),
        refused("length with a sign", 400, post("Content-Length: +3", "abc")),
        refused(
            "hexadecimal length",
            400,
            post("Content-Length: 0x3", "abc"),
        ),
        refused("length without a value", 400, post("Content-Length:", "")),
        refused(
            "length that overflows",
            400,
            post("Content-Length: 18446744073709551616", ""),
        ),
        not_allowed("chunked body", chunked("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")),
        not_allowed(
            "chunked body in any case",
            post("tRANSFER-eNCODING: Chunked", "1\r\na\r\n0\r\n\r\n"),
        ),
        not_allowed("empty chunked body", chunked("0\r\n\r\n")),
        not_allowed(
            "chunk sizes in hexadecimal",
            chunked("0A\r\n0123456789\r\nf\r\n0123456789abcde\r\n00\r\n\r\n"),
        ),
        not_allowed(
            "chunk extensions",
            chunked("3;a;b=c\r\nabc\r\n1 ; d=\"e;f\"\r\nd\r\n0;g\r\n\r\n"),
        ),
        not_allowed(
            "trailers",
            chunked("3\r\nabc\r\n0\r\nA: b\r\nContent-Length: 9\r\n\r\n"),
        ),
        refused(
            "chunk size that is none",
            400,
            chunked("x\r\nabc\r\n0\r\n\r\n"),
        ),
        refused("chunk size missing", 400, chunked("\r\nabc\r\n0\r\n\r\n")),
        refused(
            "chunk size that overflows",
            400,
            chunked("10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ),
        refused(
            "chunk size line that ends in LF",
            400,
            chunked("3\nabc\r\n0\r\n\r\n"),
        ),
        refused(
            "chunk longer than its size",
            400,
            chunked("3\r\nabcd\r\n0\r\n\r\n"),
        ),
        refused(
            "length and chunked",
            400,
            post(
                "Content-Length: 3\r\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
        ),
        refused(
            "chunked not last",
            400,
            post("Transfer-Encoding: chunked, gzip", "0\r\n\r\n"),
        ),
        refused(
            "chunked twice",
            400,
            post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"),
        ),
        refused("not chunked", 400, post("Transfer-Encoding: gzip", "")),
        refused(
            "another coding within chunked",
            501,
            post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
        ),
        refused(
            "HTTP/1.0 and chunked",
            400,
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        ),
        // Expectations (9110 §10.1.1).
        not_allowed(
            "Expect with a body at once",
            post("Expect: 100-continue\r\nContent-Length: 3", "abc"),
        ),
        hello("Expect without a body", get("Expect: 100-continue\r\n")),
        refused("unknown expectation", 417, get("Expect: tea\r\n")),
        // Limits.
        refused(
            "request line too long",
            414,
            line(&format!("GET /{} HTTP/1.1", "a".repeat(9000))),
        ),
        refused("request line without an end", 414, "a".repeat(9000)),
        refused(
            "header too long",
            431,
            get(&format!("A: {}\r\n", "b".repeat(17_000))),
        ),
        refused(
            "header section without an end",
            431,
            "GET / HTTP/1.1\r\n".to_owned() + &format!("A: {}\r\n", "b".repeat(1000)).repeat(17),
        ),
        refused("too many headers", 431, get(&"A: b\r\n".repeat(101))),
        refused(
            "body too large",
            413,
            post("Content-Length: 1048577", "abc"),
        ),
        refused("chunk too large", 413, chunked("100001\r\nabc")),
        refused(
            "Expect with a body too large",
            413,
            post("Expect: 100-continue\r\nContent-Length: 1048577", ""),
        ),
    ]
}
