//! Whether a connection persists, and several requests sent together.

use crate::Expected::{Head, Hello, Options, Refusal};
use crate::Then::{Closes, KeepAlive, Persists};
use crate::case::{Case, hello, one, sections, several};
use crate::requests::{chunked, get, head, host, line, old, post};

pub(crate) fn cases() -> Vec<Case> {
    let closes = |name, lines: &str| one(name, get(lines), Hello, Closes);
    let persists = |name, lines: &str| hello(name, get(lines));
    let old_closes = |name, lines: &str| one(name, old(lines), Hello, Closes);
    let old_persists = |name, lines: &str| one(name, old(lines), Hello, KeepAlive);
    let close = "Connection: close\r\n";
    sections([
        (
            "9110 §7.6.1",
            vec![
                closes("close", close),
                closes("close in any case", "cONNECTION: cLOSE\r\n"),
                closes("close first in a list", "Connection: close, te\r\n"),
                closes("close last in a list", "Connection: te,close\r\n"),
                closes(
                    "close among white space",
                    "Connection: te ,\tclose\t, x\r\n",
                ),
                closes("close among empty elements", "Connection: ,, close ,\r\n"),
                closes(
                    "close in a second line",
                    "Connection: te\r\nConnection: close\r\n",
                ),
                closes(
                    "close in a first line",
                    "Connection: close\r\nConnection: te\r\n",
                ),
                persists("an option that begins like close", "Connection: closed\r\n"),
                persists(
                    "an option that ends like close",
                    "Connection: not-close\r\n",
                ),
                persists("an unknown option", "Connection: te\r\n"),
                persists("no option", "Connection:\r\n"),
            ],
        ),
        (
            "9112 §9.3",
            vec![
                persists("keep-alive says nothing new", "Connection: keep-alive\r\n"),
                closes(
                    "close wins over keep-alive",
                    "Connection: keep-alive, close\r\n",
                ),
                closes(
                    "close wins over keep-alive behind it",
                    "Connection: close\r\nConnection: keep-alive\r\n",
                ),
                old_closes("HTTP/1.0", ""),
                old_closes("HTTP/1.0 with close", close),
                old_closes("HTTP/1.0 with another option", "Connection: te\r\n"),
                old_closes(
                    "HTTP/1.0 with Keep-Alive alone",
                    "Keep-Alive: timeout=5\r\n",
                ),
                old_closes(
                    "HTTP/1.0 with Proxy-Connection",
                    "Proxy-Connection: keep-alive\r\n",
                ),
                old_closes(
                    "HTTP/1.0 with keep-alive and close",
                    "Connection: keep-alive, close\r\n",
                ),
                old_persists("HTTP/1.0 with keep-alive", "Connection: keep-alive\r\n"),
                old_persists(
                    "HTTP/1.0 with keep-alive in any case",
                    "connection: Keep-Alive\r\n",
                ),
                old_persists(
                    "HTTP/1.0 with keep-alive in a list",
                    "Connection: te, keep-alive\r\n",
                ),
                one(
                    "HEAD of HTTP/1.0 with keep-alive",
                    "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                    Head,
                    KeepAlive,
                ),
                one(
                    "POST of HTTP/1.0 with keep-alive",
                    "POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
                    Refusal(405),
                    KeepAlive,
                ),
                one(
                    "unknown method of HTTP/1.0",
                    "BREW / HTTP/1.0\r\n\r\n",
                    Refusal(501),
                    Closes,
                ),
                one("HEAD with close", head(close), Head, Closes),
                one(
                    "OPTIONS with close",
                    line("OPTIONS * HTTP/1.1\r\nConnection: close"),
                    Options,
                    Closes,
                ),
                one(
                    "POST with close and a body",
                    post("Connection: close\r\nContent-Length: 3", "abc"),
                    Refusal(405),
                    Closes,
                ),
                one(
                    "unknown method with close",
                    line("BREW / HTTP/1.1\r\nConnection: close"),
                    Refusal(501),
                    Closes,
                ),
                several(
                    "HTTP/1.0 behind HTTP/1.1",
                    &[get(""), old("")],
                    &[Hello; 2],
                    Closes,
                ),
                several(
                    "HTTP/1.0 with keep-alive behind HTTP/1.1",
                    &[get(""), old("Connection: keep-alive\r\n")],
                    &[Hello; 2],
                    KeepAlive,
                ),
            ],
        ),
        (
            "9112 §9.3.2",
            vec![
                several("two requests", &[get(""), get("")], &[Hello; 2], Persists),
                several(
                    "a hundred requests",
                    &vec![get(""); 100],
                    &[Hello; 100],
                    Persists,
                ),
                several(
                    "two requests, the last with close",
                    &[get(""), get(close)],
                    &[Hello; 2],
                    Closes,
                ),
                several(
                    "answers without a body among answers with one",
                    &[head(""), get(""), head(""), head(""), get("")],
                    &[Head, Hello, Head, Head, Hello],
                    Persists,
                ),
                several(
                    "different requests",
                    &[
                        get(""),
                        head(""),
                        line("BREW / HTTP/1.1"),
                        line("OPTIONS * HTTP/1.1"),
                        chunked("3\r\nabc\r\n0\r\n\r\n"),
                        get("Content-Length: 0\r\n"),
                        post("Content-Length: 3", "abc"),
                        get(""),
                    ],
                    &[
                        Hello,
                        Head,
                        Refusal(501),
                        Options,
                        Refusal(405),
                        Hello,
                        Refusal(405),
                        Hello,
                    ],
                    Persists,
                ),
                several(
                    "answers before a refusal, none behind it",
                    &[get(""), host("a b"), get("")],
                    &[Hello, Refusal(400)],
                    Closes,
                ),
            ],
        ),
        (
            "9112 §9.6",
            vec![
                several(
                    "request behind the last",
                    &[get(close), get("")],
                    &[Hello],
                    Closes,
                ),
                several(
                    "requests behind the last",
                    &[get(""), get(close), get(""), get("")],
                    &[Hello; 2],
                    Closes,
                ),
                several(
                    "no request behind the last",
                    &[&get(close)[..], b"\0\r\n\r\n"],
                    &[Hello],
                    Closes,
                ),
                several(
                    "request behind the last of HTTP/1.0",
                    &[old(""), get("")],
                    &[Hello],
                    Closes,
                ),
                several(
                    "empty line behind the last",
                    &[&get(close)[..], b"\r\n"],
                    &[Hello],
                    Closes,
                ),
            ],
        ),
    ])
}
